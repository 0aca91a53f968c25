//! Goal: a reactor that sleeps on the queue's descriptor misses nothing, and one that does not sleep pays nothing.
//!
//! Method: an epoll loop as a user would write it, edge-triggered or level-triggered, drains, arms, and sleeps only
//! when `arm` said Armed. The submitter sends batches of random size. After some of them it waits until the reactor
//! has reaped them all *and is armed*, so that the next submission meets a reactor that is just falling asleep, or
//! sleeps already; after others it goes on at once. A sleep has a limit that nothing comes near: reaching it means
//! that a wake was lost, and fails. How often the reactor really slept is counted: it must have. The queue's
//! statistics must show at most one descriptor write for each Armed. A mover with a valve, which holds its operations
//! until a test lets go, makes the single cases deterministic.
//!
//! One million completions per loop in release builds or with `MEMRING_STRESS=full`, fewer in debug builds.
#![expect(unsafe_code, reason = "pushes entries; epoll has no safe wrapper in std; a mover with a valve")]
#![expect(clippy::disallowed_types, reason = "flags: for a valve, for a signal's handler, for whose turn it is")]
#![expect(clippy::print_stdout, reason = "the figures of a run, seen when it fails or with --nocapture")]

#[path = "support/random.rs"]
mod random;

use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memring::mover::{Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{Arm, Builder, CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Opcode, ROUTED, Sqe, Status, WORKERS};

use random::{Random, seed};

/// A reactor that sleeps this long has missed a wake. Nothing sleeps this long otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
const ENTRIES: usize = 256;
/// How often two threads meet where only a short moment matters.
const ROUNDS: u64 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

fn completions() -> u64 {
    let full = std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full");
    if full || !cfg!(debug_assertions) { 1_000_000 } else { 100_000 }
}

/// How the reactor is told: at each write, or as long as the descriptor is readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Edge,
    Level,
}

/// The kernel's readiness of one completion queue.
struct Epoll(OwnedFd);

impl Epoll {
    fn new(cq: &CompletionQueue, trigger: Trigger) -> Self {
        // SAFETY: epoll_create1 takes a number.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "epoll_create1: {}", Error::last_os_error());
        // SAFETY: the kernel has just made this descriptor for us.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let edge = if trigger == Trigger::Edge { libc::EPOLLET } else { 0 };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | edge).cast_unsigned(), u64: 7 };
        // SAFETY: both descriptors are open, and `event` lives during the call.
        let added = unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, cq.as_raw_fd(), &raw mut event) };
        assert_eq!(added, 0, "epoll_ctl: {}", Error::last_os_error());
        Self(epoll)
    }

    /// Whether the queue became ready within the limit.
    fn wait(&self, limit: Duration) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let limit_ms = libc::c_int::try_from(limit.as_millis()).expect("minutes at most");
        loop {
            // SAFETY: `event` has room for the one event that is asked for.
            let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, limit_ms) };
            if ready >= 0 {
                return ready == 1;
            }
            let error = Error::last_os_error();
            assert_eq!(error.kind(), ErrorKind::Interrupted, "epoll_wait: {error}");
        }
    }

    fn is_ready(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Sleeps until the queue is ready; whether it had to sleep.
    fn sleep(&self) -> bool {
        if self.is_ready() {
            return false;
        }
        assert!(self.wait(PATIENCE), "a wake was lost");
        true
    }
}

/// Submits `total` nops, numbered, in batches of random size.
///
/// `reached` tells how many the reactor has reaped, each time it has armed: on about every other batch the submitter
/// waits there.
fn submit_all(mut sq: SubmissionQueue, mover: MoverId, total: u64, reached: &Receiver<u64>, mut random: Random) {
    let mut number = 0;
    while number < total {
        let room = usize::try_from(total - number).unwrap_or(usize::MAX).min(ENTRIES);
        let most = 1 << random.below(9);
        let batch = (1 + random.below(most)).min(room);
        let sqes: Vec<Sqe> = (number..).take(batch).map(|number| Sqe::nop().user_data(number).on(mover)).collect();
        // SAFETY: nops touch no memory.
        while let Err(error) = unsafe { sq.push_batch(&sqes) } {
            assert!(matches!(error, PushError::Full(_)), "{error}");
            thread::yield_now();
        }
        assert_eq!(sq.submit(), batch);
        number += batch as u64;
        if random.below(2) == 0 {
            while reached.recv().expect("the reactor lives") < number {}
        }
    }
}

/// What a reactor has met.
#[derive(Debug, Default)]
struct Log {
    armed: u64,
    not_empty: u64,
    slept: u64,
}

/// The loop under test: drain, arm, sleep.
fn react(cq: &mut CompletionQueue, trigger: Trigger, total: u64, reached: &Sender<u64>) -> Log {
    let epoll = Epoll::new(cq, trigger);
    let mut seen = vec![false; usize::try_from(total).expect("a table")];
    let (mut reaped, mut log) = (0, Log::default());
    loop {
        for cqe in cq.drain() {
            let number = usize::try_from(cqe.user_data()).expect("an index");
            assert!(cqe.status().is_success());
            assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
            reaped += 1;
        }
        if reaped == total {
            let _ = reached.send(reaped);
            return log;
        }
        match cq.arm() {
            Arm::MustPoll => panic!("the CPU mover needs no polling"),
            Arm::NotEmpty => log.not_empty += 1,
            Arm::Armed => {
                log.armed += 1;
                // From here on the submitter races with the sleep. It is gone when it has submitted everything.
                let _ = reached.send(reaped);
                log.slept += u64::from(epoll.sleep());
                if trigger == Trigger::Level {
                    cq.clear();
                    assert!(!epoll.is_ready(), "cleared, and yet readable");
                }
            }
        }
    }
}

fn reactor_misses_nothing(workers: usize, trigger: Trigger) {
    let (total, seed) = (completions(), seed());
    println!("{workers} workers, {trigger:?}: MEMRING_SEED={seed}");
    let (sq, cq) = QueuePair::builder().entries(ENTRIES).workers(workers).build().expect("a queue").split();
    let (reaped, reached) = channel();
    let (log, stats) = thread::scope(|scope| {
        // Owned here, so that a failure lets go of both, and the submitter notices.
        let (mut cq, reaped) = (cq, reaped);
        let submitter = scope.spawn(move || submit_all(sq, ROUTED, total, &reached, Random::new(seed)));
        let log = react(&mut cq, trigger, total, &reaped);
        submitter.join().expect("the submitter");
        (log, cq.stats())
    });
    println!("{workers} workers, {trigger:?}: {log:?}, {} writes", stats.eventfd_writes);
    assert!(log.slept > 0, "it never slept: this has tested nothing");
    assert_eq!(stats.eventfd_writes, log.armed, "one write for each Armed: each was slept on, or awaited");
    assert_eq!(stats.reaper_wakes, 0, "it never waited");
}

#[test]
fn edge_triggered_with_workers() {
    reactor_misses_nothing(2, Trigger::Edge);
}

#[test]
fn level_triggered_with_workers() {
    reactor_misses_nothing(2, Trigger::Level);
}

#[test]
fn edge_triggered_caller_driven() {
    reactor_misses_nothing(0, Trigger::Edge);
}

#[test]
fn level_triggered_caller_driven() {
    reactor_misses_nothing(0, Trigger::Level);
}

/// A mover that holds what it claims until the valve is open.
struct Valve {
    open: Arc<AtomicBool>,
    held: Vec<Kept>,
    capabilities: Capabilities,
}

// SAFETY: touches no memory, and completes every token when the valve is open.
unsafe impl DataMover for Valve {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let held = self.held.len();
        self.held.extend(std::iter::from_fn(|| lane.claim().map(Claimed::keep)));
        let claimed = self.held.len() > held;
        let completed = self.open.load(Ordering::Relaxed) && !self.held.is_empty();
        if completed {
            self.held.drain(..).for_each(|token| done.complete(token, Status::SUCCESS));
        }
        match (claimed || completed, self.held.is_empty()) {
            (true, _) => Progress::Busy,
            (false, false) => Progress::Waiting,
            (false, true) => Progress::Idle,
        }
    }
}

/// What opens a valve, at the latest when a test fails: a queue's drop waits for what a valve holds.
struct Handle(Arc<AtomicBool>);

impl Handle {
    fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.open();
    }
}

/// Adds such a mover, and returns its handle. The handle must be dropped before the queue.
fn with_valve(builder: Builder, name: &str, drive: Drive, capabilities: Capabilities) -> (Builder, Handle) {
    let open = Arc::new(AtomicBool::new(false));
    let handle = Handle(Arc::clone(&open));
    let make = move || Valve { open: Arc::clone(&open), held: Vec::new(), capabilities };
    (builder.mover(name, drive, make), handle)
}

fn this_thread() -> libc::pid_t {
    // SAFETY: gettid reads a number.
    unsafe { libc::gettid() }
}

/// A queue with one valve.
struct Held {
    handle: Handle,
    sq: SubmissionQueue,
    cq: CompletionQueue,
    valve: MoverId,
}

impl Held {
    fn new(builder: Builder, drive: Drive, capabilities: Capabilities) -> Self {
        let (builder, handle) = with_valve(builder, "valve", drive, capabilities);
        let pair = builder.build().expect("a queue");
        let valve = pair.mover("valve").expect("it was just added");
        let (sq, cq) = pair.split();
        Self { handle, sq, cq, valve }
    }
}

fn submit_nop(sq: &mut SubmissionQueue, mover: MoverId) {
    // SAFETY: a nop touches no memory.
    unsafe { sq.push(Sqe::nop().on(mover)) }.expect("there is room");
    assert_eq!(sq.submit(), 1);
}

const NOPS: Capabilities = Capabilities::new(&[Opcode::Nop]);

#[test]
fn not_empty_while_completions_wait() {
    let (mut sq, mut cq) = QueuePair::builder().workers(1).build().expect("a queue").split();
    let epoll = Epoll::new(&cq, Trigger::Level);
    submit_nop(&mut sq, ROUTED);
    assert_eq!(cq.wait(1, Some(PATIENCE)), Ok(1));
    assert_eq!(cq.arm(), Arm::NotEmpty);
    assert_eq!(cq.drain().count(), 1);
    assert_eq!(cq.arm(), Arm::Armed);
    assert!(!epoll.is_ready());
    assert_eq!(cq.stats().eventfd_writes, 0);
}

#[test]
fn not_empty_while_the_caller_has_work() {
    let (mut sq, mut cq) = QueuePair::builder().workers(0).poll_budget(1).build().expect("a queue").split();
    let mut bytes = [0_u8; 3];
    let start = bytes.as_mut_ptr();
    for index in 0..3 {
        // SAFETY: the bytes live, untouched, until all three completions were reaped.
        unsafe { sq.push(Sqe::memset(start.wrapping_add(index), 7, 1)) }.expect("there is room");
    }
    sq.submit();
    for _ in 0..3 {
        assert_eq!(cq.arm(), Arm::NotEmpty, "work for the caller is left");
        assert_eq!(cq.drain().count(), 1, "the budget is one byte");
    }
    assert_eq!(cq.arm(), Arm::Armed);
    assert_eq!(bytes, [7; 3]);
}

#[test]
fn must_poll_what_the_caller_holds() {
    let mut held = Held::new(QueuePair::builder(), Drive::Caller, NOPS);
    assert_eq!(held.cq.arm(), Arm::Armed, "nothing is under way");
    submit_nop(&mut held.sq, held.valve);
    assert_eq!(held.cq.arm(), Arm::NotEmpty, "the mover has not claimed it");
    while held.cq.arm() == Arm::NotEmpty {
        assert_eq!(held.cq.drain().count(), 0);
    }
    assert_eq!(held.cq.arm(), Arm::MustPoll, "claimed, and nobody will tell of its end");
    held.handle.open();
    while held.cq.drain().count() == 0 {}
    assert_eq!(held.cq.drain().count(), 0);
    assert_eq!(held.cq.arm(), Arm::Armed);
}

#[test]
fn a_submission_is_an_event_for_a_caller_that_drives() {
    let (mut sq, mut cq) = QueuePair::builder().workers(0).build().expect("a queue").split();
    let epoll = Epoll::new(&cq, Trigger::Edge);
    for (mover, round) in [(ROUTED, 1), (INLINE, 2), (ROUTED, 3)] {
        assert_eq!(cq.arm(), Arm::Armed);
        thread::scope(|scope| {
            scope.spawn(|| submit_nop(&mut sq, mover));
            epoll.sleep();
        });
        assert_eq!(cq.drain().count(), 1);
        submit_nop(&mut sq, mover);
        submit_nop(&mut sq, mover);
        assert!(!epoll.is_ready(), "not armed again, and yet written");
        assert_eq!(cq.drain().count(), 2);
        assert_eq!(cq.stats().eventfd_writes, round);
    }
}

/// A wait that ends with nothing, whether it spun or slept, leaves the arm as it was: the wake comes, once.
#[test]
fn an_arm_survives_a_wait_in_vain() {
    for (spin, timeout) in [(0, 0), (0, 1), (0, 2000), (20, 2000), (1_000_000, 2000)] {
        let (spin, timeout) = (Duration::from_micros(spin), Duration::from_micros(timeout));
        let mut held = Held::new(QueuePair::builder().spin(spin), Drive::Threads(1), NOPS);
        let epoll = Epoll::new(&held.cq, Trigger::Edge);
        submit_nop(&mut held.sq, held.valve);
        assert_eq!(held.cq.arm(), Arm::Armed);
        for _ in 0..3 {
            assert_eq!(held.cq.wait(1, Some(timeout)), Ok(0), "the valve is closed");
        }
        assert!(!epoll.is_ready());
        held.handle.open();
        epoll.sleep();
        assert_eq!(held.cq.drain().count(), 1);
        let stats = held.cq.stats();
        assert_eq!((stats.eventfd_writes, stats.reaper_wakes), (1, 0));
    }
}

/// The same when something did wake the waiter, but brought no completion: here, a submission to a mover that the
/// caller drives, and that holds it.
#[test]
fn an_arm_survives_a_wait_that_was_rung_in_vain() {
    // Until the submission has found the waiter asleep.
    while !survives_being_rung_in_vain() {}
}

fn survives_being_rung_in_vain() -> bool {
    let builder = QueuePair::builder().spin(Duration::ZERO);
    let (builder, far) = with_valve(builder, "far", Drive::Threads(1), NOPS);
    let (builder, near) = with_valve(builder, "near", Drive::Caller, NOPS);
    let pair = builder.build().expect("a queue");
    let movers = [pair.mover("far").expect("added"), pair.mover("near").expect("added")];
    let (mut sq, cq) = pair.split();
    submit_nop(&mut sq, movers[0]);
    let (go, gone) = channel();
    thread::scope(|scope| {
        // Owned here, so that a failure lets go of everything, last first: the submitter, the valves, the queue.
        let (mut cq, far, _near, go) = (cq, far, near, go);
        let submitter = scope.spawn(move || {
            if gone.recv().is_ok() {
                submit_nop(&mut sq, movers[1]);
            }
            sq.stats().reaper_wakes > 0
        });
        let epoll = Epoll::new(&cq, Trigger::Edge);
        assert_eq!(cq.arm(), Arm::Armed);
        go.send(()).expect("the submitter lives");
        assert_eq!(cq.wait(1, Some(Duration::from_millis(5))), Ok(0), "both valves are closed");
        if !submitter.join().expect("the submitter") || epoll.is_ready() {
            return false; // It came too early or too late.
        }
        far.open();
        epoll.sleep();
        assert_eq!(cq.drain().count(), 1);
        true
    })
}

/// A thread stopped wherever it is, by a signal whose handler spins: one at a time.
struct Frozen<'a>(#[expect(dead_code, reason = "held until it goes on")] MutexGuard<'a, ()>);

static FREEZER: Mutex<()> = Mutex::new(());
static IS_FROZEN: AtomicBool = AtomicBool::new(false);

/// Async-signal-safe: two atomics.
extern "C" fn stand_still(_signal: libc::c_int) {
    IS_FROZEN.store(true, Ordering::SeqCst);
    while IS_FROZEN.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
}

impl Frozen<'_> {
    /// Returns when the thread stands.
    fn new(thread: libc::pid_t) -> Self {
        let alone = FREEZER.lock().unwrap_or_else(PoisonError::into_inner);
        let handler = stand_still as extern "C" fn(libc::c_int);
        // SAFETY: the handler is a function for the whole life of the process and async-signal-safe.
        let before = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);
        // SAFETY: tgkill takes numbers.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR1) };
        assert_eq!(sent, 0, "tgkill: {}", Error::last_os_error());
        while !IS_FROZEN.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        Self(alone)
    }
}

impl Drop for Frozen<'_> {
    /// The thread goes on.
    fn drop(&mut self) {
        IS_FROZEN.store(false, Ordering::SeqCst);
    }
}

/// Who submits while the reactor stands still: for each turn one nop, a random moment after the turn was given.
struct Interrupter {
    sq: SubmissionQueue,
    mover: MoverId,
    reactor: libc::pid_t,
    longest: Duration,
    random: Random,
}

impl Interrupter {
    fn run(mut self, turn: &AtomicU64) {
        for round in 1..=ROUNDS {
            while turn.load(Ordering::Relaxed) < round {
                assert!(!self.sq.is_closed(), "the reactor has failed");
                thread::yield_now();
            }
            let (begin, delay) = (Instant::now(), self.longest.mul_f64(self.random.below(1000) as f64 / 1000.0));
            while begin.elapsed() < delay {
                std::hint::spin_loop();
            }
            let frozen = Frozen::new(self.reactor);
            submit_nop(&mut self.sq, self.mover);
            drop(frozen);
        }
    }
}

/// What comes at any moment of an arm is answered by it, or wakes: the arming thread is stopped at a random
/// place, and meanwhile everything happens that it must not miss.
#[test]
fn what_comes_during_an_arm_is_not_missed() {
    let seed = seed();
    println!("MEMRING_SEED={seed}");
    // A completion: the submitter executes it. Work for the caller: it does not.
    for mover in [INLINE, WORKERS] {
        let (sq, cq) = QueuePair::builder().workers(0).build().expect("a queue").split();
        let longest = Duration::from_micros(5);
        let interrupter = Interrupter { sq, mover, reactor: this_thread(), longest, random: Random::new(seed) };
        let turn = AtomicU64::new(0);
        thread::scope(|scope| {
            let mut cq = cq;
            let submitter = scope.spawn(|| interrupter.run(&turn));
            let epoll = Epoll::new(&cq, Trigger::Edge);
            let mut reaped = 0;
            while reaped < ROUNDS {
                turn.store(reaped + 1, Ordering::Relaxed);
                match cq.arm() {
                    Arm::Armed => drop(epoll.sleep()),
                    Arm::NotEmpty => {}
                    Arm::MustPoll => panic!("nothing is held"),
                }
                reaped += cq.drain().count() as u64;
            }
            submitter.join().expect("the submitter");
        });
    }
}

/// The same for a wait of an armed caller: it takes the arm back, and renews it at its end.
#[test]
fn what_comes_during_a_wait_is_not_missed() {
    let seed = seed();
    println!("MEMRING_SEED={seed}");
    let mut held = Held::new(QueuePair::builder().workers(0).spin(Duration::ZERO), Drive::Threads(1), NOPS);
    // Something must be outstanding, or a wait would not sleep.
    submit_nop(&mut held.sq, held.valve);
    let Held { handle, sq, cq, .. } = held;
    // Twice as long as such a wait takes: the kernel adds a slack of 50 us.
    let longest = Duration::from_micros(150);
    let interrupter = Interrupter { sq, mover: ROUTED, reactor: this_thread(), longest, random: Random::new(seed) };
    let turn = AtomicU64::new(0);
    thread::scope(|scope| {
        let (mut cq, _handle) = (cq, handle);
        let submitter = scope.spawn(|| interrupter.run(&turn));
        let epoll = Epoll::new(&cq, Trigger::Edge);
        let mut reaped = 0;
        while reaped < ROUNDS {
            if cq.arm() == Arm::Armed {
                turn.store(reaped + 1, Ordering::Relaxed);
                if cq.wait(1, Some(Duration::from_micros(20))) == Ok(0) {
                    epoll.sleep();
                }
            }
            reaped += cq.drain().count() as u64;
        }
        submitter.join().expect("the submitter");
    });
}

/// One Armed is good for one write, however many completions follow.
#[test]
fn one_write_for_one_arm() {
    let mut held = Held::new(QueuePair::builder(), Drive::Threads(1), NOPS);
    let epoll = Epoll::new(&held.cq, Trigger::Level);
    assert_eq!(held.cq.arm(), Arm::Armed);
    for _ in 0..100 {
        submit_nop(&mut held.sq, held.valve);
    }
    assert!(!epoll.is_ready(), "the valve is closed");
    held.handle.open();
    let mut reaped = 0;
    while reaped < 100 {
        epoll.sleep(); // Not cleared: it stays readable.
        reaped += held.cq.drain().count();
    }
    held.cq.clear();
    assert!(!epoll.is_ready());
    assert_eq!(held.cq.stats().eventfd_writes, 1);
}

/// Who never arms is never written to, whoever executes.
#[test]
fn never_armed_never_written() {
    for (workers, mover) in [(2, WORKERS), (0, WORKERS), (0, INLINE)] {
        let (sq, mut cq) = QueuePair::builder().entries(ENTRIES).workers(workers).build().expect("a queue").split();
        let epoll = Epoll::new(&cq, Trigger::Level);
        let total = completions() / 10;
        thread::scope(|scope| {
            let (unused, reached) = channel();
            scope.spawn(move || submit_all(sq, mover, total, &reached, Random::new(seed())));
            let mut reaped = 0;
            while reaped < total {
                reaped += cq.drain().count() as u64;
                let _ = unused.send(reaped);
            }
        });
        assert!(!epoll.is_ready());
        let stats = cq.stats();
        assert_eq!((stats.eventfd_writes, stats.reaper_wakes), (0, 0));
    }
}
