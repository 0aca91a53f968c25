//! Building a ring: the options of its queue pair, and its own.

use std::time::Duration;

use super::ring::Ring;
use super::shared::Shared;
use crate::memory;
use crate::mover::DataMover;
use crate::queue::{self, BuildError, Drive, QueuePair};

/// Operations of at most this many bytes are executed in their first poll, unless the builder says otherwise: what it
/// costs to hand one over is more than to copy so little.
const DEFAULT_INLINE_MAX: usize = 512;
const DEFAULT_ENTRIES: usize = 1024;
const DEFAULT_POLL_BUDGET: usize = 1 << 20;
const DEFAULT_SPIN: Duration = Duration::from_micros(20);

/// What the parts of a ring must know of its options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) entries: usize,
    pub(super) poll_budget: usize,
    pub(super) spin: Duration,
    /// Some of the movers are driven by whoever reaps.
    pub(super) is_caller_driven: bool,
    /// Some of the movers complete by themselves.
    pub(super) has_threads: bool,
    pub(super) reaper_thread: bool,
    /// Polls do a part of what waits for the workers.
    pub(super) polls_help: bool,
    /// A scope whose operations have touched so many bytes goes on past the cache.
    pub(super) streams_from: u64,
}

/// The options of a [`Ring`]: those of its queue pair ([`queue::Builder`] says more of each), and its own.
///
/// # Examples
///
/// ```
/// use memring::Ring;
/// let ring = Ring::builder().entries(4096).workers(2).build()?;
/// let page = ring.block_on(ring.memset(vec![0; 4096], 7))??;
/// assert_eq!(page, [7; 4096]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder builds nothing until `build`"]
pub struct RingBuilder {
    queue: queue::Builder,
    plan: Plan,
    has_workers: bool,
}

impl RingBuilder {
    pub(super) fn new() -> Self {
        let plan = Plan {
            entries: DEFAULT_ENTRIES,
            poll_budget: DEFAULT_POLL_BUDGET,
            spin: DEFAULT_SPIN,
            is_caller_driven: false,
            has_threads: false,
            reaper_thread: false,
            polls_help: false,
            streams_from: memory::streams_from(),
        };
        let queue = QueuePair::builder().inline_max(DEFAULT_INLINE_MAX);
        Self { queue, plan, has_workers: true }
            .entries(DEFAULT_ENTRIES)
            .poll_budget(DEFAULT_POLL_BUDGET)
            .spin(DEFAULT_SPIN)
    }

    /// How many operations can be under way: 1 to 65536. Default: 1024. More of them wait for their turn.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{BuildError, Ring};
    /// assert!(matches!(Ring::builder().entries(0).build(), Err(BuildError::Entries(0))));
    /// ```
    pub fn entries(self, entries: usize) -> Self {
        Self { queue: self.queue.entries(entries), plan: Plan { entries, ..self.plan }, ..self }
    }

    /// How many threads drive the CPU mover: 0 to 64. With 0 whoever polls an operation does the copying, at most a
    /// [`poll_budget`](RingBuilder::poll_budget) at a time; of many operations that wait, one does so in a round of
    /// their executor, and the others come again. Default: one less than the machine's CPUs, 1 to 4.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Ring;
    /// let ring = Ring::builder().workers(0).build()?;
    /// assert_eq!(ring.block_on(ring.memset(vec![0; 4096], 1))??, [1; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn workers(self, workers: usize) -> Self {
        Self { queue: self.queue.workers(workers), has_workers: workers > 0, ..self }
    }

    /// How many bytes one poll may move, if there are no workers. Default: 1 MiB.
    ///
    /// A poll that has moved something wakes its task again and stays pending, even if that has completed it, so that
    /// the executor's other tasks get their turn. A task that polls many operations in one turn, as some ways to join
    /// futures do, moves as much for each.
    ///
    /// # Examples
    ///
    /// ```
    /// let _builder = memring::Ring::builder().workers(0).poll_budget(256 << 10);
    /// ```
    pub fn poll_budget(self, bytes: usize) -> Self {
        Self { queue: self.queue.poll_budget(bytes), plan: Plan { poll_budget: bytes, ..self.plan }, ..self }
    }

    /// Operations of at most this many bytes are executed in their first poll, by the thread that polls. Default: 512.
    ///
    /// Of those that are to be durable only the copy is: a poll waits for no fsync. It may wait for a page of a mapped
    /// file that is not in memory, as every store there.
    ///
    /// # Examples
    ///
    /// ```
    /// let _builder = memring::Ring::builder().inline_max(0);
    /// ```
    pub fn inline_max(self, bytes: usize) -> Self {
        Self { queue: self.queue.inline_max(bytes), ..self }
    }

    /// How long an idle worker, or who blocks, looks for work before it sleeps. Default: 20 us.
    ///
    /// # Examples
    ///
    /// ```
    /// let _builder = memring::Ring::builder().spin(std::time::Duration::ZERO);
    /// ```
    pub fn spin(self, limit: Duration) -> Self {
        Self { queue: self.queue.spin(limit), plan: Plan { spin: limit, ..self.plan }, ..self }
    }

    /// A page that is missing makes an operation fail with [`FAULT`](crate::Status::FAULT), and the process lives; see
    /// [`queue::Builder::fault_guard`].
    ///
    /// # Examples
    ///
    /// ```
    /// let _builder = memring::Ring::builder().fault_guard();
    /// ```
    pub fn fault_guard(self) -> Self {
        Self { queue: self.queue.fault_guard(), ..self }
    }

    /// Who drives durable flushes; see [`queue::Builder::flush_drive`]. With [`Drive::Caller`] whoever polls looks
    /// whether they are done, again and again while some are under way; a reactor on the ring's descriptor sleeps.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, queue::Drive};
    /// let ring = Ring::builder().workers(0).flush_drive(Drive::Caller).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush_drive(self, drive: Drive) -> Self {
        let is_caller_driven = self.plan.is_caller_driven || drive == Drive::Caller;
        Self { queue: self.queue.flush_drive(drive), plan: Plan { is_caller_driven, ..self.plan }, ..self }
    }

    /// Whether durable flushes may use io_uring; see [`queue::Builder::io_uring`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, queue::FlushMethod};
    /// let ring = Ring::builder().io_uring(false).build()?;
    /// assert_eq!(ring.flush_method(), FlushMethod::Fdatasync);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn io_uring(self, may: bool) -> Self {
        Self { queue: self.queue.io_uring(may), ..self }
    }

    /// Adds a mover under a name; see [`queue::Builder::mover`]. What a [`Drive::Caller`] mover does is done by whoever
    /// polls an operation, blocks or calls [`Ring::drive`]; by a driver thread only if it has sent it there (as what
    /// follows in a chain), and nobody is there to leave it to.
    pub fn mover<M: DataMover + 'static>(self, name: &str, drive: Drive, make: impl Fn() -> M + 'static) -> Self {
        let is_caller_driven = self.plan.is_caller_driven || drive == Drive::Caller;
        let has_threads = self.plan.has_threads || drive != Drive::Caller;
        let plan = Plan { is_caller_driven, has_threads, ..self.plan };
        Self { queue: self.queue.mover(name, drive, make), plan, ..self }
    }

    /// Has a thread of the ring's own reap and wake, so that workers do not spend their time on it. Without workers
    /// that thread also does what they would, and polls do not.
    ///
    /// Without it, whoever is there does: a worker that has completed something, or who polls or blocks. Who blocks,
    /// cancels or drives reaps in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Ring;
    /// let ring = Ring::builder().reaper_thread().build()?;
    /// assert_eq!(ring.block_on(ring.memset(vec![0; 4096], 1))??, [1; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reaper_thread(self) -> Self {
        Self { plan: Plan { reaper_thread: true, ..self.plan }, ..self }
    }

    /// Has polls of operations that are not complete help the workers, as a thread that blocks does: with up to 32
    /// operations or 256 KiB of what waits for them, and then they stay pending and come again. Of many operations that
    /// wait, one does so in a round of their executor.
    ///
    /// For an executor whose thread would sleep while the workers copy: it copies too, and sleeps less, which saves
    /// waking it. Not for one that serves others who must not wait for some tens of microseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Ring;
    /// let ring = Ring::builder().workers(1).polls_help().build()?;
    /// let (dst, src) = ring.block_on(ring.memcpy(vec![0; 1 << 20], vec![7; 1 << 20]))??;
    /// assert_eq!(dst, src);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn polls_help(self) -> Self {
        Self { plan: Plan { polls_help: true, ..self.plan }, ..self }
    }

    /// Builds the ring and starts its threads.
    ///
    /// # Errors
    ///
    /// [`BuildError`], as of [`queue::Builder::build`]. Nothing is left running then.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{BuildError, Ring};
    /// assert!(matches!(Ring::builder().workers(65).build(), Err(BuildError::Workers(65))));
    /// ```
    pub fn build(self) -> Result<Ring, BuildError> {
        let is_caller_driven = self.plan.is_caller_driven || !self.has_workers;
        let has_threads = self.plan.has_threads || self.has_workers;
        // Without workers polls drive, within their budget.
        let polls_help = self.plan.polls_help && self.has_workers;
        let shared = Shared::new(Plan { is_caller_driven, has_threads, polls_help, ..self.plan }, self.queue)?;
        Ok(Ring { shared })
    }
}
