//! What a DSA can do: its general capabilities, its operations, its limits, and what a work queue leaves of them.
//!
//! A device tells by two registers. GENCAP has a bit for each behaviour ([`GenCap`]), OPCAP one for each opcode
//! ([`OperationSet`]). The administrator who configures a work queue may take away operations, blocking on faults and
//! size; what is left is an [`Allowance`], and it is the only thing a program may count on. Nothing is implied: a
//! device of today reports a maximum batch of 1024 descriptors and lacks the operation BATCH.
//!
//! ```text
//!  DeviceCapabilities ──through──┐
//!  (sysfs, or a Preset)          ├──▶ Allowance: what may be asked of this queue
//!  WorkQueueCapabilities ────────┘
//! ```
//!
//! Sources: Intel DSA Architecture Specification 341204-006US, 9.2.2 (GENCAP) and 9.2.6 (OPCAP); Linux
//! `Documentation/ABI/stable/sysfs-driver-dma-idxd`.

use core::fmt;
use core::str::FromStr;

use super::descriptor::DsaOpcode;

/// The version of devices without the operations of the specification's revision 2.0.
pub const VERSION_1: u32 = 0x100;
/// The version of devices with them.
pub const VERSION_2: u32 = 0x200;

/// The register GENCAP, sysfs `gen_cap`: general capabilities, a bit each, and a few small numbers.
///
/// # Examples
///
/// ```
/// use memring::dsa::GenCap;
/// let seen = GenCap::from_bits(0x40_915f_0107);
/// assert!(seen.contains(GenCap::BLOCK_ON_FAULT) && !seen.contains(GenCap::CRC64));
/// assert_eq!((seen.max_transfer_bytes(), seen.max_batch()), (1 << 31, 1 << 10));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct GenCap(u64);

/// The bits, with the names that [`GenCap::names`] gives them.
macro_rules! general_capabilities {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl GenCap {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            const NAMED: &[(Self, &str)] = &[$((Self::$name, $text)),*];
        }
    };
}

general_capabilities! {
    /// A descriptor may ask that the device waits for a page that is missing.
    BLOCK_ON_FAULT = 0, "block on fault";
    /// The source and the destination of a MEMMOVE may overlap.
    OVERLAPPING_MOVE = 1, "overlapping move";
    /// A descriptor may direct its writes into the cache.
    CACHE_CONTROL = 2, "cache control";
    /// The device tells which commands it knows.
    COMMAND_CAPABILITIES = 4, "command capabilities";
    /// A descriptor may ask that its writes are durable.
    DURABLE_WRITE = 5, "durable write";
    /// Operations between address spaces.
    INTER_DOMAIN = 6, "inter-domain operations";
    /// TRANSL_FETCH has a stride.
    FETCH_STRIDE = 7, "stride of translation fetch";
    /// A descriptor may have its destination read back.
    DESTINATION_READBACK = 8, "destination readback";
    /// DRAIN takes addresses to read back.
    DRAIN_READBACK = 9, "readback addresses of drain";
    /// FILL takes patterns of 16 bytes.
    FILL_16 = 10, "fill of 16 bytes";
    /// The CRC operations compute CRCs of 64 bits, too.
    CRC64 = 11, "CRC of 64 bits";
    /// Completion records say which operand faulted.
    FAULT_INFO = 12, "fault information";
    /// A batch goes on after a fault of its list, with what was known of its errors.
    BATCH_CONTINUATION = 15, "batch continuation";
    /// The device can be configured.
    CONFIGURABLE = 31, "configurable";
    /// Its event log may lose events.
    EVENT_LOG_OVERFLOW = 32, "event log may overflow";
    /// A batch of one descriptor is allowed.
    BATCH_OF_ONE = 52, "batch of one";
    /// Strict ordering is reserved where the destination is memory.
    NO_STRICT_ORDER_TO_MEMORY = 53, "no strict ordering to memory";
    /// Strict ordering is reserved where the destination is another device.
    NO_STRICT_ORDER_TO_PEERS = 54, "no strict ordering to peers";
}

impl GenCap {
    /// A device that promises nothing.
    pub const NONE: Self = Self(0);

    /// The register's value, known bits or not.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::GenCap;
    /// assert_eq!(GenCap::from_bits(1), GenCap::BLOCK_ON_FAULT);
    /// ```
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The register's value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::GenCap::BATCH_OF_ONE.bits(), 1 << 52);
    /// ```
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all bits of the other are set here.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::GenCap;
    /// let both = GenCap::CRC64.with(GenCap::FILL_16);
    /// assert!(both.contains(GenCap::CRC64) && !GenCap::CRC64.contains(both));
    /// ```
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These, and those of the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::GenCap;
    /// assert_eq!(GenCap::NONE.with(GenCap::CRC64), GenCap::CRC64);
    /// ```
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These, without those of the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::GenCap;
    /// assert_eq!(GenCap::CRC64.without(GenCap::CRC64), GenCap::NONE);
    /// ```
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The most that one descriptor moves, in bytes: bits 20 to 16.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::GenCap::from_bits(21 << 16).max_transfer_bytes(), 2 << 20);
    /// ```
    #[must_use]
    pub const fn max_transfer_bytes(self) -> u64 {
        1 << ((self.0 >> 16) & 0x1f)
    }

    /// The most descriptors that a batch has: bits 24 to 21. Whether there are batches at all is said by
    /// [`Allowance::allows_batch`].
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::GenCap::from_bits(10 << 21).max_batch(), 1024);
    /// ```
    #[must_use]
    pub const fn max_batch(self) -> u32 {
        1 << ((self.0 >> 21) & 0xf)
    }

    /// The size of an entry of the event log in bytes, if there is one: bits 14 and 13.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::GenCap;
    /// assert_eq!(GenCap::NONE.event_log_entry_bytes(), None);
    /// assert_eq!(GenCap::from_bits(2 << 13).event_log_entry_bytes(), Some(128));
    /// ```
    #[must_use]
    pub const fn event_log_entry_bytes(self) -> Option<u32> {
        match (self.0 >> 13) & 3 {
            0 => None,
            log => Some(32 << log),
        }
    }

    /// What is set, in words.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::GenCap;
    /// assert_eq!(GenCap::CRC64.names().collect::<Vec<_>>(), ["CRC of 64 bits"]);
    /// ```
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| *name)
    }
}

impl fmt::Debug for GenCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GenCap({:#x})", self.0)
    }
}

/// A set of operations, as OPCAP and a queue's `op_config` are: bit *n* is opcode *n*.
///
/// It reads both forms in which kernels print it, and prints itself in the newer one.
///
/// # Examples
///
/// ```
/// use memring::dsa::{DsaOpcode, OperationSet};
/// let new: OperationSet = "00000000,00000000,00000000,00000000,00000000,00000000,00000001,003f027d".parse()?;
/// let old: OperationSet = "0x1003f027d 0 0 0".parse()?;
/// assert_eq!(new, old);
/// assert!(new.contains(DsaOpcode::MEMMOVE) && !new.contains(DsaOpcode::BATCH));
/// # Ok::<(), memring::dsa::NotAnOperationSet>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct OperationSet([u64; 4]);

impl OperationSet {
    /// No operation.
    pub const NONE: Self = Self([0; 4]);
    /// Every operation that there could be: what a queue without a mask of its own leaves to its device.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// From the register's words, the one with opcode 0 first.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DsaOpcode, OperationSet};
    /// assert!(OperationSet::from_words([0b1000, 0, 0, 0]).contains(DsaOpcode::MEMMOVE));
    /// ```
    #[must_use]
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// The register's words, the one with opcode 0 first.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::OperationSet::NONE.words(), [0; 4]);
    /// ```
    #[must_use]
    pub const fn words(self) -> [u64; 4] {
        self.0
    }

    /// Whether the operation is one of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DsaOpcode, OperationSet};
    /// assert!(OperationSet::ALL.contains(DsaOpcode::CFLUSH));
    /// ```
    #[must_use]
    pub const fn contains(self, opcode: DsaOpcode) -> bool {
        let (word, bit) = Self::place(opcode);
        self.0[word] & bit != 0
    }

    /// These, and this one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DsaOpcode, OperationSet};
    /// let few = OperationSet::NONE.with(DsaOpcode::NOP).with(DsaOpcode::CFLUSH);
    /// assert_eq!(few.words(), [0x1_0000_0001, 0, 0, 0]);
    /// ```
    #[must_use]
    pub const fn with(mut self, opcode: DsaOpcode) -> Self {
        let (word, bit) = Self::place(opcode);
        self.0[word] |= bit;
        self
    }

    /// These, without this one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DsaOpcode, OperationSet};
    /// assert!(!OperationSet::ALL.without(DsaOpcode::BATCH).contains(DsaOpcode::BATCH));
    /// ```
    #[must_use]
    pub const fn without(mut self, opcode: DsaOpcode) -> Self {
        let (word, bit) = Self::place(opcode);
        self.0[word] &= !bit;
        self
    }

    /// The operations of both.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DsaOpcode, OperationSet};
    /// let moves = OperationSet::NONE.with(DsaOpcode::MEMMOVE);
    /// assert_eq!(moves.intersection(OperationSet::ALL), moves);
    /// ```
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a & e, b & f, c & g, d & h])
    }

    const fn place(opcode: DsaOpcode) -> (usize, u64) {
        let opcode = opcode.to_u8();
        ((opcode / 64) as usize, 1 << (opcode % 64))
    }

    /// Kernels before 6.0: four words of 64 bits, opcode 0 first, each a C literal (zero is a bare `0`).
    fn from_old_text(text: &str) -> Option<Self> {
        let mut words = [0; 4];
        let mut texts = text.split_ascii_whitespace();
        for word in &mut words {
            *word = match texts.next() {
                Some(text) => hexadecimal(text, 64)?,
                None => 0,
            };
        }
        texts.next().is_none().then_some(Self(words))
    }

    /// Later ones: a bitmap of eight groups of 32 bits, opcode 0 last.
    fn from_bitmap(text: &str) -> Option<Self> {
        let mut words = [0; 4];
        for (index, group) in text.rsplit(',').enumerate() {
            *words.get_mut(index / 2)? |= hexadecimal(group.trim(), 32)? << (index % 2 * 32);
        }
        Some(Self(words))
    }
}

/// A number of at most so many bits, with or without `0x`. `from_str_radix` alone would take a sign.
pub(super) fn hexadecimal(text: &str, bits: u32) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| is_number)?;
    (bits == 64 || number >> bits == 0).then_some(number)
}

/// The text is no set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnOperationSet;

impl fmt::Display for NotAnOperationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither a bitmap of groups of 32 bits, nor up to four words of 64 bits")
    }
}

impl core::error::Error for NotAnOperationSet {}

impl FromStr for OperationSet {
    type Err = NotAnOperationSet;

    fn from_str(text: &str) -> Result<Self, NotAnOperationSet> {
        let text = text.trim();
        let set = match text {
            "" => None,
            _ if text.contains(',') => Self::from_bitmap(text),
            // One group alone is the same number in both forms.
            _ => Self::from_old_text(text),
        };
        set.ok_or(NotAnOperationSet)
    }
}

impl fmt::Display for OperationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate().rev() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{:08x},{:08x}{comma}", word >> 32, word & 0xffff_ffff)?;
        }
        Ok(())
    }
}

impl fmt::Debug for OperationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperationSet({self})")
    }
}

/// What a device can do.
///
/// # Examples
///
/// ```
/// use memring::dsa::Preset;
/// let device = Preset::V1Production.capabilities();
/// assert_eq!(device.version, 0x100);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceCapabilities {
    /// [`VERSION_1`], [`VERSION_2`], or a later one.
    pub version: u32,
    /// General capabilities.
    pub gen_cap: GenCap,
    /// The operations that it knows.
    pub op_cap: OperationSet,
    /// The most that one descriptor moves, in bytes.
    pub max_transfer_bytes: u64,
    /// The most descriptors of a batch, if it knows batches.
    pub max_batch: u32,
}

impl DeviceCapabilities {
    /// What the registers say.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DeviceCapabilities, GenCap, OperationSet};
    /// let device = DeviceCapabilities::new(0x200, GenCap::from_bits(0x40_915f_0107), OperationSet::ALL);
    /// assert_eq!(device.max_batch, 1024);
    /// ```
    #[must_use]
    pub const fn new(version: u32, gen_cap: GenCap, op_cap: OperationSet) -> Self {
        let (max_transfer_bytes, max_batch) = (gen_cap.max_transfer_bytes(), gen_cap.max_batch());
        Self { version, gen_cap, op_cap, max_transfer_bytes, max_batch }
    }

    /// What of it one may ask for by this queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// let may = Preset::V1Early.capabilities().through(&queue);
    /// assert_eq!((may.max_batch, may.max_transfer_bytes), (32, 2 << 20));
    /// ```
    #[must_use]
    pub fn through(&self, queue: &WorkQueueCapabilities) -> Allowance {
        Allowance {
            version: self.version,
            gen_cap: self.gen_cap,
            operations: self.op_cap.intersection(queue.op_config),
            blocks_on_fault: self.gen_cap.contains(GenCap::BLOCK_ON_FAULT) && queue.blocks_on_fault,
            max_transfer_bytes: self.max_transfer_bytes.min(queue.max_transfer_bytes),
            max_batch: self.max_batch.min(queue.max_batch),
        }
    }
}

/// Who may submit to a work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One process, which must count what is outstanding: what a full queue is sent vanishes.
    Dedicated,
    /// Any number, and a full queue says so.
    Shared,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dedicated => "dedicated",
            Self::Shared => "shared",
        })
    }
}

/// What a work queue's configuration leaves of its device.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Mode, WorkQueueCapabilities};
/// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 64);
/// assert!(!queue.blocks_on_fault);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkQueueCapabilities {
    /// Who may submit.
    pub mode: Mode,
    /// Its entries: of a dedicated queue, what may be outstanding at once. A batch takes one.
    pub size: u32,
    /// Of a shared queue, how many entries may be taken through the portal that Linux maps.
    pub threshold: u32,
    /// Whether descriptors may ask that the device waits for missing pages.
    pub blocks_on_fault: bool,
    /// The most that one descriptor moves, in bytes.
    pub max_transfer_bytes: u64,
    /// The most descriptors of a batch.
    pub max_batch: u32,
    /// The operations that it lets through.
    pub op_config: OperationSet,
}

impl WorkQueueCapabilities {
    /// What Linux lets a queue move with one descriptor if nobody says otherwise, in bytes.
    pub const DEFAULT_MAX_TRANSFER_BYTES: u64 = 2 << 20;
    /// What Linux lets a queue have in a batch if nobody says otherwise (`WQ_DEFAULT_MAX_BATCH`).
    pub const DEFAULT_MAX_BATCH: u32 = 32;

    /// A queue as Linux configures it if nobody says otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Mode, WorkQueueCapabilities};
    /// assert_eq!(WorkQueueCapabilities::new(Mode::Shared, 16).max_batch, 32);
    /// ```
    #[must_use]
    pub const fn new(mode: Mode, size: u32) -> Self {
        Self {
            mode,
            size,
            threshold: size,
            blocks_on_fault: false,
            max_transfer_bytes: Self::DEFAULT_MAX_TRANSFER_BYTES,
            max_batch: Self::DEFAULT_MAX_BATCH,
            op_config: OperationSet::ALL,
        }
    }
}

/// What a program may ask of a device by a work queue. Made by [`DeviceCapabilities::through`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowance {
    /// The device's version.
    pub version: u32,
    /// The device's general capabilities.
    pub gen_cap: GenCap,
    /// The operations that both know.
    pub operations: OperationSet,
    /// Whether a descriptor may block on faults. Without it, the flag is an error.
    pub blocks_on_fault: bool,
    /// The most that one descriptor moves, in bytes.
    pub max_transfer_bytes: u64,
    /// The most descriptors of a batch.
    pub max_batch: u32,
}

impl Allowance {
    /// Whether a batch may be asked for at all: the operation is there, and two descriptors fit into one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// assert!(Preset::V2Full.capabilities().through(&queue).allows_batch());
    /// assert!(!Preset::V1Production.capabilities().through(&queue).allows_batch());
    /// ```
    #[must_use]
    pub const fn allows_batch(&self) -> bool {
        self.operations.contains(DsaOpcode::BATCH) && self.max_batch >= 2
    }
}
