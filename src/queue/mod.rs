//! The queue pair: entries in, completions out, movers in between. No futures here.
//!
//! ```text
//!  Sqe ─push─▶ SubmissionQueue ─submit─▶ Route ─▶ lane of a mover ─▶ mover ─▶ Cqe ─▶ CompletionQueue ─drain─▶ you
//! ```
//!
//! A push takes a credit, reaping gives it back: nothing between can overflow, and a full queue is known at the push.
//! Who executes is a matter of the drive: the submitter (inline), threads, or the reaper itself when there are no
//! threads.

mod barrier;
mod builder;
mod chain;
mod completion;
mod core;
mod drain;
mod drive;
mod flusher;
mod reaper;
mod route;
mod stage;
mod stats;
mod submission;

pub(crate) use self::builder::Reaping;
pub use self::builder::{Builder, Drive};
pub use self::completion::{Arm, CompletionQueue};
pub use self::drain::Drain;
pub use self::drive::is_driver_thread;
pub use self::flusher::FlushMethod;
pub use self::route::Route;
pub use self::stats::{Driver, DriverStats, MoverStats, Stats};
pub use self::submission::SubmissionQueue;
pub use crate::error::{BuildError, PushError, WaitError};

use std::sync::Arc;

use self::core::Core;
use crate::memory::region::{MappedFile, Region, RegisterError};
use crate::sqe::MoverId;

/// Both halves of a queue, before they are split.
///
/// # Examples
///
/// ```
/// use memring::queue::QueuePair;
/// let pair = QueuePair::builder().entries(4096).workers(2).build()?;
/// let (sq, cq) = pair.split();
/// # drop((sq, cq));
/// # Ok::<(), memring::queue::BuildError>(())
/// ```
#[derive(Debug)]
pub struct QueuePair {
    core: Arc<Core>,
    sq: SubmissionQueue,
    cq: CompletionQueue,
}

impl QueuePair {
    /// The options of a queue pair, at their defaults.
    ///
    /// # Examples
    ///
    /// ```
    /// let _builder = memring::queue::QueuePair::builder().entries(256);
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The two halves, to be owned apart: the submitting one can be cloned, the reaping one not.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{BuildError, QueuePair};
    /// let (sq, cq) = QueuePair::builder().build()?.split();
    /// let another = sq.clone();
    /// # drop((sq, cq, another));
    /// # Ok::<(), BuildError>(())
    /// ```
    #[must_use]
    pub fn split(self) -> (SubmissionQueue, CompletionQueue) {
        (self.sq, self.cq)
    }

    /// Both halves, without parting them: for a single-threaded loop that keeps the pair.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let mut pair = QueuePair::builder().workers(0).build()?;
    /// let (sq, cq) = pair.halves();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.drain().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn halves(&mut self) -> (&mut SubmissionQueue, &mut CompletionQueue) {
        (&mut self.sq, &mut self.cq)
    }

    /// The routing table.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, WORKERS, queue::QueuePair};
    /// let pair = QueuePair::builder().build()?;
    /// assert_eq!(pair.route().choose(&Sqe::nop())?, WORKERS);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.core.route
    }

    /// The id of a mover that was added under this name.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{WORKERS, queue::QueuePair};
    /// let pair = QueuePair::builder().build()?;
    /// assert_eq!(pair.mover("workers"), Some(WORKERS));
    /// assert_eq!(pair.mover("gpu"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn mover(&self, name: &str) -> Option<MoverId> {
        self.core.mover(name)
    }

    /// Makes a [`Region`] of a mapped file, so that flushes of it are durable. See there for an example.
    ///
    /// The first one has the thread of the flushes begin, unless the reaper [drives](Builder::flush_drive) them.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], with the mapped file: it is no shared mapping of that file, or
    /// some of it is registered already; the queue is closed, or its parent process's; or the system refuses something.
    pub fn register(&self, mapped: MappedFile) -> Result<Region, RegisterError> {
        self.core.register(mapped)
    }

    /// How durable flushes reach the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{FlushMethod, QueuePair};
    /// let pair = QueuePair::builder().build()?;
    /// assert_eq!(pair.flush_method(), FlushMethod::in_use());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn flush_method(&self) -> FlushMethod {
        self.core.flush_method()
    }

    /// What the queue has done so far.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::QueuePair;
    /// let pair = QueuePair::builder().build()?;
    /// assert!(pair.stats().drivers.iter().all(|driver| driver.operations == 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}
