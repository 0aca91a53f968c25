//! Descriptors: 64 bytes that tell a device what to do. Pure encoding and decoding, for every operation.
//!
//! | bytes | field |
//! |---|---|
//! | 0-3 | PASID, bits 19:0, and privilege, bit 31: zero here, since the CPU or the kernel puts them in |
//! | 4-6 | flags |
//! | 7 | opcode |
//! | 8-15 | address of the completion record, a multiple of 32 |
//! | 16-35, 40-63 | the operation's fields (`operation.rs`) |
//! | 36-37 | interrupt handle: zero |
//! | 38-39 | reserved |
//!
//! Encoding is total: it makes what it is told to, and nothing that it makes has a stray bit. Decoding is total too but
//! for opcodes that it does not know, and keeps what the flags make meaningless, so that who plays the device can
//! refuse it: [`reserved_flags`](Descriptor::reserved_flags) and [`reserved_byte`](Descriptor::reserved_byte).
//!
//! Fields are in the machine's byte order, which where there is a device is the device's.
//!
//! Source: SPEC chapters 5 and 8; UAPI `struct dsa_hw_desc`.

mod flags;
mod opcode;
mod operation;
mod rest;
mod rules;

use core::fmt;
use core::mem::offset_of;

pub use flags::Flags;
pub use opcode::DsaOpcode;
use operation::Body;
pub use operation::{DifTags, Operation};

/// A descriptor, as the device reads it.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Descriptor, DsaOpcode, Flags, Operation};
///
/// let copy = Operation::Memmove { src: 0x1000, dst: 0x2000, len: 4096 };
/// let descriptor = Descriptor::new(&copy, Flags::RECORD, 0x3000);
/// assert_eq!(descriptor.opcode(), DsaOpcode::MEMMOVE);
/// assert_eq!(descriptor.to_bytes()[4..8], [0x0c, 0, 0, 3]);
/// assert_eq!(descriptor.operation(), Ok(copy));
/// ```
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Descriptor {
    pasid_and_privilege: u32,
    flags_and_opcode: u32,
    record_address: u64,
    at_16: u64,
    at_24: u64,
    at_32: u32,
    interrupt_handle: u16,
    reserved: u16,
    at_40: u64,
    at_48: u64,
    at_56: u64,
}

const _: () = {
    assert!(size_of::<Descriptor>() == Descriptor::BYTES && align_of::<Descriptor>() == Descriptor::BYTES);
    assert!(offset_of!(Descriptor, flags_and_opcode) == 4);
    assert!(offset_of!(Descriptor, record_address) == 8);
    assert!(offset_of!(Descriptor, at_16) == 16 && offset_of!(Descriptor, at_24) == 24);
    assert!(offset_of!(Descriptor, at_32) == 32);
    assert!(offset_of!(Descriptor, interrupt_handle) == 36 && offset_of!(Descriptor, reserved) == 38);
    assert!(offset_of!(Descriptor, at_40) == 40 && offset_of!(Descriptor, at_48) == 48);
    assert!(offset_of!(Descriptor, at_56) == 56);
};

/// The layout of this opcode's fields is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnknownOpcode(
    /// The opcode.
    pub DsaOpcode,
);

impl fmt::Display for UnknownOpcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fields of {} are not known", self.0)
    }
}

impl core::error::Error for UnknownOpcode {}

impl Descriptor {
    /// The size of a descriptor, bytes.
    pub const BYTES: usize = 64;
    /// The bits of the first word that are neither PASID nor privilege.
    const RESERVED_BESIDE_PASID: u32 = 0x7ff0_0000;

    /// The descriptor of an operation. `record_address` is that of its [`CompletionRecord`](super::CompletionRecord):
    /// zero if the flags do not make it [valid](Flags::RECORD_ADDRESS_VALID).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, Flags, Operation};
    /// let fence = Descriptor::new(&Operation::Nop, Flags::FENCE, 0);
    /// assert_eq!(fence.flags(), Flags::FENCE);
    /// assert_eq!(fence.record_address(), 0);
    /// ```
    #[must_use]
    #[inline]
    pub const fn new(operation: &Operation, flags: Flags, record_address: u64) -> Self {
        let Body { at_16, at_24, at_32, at_40, at_48, at_56 } = operation.body();
        Self {
            pasid_and_privilege: 0,
            flags_and_opcode: flags.bits() | ((operation.opcode().to_u8() as u32) << 24),
            record_address,
            at_16,
            at_24,
            at_32,
            interrupt_handle: 0,
            reserved: 0,
            at_40,
            at_48,
            at_56,
        }
    }

    /// The descriptor of an operation of two addresses, or of a pattern and an address, and a length: what most are, at
    /// less cost than by an [`Operation`].
    #[inline]
    pub(in crate::mover::dsa) const fn of_words(
        opcode: DsaOpcode,
        flags: Flags,
        record_address: u64,
        [at_16, at_24]: [u64; 2],
        len: u32,
    ) -> Self {
        Self {
            pasid_and_privilege: 0,
            flags_and_opcode: flags.bits() | ((opcode.to_u8() as u32) << 24),
            record_address,
            at_16,
            at_24,
            at_32: len,
            interrupt_handle: 0,
            reserved: 0,
            at_40: 0,
            at_48: 0,
            at_56: 0,
        }
    }

    /// The opcode.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, DsaOpcode};
    /// assert_eq!(Descriptor::from_bytes(&[0; 64]).opcode(), DsaOpcode::NOP);
    /// ```
    #[must_use]
    #[inline]
    pub const fn opcode(&self) -> DsaOpcode {
        let [.., opcode] = self.flags_and_opcode.to_le_bytes();
        DsaOpcode::from_u8(opcode)
    }

    /// The flags.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, Flags, Operation};
    /// assert_eq!(Descriptor::new(&Operation::Nop, Flags::RECORD, 0x40).flags(), Flags::RECORD);
    /// ```
    #[must_use]
    #[inline]
    pub const fn flags(&self) -> Flags {
        Flags::from_bits(self.flags_and_opcode)
    }

    /// The address of the completion record.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, Flags, Operation};
    /// assert_eq!(Descriptor::new(&Operation::Nop, Flags::RECORD, 0x40).record_address(), 0x40);
    /// ```
    #[must_use]
    #[inline]
    pub const fn record_address(&self) -> u64 {
        self.record_address
    }

    /// The first four bytes: PASID in bits 19:0, privilege in bit 31. Zero in what [`new`](Self::new) makes.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut bytes = [0; 64];
    /// bytes[3] = 0x80;
    /// assert_eq!(memring::dsa::Descriptor::from_bytes(&bytes).pasid_and_privilege(), 1 << 31);
    /// ```
    #[must_use]
    pub const fn pasid_and_privilege(&self) -> u32 {
        self.pasid_and_privilege
    }

    /// The handle of the interrupt to raise. Zero in what [`new`](Self::new) makes.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut bytes = [0; 64];
    /// bytes[36] = 7;
    /// assert_eq!(memring::dsa::Descriptor::from_bytes(&bytes).interrupt_handle(), 7);
    /// ```
    #[must_use]
    pub const fn interrupt_handle(&self) -> u16 {
        self.interrupt_handle
    }

    /// The operation.
    ///
    /// # Errors
    ///
    /// The layout of this opcode's fields is not known.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, DsaOpcode, Operation, UnknownOpcode};
    /// let mut bytes = [0; 64];
    /// assert_eq!(Descriptor::from_bytes(&bytes).operation(), Ok(Operation::Nop));
    /// bytes[7] = 0xff;
    /// let refused = Descriptor::from_bytes(&bytes).operation();
    /// assert_eq!(refused, Err(UnknownOpcode(DsaOpcode::from_u8(0xff))));
    /// ```
    #[inline]
    pub const fn operation(&self) -> Result<Operation, UnknownOpcode> {
        match Operation::from_body(self.opcode(), self.body()) {
            Some(operation) => Ok(operation),
            None => Err(UnknownOpcode(self.opcode())),
        }
    }

    #[inline]
    const fn body(&self) -> Body {
        let Self { at_16, at_24, at_32, at_40, at_48, at_56, .. } = *self;
        Body { at_16, at_24, at_32, at_40, at_48, at_56 }
    }

    /// Every flag that some device allows some descriptor of this opcode.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, DsaOpcode, Flags};
    /// assert!(Descriptor::allowed_flags(DsaOpcode::FILL).contains(Flags::FILL_16));
    /// assert!(!Descriptor::allowed_flags(DsaOpcode::NOP).contains(Flags::BLOCK_ON_FAULT));
    /// ```
    #[must_use]
    pub const fn allowed_flags(opcode: DsaOpcode) -> Flags {
        rules::allowed(opcode)
    }

    /// Those of its flags that no device takes: they are not the operation's, or other flags forbid them. A device may
    /// refuse more, by its capabilities, its work queue, and by whether a batch holds the descriptor.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, Flags, Operation};
    /// let right = Descriptor::new(&Operation::Nop, Flags::RECORD, 0x40);
    /// assert!(right.reserved_flags().is_empty());
    /// let wrong = Descriptor::new(&Operation::Nop, Flags::RECORD | Flags::CACHE_CONTROL, 0x40);
    /// assert_eq!(wrong.reserved_flags(), Flags::CACHE_CONTROL);
    /// ```
    #[must_use]
    pub const fn reserved_flags(&self) -> Flags {
        rules::reserved_flags(self.opcode(), self.flags())
    }

    /// The offset of the first byte that has a bit set which must be zero, by the opcode and the flags. PASID and
    /// privilege are not looked at.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, Flags, Operation};
    /// let fill = |flags| {
    ///     let operation = Operation::Fill { pattern: 1, pattern_high: 2, dst: 0x1000, len: 64 };
    ///     Descriptor::new(&operation, flags, 0)
    /// };
    /// assert_eq!(fill(Flags::NONE).reserved_byte(), Some(40));
    /// assert_eq!(fill(Flags::FILL_16).reserved_byte(), None);
    /// ```
    #[must_use]
    pub fn reserved_byte(&self) -> Option<usize> {
        let flags = self.flags();
        let reserved = rules::reserved(self.opcode(), flags);
        let must_be_zero = |used: bool| if used { 0 } else { u64::MAX };
        let set = Self {
            pasid_and_privilege: self.pasid_and_privilege & Self::RESERVED_BESIDE_PASID,
            flags_and_opcode: 0,
            record_address: self.record_address & must_be_zero(flags.contains(Flags::RECORD_ADDRESS_VALID)),
            at_16: self.at_16 & reserved.at_16,
            at_24: self.at_24 & reserved.at_24,
            at_32: self.at_32 & reserved.at_32,
            interrupt_handle: if flags.contains(Flags::REQUEST_COMPLETION_INTERRUPT) {
                0
            } else {
                self.interrupt_handle
            },
            reserved: self.reserved,
            at_40: self.at_40 & reserved.at_40,
            at_48: self.at_48 & reserved.at_48,
            at_56: self.at_56 & reserved.at_56,
        };
        set.to_bytes().iter().position(|byte| *byte != 0)
    }

    /// The descriptor in these bytes: any are one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, Flags, Operation};
    /// let flush = Descriptor::new(&Operation::CacheFlush { address: 0x1000, len: 64 }, Flags::NONE, 0);
    /// assert_eq!(Descriptor::from_bytes(&flush.to_bytes()), flush);
    /// ```
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let at_32 = u64_at(bytes, 32).to_le_bytes();
        let [a, b, c, d, i0, i1, r0, r1] = at_32;
        let [p0, p1, p2, p3, f0, f1, f2, op] = u64_at(bytes, 0).to_le_bytes();
        Self {
            pasid_and_privilege: u32::from_le_bytes([p0, p1, p2, p3]),
            flags_and_opcode: u32::from_le_bytes([f0, f1, f2, op]),
            record_address: u64_at(bytes, 8),
            at_16: u64_at(bytes, 16),
            at_24: u64_at(bytes, 24),
            at_32: u32::from_le_bytes([a, b, c, d]),
            interrupt_handle: u16::from_le_bytes([i0, i1]),
            reserved: u16::from_le_bytes([r0, r1]),
            at_40: u64_at(bytes, 40),
            at_48: u64_at(bytes, 48),
            at_56: u64_at(bytes, 56),
        }
    }

    /// Its bytes, as the device reads them.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Descriptor, Flags, Operation};
    /// let bytes = Descriptor::new(&Operation::Nop, Flags::RECORD, 0x1122_3344_5566_7780).to_bytes();
    /// assert_eq!(bytes[8..16], [0x80, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    /// ```
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; Self::BYTES] {
        let words = [
            self.pasid_and_privilege as u64 | ((self.flags_and_opcode as u64) << 32),
            self.record_address,
            self.at_16,
            self.at_24,
            self.at_32 as u64 | ((self.interrupt_handle as u64) << 32) | ((self.reserved as u64) << 48),
            self.at_40,
            self.at_48,
            self.at_56,
        ];
        let mut bytes = [0; Self::BYTES];
        let (mut left, mut word) = (bytes.as_mut_slice(), 0);
        while let Some((eight, rest)) = left.split_first_chunk_mut::<8>() {
            *eight = words[word].to_le_bytes();
            (left, word) = (rest, word + 1);
        }
        bytes
    }
}

/// The eight bytes from `at` on, which is below 57.
const fn u64_at(bytes: &[u8; Descriptor::BYTES], at: usize) -> u64 {
    let (_, from) = bytes.split_at(at);
    match from.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => 0,
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Descriptor");
        match self.operation() {
            Ok(operation) => shown.field("operation", &operation),
            Err(UnknownOpcode(opcode)) => shown.field("opcode", &opcode),
        };
        shown.field("flags", &self.flags());
        shown.field("record_address", &format_args!("{:#x}", self.record_address)).finish_non_exhaustive()
    }
}
