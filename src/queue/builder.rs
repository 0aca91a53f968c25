//! Building a queue pair: options, movers, threads. All that is ever allocated is allocated here.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use memring_ring::{Consumer, Gate, Roster, completion};

use super::chain::Chains;
use super::core::Core;
use super::drive::Driver;
use super::flusher::{FlushMethod, Flusher};
use super::route::{MAX_USER_MOVERS, Route, mover_of};
use super::stats::{self, Books};
use super::{BuildError, CompletionQueue, QueuePair, SubmissionQueue};
use crate::memory;
use crate::mover::{Account, Capabilities, CpuMover, DataMover, Guard, Hook, Outlet, Station, UringMover, UringPlan};
use crate::os::{Birth, EventFd};
use crate::sqe::{URING, WORKERS};

const ENTRIES: std::ops::RangeInclusive<usize> = 1..=65536;
const DEFAULT_ENTRIES: usize = 1024;
/// About what a memory copy of this size stalls a reactor tick: 100 us at 10 GB/s.
const DEFAULT_POLL_BUDGET: u64 = 1 << 20;
/// Half of what waking a sleeping thread costs on the machine of `benches/record/`.
const DEFAULT_SPIN: Duration = Duration::from_micros(20);

/// Who polls a mover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drive {
    /// This many threads of the queue's own, 1 to 64, each with an instance.
    Threads(usize),
    /// The reaper, inside `drain()` and `wait()`, with one instance.
    Caller,
}

impl Drive {
    fn threads(self) -> usize {
        match self {
            Self::Threads(threads) => threads,
            Self::Caller => 0,
        }
    }
}

/// Makes an instance of a mover, for a queue with this way out.
type Make = Box<dyn Fn(&Arc<Outlet>) -> Box<dyn DataMover>>;

/// One mover with a lane: how to make its instances, and who drives them.
struct Plan {
    name: String,
    drive: Drive,
    make: Make,
}

/// The options of a queue pair.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use memring::queue::{BuildError, QueuePair};
/// let pair = QueuePair::builder()
///     .entries(4096)
///     .workers(1)
///     .inline_max(512)
///     .spin(Duration::from_micros(50))
///     .build()?;
/// assert!(matches!(QueuePair::builder().entries(0).build(), Err(BuildError::Entries(0))));
/// assert!(matches!(QueuePair::builder().workers(65).build(), Err(BuildError::Workers(65))));
/// # drop(pair);
/// # Ok::<(), BuildError>(())
/// ```
#[must_use = "a builder builds nothing until `build`"]
pub struct Builder {
    entries: usize,
    workers: usize,
    poll_budget: u64,
    inline_max: u64,
    spin: Duration,
    fault_guard: bool,
    on_ready: Option<Hook>,
    event_fd: Option<OwnedFd>,
    flush_drive: Drive,
    uses_uring: bool,
    movers: Vec<Plan>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("entries", &self.entries)
            .field("workers", &self.workers)
            .field("poll_budget", &self.poll_budget)
            .field("inline_max", &self.inline_max)
            .field("spin", &self.spin)
            .field("fault_guard", &self.fault_guard)
            .field("on_ready", &self.on_ready)
            .field("event_fd", &self.event_fd)
            .field("flush_drive", &self.flush_drive)
            .field("uses_uring", &self.uses_uring)
            .field("movers", &self.movers.iter().map(|plan| &plan.name).collect::<Vec<_>>())
            .finish()
    }
}

/// What the reaper's half is made of.
pub(crate) struct Reaping {
    pub(super) consumer: Consumer,
    pub(super) drivers: Vec<Driver>,
    pub(super) helper: Option<Driver>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) poll_budget: u64,
    pub(super) spin: Duration,
}

/// The drivers of a queue, before their threads begin.
struct Crew {
    outlet: Arc<Outlet>,
    chains: Arc<Chains>,
    callers: Vec<Driver>,
    helper: Option<Driver>,
    /// With the thread's number within its mover, and its name.
    threads: Vec<(Driver, usize, String)>,
    /// The driver of the durable flushes, if that is a thread.
    flusher: Option<Driver>,
    books: Vec<(stats::Driver, String, Arc<Account>)>,
}

impl Crew {
    fn new(outlet: Arc<Outlet>, chains: Arc<Chains>) -> Self {
        let (callers, helper, threads) = (Vec::new(), None, Vec::new());
        Self { outlet, chains, callers, helper, threads, flusher: None, books: Vec::new() }
    }

    /// A driver with an account of its own.
    fn driver(&mut self, who: stats::Driver, instance: Box<dyn DataMover>, station: &Arc<Station>) -> Driver {
        let is_quiescent = station.capabilities.is_quiescent_on_panic();
        let chains = Arc::clone(&self.chains);
        let account = Arc::new(Account::new(station.mover, Arc::clone(&self.outlet), chains, is_quiescent));
        self.books.push((who, station.name.clone(), Arc::clone(&account)));
        Driver::new(instance, Arc::clone(station), account)
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        let workers = thread::available_parallelism().map_or(1, |cpus| cpus.get() - 1).clamp(1, 4);
        Self {
            entries: DEFAULT_ENTRIES,
            workers,
            poll_budget: DEFAULT_POLL_BUDGET,
            inline_max: 0,
            spin: DEFAULT_SPIN,
            fault_guard: false,
            on_ready: None,
            event_fd: None,
            flush_drive: Drive::Threads(1),
            uses_uring: true,
            movers: Vec::new(),
        }
    }

    /// How many operations can be under way or waiting to be reaped: 1 to 65536. Default: 1024.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{BuildError, QueuePair};
    /// let pair = QueuePair::builder().entries(4096).build()?;
    /// # drop(pair);
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn entries(self, entries: usize) -> Self {
        Self { entries, ..self }
    }

    /// How many threads drive the CPU mover: 0 to 64. With 0 the reaper drives it, inside `drain()` and `wait()`.
    ///
    /// Default: one less than the machine's CPUs, at least 1, at most 4.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{BuildError, QueuePair};
    /// let pair = QueuePair::builder().workers(0).build()?;
    /// # drop(pair);
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// How many bytes one `drain()` may move when the reaper drives. Default: 1 MiB.
    ///
    /// An operation that is longer than what is left of the budget is done in part, and goes on in the next `drain()`.
    /// Up to 4096 bytes are done even if the budget is less. An operation of a mover of your own is done whole, and so
    /// is what goes [`INLINE`](crate::INLINE), by whoever comes to it: a drain, if that ends what it was linked to, or
    /// opens a barrier that it was held behind.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, WORKERS, queue::QueuePair};
    /// let mut buffer = vec![0_u8; 1 << 20];
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).poll_budget(256 << 10).build()?.split();
    /// // SAFETY: the buffer outlives `cq`, and nobody touches it until the completion was reaped.
    /// unsafe { sq.push(Sqe::memset(buffer.as_mut_ptr(), 7, 1 << 20)) }?;
    /// sq.submit();
    /// assert_eq!(cq.drain().count(), 0);
    /// let done = cq.stats().mover(WORKERS).bytes;
    /// assert!(0 < done && done <= 256 << 10, "a part was done");
    /// while cq.drain().count() == 0 {}
    /// assert_eq!(buffer, vec![7; 1 << 20]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_budget(self, bytes: usize) -> Self {
        Self { poll_budget: (bytes as u64).max(1), ..self }
    }

    /// Operations of at most this many bytes are executed by the submitter, inside `submit()`. Default: 0, none.
    ///
    /// Of those that are to be durable only the copy is: a submit waits for no fsync. It may wait for a page of a
    /// mapped file that is not in memory, as every store there.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{BuildError, QueuePair};
    /// let pair = QueuePair::builder().inline_max(512).build()?;
    /// # drop(pair);
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn inline_max(self, bytes: usize) -> Self {
        Self { inline_max: bytes as u64, ..self }
    }

    /// How long an idle worker, or a waiting reaper, looks for work before it sleeps. Default: 20 us.
    ///
    /// Waking a sleeper costs the waker a system call and the sleeper tens of microseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use memring::queue::{BuildError, QueuePair};
    /// let pair = QueuePair::builder().spin(Duration::ZERO).build()?;
    /// # drop(pair);
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn spin(self, limit: Duration) -> Self {
        Self { spin: limit, ..self }
    }

    /// An operation that meets a missing page completes with [`FAULT`](crate::Status::FAULT), and the process lives.
    ///
    /// Without this, a copy from a file that another process has cut short, or from an address where nothing is
    /// mapped, ends the process with SIGBUS or SIGSEGV, as `memcpy` would. With it, every operation of the CPU mover
    /// and of [`INLINE`](crate::INLINE) stops at the first byte that it cannot read or write, and the completion's
    /// [`value`](crate::Cqe::value) is that byte's offset in the operation (`u32::MAX` if it is larger). What lies
    /// before the offset is done, and nothing behind it; of a memmove whose destination begins inside its source, which
    /// goes from the last byte to the first, it is the reverse. An operation of 512 KiB and more is done in parts: of a
    /// copy or a set what lies before the offset is done, and some of what lies behind it may be; of a memmove over its
    /// own source, nothing is said.
    ///
    /// The promise of a [push](super::SubmissionQueue::push) is then that what *is* mapped there may be accessed: pages
    /// may be missing or protected, but somebody else's memory in their place is overwritten as ever. Movers of your
    /// own are not covered.
    ///
    /// **How.** `build` installs a handler of SIGSEGV and SIGBUS, once in a process and for the rest of its life. It
    /// acts only on faults inside memring's own copying routine. All others, and signals that a process sends, go to
    /// whoever handled them before, or by default end the process. A handler that *you* install later replaces it,
    /// unless yours hands on what it does not know, with the same arguments. A thread that blocks these signals is not
    /// covered (the kernel kills the process for a blocked fault); the queue's own threads unblock them.
    ///
    /// **Cost.** Some nanoseconds an operation: the routine does without libc's kernels for particular sizes. From
    /// 4 KiB on the difference is lost in noise. A fault costs two signals, which is some microseconds.
    ///
    /// x86-64 only; elsewhere `build` answers [`BuildError::FaultGuard`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(target_arch = "x86_64")] {
    /// use memring::{Sqe, Status, queue::QueuePair};
    /// let mut page = vec![0_u8; 4096];
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).fault_guard().build()?.split();
    /// // Nothing is ever mapped at the lowest addresses.
    /// let nowhere = std::ptr::without_provenance(64);
    /// // SAFETY: the page outlives `cq`; the source may be missing, since this queue has the fault guard.
    /// unsafe { sq.push(Sqe::memcpy(page.as_mut_ptr(), nowhere, 1000)) }?;
    /// sq.submit();
    /// cq.wait(1, None)?;
    /// let cqe = cq.drain().next().expect("it was waited for");
    /// assert_eq!((cqe.status(), cqe.value()), (Status::FAULT, 0));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fault_guard(self) -> Self {
        Self { fault_guard: true, ..self }
    }

    /// Has this called, once for each [`arm`](CompletionQueue::arm) that was answered
    /// [`Armed`](super::Arm::Armed), in place of making the descriptor readable.
    ///
    /// It is called by whoever publishes the next completion, on that thread: a driver's, one that submits what goes
    /// [inline](crate::INLINE), or the reaper's own, in the middle of a `drain` or `wait`; without workers, also by a
    /// submit in another thread, since there is something to drive. That thread may hold locks of yours, and others
    /// wait for it, so take locks only by trying, do not block, and drop no half of a queue. A panic in it is caught
    /// and forgotten.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use memring::{Sqe, queue::QueuePair};
    /// let (sender, receiver) = mpsc::channel();
    /// let pair = QueuePair::builder().on_ready(move || _ = sender.send("completions wait")).build()?;
    /// let (mut sq, mut cq) = pair.split();
    /// assert_eq!(cq.arm(), memring::queue::Arm::Armed);
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(receiver.recv()?, "completions wait");
    /// assert_eq!(cq.drain().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_ready(self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_ready: Some(Hook(Box::new(hook))), ..self }
    }

    /// Has this eventfd be the queue's descriptor, in place of one of its own: for a reactor that watches several
    /// queues by one. It must not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use memring::queue::QueuePair;
    /// let (sq, first) = QueuePair::builder().build()?.split();
    /// let shared = first.as_fd().try_clone_to_owned()?;
    /// let second = QueuePair::builder().event_fd(shared).build()?;
    /// # drop((sq, second));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn event_fd(self, fd: OwnedFd) -> Self {
        Self { event_fd: Some(fd), ..self }
    }

    /// Who drives durable flushes. Default: one thread, which begins with the first
    /// [registration](super::SubmissionQueue::register) of a region.
    ///
    /// With [`Drive::Caller`] it is the reaper, and there is no thread: handing an fsync to the kernel costs a drain
    /// some microseconds, and now and then some hundreds. [`CompletionQueue::arm`] need not poll for it: the kernel
    /// makes the descriptor readable. It takes io_uring; where that is not allowed there is a thread after all.
    /// If the kernel refuses it only later, as when descriptors run out, the reaper calls fdatasync itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{BuildError, Drive, QueuePair};
    /// let pair = QueuePair::builder().workers(0).flush_drive(Drive::Caller).build()?;
    /// let refused = QueuePair::builder().flush_drive(Drive::Threads(2)).build();
    /// assert!(matches!(refused, Err(BuildError::Threads(name, 2)) if name == "uring"));
    /// # drop(pair);
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn flush_drive(self, drive: Drive) -> Self {
        Self { flush_drive: drive, ..self }
    }

    /// Whether durable flushes may use io_uring, if the kernel allows it. Default: they may. Else a thread calls
    /// fdatasync, which comes to the same, one file after the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{BuildError, FlushMethod, QueuePair};
    /// let pair = QueuePair::builder().io_uring(false).build()?;
    /// assert_eq!(pair.flush_method(), FlushMethod::Fdatasync);
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn io_uring(self, may: bool) -> Self {
        Self { uses_uring: may, ..self }
    }

    /// Adds a mover under a name. `make` is called once for each driver; see [`DataMover`] for an example.
    ///
    /// Its id is that of [`QueuePair::mover`]. The route gives it only what the movers before it cannot do; entries
    /// reach it by [`Sqe::on`](crate::Sqe::on).
    pub fn mover<M: DataMover + 'static>(mut self, name: &str, drive: Drive, make: impl Fn() -> M + 'static) -> Self {
        self.movers.push(Plan { name: name.to_owned(), drive, make: Box::new(move |_| Box::new(make())) });
        self
    }

    /// Builds the queue pair and starts its threads. No call on the path of an operation allocates after this.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: an option out of its range, two movers of one name, a fault guard where there is none, or
    /// something that the kernel refuses. Nothing is left running then.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{BuildError, QueuePair};
    /// assert!(matches!(QueuePair::builder().entries(1 << 20).build(), Err(BuildError::Entries(_))));
    /// ```
    pub fn build(mut self) -> Result<QueuePair, BuildError> {
        self.check()?;
        let drive = if self.workers == 0 { Drive::Caller } else { Drive::Threads(self.workers) };
        let guard = self.fault_guard.then(Guard::install).transpose()?;
        let make = move |_: &_| Box::new(CpuMover { guard }) as Box<dyn DataMover>;
        let workers = Plan { name: "workers".to_owned(), drive, make: Box::new(make) };
        let flushes = self.flushes();
        self.movers.splice(0..0, [workers, flushes]);

        let (producer, consumer) = completion::ring(self.entries);
        let fd = self.event_fd.take().map_or_else(EventFd::new, |fd| Ok(EventFd::from_owned(fd)));
        let fd = fd.map_err(BuildError::Os)?;
        let outlet = Arc::new(Outlet::new(self.entries, producer, self.on_ready.take(), fd));
        let firsts: Vec<_> = self.movers.iter().map(|plan| (plan.make)(&outlet)).collect();
        let stations: Box<[_]> = (self.movers.iter().zip(&firsts).enumerate())
            .map(|(lane, (plan, first))| plan.station(lane, self.entries, first.capabilities()))
            .collect();
        let chains = Arc::new(Chains::new(self.entries, Arc::clone(&outlet), stations.clone(), guard));
        let mut crew = Crew::new(outlet, chains);
        for ((plan, first), station) in self.movers.iter().zip(firsts).zip(&stations) {
            plan.man(first, station, &mut crew);
        }
        let Crew { outlet, chains, callers, helper, threads, flusher, books } = crew;
        let core = Arc::new(Core {
            entries: self.entries,
            // Of a copy, source and destination count.
            streams_from: memory::streams_from() / 2,
            route: Route::new(
                self.inline_max,
                &CpuMover::capabilities(),
                &stations.iter().map(|station| station.capabilities).collect::<Vec<_>>(),
                Arc::clone(&outlet.regions),
            ),
            service: Gate::default(),
            outlet,
            chains,
            stations,
            books: Books::new(books),
            birth: Birth::now(),
            guard,
            // Before the next flush there are a wake and a copy: a spin only keeps the CPU from them.
            flusher: Flusher::new(flusher, Duration::ZERO),
            uses_uring: self.uses_uring,
        });

        let (poll_budget, spin) = (self.poll_budget, self.spin);
        let mut reaping = Reaping { consumer, drivers: callers, helper, threads: Vec::new(), poll_budget, spin };
        let mut refused = None;
        for (driver, member, name) in threads {
            match spawn(move || Some(driver), member, name, &core, spin) {
                Ok(thread) => reaping.threads.push(thread),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let cq = CompletionQueue::new(Arc::clone(&core), reaping);
        match refused {
            // Dropping the completion queue ends the threads that did start.
            Some(error) => Err(BuildError::Os(error)),
            None => Ok(QueuePair { sq: SubmissionQueue::new(Arc::clone(&core)), cq, core }),
        }
    }

    /// The mover of durable flushes. Only the kernel can do them without a thread; with one, it is asked when there is
    /// something to flush.
    fn flushes(&self) -> Plan {
        let may_be_caller = || self.uses_uring && FlushMethod::in_use() == FlushMethod::IoUring;
        let is_caller_driven = self.flush_drive == Drive::Caller && may_be_caller();
        let drive = if is_caller_driven { Drive::Caller } else { Drive::Threads(1) };
        let plan = UringPlan { entries: self.entries, uses_uring: self.uses_uring, is_caller_driven };
        let make =
            move |outlet: &Arc<Outlet>| Box::new(UringMover::new(Arc::clone(outlet), plan)) as Box<dyn DataMover>;
        Plan { name: "uring".to_owned(), drive, make: Box::new(make) }
    }

    fn check(&self) -> Result<(), BuildError> {
        if !ENTRIES.contains(&self.entries) {
            return Err(BuildError::Entries(self.entries));
        }
        if self.workers > Roster::MAX {
            return Err(BuildError::Workers(self.workers));
        }
        if let Drive::Threads(threads) = self.flush_drive
            && threads != 1
        {
            return Err(BuildError::Threads("uring".to_owned(), threads));
        }
        for (index, plan) in self.movers.iter().enumerate() {
            let taken = ["workers", "inline", "uring"].contains(&plan.name.as_str());
            if taken || self.movers[..index].iter().any(|other| other.name == plan.name) {
                return Err(BuildError::DuplicateMover(plan.name.clone()));
            }
            if let Drive::Threads(threads) = plan.drive
                && !(1..=Roster::MAX).contains(&threads)
            {
                return Err(BuildError::Threads(plan.name.clone(), threads));
            }
            if index >= MAX_USER_MOVERS {
                return Err(BuildError::TooManyMovers(plan.name.clone()));
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Makes the mover's station.
    fn station(&self, lane: usize, entries: usize, capabilities: Capabilities) -> Arc<Station> {
        Arc::new(Station::new(mover_of(lane), &self.name, capabilities, entries, self.drive.threads()))
    }

    /// Makes the drivers of a station, the first with this instance.
    fn man(&self, first: Box<dyn DataMover>, station: &Arc<Station>, crew: &mut Crew) {
        match self.drive {
            Drive::Caller => {
                let driver = crew.driver(stats::Driver::Caller, first, station);
                crew.callers.push(driver);
            }
            Drive::Threads(_) if station.mover == URING => {
                crew.flusher = Some(crew.driver(stats::Driver::Thread(0), first, station));
            }
            Drive::Threads(threads) => {
                let outlet = Arc::clone(&crew.outlet);
                let more = std::iter::repeat_with(|| (self.make)(&outlet));
                let instances = std::iter::once(first).chain(more);
                for (member, instance) in instances.take(threads).enumerate() {
                    let name = format!("memring-{}-{member}", self.name.replace('\0', "?"));
                    let driver = crew.driver(stats::Driver::Thread(member), instance, station);
                    crew.threads.push((driver, member, name));
                }
                if station.mover == WORKERS {
                    // The CPU mover's work can be done by anyone: a waiting reaper helps.
                    crew.helper = Some(crew.driver(stats::Driver::Caller, (self.make)(&outlet), station));
                }
            }
        }
    }
}

/// Starts a thread that drives what `driver` gives it.
pub(super) fn spawn(
    driver: impl FnOnce() -> Option<Driver> + Send + 'static,
    member: usize,
    name: String,
    core: &Arc<Core>,
    spin: Duration,
) -> std::io::Result<JoinHandle<()>> {
    let core = Arc::clone(core);
    thread::Builder::new().name(name).spawn(move || {
        if let Some(guard) = core.guard {
            guard.admit();
        }
        if let Some(driver) = driver() {
            driver.run(member, &core, spin);
        }
    })
}
