//! Errors: each names what was wrong and gives back what it refused.

use core::fmt;
use std::io;

use crate::sqe::Refusal;
use crate::sqe::Sqe;

macro_rules! push_errors {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// A push was refused. The entry comes back, untouched; of a refused batch it is the first that is at fault.
        ///
        /// # Examples
        ///
        /// ```
        /// use memring::{Sqe, queue::{PushError, QueuePair}};
        /// let (mut sq, _cq) = QueuePair::builder().entries(8).build()?.split();
        /// let sqe = Sqe::memset(std::ptr::null_mut(), 0, 4096).user_data(5);
        /// // SAFETY: the entry is refused, so no memory is touched.
        /// let refused = unsafe { sq.push(sqe) }.unwrap_err();
        /// assert!(matches!(refused, PushError::Null(_)));
        /// assert_eq!(refused.into_sqe().data(), 5);
        /// # Ok::<(), memring::queue::BuildError>(())
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum PushError {
            $($(#[$doc])* $name(Sqe),)*
            /// It uses memory that another entry uses, staged or under way, with nothing that orders the two: the
            /// refused entry, and the other. Only with the feature `check-overlap`.
            InUse(Sqe, Sqe),
        }

        impl PushError {
            /// The refused entry.
            ///
            /// # Examples
            ///
            /// ```
            /// use memring::{Sqe, queue::PushError};
            /// assert_eq!(PushError::Full(Sqe::nop().user_data(4)).sqe().data(), 4);
            /// ```
            #[must_use]
            pub const fn sqe(&self) -> &Sqe {
                match self { $(Self::$name(sqe))|* | Self::InUse(sqe, _) => sqe }
            }

            /// The refused entry, to push again.
            ///
            /// # Examples
            ///
            /// ```
            /// use memring::{Sqe, queue::PushError};
            /// assert_eq!(PushError::Closed(Sqe::nop()).into_sqe(), Sqe::nop());
            /// ```
            #[must_use]
            pub const fn into_sqe(self) -> Sqe {
                match self { $(Self::$name(sqe))|* | Self::InUse(sqe, _) => sqe }
            }

            const fn text(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $text,)*
                    Self::InUse(..) => "its memory is in use by another entry",
                }
            }
        }
    };
}

push_errors! {
    /// No credit is left: reap completions, then push again.
    Full, "the queue is full: reap completions first";
    /// The completion queue is gone or shut down: nobody would reap this.
    Closed, "the queue is closed";
    /// This process was forked from the one that owns the queue.
    Forked, "the queue belongs to the parent process";
    /// The batch is longer than the queue: it would never fit.
    TooLong, "the batch is longer than the queue has entries";
    /// A null address with a length.
    Null, "an address is null and the length is not zero";
    /// A region that leaves the address space.
    Wraps, "a region leaves the address space";
    /// A memcpy between regions that overlap: use memmove.
    Overlap, "the regions of a memcpy overlap";
    /// An opcode that this version does not know.
    UnknownOpcode, "unknown opcode";
    /// A flag or a reserved field that this version does not know.
    UnknownFlags, "unknown flags, or a reserved field is not zero";
    /// `Sqe::on` names a mover that this queue does not have.
    UnknownMover, "the queue has no mover of this id";
    /// No mover, or not the chosen one, can do this operation with these flags and this length.
    Unsupported, "no mover of the queue supports this operation, flag or length";
    /// Nothing can make it durable: it is in no registered region, or in one whose file is in memory.
    NotDurable, "it is to be durable, and lies in no region that can be";
    /// It is not wholly inside one region, or not in the one it names, which may be registered no more.
    OutsideRegion, "it does not lie wholly inside one registered region";
}

impl PushError {
    #[cold]
    pub(crate) fn refused(refusal: Refusal, sqe: Sqe) -> Self {
        match refusal {
            Refusal::Null => Self::Null(sqe),
            Refusal::Wraps => Self::Wraps(sqe),
            Refusal::Overlap => Self::Overlap(sqe),
            Refusal::UnknownOpcode => Self::UnknownOpcode(sqe),
            Refusal::UnknownFlags => Self::UnknownFlags(sqe),
            Refusal::UnknownMover => Self::UnknownMover(sqe),
            Refusal::Unsupported => Self::Unsupported(sqe),
            Refusal::NotDurable => Self::NotDurable(sqe),
            Refusal::OutsideRegion => Self::OutsideRegion(sqe),
        }
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(sqe, other) => write!(f, "{} ({sqe:?}, and {other:?})", self.text()),
            _ => write!(f, "{} ({:?})", self.text(), self.sqe()),
        }
    }
}

impl core::error::Error for PushError {}

/// A queue pair could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// `entries` is not in 1 to 65536; the value asked for.
    Entries(usize),
    /// More than 64 workers; the value asked for.
    Workers(usize),
    /// A user's mover asked for no thread, or for more than 64; its name and the number.
    Threads(String, usize),
    /// Two movers bear this name.
    DuplicateMover(String),
    /// More movers than there are ids; the name of the first that found none.
    TooManyMovers(String),
    /// There is no fault guard for this processor architecture.
    FaultGuard,
    /// The kernel refused a thread, an eventfd or a signal handler.
    Os(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(entries) => write!(f, "a queue has 1 to 65536 entries, not {entries}"),
            Self::Workers(workers) => write!(f, "a queue has at most 64 workers, not {workers}"),
            Self::Threads(name, threads) => write!(f, "mover {name:?} needs 1 to 64 threads, not {threads}"),
            Self::DuplicateMover(name) => write!(f, "two movers are named {name:?}"),
            Self::TooManyMovers(name) => write!(f, "no mover id is left for {name:?}"),
            Self::FaultGuard => f.write_str("there is no fault guard for this processor architecture"),
            Self::Os(error) => write!(f, "the system refused a thread, an eventfd or a signal handler: {error}"),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

/// Waiting is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// This process was forked from the one that owns the queue: its workers are not here.
    Forked,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str("the queue belongs to the parent process"),
        }
    }
}

impl core::error::Error for WaitError {}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> Self {
        Self::other(error)
    }
}
