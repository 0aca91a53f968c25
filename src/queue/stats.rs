//! Statistics: who executed what, and what waking cost.

use std::sync::{Arc, Mutex};

use super::chain::Chains;
use crate::mover::{Account, Outlet, Station, Tally};
use crate::os::lock;
use crate::sqe::{INLINE, MoverId, URING};

/// Who called a mover's poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Driver {
    /// The submitter, inside `submit()`.
    Submitter,
    /// The reaper, inside `drain()` or `wait()`.
    Caller,
    /// A thread of the queue's own, by number.
    Thread(usize),
    /// Whoever ended what an operation waited for: of chains the inline members, and what was cancelled. Also whoever
    /// called [`execute`](super::SubmissionQueue::execute). It has a row where there are such.
    Chain,
}

/// The totals of one driver of one mover, since the queue was built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverStats {
    /// The mover.
    pub mover: MoverId,
    /// The mover's name.
    pub name: String,
    /// Who drove it.
    pub driver: Driver,
    /// Operations completed, whatever their status.
    pub operations: u64,
    /// Bytes of the operations that succeeded, and of such parts of others.
    pub bytes: u64,
    /// Postings of completions.
    pub batches: u64,
    /// How often it did something otherwise than by its own means.
    pub fallbacks: u64,
}

/// The totals of one mover, over all its drivers, since the queue was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MoverStats {
    /// Operations completed, whatever their status.
    pub operations: u64,
    /// Bytes of the operations that succeeded, and of such parts of others.
    pub bytes: u64,
    /// Postings of completions.
    pub batches: u64,
    /// System calls that woke one of its drivers.
    pub wakes: u64,
    /// How often it did something otherwise than by its own means, as it
    /// [said](crate::mover::Completions::fell_back): a device's mover, with the CPU. The CPU mover never does.
    pub fallbacks: u64,
}

/// What a queue pair has done so far: a snapshot. Running counts of other threads may be slightly behind.
///
/// # Examples
///
/// ```
/// use memring::{Sqe, WORKERS, queue::{Driver, QueuePair}};
/// let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
/// // SAFETY: a nop touches no memory.
/// unsafe { sq.push(Sqe::nop()) }?;
/// sq.submit();
/// assert_eq!(cq.drain().count(), 1);
/// let stats = cq.stats();
/// assert_eq!(stats.mover(WORKERS).operations, 1);
/// assert_eq!(stats.driver(WORKERS, Driver::Caller).map(|driver| driver.operations), Some(1));
/// assert_eq!(stats.eventfd_writes, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Each driver of each mover.
    pub drivers: Vec<DriverStats>,
    /// System calls that woke a driver, by mover.
    pub wakes: Vec<(MoverId, u64)>,
    /// System calls that woke the reaper out of `wait()`.
    pub reaper_wakes: u64,
    /// System calls that made the reaper's descriptor readable.
    pub eventfd_writes: u64,
    /// Fsyncs that durable flushes have cost: those of a file that wait together share one.
    pub fsyncs: u64,
}

impl Stats {
    /// The totals of one mover.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{WORKERS, queue::QueuePair};
    /// let pair = QueuePair::builder().build()?;
    /// assert_eq!(pair.stats().mover(WORKERS).bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn mover(&self, mover: MoverId) -> MoverStats {
        let mut total = MoverStats::default();
        for driver in self.drivers.iter().filter(|driver| driver.mover == mover) {
            total.operations = total.operations.saturating_add(driver.operations);
            total.bytes = total.bytes.saturating_add(driver.bytes);
            total.batches = total.batches.saturating_add(driver.batches);
            total.fallbacks = total.fallbacks.saturating_add(driver.fallbacks);
        }
        total.wakes = self.wakes.iter().filter(|(of, _)| *of == mover).map(|(_, wakes)| wakes).sum();
        total
    }

    /// One driver of one mover, if there is such a driver.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{INLINE, queue::{Driver, QueuePair}};
    /// let pair = QueuePair::builder().build()?;
    /// assert!(pair.stats().driver(INLINE, Driver::Submitter).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn driver(&self, mover: MoverId, driver: Driver) -> Option<&DriverStats> {
        self.drivers.iter().find(|stats| stats.mover == mover && stats.driver == driver)
    }
}

/// The accounts of all drivers, for reading.
#[derive(Debug)]
pub(crate) struct Books {
    drivers: Box<[(Driver, String, Arc<Account>)]>,
    /// One for each submission queue there is, and those of some that are gone, to be used again.
    submitters: Mutex<Vec<Arc<Account>>>,
}

impl Books {
    pub(crate) fn new(drivers: Vec<(Driver, String, Arc<Account>)>) -> Self {
        Self { drivers: drivers.into_boxed_slice(), submitters: Mutex::default() }
    }

    /// An account for a new submission queue: it alone writes it, so counting costs no locked instruction.
    pub(crate) fn open_submitter(&self, outlet: &Arc<Outlet>, chains: &Arc<Chains>) -> Arc<Account> {
        let mut submitters = lock(&self.submitters);
        // To be the only owner is to know all that earlier ones have written.
        if let Some(idle) = submitters.iter_mut().position(|account| Arc::get_mut(account).is_some()) {
            return Arc::clone(&submitters[idle]);
        }
        let account = Arc::new(submitter(outlet, chains));
        submitters.push(Arc::clone(&account));
        account
    }

    /// A snapshot of all counters.
    pub(crate) fn read(&self, stations: &[Arc<Station>], outlet: &Outlet, chains: &Chains) -> Stats {
        let read = |(driver, name, account): &(Driver, String, Arc<Account>)| {
            row(account.mover, name, *driver, &account.tally)
        };
        let movers = stations.iter().map(|station| (station.mover, station.name.as_str()));
        let chains = std::iter::once((INLINE, "inline")).chain(movers).zip(chains.tallies());
        let chains = chains.map(|((mover, name), tally)| row(mover, name, Driver::Chain, tally));
        let chains = chains.filter(|row| row.operations | row.bytes > 0);
        // Most queues have no regions, and nothing to say of who would flush them.
        let is_at_work = |mover, count| mover != URING || count > 0;
        let drivers = self.drivers.iter().map(read).filter(|row| is_at_work(row.mover, row.operations));
        let wakes = stations.iter().map(|station| (station.mover, station.wakes()));
        let (reaper_wakes, eventfd_writes) = outlet.wakes();
        Stats {
            drivers: std::iter::once(self.submitters()).chain(drivers).chain(chains).collect(),
            wakes: wakes.filter(|&(mover, wakes)| is_at_work(mover, wakes)).collect(),
            reaper_wakes,
            eventfd_writes,
            fsyncs: outlet.fsyncs.get(),
        }
    }

    fn submitters(&self) -> DriverStats {
        let (mover, name, driver) = (INLINE, "inline".to_owned(), Driver::Submitter);
        let mut total = DriverStats { mover, name, driver, operations: 0, bytes: 0, batches: 0, fallbacks: 0 };
        for account in lock(&self.submitters).iter() {
            total.operations = total.operations.saturating_add(account.tally.operations());
            total.bytes = total.bytes.saturating_add(account.tally.bytes());
            total.batches = total.batches.saturating_add(account.tally.batches());
        }
        total
    }
}

/// An account for what a submitter executes inline.
pub(super) fn submitter(outlet: &Arc<Outlet>, chains: &Arc<Chains>) -> Account {
    let chains = Arc::clone(chains);
    Account::new(INLINE, Arc::clone(outlet), chains, true)
}

fn row(mover: MoverId, name: &str, driver: Driver, tally: &Tally) -> DriverStats {
    let (operations, bytes) = (tally.operations(), tally.bytes());
    let (batches, fallbacks) = (tally.batches(), tally.fallbacks());
    DriverStats { mover, name: name.to_owned(), driver, operations, bytes, batches, fallbacks }
}
