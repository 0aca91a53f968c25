//! Submission entries: what to do, in seven words.
//!
//! An [`Sqe`] is a plain value. Making one touches nothing and promises nothing; the promise about the memory is made
//! when it is pushed ([`SubmissionQueue::push`](crate::queue::SubmissionQueue::push)). In a lane the seven words and
//! the ring's sequence word fill one cache line.
//!
//! | word | content |
//! |---|---|
//! | 0 | opcode u8, sqe flags u8, mover u8 (0: route it), reserved u8, op flags u32 |
//! | 1 | user_data |
//! | 2 | destination address |
//! | 3 | source address, or the set pattern |
//! | 4 | length, bytes |
//! | 5 | operand of operations to come |
//! | 6 | internal |

use core::fmt;

use memring_ring::Words;

/// What an entry does. Values are part of the entry's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Opcode {
    /// Nothing: completes with success. For measuring, and for waking a reactor.
    Nop = 0,
    /// Copy between regions that do not overlap.
    Memcpy = 1,
    /// Copy between regions that may overlap, as if through a buffer.
    Memmove = 2,
    /// Set every byte to one value.
    Memset = 3,
    /// Write the region's cache lines back to memory.
    Flush = 4,
}

impl Opcode {
    /// All opcodes of this version.
    pub const ALL: [Self; 5] = [Self::Nop, Self::Memcpy, Self::Memmove, Self::Memset, Self::Flush];

    /// The opcode of this value, if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Opcode;
    /// assert_eq!(Opcode::from_u8(1), Some(Opcode::Memcpy));
    /// assert_eq!(Opcode::from_u8(200), None);
    /// ```
    #[must_use]
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Nop),
            1 => Some(Self::Memcpy),
            2 => Some(Self::Memmove),
            3 => Some(Self::Memset),
            4 => Some(Self::Flush),
            _ => None,
        }
    }
}

/// Options of one operation, for its mover.
///
/// # Examples
///
/// ```
/// use memring::OpFlags;
/// let both = OpFlags::MEM_DURABLE | OpFlags::NO_CACHE_HINT;
/// assert!(both.contains(OpFlags::MEM_DURABLE));
/// assert_eq!(both.bits(), 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpFlags(u32);

impl OpFlags {
    /// No option.
    pub const NONE: Self = Self(0);
    /// Complete only when the destination is durable. No mover of this version supports it.
    pub const MEM_DURABLE: Self = Self(1 << 0);
    /// The destination will not be read soon: a mover may bypass the cache. A hint; ignoring it is correct.
    pub const NO_CACHE_HINT: Self = Self(1 << 1);

    /// Every flag of this version.
    pub(crate) const KNOWN: Self = Self(0b11);

    /// The flags of these bits, known or not; a push refuses unknown ones.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits: values as in the seed's `flags` argument.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every flag of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for OpFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which mover executes an entry.
///
/// [`INLINE`] and [`WORKERS`] are always there; movers added with
/// [`Builder::mover`](crate::queue::Builder::mover) are found by [`QueuePair::mover`](crate::queue::QueuePair::mover).
///
/// # Examples
///
/// ```
/// use memring::{Sqe, WORKERS};
/// assert_eq!(Sqe::nop().on(WORKERS).mover(), WORKERS);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MoverId(u8);

/// Let the route decide. What an entry has unless [`Sqe::on`] says otherwise.
pub const ROUTED: MoverId = MoverId(0);
/// The submitting thread, inside `submit()`.
pub const INLINE: MoverId = MoverId(1);
/// The CPU mover's lane: the worker threads and the waiting caller, or the caller alone when there are no workers.
pub const WORKERS: MoverId = MoverId(2);

impl MoverId {
    /// The id of this value, whether or not a mover bears it.
    #[must_use]
    pub const fn from_u8(value: u8) -> Self {
        Self(value)
    }

    /// The value, as it stands in an entry's word 0 and in a completion.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for MoverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ROUTED => f.write_str("ROUTED"),
            INLINE => f.write_str("INLINE"),
            WORKERS => f.write_str("WORKERS"),
            Self(other) => write!(f, "MoverId({other})"),
        }
    }
}

const DESTINATION: usize = 2;
const SOURCE: usize = 3;
const LENGTH: usize = 4;

/// A submission entry. See the [module](self) for its layout.
///
/// # Examples
///
/// ```
/// use memring::{Opcode, Sqe};
/// let (mut dst, src) = ([0_u8; 64], [7_u8; 64]);
/// let sqe = Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 64).user_data(9);
/// assert_eq!((sqe.opcode(), sqe.len(), sqe.data()), (Some(Opcode::Memcpy), 64, 9));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Sqe([u64; Self::WORDS]);

impl Sqe {
    /// Words of an entry.
    pub const WORDS: usize = 7;

    const fn new(opcode: Opcode) -> Self {
        let mut words = [0; Self::WORDS];
        words[0] = opcode as u64;
        Self(words)
    }

    const fn with(mut self, word: usize, value: u64) -> Self {
        self.0[word] = value;
        self
    }

    /// An operation that does nothing and completes.
    #[must_use]
    pub const fn nop() -> Self {
        Self::new(Opcode::Nop)
    }

    /// Copies `len` bytes from `src` to `dst`, which must not overlap (a push refuses it if they do).
    #[must_use]
    pub fn memcpy(dst: *mut u8, src: *const u8, len: usize) -> Self {
        Self::new(Opcode::Memcpy).regions(dst, src, len)
    }

    /// Copies `len` bytes from `src` to `dst`, which may overlap.
    #[must_use]
    pub fn memmove(dst: *mut u8, src: *const u8, len: usize) -> Self {
        Self::new(Opcode::Memmove).regions(dst, src, len)
    }

    /// Sets `len` bytes at `dst` to `value`.
    #[must_use]
    pub fn memset(dst: *mut u8, value: u8, len: usize) -> Self {
        let pattern = u64::from(value) * 0x0101_0101_0101_0101;
        Self::new(Opcode::Memset).with(DESTINATION, expose(dst)).with(SOURCE, pattern).with(LENGTH, len as u64)
    }

    /// Writes the cache lines of `len` bytes at `dst` back to memory. The bytes do not change.
    ///
    /// This is the flush of the CPU's caches, as for persistent memory; it makes nothing durable in a file.
    #[must_use]
    pub fn flush(dst: *const u8, len: usize) -> Self {
        Self::new(Opcode::Flush).with(DESTINATION, dst.expose_provenance() as u64).with(LENGTH, len as u64)
    }

    fn regions(self, dst: *mut u8, src: *const u8, len: usize) -> Self {
        self.with(DESTINATION, expose(dst)).with(SOURCE, src.expose_provenance() as u64).with(LENGTH, len as u64)
    }

    /// Sets the value that the completion carries back. Free for the caller's use; need not be unique.
    #[must_use]
    pub const fn user_data(self, user_data: u64) -> Self {
        self.with(1, user_data)
    }

    /// Sets the operation's options.
    #[must_use]
    pub const fn flags(self, flags: OpFlags) -> Self {
        let word = (self.0[0] & 0xffff_ffff) | ((flags.0 as u64) << 32);
        self.with(0, word)
    }

    /// Chooses the mover, instead of the route.
    #[must_use]
    pub const fn on(self, mover: MoverId) -> Self {
        let word = (self.0[0] & !(0xff << 16)) | ((mover.0 as u64) << 16);
        self.with(0, word)
    }

    /// The entry of these words, sensible or not: a push checks it.
    #[must_use]
    pub const fn from_raw(words: [u64; Self::WORDS]) -> Self {
        Self(words)
    }

    /// The entry's words.
    #[must_use]
    pub const fn to_raw(self) -> [u64; Self::WORDS] {
        self.0
    }

    /// The opcode, unless its value is unknown to this version.
    #[must_use]
    #[inline]
    pub const fn opcode(&self) -> Option<Opcode> {
        Opcode::from_u8(self.0[0].to_le_bytes()[0])
    }

    /// The value that the completion carries back.
    #[must_use]
    #[inline]
    pub const fn data(&self) -> u64 {
        self.0[1]
    }

    /// The options, known or not.
    #[must_use]
    #[inline]
    pub const fn op_flags(&self) -> OpFlags {
        let [.., a, b, c, d] = self.0[0].to_le_bytes();
        OpFlags(u32::from_le_bytes([a, b, c, d]))
    }

    /// The mover the entry asks for; [`ROUTED`] if it leaves that to the route.
    #[must_use]
    #[inline]
    pub const fn mover(&self) -> MoverId {
        MoverId(self.0[0].to_le_bytes()[2])
    }

    /// The length, bytes.
    #[must_use]
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "an entry is no container; zero is a legal length")]
    pub const fn len(&self) -> u64 {
        self.0[LENGTH]
    }

    /// The destination, as an address whose provenance was exposed when the entry was made.
    #[must_use]
    #[inline]
    pub fn dst(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address(self.0[DESTINATION]))
    }

    /// The source, likewise. For a memset this is not an address: see [`pattern`](Sqe::pattern).
    #[must_use]
    #[inline]
    pub fn src(&self) -> *const u8 {
        core::ptr::with_exposed_provenance(address(self.0[SOURCE]))
    }

    /// The byte that a memset stores.
    #[must_use]
    #[inline]
    pub const fn pattern(&self) -> u8 {
        self.0[SOURCE].to_le_bytes()[0]
    }

    /// Checks all that can be told from the entry alone.
    #[inline]
    pub(crate) fn check(&self) -> Result<Opcode, Refusal> {
        let Some(opcode) = self.opcode() else { return Err(Refusal::UnknownOpcode) };
        let [_, sqe_flags, _, reserved, ..] = self.0[0].to_le_bytes();
        if sqe_flags != 0 || reserved != 0 || !OpFlags::KNOWN.contains(self.op_flags()) || self.0[5] | self.0[6] != 0 {
            return Err(Refusal::UnknownFlags);
        }
        let len = self.len();
        let (dst, src) = (self.0[DESTINATION], self.0[SOURCE]);
        let has_source = matches!(opcode, Opcode::Memcpy | Opcode::Memmove);
        if len == 0 || opcode == Opcode::Nop {
            return Ok(opcode);
        }
        if dst == 0 || (has_source && src == 0) {
            return Err(Refusal::Null);
        }
        if wraps(dst, len) || (has_source && wraps(src, len)) {
            return Err(Refusal::Wraps);
        }
        if opcode == Opcode::Memcpy && dst.abs_diff(src) < len {
            return Err(Refusal::Overlap);
        }
        Ok(opcode)
    }
}

/// Why an entry was refused, without the entry: the check's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Null,
    Wraps,
    Overlap,
    UnknownOpcode,
    UnknownFlags,
    UnknownMover,
    Unsupported,
}

/// Whether `len` bytes at `address` leave the address space, or the part of it that an allocation can fill.
#[inline]
fn wraps(address: u64, len: u64) -> bool {
    len > isize::MAX as u64 || address.checked_add(len).is_none_or(|end| end > usize::MAX as u64)
}

fn expose(pointer: *mut u8) -> u64 {
    pointer.expose_provenance() as u64
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "it was a pointer, or the push refused it")]
fn address(word: u64) -> usize {
    word as usize
}

impl Words<{ Self::WORDS }> for Sqe {
    #[inline]
    fn to_words(self) -> [u64; Self::WORDS] {
        self.0
    }
    #[inline]
    fn from_words(words: [u64; Self::WORDS]) -> Self {
        Self(words)
    }
}

impl fmt::Debug for Sqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Sqe");
        match self.opcode() {
            Some(opcode) => out.field("opcode", &opcode),
            None => out.field("opcode", &self.0[0].to_le_bytes()[0]),
        };
        out.field("user_data", &self.data())
            .field("mover", &self.mover())
            .field("flags", &self.op_flags().bits())
            .field("dst", &format_args!("{:#x}", self.0[DESTINATION]))
            .field("src", &format_args!("{:#x}", self.0[SOURCE]))
            .field("len", &self.len())
            .finish()
    }
}

const _: () = assert!(size_of::<Sqe>() == 56);
