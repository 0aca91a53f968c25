//! What can become of an operation besides its success, with the buffers it gives back.

use core::fmt;

use super::buffer::OutOfRange;
use crate::cqe::Status;
use crate::error::PushError;

/// Why an operation failed, or was not begun.
///
/// # Examples
///
/// ```
/// use memring::{OpError, Ring, Status};
/// let ring = Ring::new()?;
/// let failed = ring.block_on(ring.memcpy(vec![0; 8], vec![0; 9]))?.unwrap_err();
/// assert_eq!(failed.error, OpError::Lengths { dst: 8, src: 9 });
/// assert_eq!(failed.error.status(), Status::INVALID);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpError {
    /// The buffers of a copy are not equally long, in bytes.
    Lengths {
        /// The destination's length.
        dst: usize,
        /// The source's length.
        src: usize,
    },
    /// A range is not in its buffer.
    Range(OutOfRange),
    /// So many operations are under way that there is no room, or others wait for it: only of the `try_` functions,
    /// which do not wait.
    Full,
    /// More linked operations than the ring has entries: they would never fit.
    TooLong(usize),
    /// It was cancelled before it began.
    Cancelled,
    /// The ring was shut down.
    ShutDown,
    /// The ring belongs to the parent process.
    Forked,
    /// [`on`](super::Operation::on) names a mover that the ring does not have.
    UnknownMover,
    /// No mover, or not the chosen one, can do this operation with these options and this length.
    Unsupported,
    /// Nothing can make it durable: it is in no registered [`Region`](crate::Region), or in one whose file is in
    /// memory.
    NotDurable,
    /// It is not wholly inside one region.
    OutsideRegion,
    /// The entry makes no sense, or uses memory that another one uses.
    Refused,
    /// The mover's answer.
    Mover(Status, u32),
}

impl OpError {
    /// The same in the words of a completion.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{OpError, Status};
    /// assert_eq!(OpError::Full.status(), Status::OUT_OF_MEMORY);
    /// assert_eq!(OpError::ShutDown.status(), Status::SHUT_DOWN);
    /// assert_eq!(OpError::Unsupported.status(), Status::UNSUPPORTED);
    /// ```
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Full => Status::OUT_OF_MEMORY,
            Self::Cancelled => Status::CANCELLED,
            Self::ShutDown | Self::Forked => Status::SHUT_DOWN,
            Self::Unsupported | Self::NotDurable => Status::UNSUPPORTED,
            Self::Lengths { .. }
            | Self::Range(_)
            | Self::TooLong(_)
            | Self::UnknownMover
            | Self::OutsideRegion
            | Self::Refused => Status::INVALID,
            Self::Mover(status, _) => *status,
        }
    }

    /// The completion's [value](crate::Cqe::value): the offset of a fault in bytes, the errno of a storage error.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{OpError, Status};
    /// assert_eq!(OpError::Mover(Status::FAULT, 4096).value(), 4096);
    /// assert_eq!(OpError::Full.value(), 0);
    /// ```
    #[must_use]
    pub const fn value(&self) -> u32 {
        match self {
            Self::Mover(_, value) => *value,
            _ => 0,
        }
    }

    /// What a completion says, if it is no success.
    pub(super) const fn of(status: Status, value: u32) -> Option<Self> {
        match status {
            Status::SUCCESS => None,
            Status::CANCELLED => Some(Self::Cancelled),
            Status::SHUT_DOWN => Some(Self::ShutDown),
            Status::UNSUPPORTED => Some(Self::Unsupported),
            status => Some(Self::Mover(status, value)),
        }
    }

    #[cold]
    pub(super) fn refused(error: &PushError) -> Self {
        match error {
            PushError::Full(_) => Self::Full,
            PushError::Closed(_) => Self::ShutDown,
            PushError::Forked(_) => Self::Forked,
            PushError::UnknownMover(_) => Self::UnknownMover,
            PushError::Unsupported(_) => Self::Unsupported,
            PushError::NotDurable(_) => Self::NotDurable,
            PushError::OutsideRegion(_) => Self::OutsideRegion,
            _ => Self::Refused,
        }
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lengths { dst, src } => write!(f, "the destination has {dst} bytes and the source {src}"),
            Self::Range(range) => range.fmt(f),
            Self::Full => f.write_str("the ring is full: too many operations are under way or wait"),
            Self::TooLong(len) => write!(f, "{len} linked operations are more than the ring has entries"),
            Self::Cancelled => Status::CANCELLED.fmt(f),
            Self::ShutDown => f.write_str("the ring was shut down"),
            Self::Forked => f.write_str("the ring belongs to the parent process"),
            Self::UnknownMover => f.write_str("the ring has no mover of this id"),
            Self::Unsupported => f.write_str("no mover of the ring supports this operation, option or length"),
            Self::NotDurable => f.write_str("it is to be durable, and lies in no region that can be"),
            Self::OutsideRegion => f.write_str("it does not lie wholly inside one registered region"),
            Self::Mover(Status::IO, errno) => {
                write!(f, "{}: {}", Status::IO, std::io::Error::from_raw_os_error((*errno).cast_signed()))
            }
            Self::Refused => f.write_str("the operation makes no sense, or its memory is in use by another"),
            Self::Mover(Status::FAULT, offset) => write!(f, "the memory could not be accessed, from byte {offset} on"),
            Self::Mover(status, 0) => status.fmt(f),
            Self::Mover(status, value) => write!(f, "{status} ({value})"),
        }
    }
}

impl core::error::Error for OpError {}

impl From<OutOfRange> for OpError {
    fn from(range: OutOfRange) -> Self {
        Self::Range(range)
    }
}

/// An operation failed: why, and its buffers. What the destination holds is not known, unless the error says so.
///
/// # Examples
///
/// ```
/// use memring::{Failed, Ring};
/// let ring = Ring::new()?;
/// let Err(Failed { error, buffers: (dst, src) }) = ring.block_on(ring.memcpy(vec![1; 2], vec![2; 3]))? else {
///     unreachable!("the lengths differ");
/// };
/// assert_eq!(error.to_string(), "the destination has 2 bytes and the source 3");
/// assert_eq!((dst.len(), src.len()), (2, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Failed<B> {
    /// Why.
    pub error: OpError,
    /// What the operation was given, in the order of its arguments.
    pub buffers: B,
}

impl<B> fmt::Debug for Failed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Buffers are long, and need not be printable.
        f.debug_struct("Failed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<B> fmt::Display for Failed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<B> core::error::Error for Failed<B> {}

/// Blocking is not possible here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockError {
    /// This is a driver thread of a queue, which would wait for itself, or a mover's code within a ring that this
    /// thread drives.
    WouldDeadlock,
    /// The ring belongs to the parent process.
    Forked,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldDeadlock => "blocking on a thread that drives operations would wait for itself",
            Self::Forked => "the ring belongs to the parent process",
        })
    }
}

impl core::error::Error for BlockError {}
