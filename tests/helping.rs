//! Goal: a waiting caller does the workers' work instead of watching them, a polling caller never does, and nobody is
//! woken who does not sleep.
//!
//! Method: the statistics tell who executed what; no clock is asked. A worker is stopped for certain by a signal whose
//! handler blocks on a pipe (SIGSTOP would stop the caller too); while it stands there, whatever gets done was done by
//! the caller. A mover with a valve holds operations until a test lets go, one at a time or all. What only happens
//! when two threads meet is tried until it has happened.
#![expect(unsafe_code, reason = "pushes entries; signals a thread; a mover with a valve")]
#![expect(clippy::disallowed_types, reason = "the valve is a number that a test raises and a mover looks at")]

#[path = "support/watchdog.rs"]
mod watchdog;

use std::collections::BTreeSet;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use memring::mover::{Capabilities, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{Builder, CompletionQueue, Drive, Driver, QueuePair, SubmissionQueue};
use memring::{MoverId, Opcode, ROUTED, Sqe, Status, WORKERS};

use watchdog::must_end;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: usize = 4096;

/// One queue at a time, or a queue's threads could not be found by being new.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where stopped threads report, and what they wait for: written and read by the handler, too.
struct Gate {
    arrivals: (PipeReader, PipeWriter),
    departures: (PipeReader, PipeWriter),
}

static GATE: OnceLock<Gate> = OnceLock::new();

/// Async-signal-safe: a load, a write and a read.
extern "C" fn stand_still(_signal: libc::c_int) {
    if let Some(Gate { arrivals, departures }) = GATE.get() {
        let _ = (&arrivals.1).write(&[0]);
        let _ = (&departures.0).read(&mut [0]);
    }
}

/// The driver threads that live in this process.
fn driver_threads() -> BTreeSet<libc::pid_t> {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs").filter_map(Result::ok);
    let ours = tasks.filter(|task| {
        // A thread that has just ended has no name.
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("memring-"))
    });
    ours.map(|task| task.file_name().to_string_lossy().parse().expect("a thread's number")).collect()
}

/// Driver threads that stand in a signal handler, until this is dropped.
struct Stopped(usize);

impl Stopped {
    /// Stops these threads, and returns when they all stand.
    fn new(threads: &[libc::pid_t]) -> Self {
        let gate = GATE.get_or_init(|| {
            let gate = Gate { arrivals: pipe().expect("a pipe"), departures: pipe().expect("a pipe") };
            let handler = stand_still as extern "C" fn(libc::c_int);
            // SAFETY: the handler is a function for the whole life of the process and async-signal-safe.
            let before = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
            assert_ne!(before, libc::SIG_ERR);
            gate
        });
        let stopped = Self(threads.len());
        for &thread in threads {
            // SAFETY: tgkill takes numbers.
            let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR1) };
            assert_eq!(sent, 0, "tgkill: {}", std::io::Error::last_os_error());
        }
        (&gate.arrivals.0).read_exact(&mut vec![0; threads.len()]).expect("they arrive");
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let gate = GATE.get().expect("it was opened");
        (&gate.departures.1).write_all(&vec![0; self.0]).expect("they wait");
    }
}

/// A queue whose workers are known.
struct Staffed {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    threads: Vec<libc::pid_t>,
    _alone: MutexGuard<'static, ()>,
}

impl Staffed {
    fn new(workers: usize) -> Self {
        let alone = alone();
        let before = driver_threads();
        let (sq, cq) = QueuePair::builder().entries(1024).workers(workers).build().expect("a queue").split();
        let mut threads = Vec::new();
        // A thread gives itself its name, a moment after it was made.
        while threads.len() < workers {
            thread::yield_now();
            threads = driver_threads().difference(&before).copied().collect();
        }
        Self { sq, cq, threads, _alone: alone }
    }

    /// Operations that this driver of the workers' lane has executed.
    fn executed_by(&self, driver: Driver) -> u64 {
        self.cq.stats().driver(WORKERS, driver).map_or(0, |stats| stats.operations)
    }

    fn executed_by_threads(&self) -> u64 {
        (0..self.threads.len()).map(|thread| self.executed_by(Driver::Thread(thread))).sum()
    }

    /// Reaps this many, by polling only.
    fn poll(&mut self, mut count: usize) {
        while count > 0 {
            let reaped = self.cq.drain().inspect(|cqe| assert!(cqe.status().is_success())).count();
            count = count.checked_sub(reaped).expect("no more than were submitted");
            thread::yield_now();
        }
    }
}

/// Pages to copy, and where to. Made before the queue, so that they outlive it when a test fails.
struct Pages {
    src: Vec<u8>,
    dst: Vec<u8>,
}

impl Pages {
    fn new(pages: usize) -> Self {
        let src = (0..pages * PAGE).map(|index| index.to_le_bytes()[index % 3]).collect();
        Self { src, dst: vec![0; pages * PAGE] }
    }

    /// Submits one copy for each page.
    fn submit(&mut self, sq: &mut SubmissionQueue) {
        self.dst.fill(0);
        for (dst, src) in self.dst.chunks_mut(PAGE).zip(self.src.chunks(PAGE)) {
            // SAFETY: the pages live, and nobody touches them, until all completions were reaped.
            unsafe { sq.push(Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), PAGE)) }.expect("there is room");
        }
        sq.submit();
    }

    fn assert_copied(&self) {
        assert!(self.dst == self.src);
    }
}

/// With every worker stopped, a wait gets everything done; so it was the caller.
#[test]
fn a_waiting_caller_executes_what_the_workers_cannot() {
    for workers in [1, 3] {
        let mut pages = Pages::new(200);
        let mut queue = Staffed::new(workers);
        let stopped = Stopped::new(&queue.threads);
        pages.submit(&mut queue.sq);
        assert_eq!(queue.cq.wait(200, Some(PATIENCE)), Ok(200));
        assert_eq!(queue.cq.drain().count(), 200);
        pages.assert_copied();
        assert_eq!((queue.executed_by(Driver::Caller), queue.executed_by_threads()), (200, 0));
        let stats = queue.cq.stats();
        assert_eq!(stats.mover(WORKERS).bytes, (200 * PAGE) as u64);
        assert_eq!((stats.reaper_wakes, stats.eventfd_writes), (0, 0), "it had no need to sleep");
        drop(stopped);
        pages.submit(&mut queue.sq);
        queue.poll(200);
        assert_eq!((queue.executed_by(Driver::Caller), queue.executed_by_threads()), (200, 200));
    }
}

/// A caller that stops waiting in the middle of a chain leaves the rest of it to the workers.
#[test]
fn a_caller_that_has_waited_keeps_nothing_to_itself() {
    must_end(|| {
        let mut bytes = vec![0_u8; 2 << 20];
        let (low, len) = (bytes.as_mut_ptr(), (2 << 20) - 1);
        // Two that write over their own sources, and so go on part by part, and a chain of three.
        let moves = [Sqe::memmove(low, low.wrapping_add(1), len).drain(), Sqe::memmove(low.wrapping_add(1), low, len)];
        let chain = [Sqe::nop().link(), Sqe::nop().link(), Sqe::nop()];
        for batch in [&chain[..], &moves[..1], &moves[1..]] {
            let mut queue = Staffed::new(1);
            let stopped = Stopped::new(&queue.threads);
            // SAFETY: the bytes live until all completions were reaped, and one operation at a time uses them.
            unsafe { queue.sq.push_batch(batch) }.expect("there is room");
            queue.sq.submit();
            assert!(queue.cq.wait(1, Some(Duration::ZERO)).is_ok());
            assert!(queue.executed_by(Driver::Caller) < 3, "it has not waited for all of them");
            drop(stopped);
            queue.poll(batch.len());
        }
    });
}

/// With the worker stopped, a drain gets nothing done, however often it is called.
#[test]
fn a_polling_caller_never_executes_for_the_workers() {
    let mut pages = Pages::new(100);
    let mut queue = Staffed::new(1);
    let stopped = Stopped::new(&queue.threads);
    pages.submit(&mut queue.sq);
    for _ in 0..10_000 {
        assert_eq!(queue.cq.drain().count(), 0, "who did that?");
    }
    assert_eq!(queue.sq.in_flight(), 100);
    drop(stopped);
    queue.poll(100);
    pages.assert_copied();
    assert_eq!((queue.executed_by(Driver::Caller), queue.executed_by_threads()), (0, 100));
    let stats = queue.cq.stats();
    assert_eq!((stats.reaper_wakes, stats.eventfd_writes), (0, 0), "it never slept");
}

/// One batch, shared for certain: the caller begins while the worker is stopped, the worker does the rest alone.
#[test]
fn a_batch_is_shared_by_the_worker_and_the_waiting_caller() {
    let mut pages = Pages::new(200);
    let mut queue = Staffed::new(1);
    let stopped = Stopped::new(&queue.threads);
    pages.submit(&mut queue.sq);
    let ready = queue.cq.wait(1, Some(PATIENCE)).expect("not forked");
    let helped = queue.executed_by(Driver::Caller);
    assert_eq!(helped, ready as u64, "whoever reaps a completion finds it counted");
    assert!(0 < helped && helped < 200, "a wait for one returns when there is one");
    drop(stopped);
    queue.poll(200);
    pages.assert_copied();
    assert_eq!((queue.executed_by(Driver::Caller), queue.executed_by_threads()), (helped, 200 - helped));
}

/// The same at once: whoever begins the one long copy, the other does the short ones meanwhile.
#[test]
fn worker_and_waiting_caller_work_at_the_same_time() {
    let long = vec![7_u8; 16 << 20];
    let mut copy = vec![0_u8; long.len()];
    let mut pages = Pages::new(200);
    let mut queue = Staffed::new(1);
    for round in 1.. {
        copy.fill(0);
        // SAFETY: both live, and nobody touches them, until all completions were reaped.
        unsafe { queue.sq.push(Sqe::memcpy(copy.as_mut_ptr(), long.as_ptr(), long.len())) }.expect("there is room");
        pages.submit(&mut queue.sq);
        assert_eq!(queue.cq.wait(201, Some(PATIENCE)), Ok(201));
        assert_eq!(queue.cq.drain().count(), 201);
        assert!(copy == long);
        pages.assert_copied();
        let (caller, worker) = (queue.executed_by(Driver::Caller), queue.executed_by_threads());
        assert_eq!(caller + worker, 201 * round);
        if caller > 0 && worker > 0 {
            return;
        }
        assert!(round < 1000, "{caller} by the caller, {worker} by the worker");
    }
}

#[test]
fn caller_driven_is_all_by_the_caller() {
    let mut pages = Pages::new(200);
    let mut queue = Staffed::new(0);
    pages.submit(&mut queue.sq);
    queue.poll(200);
    pages.assert_copied();
    pages.submit(&mut queue.sq);
    assert_eq!(queue.cq.wait(200, Some(PATIENCE)), Ok(200));
    assert_eq!(queue.cq.drain().count(), 200);
    pages.assert_copied();
    let stats = queue.cq.stats();
    assert_eq!(stats.drivers.iter().map(|driver| driver.operations).sum::<u64>(), 400);
    assert_eq!(queue.executed_by(Driver::Caller), 400);
    assert_eq!((stats.mover(WORKERS).wakes, stats.reaper_wakes, stats.eventfd_writes), (0, 0, 0));
}

/// A wait with no time left helps once before it returns, so a loop of such waits gets on.
#[test]
fn a_wait_without_time_helps_too() {
    for workers in [0, 1] {
        let mut pages = Pages::new(200);
        let mut queue = Staffed::new(workers);
        let stopped = Stopped::new(&queue.threads);
        pages.submit(&mut queue.sq);
        let waits = (1..=200).find(|_| queue.cq.wait(200, Some(Duration::ZERO)) == Ok(200));
        assert!(waits.is_some_and(|waits| waits > 1), "each does a part");
        assert_eq!(queue.cq.drain().count(), 200);
        pages.assert_copied();
        assert_eq!(queue.executed_by(Driver::Caller), 200);
        drop(stopped);
    }
}

/// A mover that holds what it claims, and completes as many as its valve lets through, one in a poll.
struct Valve {
    allowed: Arc<AtomicU64>,
    completed: u64,
    held: Vec<Kept>,
}

// SAFETY: touches no memory, and completes every token once the valve lets it through.
unsafe impl DataMover for Valve {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Nop])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        while let Some(claimed) = lane.claim() {
            self.held.push(claimed.keep());
        }
        if self.completed == self.allowed.load(Ordering::Relaxed) {
            return if self.held.is_empty() { Progress::Idle } else { Progress::Waiting };
        }
        match self.held.pop() {
            Some(token) => {
                self.completed += 1;
                done.complete(token, Status::SUCCESS);
                Progress::Busy
            }
            None => Progress::Idle,
        }
    }
}

/// What opens a valve, at the latest when a test fails: a queue's drop waits for what a valve holds.
struct Handle(Arc<AtomicU64>);

impl Handle {
    /// Lets this many operations through, counted from the begin.
    fn allow(&self, operations: u64) {
        self.0.store(operations, Ordering::Relaxed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.allow(u64::MAX);
    }
}

/// A queue with a valve on a thread of its own. The handle goes first.
struct Held {
    handle: Handle,
    sq: SubmissionQueue,
    cq: CompletionQueue,
    valve: MoverId,
    _alone: MutexGuard<'static, ()>,
}

impl Held {
    fn new(builder: Builder) -> Self {
        let alone = alone();
        let allowed = Arc::new(AtomicU64::new(0));
        let handle = Handle(Arc::clone(&allowed));
        let make = move || Valve { allowed: Arc::clone(&allowed), completed: 0, held: Vec::new() };
        let pair = builder.mover("valve", Drive::Threads(1), make).build().expect("a queue");
        let valve = pair.mover("valve").expect("it was just added");
        let (sq, cq) = pair.split();
        Self { handle, sq, cq, valve, _alone: alone }
    }

    fn submit_nops(&mut self, count: usize, mover: MoverId) {
        submit_nops(&mut self.sq, count, mover);
    }
}

fn submit_nops(sq: &mut SubmissionQueue, count: usize, mover: MoverId) {
    // SAFETY: nops touch no memory.
    unsafe { sq.push_batch(&vec![Sqe::nop().on(mover); count]) }.expect("there is room");
    assert_eq!(sq.submit(), count);
}

/// A wait that gets nothing returns when its time is over, whether it spins or sleeps.
#[test]
fn timed_waits_return() {
    must_end(|| {
        for spin_us in [0, 20, 100_000] {
            let mut queue = Held::new(QueuePair::builder().spin(Duration::from_micros(spin_us)));
            queue.submit_nops(1, queue.valve);
            for timeout_ns in [0, 1, 999, 50_000, 5_000_000] {
                let timeout = Some(Duration::from_nanos(timeout_ns));
                assert_eq!(queue.cq.wait(1, timeout), Ok(0), "the valve is closed");
            }
            assert!(queue.cq.stats().driver(queue.valve, Driver::Caller).is_none(), "nobody helps a user's mover");
            queue.handle.allow(1);
            // Longer than any clock runs: the same as no limit.
            assert_eq!(queue.cq.wait(1, Some(Duration::MAX)), Ok(1));
            assert_eq!(queue.cq.wait(1, Some(Duration::ZERO)), Ok(1), "waiting takes nothing");
            assert_eq!(queue.cq.drain().count(), 1);
        }
    });
}

/// Every `min` from none to more than there are: a wait returns with at least so many, or at once if they cannot come.
#[test]
fn waits_for_any_number() {
    const COUNT: usize = 70; // More than two chunks.
    must_end(|| {
        let _alone = alone();
        for workers in [0, 2] {
            let (mut sq, mut cq) =
                QueuePair::builder().entries(COUNT).workers(workers).build().expect("a queue").split();
            for min in (0..=COUNT + 1).chain([usize::MAX]) {
                assert_eq!(cq.wait(min, None), Ok(0), "nothing is outstanding");
                submit_nops(&mut sq, COUNT, ROUTED);
                let ready = cq.wait(min, None).expect("not forked");
                assert!(ready >= min || min > COUNT, "{ready} are not {min}");
                let mut reaped = cq.drain().count();
                assert!(reaped >= ready);
                while reaped < COUNT {
                    assert_ne!(cq.wait(1, None), Ok(0), "{reaped} of {COUNT}");
                    reaped += cq.drain().count();
                }
            }
        }
    });
}

/// Completions that are ready, operations that are held, and those that were reaped: only the first two count.
#[test]
fn a_wait_counts_what_is_outstanding() {
    must_end(|| {
        let mut queue = Held::new(QueuePair::builder().workers(1));
        queue.submit_nops(10, queue.valve);
        queue.submit_nops(20, ROUTED);
        assert_eq!(queue.cq.wait(20, None), Ok(20), "the held ones do not matter");
        assert_eq!(queue.cq.wait(25, Some(Duration::from_millis(1))), Ok(20), "in vain");
        assert_eq!(queue.cq.wait(31, None), Ok(20), "31 can never come");
        queue.handle.allow(5);
        assert_eq!(queue.cq.wait(25, None), Ok(25));
        assert_eq!(queue.cq.drain().take(7).count(), 7);
        assert_eq!(queue.cq.wait(24, None), Ok(18), "23 are outstanding");
        queue.handle.allow(10);
        assert_eq!(queue.cq.wait(23, None), Ok(23));
        assert_eq!(queue.cq.drain().count(), 23);
        assert_eq!(queue.cq.wait(1, None), Ok(0));
    });
}

/// Waits until a thread of this process sleeps.
fn until_asleep(thread: libc::pid_t) {
    let sleeps = || {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).expect("the thread lives");
        // The state follows the name, which is in brackets and may hold anything. Source: proc_pid_stat(5).
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    };
    while !sleeps() {
        thread::yield_now();
    }
}

fn this_thread() -> libc::pid_t {
    // SAFETY: gettid reads a number.
    unsafe { libc::gettid() }
}

/// The system calls that woke the reaper, once there are any: a waker counts its call after it has made it.
fn reaper_wakes(cq: &CompletionQueue) -> u64 {
    loop {
        match cq.stats().reaper_wakes {
            0 => thread::yield_now(),
            wakes => return wakes,
        }
    }
}

/// Who waits for a hundred completions sleeps through ninety-nine: each comes when it is asleep, and one wakes it.
#[test]
fn a_wait_for_many_is_woken_once() {
    must_end(|| {
        let mut queue = Held::new(QueuePair::builder().spin(Duration::ZERO));
        queue.submit_nops(100, queue.valve);
        let (waiter, Held { handle, sq, cq, .. }) = (this_thread(), &mut queue);
        thread::scope(|scope| {
            scope.spawn(|| {
                for count in 1..=100 {
                    until_asleep(waiter);
                    handle.allow(count);
                    while sq.in_flight() > 100 - count {
                        thread::yield_now();
                    }
                }
            });
            assert_eq!(cq.wait(100, None), Ok(100));
        });
        assert_eq!(cq.drain().count(), 100);
        assert_eq!(reaper_wakes(cq), 1);
    });
}

/// A caller asleep in a wait is woken for work that only it can do.
#[test]
fn a_submission_wakes_the_caller_that_drives() {
    must_end(|| {
        let mut queue = Held::new(QueuePair::builder().workers(0).spin(Duration::ZERO));
        queue.submit_nops(1, queue.valve);
        let (waiter, Held { sq, cq, .. }) = (this_thread(), &mut queue);
        thread::scope(|scope| {
            scope.spawn(|| {
                until_asleep(waiter);
                submit_nops(sq, 1, ROUTED);
            });
            assert_eq!(cq.wait(1, None), Ok(1), "the held one cannot have come");
        });
        assert_eq!(cq.drain().map(|cqe| cqe.mover()).collect::<Vec<_>>(), [WORKERS]);
        assert_eq!(reaper_wakes(cq), 1);
    });
}
