//! Goal: no thread touches a buffer that is another's at that moment. The stress test that runs under ThreadSanitizer
//! and AddressSanitizer (`.ci/sanitizers`), and without them like any other test.
//!
//! Method: four threads submit copies through small queues, in every drive, while a fifth reaps in every way: polling,
//! waiting, armed. Buffers are plain memory: the submitter writes the source, a mover reads it and writes the
//! destination, the reaper reads that, so each hand-over that memring promises is a pair of plain accesses that only
//! memring orders; a missing edge is a data race to ThreadSanitizer even when the bytes happen to be right. They are
//! judged, too: they follow from the operation's number. Buffers return from the reaper to the submitter by an atomic
//! flag, which orders nothing in the direction under test. A mover of the test's own keeps its tokens beyond the poll,
//! completes them in random order, and drops some. Queues are dropped with operations under way, and the memory is
//! used at once. `stress/order.rs` does the same with chains, barriers, cancels and copies in parts.
//!
//! No test harness, no locks and no channels: ThreadSanitizer does not see into the parts of std that come compiled. It
//! does know `pthread_join`, so threads are joined one by one. The number of operations bounds the time;
//! `MEMRING_STRESS=full` multiplies it.
#![expect(unsafe_code, reason = "pushes entries, shares their buffers among threads, implements a mover")]
#![expect(clippy::disallowed_types, reason = "a flag hands each buffer from the reaper to its submitter")]

#[path = "support/harness.rs"]
mod harness;
#[path = "stress/order.rs"]
mod order;
#[path = "support/random.rs"]
mod random;

use std::cell::UnsafeCell;
use std::io::{Write, stderr};
use std::os::fd::AsRawFd;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memring::mover::{Capabilities, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{Arm, Builder, CompletionQueue, Drive, PushError, QueuePair, Stats, SubmissionQueue};
use memring::{Cqe, INLINE, MoverId, Opcode, Sqe, Status, WORKERS};

use random::{Random, seed};

const THREADS: usize = 4;
/// Operations that one thread may have under way.
const SLOTS: usize = 24;
const BYTES: usize = 512;
/// An operation that has not completed after this time is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of everything there is to do.
fn scale() -> u64 {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 20 } else { 1 }
}

type Bytes = [u8; BYTES];

/// What belongs to an operation's number: its bytes before and after, its length, its fate.
fn source(number: u64) -> Bytes {
    let mut bytes = [0; BYTES];
    let mut random = Random::new(number);
    bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&random.next().to_ne_bytes()));
    bytes
}

fn len(number: u64) -> usize {
    Random::new(!number).below(BYTES + 1)
}

/// Whether the test's own mover drops the token of this operation instead of executing it.
fn is_dropped(number: u64) -> bool {
    number % 64 == 7
}

/// The buffers of one operation.
///
/// They are the submitter's while `free`, the operation's from push to completion, then the reaper's.
struct Slot {
    free: AtomicBool,
    src: UnsafeCell<Bytes>,
    dst: UnsafeCell<Bytes>,
}

// SAFETY: the buffers have one owner at a time, as said above. That memring keeps to this is what the test is about.
unsafe impl Sync for Slot {}

impl Slot {
    fn many(count: usize) -> Vec<Self> {
        let slot =
            || Self { free: AtomicBool::new(true), src: UnsafeCell::new([0; BYTES]), dst: UnsafeCell::new([0; BYTES]) };
        std::iter::repeat_with(slot).take(count).collect()
    }

    /// Makes a free slot ready for an operation.
    fn prepare(&self, number: u64) -> Sqe {
        let (src, dst) = (self.src.get(), self.dst.get());
        // SAFETY: the caller is the submitter, and has seen the slot free.
        unsafe { *src = source(number) };
        // SAFETY: as above.
        unsafe { *dst = [0; BYTES] };
        Sqe::memcpy(dst.cast(), src.cast(), len(number))
    }

    /// Judges a slot whose operation has ended, and leaves its marks on both buffers: they are the caller's.
    fn judge(&self, number: u64, done: bool) {
        let mut expected = [0; BYTES];
        if done {
            expected[..len(number)].copy_from_slice(&source(number)[..len(number)]);
        }
        // SAFETY: the operation has ended, says memring.
        let found = unsafe { std::mem::replace(&mut *self.dst.get(), [1; BYTES]) };
        assert!(found == expected, "wrong bytes after operation {number}");
        // SAFETY: as above.
        unsafe { *self.src.get() = [2; BYTES] };
    }
}

/// A mover that keeps up to eight tokens and completes them in another order than they came.
struct Keeper {
    kept: Vec<Kept>,
    random: Random,
}

impl Keeper {
    fn new() -> Self {
        Self { kept: Vec::with_capacity(8), random: Random::new(seed()) }
    }
}

// SAFETY: copies what a claimed entry names, and completes its token, or drops it untouched.
unsafe impl DataMover for Keeper {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Memcpy])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut claimed = false;
        while self.kept.len() < 8
            && let Some(token) = lane.claim()
        {
            self.kept.push(token.keep());
            claimed = true;
        }
        if self.kept.is_empty() {
            return Progress::Idle;
        }
        // While entries come it holds some back.
        let least = if claimed { 4 } else { 0 };
        while self.kept.len() > least {
            let token = self.kept.swap_remove(self.random.below(self.kept.len()));
            let sqe = token.sqe();
            if is_dropped(number_of(sqe.data())) {
                continue;
            }
            let len = usize::try_from(sqe.len()).expect("a length");
            // SAFETY: the entry's submitter vouched for its regions.
            unsafe { sqe.dst().copy_from_nonoverlapping(sqe.src(), len) };
            done.complete(token, Status::SUCCESS);
        }
        Progress::Busy
    }
}

/// Of operations with even, and with odd numbers.
type Movers = [MoverId; 2];

/// Who executes.
#[derive(Clone, Copy, Debug)]
enum Executor {
    Inline,
    Workers(usize),
    Caller,
    /// Each operation by its number: the submitter, or two workers.
    Mixed,
    KeeperThreads,
    KeeperCaller,
}

impl Executor {
    fn builder(self) -> Builder {
        let builder = QueuePair::builder();
        match self {
            Self::Inline | Self::Caller => builder.workers(0),
            Self::Workers(workers) => builder.workers(workers),
            Self::Mixed => builder.workers(2),
            Self::KeeperThreads => builder.workers(1).mover("keeper", Drive::Threads(2), Keeper::new),
            Self::KeeperCaller => builder.workers(1).mover("keeper", Drive::Caller, Keeper::new),
        }
    }

    fn build(self, entries: usize) -> (SubmissionQueue, CompletionQueue, Movers) {
        let pair = self.builder().entries(entries).build().expect("a queue");
        let movers = match self {
            Self::Inline => [INLINE; 2],
            Self::Mixed => [INLINE, WORKERS],
            Self::Workers(_) | Self::Caller => [WORKERS; 2],
            Self::KeeperThreads | Self::KeeperCaller => [pair.mover("keeper").expect("it was added"); 2],
        };
        let (sq, cq) = pair.split();
        (sq, cq, movers)
    }

    fn succeeds(self, number: u64) -> bool {
        !(matches!(self, Self::KeeperThreads | Self::KeeperCaller) && is_dropped(number))
    }
}

fn number_of(user_data: u64) -> u64 {
    user_data & ((1 << 48) - 1)
}

/// One of the submitting threads.
struct Submitter<'a> {
    sq: SubmissionQueue,
    slots: &'a [Slot],
    first_slot: usize,
    movers: Movers,
    random: Random,
    /// Operations that submits have let in.
    let_in: usize,
}

impl Submitter<'_> {
    /// Pushes the operation of this number, in this slot of its own, until it is accepted. False if the queue is
    /// closed.
    fn push(&mut self, number: u64, slot: usize) -> bool {
        let user_data = ((self.first_slot + slot) as u64) << 48 | number;
        let mover = self.movers[usize::from(number % 2 == 1)];
        let sqe = self.slots[slot].prepare(number).user_data(user_data).on(mover);
        loop {
            // SAFETY: the slot is the operation's until its completion was reaped, or the queue's drop has returned.
            match unsafe { self.sq.push(sqe) } {
                Ok(()) => return true,
                Err(PushError::Full(back)) => assert_eq!(back, sqe),
                Err(PushError::Closed(back)) => {
                    assert_eq!(back, sqe);
                    return false;
                }
                Err(other) => panic!("{other}"),
            }
            if self.submit() == 0 {
                thread::yield_now();
            }
        }
    }

    /// A slot that is free, once there is one.
    fn free_slot(&mut self) -> usize {
        loop {
            if let Some(slot) = self.slots.iter().position(|slot| slot.free.load(Ordering::Acquire)) {
                return slot;
            }
            self.submit();
            assert!(!self.sq.is_closed(), "the reaper has failed");
            thread::yield_now();
        }
    }

    fn run(mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let slot = self.free_slot();
            self.slots[slot].free.store(false, Ordering::Relaxed);
            assert!(self.push(number, slot), "the reaper has failed");
            if self.random.below(3) == 0 {
                self.submit();
            }
        }
        self.submit();
    }

    /// Submits one operation in each slot, until the queue is closed: the first ones are let in, the others are not.
    fn run_until_closed(&mut self) {
        for slot in 0..self.slots.len() {
            if !self.push((self.first_slot + slot) as u64, slot) {
                break;
            }
            if self.random.below(3) == 0 {
                self.submit();
            }
        }
        self.submit();
    }

    fn submit(&mut self) -> usize {
        let let_in = self.sq.submit();
        self.let_in += let_in;
        let_in
    }
}

/// The reaping thread.
struct Reaper<'a> {
    executor: Executor,
    cq: CompletionQueue,
    slots: &'a [Slot],
    random: Random,
}

impl Reaper<'_> {
    /// Reaps in every way there is, until that many were reaped.
    fn run(&mut self, operations: u64) {
        let mut seen = vec![false; usize::try_from(operations).expect("a table")];
        let mut left = operations;
        let mut last = Instant::now();
        while left > 0 {
            match self.random.below(16) {
                0 => drop(self.cq.wait(1 + self.random.below(8), Some(PATIENCE))),
                1 => drop(self.cq.wait(1 + self.random.below(8), Some(Duration::from_micros(10)))),
                2 | 3 => self.sleep_armed(),
                _ => {}
            }
            let most = if self.random.below(4) == 0 { 1 } else { usize::MAX };
            let reaped =
                (self.cq.drain().take(most)).map(|cqe| judge(self.executor, cqe, self.slots, &mut seen)).count();
            left -= reaped as u64;
            if reaped > 0 {
                last = Instant::now();
            } else {
                if last.elapsed() > PATIENCE {
                    lost(left, &self.cq.stats());
                }
                thread::yield_now();
            }
        }
        assert_eq!(self.cq.in_flight(), 0);
    }

    fn sleep_armed(&mut self) {
        if self.cq.arm() == Arm::Armed {
            let mut fd = libc::pollfd { fd: self.cq.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let limit_ms = libc::c_int::try_from(PATIENCE.as_millis()).expect("a minute");
            // SAFETY: `fd` is the one entry that is announced.
            let ready = unsafe { libc::poll(&raw mut fd, 1, limit_ms) };
            assert_eq!(ready, 1, "a wake was lost");
            self.cq.clear();
        }
    }
}

/// Ends the test binary. A panic would drop the queue, which would wait for the lost ones for ever.
fn lost(operations: u64, stats: &Stats) -> ! {
    let _ = writeln!(stderr(), "{operations} operations are lost: {stats:?}");
    std::process::abort()
}

fn judge(executor: Executor, cqe: Cqe, slots: &[Slot], seen: &mut [bool]) {
    let number = number_of(cqe.user_data());
    let before = std::mem::replace(&mut seen[usize::try_from(number).expect("an index")], true);
    assert!(!before, "operation {number} completed twice");
    let done = executor.succeeds(number);
    assert_eq!(cqe.status(), if done { Status::SUCCESS } else { Status::JOB_CORRUPTED });
    let slot = &slots[usize::try_from(cqe.user_data() >> 48).expect("an index")];
    slot.judge(number, done);
    slot.free.store(true, Ordering::Release);
}

/// Slots, and the submitters that share them out.
fn submitters<'a>(sq: &SubmissionQueue, slots: &'a [Slot], movers: Movers, seed: u64) -> Vec<Submitter<'a>> {
    let submitter = |(thread, slots): (usize, &'a [Slot])| Submitter {
        sq: sq.clone(),
        slots,
        first_slot: thread * SLOTS,
        movers,
        random: Random::new(seed ^ thread as u64),
        let_in: 0,
    };
    slots.chunks(SLOTS).enumerate().map(submitter).collect()
}

/// Four threads submit, this one reaps and judges.
fn copies(executor: Executor, entries: usize) {
    let per_thread = 3_000 * scale();
    let seed = seed();
    let slots = Slot::many(SLOTS * THREADS);
    let (sq, cq, movers) = executor.build(entries);
    thread::scope(|scope| {
        let mut reaper = Reaper { executor, cq, slots: &slots, random: Random::new(seed) };
        let run = |(submitter, thread): (Submitter<'_>, u64)| {
            submitter.run(thread * per_thread..(thread + 1) * per_thread);
        };
        let threads: Vec<_> = submitters(&sq, &slots, movers, seed)
            .into_iter()
            .zip(0..)
            .map(|each| scope.spawn(move || run(each)))
            .collect();
        reaper.run(per_thread * THREADS as u64);
        threads.into_iter().for_each(|thread| thread.join().expect("a submitter"));
    });
}

/// Four threads submit while the queue is dropped. What was let in has been done when the drop returns, what was not
/// has touched nothing; the memory is used at once, then freed.
fn drops(executor: Executor) {
    for round in 0..60 * scale() {
        let seed = seed();
        let slots = Slot::many(SLOTS * THREADS);
        let (sq, mut cq, movers) = executor.build(if round % 2 == 0 { 4 } else { 64 });
        let is_gone = AtomicBool::new(false);
        thread::scope(|scope| {
            let run = |mut submitter: Submitter<'_>| {
                submitter.run_until_closed();
                while !is_gone.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                for (slot, place) in submitter.slots.iter().enumerate() {
                    let number = (submitter.first_slot + slot) as u64;
                    place.judge(number, slot < submitter.let_in && executor.succeeds(number));
                }
            };
            let threads: Vec<_> =
                submitters(&sq, &slots, movers, seed).into_iter().map(|each| scope.spawn(move || run(each))).collect();
            let mut random = Random::new(seed);
            for _ in 0..random.below(20) {
                let _ = cq.wait(1, Some(Duration::from_micros(50)));
                cq.drain().take(2).for_each(drop);
            }
            drop(cq);
            is_gone.store(true, Ordering::Release);
            threads.into_iter().for_each(|thread| thread.join().expect("a submitter"));
        });
    }
}

const SCENARIOS: &[harness::Scenario] = &[
    ("inline_4", || copies(Executor::Inline, 4)),
    ("inline_64", || copies(Executor::Inline, 64)),
    ("one_worker_4", || copies(Executor::Workers(1), 4)),
    ("one_worker_64", || copies(Executor::Workers(1), 64)),
    ("four_workers_4", || copies(Executor::Workers(4), 4)),
    ("four_workers_64", || copies(Executor::Workers(4), 64)),
    ("caller_driven_4", || copies(Executor::Caller, 4)),
    ("caller_driven_64", || copies(Executor::Caller, 64)),
    ("mixed_4", || copies(Executor::Mixed, 4)),
    ("mixed_64", || copies(Executor::Mixed, 64)),
    ("kept_by_threads_4", || copies(Executor::KeeperThreads, 4)),
    ("kept_by_threads_64", || copies(Executor::KeeperThreads, 64)),
    ("kept_by_the_caller_4", || copies(Executor::KeeperCaller, 4)),
    ("kept_by_the_caller_64", || copies(Executor::KeeperCaller, 64)),
    ("ordered_caller_driven_8", || order::ordered(0, 8)),
    ("ordered_one_worker_64", || order::ordered(1, 64)),
    ("ordered_two_workers_8", || order::ordered(2, 8)),
    ("ordered_four_workers_64", || order::ordered(4, 64)),
    ("drops_inline", || drops(Executor::Inline)),
    ("drops_two_workers", || drops(Executor::Workers(2))),
    ("drops_caller_driven", || drops(Executor::Caller)),
    ("drops_mixed", || drops(Executor::Mixed)),
    ("drops_kept_by_threads", || drops(Executor::KeeperThreads)),
    ("drops_kept_by_the_caller", || drops(Executor::KeeperCaller)),
];

fn main() -> ExitCode {
    harness::main(SCENARIOS, |scenario| scenario())
}
