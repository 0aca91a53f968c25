//! Flags: 24 bits of a descriptor. The first 16 mean the same for every operation that has them; the rest is each one's
//! own.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

/// The flags of a descriptor.
///
/// # Examples
///
/// ```
/// use memring::dsa::Flags;
/// let flags = Flags::RECORD | Flags::CACHE_CONTROL;
/// assert!(flags.contains(Flags::RECORD_ADDRESS_VALID));
/// assert_eq!(flags.bits(), 0x10c);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
        }
    };
}

flags! {
    /// In a batch: starts when all members before it have finished, and is abandoned if one of them did not end with
    /// [`SUCCESS`](crate::dsa::RecordStatus::SUCCESS). Reserved outside of one.
    FENCE = 0;
    /// At a page fault, have the system map the page, and wait. Reserved unless the work queue allows it.
    BLOCK_ON_FAULT = 1;
    /// The descriptor has the address of a completion record (CRAV).
    RECORD_ADDRESS_VALID = 2;
    /// Write the record in any case (RCR); else only if the status is not one of success, or of a failed batch.
    REQUEST_COMPLETION_RECORD = 3;
    /// Reserved for users of Linux, who get no interrupt.
    REQUEST_COMPLETION_INTERRUPT = 4;
    /// Since specification 3.0; a steering tag of the record in version 1.
    CACHE_CONTROL_3 = 5;
    /// An unexpected result makes the status [`SUCCESS_PREDICATE`](crate::dsa::RecordStatus::SUCCESS_PREDICATE).
    CHECK_RESULT = 7;
    /// Write to the cache rather than to memory.
    CACHE_CONTROL = 8;
    /// The traffic class of the first address: B instead of A.
    ADDRESS_1_TRAFFIC_CLASS = 9;
    /// The traffic class of the second address.
    ADDRESS_2_TRAFFIC_CLASS = 10;
    /// The traffic class of the third address.
    ADDRESS_3_TRAFFIC_CLASS = 11;
    /// The traffic class of the completion record.
    RECORD_TRAFFIC_CLASS = 12;
    /// Writes become visible in order.
    STRICT_ORDERING = 13;
    /// Read the lines written last back before completing: cache control 2 of specification 3.0.
    DESTINATION_READBACK = 14;
    /// Reserved; a steering tag of the destination in version 1.
    DESTINATION_STEERING_TAG = 15;

    /// BATCH: it is the rest of one in which a member had failed.
    BATCH_ERROR = 16;
    /// DRAIN: has a first address to read back.
    READBACK_1_VALID = 16;
    /// DRAIN: has a second address to read back.
    READBACK_2_VALID = 17;
    /// DRAIN: no implicit readback for traffic class A.
    NO_READBACK_CLASS_A = 18;
    /// DRAIN: no implicit readback for traffic class B.
    NO_READBACK_CLASS_B = 19;
    /// FILL: the pattern has 16 bytes.
    FILL_16 = 18;
    /// TRANSL_FETCH: has a stride.
    USE_STRIDE = 16;
    /// CRCGEN, COPY_CRC: the seed is in memory.
    READ_SEED = 16;
    /// CRCGEN, COPY_CRC: seed and result are the register itself, neither inverted nor reflected.
    BYPASS_CRC_REFLECTION = 17;
    /// CRCGEN, COPY_CRC: bytes are taken most significant bit first.
    BYPASS_DATA_REFLECTION = 18;
    /// CRCGEN, COPY_CRC: 64 bits.
    CRC_64 = 19;
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// A record, in any case.
    pub const RECORD: Self = Self(Self::RECORD_ADDRESS_VALID.0 | Self::REQUEST_COMPLETION_RECORD.0);
    /// What the layout has room for.
    const MASK: u32 = 0xff_ffff;

    /// The flags of the lower 24 bits, whatever they mean.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Flags;
    /// assert_eq!(Flags::from_bits(0x0c), Flags::RECORD);
    /// assert_eq!(Flags::from_bits(u32::MAX).bits(), 0xff_ffff);
    /// ```
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::MASK)
    }

    /// The bits.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::Flags::FENCE.bits(), 1);
    /// ```
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every flag of `other` is set here.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Flags;
    /// assert!(Flags::RECORD.contains(Flags::RECORD_ADDRESS_VALID));
    /// assert!(!Flags::RECORD.contains(Flags::FENCE));
    /// ```
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of either.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Flags;
    /// assert_eq!(Flags::RECORD.with(Flags::FENCE).bits(), 0xd);
    /// ```
    #[must_use]
    #[inline]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags but for those of `other`.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Flags;
    /// let left = Flags::RECORD.without(Flags::REQUEST_COMPLETION_RECORD);
    /// assert_eq!(left, Flags::RECORD_ADDRESS_VALID);
    /// ```
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether none is set.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(memring::dsa::Flags::NONE.is_empty());
    /// ```
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Flags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        *self = self.with(other);
    }
}

// As a number: from bit 16 on a name depends on the operation.
impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#08x})", self.0)
    }
}
