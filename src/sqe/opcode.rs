//! What an entry can ask for: the opcodes, their options, and what holds between entries.

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
    /// Make the bytes as durable as their memory can be: on stable storage, or the cache lines written back.
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
    /// Complete only when the destination is durable, which must be in a registered [`Region`](crate::Region).
    pub const MEM_DURABLE: Self = Self(1 << 0);
    /// The destination will not be read soon: a mover may bypass the cache. A hint; ignoring it is correct.
    pub const NO_CACHE_HINT: Self = Self(1 << 1);

    /// Every flag of this version.
    pub(crate) const KNOWN: Self = Self(0b11);

    /// The flags of these bits, known or not; a push refuses unknown ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::OpFlags;
    /// assert_eq!(OpFlags::from_bits(1), OpFlags::MEM_DURABLE);
    /// ```
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits: values as in the seed's `flags` argument.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::OpFlags::NO_CACHE_HINT.bits(), 2);
    /// ```
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every flag of `other` is set here.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::OpFlags;
    /// assert!(OpFlags::MEM_DURABLE.contains(OpFlags::NONE));
    /// assert!(!OpFlags::NONE.contains(OpFlags::MEM_DURABLE));
    /// ```
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

/// What holds between entries, and how an entry's end is told. For the queue, not for its mover.
///
/// | flag | setter | what it asks for |
/// |---|---|---|
/// | [`LINK`](SqeFlags::LINK) | [`Sqe::link`](crate::Sqe::link) | the next entry begins after this one succeeded |
/// | [`HARD_LINK`](SqeFlags::HARD_LINK) | [`Sqe::hard_link`](crate::Sqe::hard_link) | ... after this one ended |
/// | [`DRAIN`](SqeFlags::DRAIN) | [`Sqe::drain`](crate::Sqe::drain) | after all before it, and before all after it |
/// | [`SKIP_SUCCESS`](SqeFlags::SKIP_SUCCESS) | [`Sqe::skip_success`](crate::Sqe::skip_success) | success is silent |
/// | [`COALESCE`](SqeFlags::COALESCE) | [`Sqe::coalesce`](crate::Sqe::coalesce) | one completion for several |
///
/// # Examples
///
/// ```
/// use memring::{Sqe, SqeFlags};
/// let sqe = Sqe::nop().link().skip_success();
/// assert_eq!(sqe.sqe_flags(), SqeFlags::LINK | SqeFlags::SKIP_SUCCESS);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SqeFlags(u8);

impl SqeFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The next entry of the same submit begins when this one has succeeded; if it fails, all the rest of the chain is
    /// cancelled.
    pub const LINK: Self = Self(1 << 0);
    /// The next entry of the same submit begins when this one has ended, well or badly. With [`LINK`](Self::LINK) too,
    /// this holds.
    pub const HARD_LINK: Self = Self(1 << 1);
    /// This entry (or its whole chain) begins when all that was submitted before it has ended, and what is submitted
    /// after it begins when it has ended.
    pub const DRAIN: Self = Self(1 << 2);
    /// Success posts no completion; its credit returns by itself. A failure is always told.
    pub const SKIP_SUCCESS: Self = Self(1 << 3);
    /// Successes with equal user data that end one after the other share a completion:
    /// [`Cqe::count`](crate::Cqe::count).
    pub const COALESCE: Self = Self(1 << 4);

    /// Every flag of this version.
    pub(crate) const KNOWN: Self = Self(0b1_1111);
    /// Those that say that the next entry waits for this one.
    pub(crate) const ANY_LINK: Self = Self(Self::LINK.0 | Self::HARD_LINK.0);
    /// Those that a submit must act upon.
    pub(crate) const ORDER: Self = Self(Self::ANY_LINK.0 | Self::DRAIN.0);

    /// The flags of these bits, known or not; a push refuses unknown ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::SqeFlags;
    /// assert_eq!(SqeFlags::from_bits(1), SqeFlags::LINK);
    /// ```
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits, as they stand in word 0 of an entry.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::SqeFlags::DRAIN.bits(), 4);
    /// ```
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every flag of `other` is set here.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::SqeFlags;
    /// assert!((SqeFlags::LINK | SqeFlags::DRAIN).contains(SqeFlags::DRAIN));
    /// assert!(!SqeFlags::LINK.contains(SqeFlags::HARD_LINK));
    /// ```
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set here.
    #[inline]
    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl core::ops::BitOr for SqeFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
