//! Completion entries: what became of an operation, in two words.
//!
//! | word | content |
//! |---|---|
//! | 0 | user_data |
//! | 1 | value u32, status u16, mover u8, flags u8; the top bit of the flags is the ring's phase bit |

use core::fmt;

use memring_ring::{PHASE_BIT, Words};

use crate::sqe::MoverId;

/// How an operation ended. A newtype, so that a value from a newer mover is still a value.
///
/// # Examples
///
/// ```
/// use memring::Status;
/// assert!(Status::SUCCESS.is_success());
/// assert_eq!(Status::JOB_CORRUPTED.to_string(), "job corrupted: the mover failed internally");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u16);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Every status of this version.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some(stringify!($name)),)* _ => None }
            }

            const fn text(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

statuses! {
    /// Done.
    SUCCESS = 0, "success";
    /// The mover has no room for the operation.
    OUT_OF_MEMORY = 1, "out of memory: too many operations are pending";
    /// The mover failed internally; what the destination holds is not known.
    JOB_CORRUPTED = 2, "job corrupted: the mover failed internally";
    /// No mover can do this.
    UNSUPPORTED = 3, "unsupported: no mover can do this";
    /// The operation's arguments make no sense to its mover.
    INVALID = 4, "invalid arguments";
    /// It was cancelled before it began.
    CANCELLED = 5, "cancelled before it began";
    /// The memory could not be accessed; the completion's value is the offset, in bytes. Only of a queue with the
    /// [fault guard](crate::queue::Builder::fault_guard): without it the process ends.
    FAULT = 6, "fault: the memory could not be accessed";
    /// The storage failed; the completion's value is the errno.
    IO = 7, "the storage failed";
    /// The queue was shut down first.
    SHUT_DOWN = 8, "the queue was shut down";
}

impl Status {
    /// The status of this value, known or not.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Status;
    /// assert_eq!(Status::from_u16(5), Status::CANCELLED);
    /// assert_eq!(Status::from_u16(999).to_string(), "status 999");
    /// ```
    #[must_use]
    pub const fn from_u16(value: u16) -> Self {
        Self(value)
    }

    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::Status::FAULT.to_u16(), 6);
    /// ```
    #[must_use]
    pub const fn to_u16(self) -> u16 {
        self.0
    }

    /// Whether the operation was done.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Status;
    /// assert!(Status::SUCCESS.is_success() && !Status::IO.is_success());
    /// ```
    #[must_use]
    #[inline]
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Status({})", self.0),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "status {}", self.0),
        }
    }
}

/// A completion entry. See the [module](self) for its layout.
///
/// # Examples
///
/// ```
/// use memring::{Cqe, Status, WORKERS};
/// let cqe = Cqe::new(7, Status::FAULT, WORKERS).with_value(512);
/// assert_eq!((cqe.user_data(), cqe.status(), cqe.value()), (7, Status::FAULT, 512));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cqe([u64; 2]);

impl Cqe {
    /// The completion of an operation with this user data, by this mover.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, Status, WORKERS};
    /// assert!(Cqe::new(7, Status::SUCCESS, WORKERS).status().is_success());
    /// ```
    #[must_use]
    #[inline]
    pub const fn new(user_data: u64, status: Status, mover: MoverId) -> Self {
        Self([user_data, ((status.0 as u64) << 32) | ((mover.to_u8() as u64) << 48)])
    }

    /// The same completion, with a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, Status, WORKERS};
    /// assert_eq!(Cqe::new(7, Status::IO, WORKERS).with_value(28).value(), 28);
    /// ```
    #[must_use]
    pub const fn with_value(self, value: u32) -> Self {
        let [user_data, word] = self.0;
        Self([user_data, (word & !0xffff_ffff) | value as u64])
    }

    /// What the entry carried.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, Status, WORKERS};
    /// assert_eq!(Cqe::new(7, Status::SUCCESS, WORKERS).user_data(), 7);
    /// ```
    #[must_use]
    #[inline]
    pub const fn user_data(&self) -> u64 {
        self.0[0]
    }

    /// How the operation ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, Status, WORKERS};
    /// assert_eq!(Cqe::new(7, Status::FAULT, WORKERS).status(), Status::FAULT);
    /// ```
    #[must_use]
    #[inline]
    pub const fn status(&self) -> Status {
        let [_, _, _, _, low, high, ..] = self.0[1].to_le_bytes();
        Status(u16::from_le_bytes([low, high]))
    }

    /// How many operations this completion stands for: more than 1 only if they asked for
    /// [`COALESCE`](crate::SqeFlags::COALESCE).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, Status, WORKERS};
    /// assert_eq!(Cqe::new(7, Status::SUCCESS, WORKERS).count(), 1);
    /// ```
    #[must_use]
    pub const fn count(&self) -> u32 {
        if self.flags() & COALESCED == 0 { 1 } else { self.value() }
    }

    /// The same completion, as one that stands for `count` operations.
    #[must_use]
    pub(crate) const fn standing_for(self, count: u32) -> Self {
        let [user_data, word] = self.with_value(count).0;
        Self([user_data, word | (COALESCED as u64) << 56])
    }

    /// The same completion for one operation more, if `other` can be told by it too.
    #[must_use]
    pub(crate) fn joined_by(self, other: Self) -> Option<Self> {
        let like_other = other.standing_for(self.value());
        (self == like_other && self.value() < u32::MAX).then(|| self.with_value(self.value() + 1))
    }

    /// A number whose meaning depends on the operation and the status; 0 unless they say otherwise.
    ///
    /// | status | value |
    /// |---|---|
    /// | success of an entry with [`COALESCE`](crate::SqeFlags::COALESCE) | the [count](Cqe::count) |
    /// | [`FAULT`](Status::FAULT) | the offset that could not be accessed, bytes, at most `u32::MAX` |
    /// | [`IO`](Status::IO) | the errno |
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, Status, WORKERS};
    /// assert_eq!(Cqe::new(7, Status::SUCCESS, WORKERS).value(), 0);
    /// ```
    #[must_use]
    pub const fn value(&self) -> u32 {
        let [a, b, c, d, ..] = self.0[1].to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Who executed it.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, INLINE, Status};
    /// assert_eq!(Cqe::new(7, Status::SUCCESS, INLINE).mover(), INLINE);
    /// ```
    #[must_use]
    pub const fn mover(&self) -> MoverId {
        MoverId::from_u8(self.0[1].to_le_bytes()[6])
    }

    /// The completion's flags. The ring's phase bit is not among them.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Cqe, Status, WORKERS};
    /// assert_eq!(Cqe::new(7, Status::SUCCESS, WORKERS).flags(), 0);
    /// ```
    #[must_use]
    pub const fn flags(&self) -> u8 {
        (self.0[1] & !PHASE_BIT).to_le_bytes()[7]
    }
}

impl Words<2> for Cqe {
    #[inline]
    fn to_words(self) -> [u64; 2] {
        self.0
    }
    #[inline]
    fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }
}

impl fmt::Debug for Cqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cqe")
            .field("user_data", &self.user_data())
            .field("status", &self.status())
            .field("value", &self.value())
            .field("mover", &self.mover())
            .finish()
    }
}

/// The flag of completions that may stand for several operations: their value is the count.
const COALESCED: u8 = 1;

const _: () = assert!(size_of::<Cqe>() == 16);
