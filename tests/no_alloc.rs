//! Goal: after `build()`, no call on the path of an operation allocates or frees, on any thread, in any drive.
//!
//! Method: a global allocator that counts its calls. Each scenario builds a queue, warms it up, notes the count, runs
//! many rounds of pushes (accepted and refused), submits and every way of reaping, and compares. Other rounds
//! (`no_alloc/order.rs`) have chains, barriers, shared completions, cancels, and operations done in parts; others
//! (`no_alloc/rings.rs`, `no_alloc/vdm.rs`) what rings and virtual data movers await, `no_alloc/durable.rs` what goes
//! to a disk, and `no_alloc/dsa.rs` what goes to devices; and `no_alloc/pace.rs` makes sure of what else only a busy
//! machine would show. The count is that of the whole process, since most of the work is done by the queue's own
//! threads; so this binary has no test harness, whose threads would be counted too.
//!
//! The warm-up lasts until each driver thread has executed something: `build()` returns before its threads have begun,
//! and a thread that begins allocates (its name, its signal stack, what std keeps for it). The queue needs no other
//! warm-up, so whatever can be done without (refusals, waiting, arming) is done for the first time under the count.
//! The first scenario shows that the counter counts.
#![expect(unsafe_code, reason = "pushes entries; implements an allocator and a mover; poll has no safe wrapper")]
#![expect(clippy::disallowed_types, reason = "the allocator counts on all threads")]

#[path = "no_alloc/dsa.rs"]
mod dsa;
#[path = "no_alloc/durable.rs"]
mod durable;
#[path = "support/harness.rs"]
mod harness;
#[path = "no_alloc/order.rs"]
mod order;
#[path = "no_alloc/pace.rs"]
mod pace;
#[path = "no_alloc/rings.rs"]
mod rings;
#[path = "no_alloc/vdm.rs"]
mod vdm;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memring::mover::{Capabilities, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{Arm, Builder, CompletionQueue, Drive, Driver, PushError, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, OpFlags, Opcode, ROUTED, Sqe, Status, WORKERS};

/// The system's allocator, and how often it was called.
struct Counting {
    calls: AtomicU64,
}

#[global_allocator]
static ALLOCATOR: Counting = Counting { calls: AtomicU64::new(0) };

impl Counting {
    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator, unchanged. Zeroed and grown memory come by the default methods,
// which call these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.count();
        // SAFETY: the caller's contract is the same, and the memory came from `alloc` above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Waits until every other thread has begun, and has nothing to do: one that begins allocates.
fn until_others_sleep() {
    let sleeps = |task: &fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // proc(5): the state stands behind the name, which may have brackets of its own. Who has ended has none.
        stat.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with('S'))
    };
    let mine = fs::read_link("/proc/thread-self").expect("procfs");
    loop {
        let tasks = fs::read_dir("/proc/self/task").expect("procfs").flatten();
        if tasks.filter(|task| Some(task.file_name().as_os_str()) != mine.file_name()).all(|task| sleeps(&task)) {
            return;
        }
        thread::yield_now();
    }
}

/// Runs `body`; the calls of the allocator meanwhile, by all threads.
fn calls_during(body: impl FnOnce()) -> u64 {
    let before = ALLOCATOR.calls.load(Ordering::SeqCst);
    body();
    ALLOCATOR.calls.load(Ordering::SeqCst) - before
}

const ENTRIES: usize = 64;
const ROUNDS: usize = if cfg!(debug_assertions) { 50 } else { 500 };
/// More than a driver takes at once, bytes: so that the drivers share a round.
const LONG: usize = 256 << 10;

/// The ways to reap.
#[derive(Clone, Copy)]
enum Reaping {
    Drain,
    Wait,
    /// Waits that are too short, now and then.
    TimedWait,
    Arm,
}

/// A queue, and prepared entries that fill it.
struct Load {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    sqes: Vec<Sqe>,
    mover: MoverId,
    /// Batches with flags, which are submitted in turn.
    ordered: Vec<Vec<Sqe>>,
    rounds: usize,
    cancelled: usize,
    /// Where they write. Dropped last.
    _bytes: Vec<u8>,
}

impl Load {
    fn new(builder: Builder, mover: Option<&str>, len: usize) -> Self {
        let pair = builder.entries(ENTRIES).build().expect("a queue");
        let mover = mover.map_or(ROUTED, |name| pair.mover(name).expect("it was added"));
        let (sq, cq) = pair.split();
        let mut bytes = vec![0; ENTRIES * len];
        let entry = |(index, part): (usize, &mut [u8])| Sqe::memset(part.as_mut_ptr(), 7, len).user_data(index as u64);
        let sqes = bytes.chunks_mut(len).enumerate().map(entry).map(|sqe| sqe.on(mover)).collect();
        let ordered = order::batches(&mut bytes, len, mover);
        Self { sq, cq, sqes, mover, ordered, rounds: 0, cancelled: 0, _bytes: bytes }
    }

    /// Fills the queue, submits, and reaps everything.
    fn round(&mut self, reaping: Reaping) {
        self.fill();
        self.reap(reaping);
    }

    /// The same, and meets every refusal while the queue is full.
    fn round_with_refusals(&mut self, reaping: Reaping) {
        self.fill();
        self.be_refused();
        self.reap(reaping);
    }

    fn fill(&mut self) {
        let (one_by_one, together) = self.sqes.split_at(ENTRIES / 2);
        for &sqe in one_by_one {
            // SAFETY: each entry has its own bytes, which live, untouched, as long as the queue.
            unsafe { self.sq.push(sqe) }.expect("there is room");
        }
        // SAFETY: as above.
        unsafe { self.sq.push_batch(together) }.expect("there is room");
    }

    fn reap(&mut self, reaping: Reaping) {
        assert_eq!(self.sq.submit(), ENTRIES);
        let mut reaped = 0;
        while reaped < ENTRIES {
            self.pause(reaping, ENTRIES - reaped);
            reaped += self.cq.drain().inspect(|cqe| assert!(cqe.status().is_success())).count();
        }
    }

    /// What there is to do until up to `count` completions are there.
    fn pause(&mut self, reaping: Reaping, count: usize) {
        match reaping {
            Reaping::Drain => thread::yield_now(),
            Reaping::Wait => assert_ne!(self.cq.wait(count, None), Ok(0)),
            Reaping::TimedWait => drop(self.cq.wait(1, Some(Duration::from_micros(1)))),
            Reaping::Arm => self.sleep_armed(),
        }
    }

    /// Every refusal that a queue with nothing but full lanes can give.
    fn be_refused(&mut self) {
        let sqe = self.sqes[0];
        let bytes = sqe.dst();
        let wrong = [
            Sqe::memset(std::ptr::null_mut(), 0, 1),
            Sqe::memset(bytes, 0, usize::MAX),
            Sqe::memcpy(bytes, bytes, 1),
            Sqe::from_raw([255, 0, 0, 0, 0, 0, 0]),
            sqe.flags(OpFlags::from_bits(1 << 31)),
            sqe.on(MoverId::from_u8(255)),
            sqe.flags(OpFlags::MEM_DURABLE),
        ];
        for sqe in wrong {
            // SAFETY: the entry is refused.
            assert!(unsafe { self.sq.push(sqe) }.is_err());
            // SAFETY: as above.
            assert!(unsafe { self.sq.push_batch(&[self.sqes[0], sqe]) }.is_err());
        }
        // SAFETY: as above.
        assert!(matches!(unsafe { self.sq.push(sqe) }, Err(PushError::Full(_))));
        // SAFETY: as above. Every entry is staged, and as many come again.
        assert!(matches!(unsafe { self.sq.push_batch(&self.sqes) }, Err(PushError::Full(_))));
    }

    /// Arms, and sleeps on the descriptor if that is what it said.
    fn sleep_armed(&mut self) {
        if self.cq.arm() == Arm::Armed {
            let mut fd = libc::pollfd { fd: self.cq.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: `fd` is the one entry that is announced.
            let ready = unsafe { libc::poll(&raw mut fd, 1, 60_000) };
            assert_eq!(ready, 1, "a wake was lost");
            self.cq.clear();
        }
    }

    /// Whether each thread that drives the mover of this load has executed something, and so has begun.
    fn is_warm(&self) -> bool {
        let mover = if self.mover == ROUTED { WORKERS } else { self.mover };
        let threads = self.cq.stats().drivers;
        (threads.iter().filter(|stats| stats.mover == mover && matches!(stats.driver, Driver::Thread(_))))
            .all(|stats| stats.operations > 0)
    }

    /// Warms up, then runs every way of reaping under the counter.
    fn runs_without_allocating(mut self) {
        let begin = Instant::now();
        self.round(Reaping::Drain);
        while !self.is_warm() {
            assert!(begin.elapsed() < Duration::from_secs(60), "a driver never works: {:?}", self.cq.stats());
            self.round(Reaping::Drain);
        }
        for reaping in [Reaping::Drain, Reaping::Wait, Reaping::TimedWait, Reaping::Arm] {
            let calls = calls_during(|| (0..ROUNDS).for_each(|_| self.round_with_refusals(reaping)));
            assert_eq!(calls, 0, "calls of the allocator in {ROUNDS} rounds of {ENTRIES} operations");
            let calls = calls_during(|| (0..ROUNDS).for_each(|_| self.ordered_round(reaping)));
            assert_eq!(calls, 0, "calls of the allocator in {ROUNDS} rounds with chains, barriers, and cancels");
        }
        assert!(self.cancelled > 0, "no cancel came in time");
    }
}

fn the_counter_counts() {
    assert_eq!(calls_during(|| ()), 0);
    assert_eq!(calls_during(|| drop(black_box(Box::new(7)))), 2);
    let elsewhere = calls_during(|| thread::spawn(|| ()).join().expect("a thread"));
    assert!(elsewhere > 0, "other threads are counted");
}

fn inline() {
    Load::new(QueuePair::builder().workers(0).inline_max(64), None, 64).runs_without_allocating();
}

fn caller_driven() {
    Load::new(QueuePair::builder().workers(0), None, 4096).runs_without_allocating();
}

/// Nothing is done in one piece.
fn caller_driven_in_parts() {
    Load::new(QueuePair::builder().workers(0).poll_budget(4500), None, 8192).runs_without_allocating();
}

fn one_worker() {
    Load::new(QueuePair::builder().workers(1), None, LONG).runs_without_allocating();
}

fn two_workers_that_sleep_at_once() {
    Load::new(QueuePair::builder().workers(2).spin(Duration::ZERO), None, LONG).runs_without_allocating();
}

fn eight_workers() {
    Load::new(QueuePair::builder().workers(8), None, LONG).runs_without_allocating();
}

#[cfg(target_arch = "x86_64")]
fn guarded() {
    Load::new(QueuePair::builder().workers(2).fault_guard(), None, LONG).runs_without_allocating();
}

/// Nothing is mapped where these entries write.
#[cfg(target_arch = "x86_64")]
fn guarded_faults() {
    let (mut sq, mut cq) = QueuePair::builder().workers(0).fault_guard().build().expect("a queue").split();
    let calls = calls_during(|| {
        for on in [INLINE, WORKERS].into_iter().cycle().take(ROUNDS) {
            let nowhere = std::ptr::without_provenance_mut(64);
            // SAFETY: what is missing may be named, since this queue has the guard.
            unsafe { sq.push(Sqe::memset(nowhere, 1, 64).on(on)) }.expect("there is room");
            sq.submit();
            assert_eq!(cq.wait(1, None), Ok(1));
            assert!(cq.drain().all(|cqe| cqe.status() == Status::FAULT));
        }
    });
    assert_eq!(calls, 0, "calls of the allocator in {ROUNDS} faults");
}

/// A mover that keeps its tokens from one poll to the next.
struct Keeper {
    kept: Vec<Kept>,
}

impl Keeper {
    fn new() -> Self {
        Self { kept: Vec::with_capacity(ENTRIES) }
    }
}

// SAFETY: writes only the destination of what it claimed, before completing it.
unsafe impl DataMover for Keeper {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Memset])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let busy = !self.kept.is_empty();
        for token in self.kept.drain(..) {
            let sqe = token.sqe();
            let len = usize::try_from(sqe.len()).expect("a length");
            // SAFETY: the entry's submitter vouched for its region.
            unsafe { sqe.dst().write_bytes(sqe.pattern(), len) };
            done.complete(token, Status::SUCCESS);
        }
        while let Some(claimed) = lane.claim() {
            self.kept.push(claimed.keep());
        }
        if busy || !self.kept.is_empty() { Progress::Busy } else { Progress::Idle }
    }
}

fn a_users_mover_on_threads() {
    let builder = QueuePair::builder().workers(0).mover("keeper", Drive::Threads(2), Keeper::new);
    Load::new(builder, Some("keeper"), LONG).runs_without_allocating();
}

fn a_users_mover_driven_by_the_caller() {
    let builder = QueuePair::builder().workers(0).mover("keeper", Drive::Caller, Keeper::new);
    Load::new(builder, Some("keeper"), 4096).runs_without_allocating();
}

/// Four threads submit at once. They begin and end outside the count: a thread's begin and end do allocate.
fn four_submitters() {
    for workers in [0, 2] {
        let mut load = Load::new(QueuePair::builder().workers(workers), None, LONG);
        while !load.is_warm() {
            load.round(Reaping::Drain);
        }
        let (begin, end) = (Barrier::new(5), Barrier::new(5));
        thread::scope(|scope| {
            for _ in 0..4 {
                let mut sq = load.sq.clone();
                let (begin, end) = (&begin, &end);
                scope.spawn(move || {
                    begin.wait();
                    (0..ROUNDS * 10).for_each(|round| press(&mut sq, round));
                    end.wait();
                });
            }
            let mut left = 4 * 10 * ROUNDS;
            begin.wait();
            let calls = calls_during(|| {
                while left > 0 {
                    left -= load.cq.drain().count();
                    thread::yield_now();
                }
            });
            end.wait();
            assert_eq!(calls, 0, "calls of the allocator");
        });
    }
}

/// Pushes one nop, as often as it takes. Some are barriers.
fn press(sq: &mut SubmissionQueue, round: usize) {
    let nop = if round % 10 == 9 { Sqe::nop().drain() } else { Sqe::nop() };
    // SAFETY: a nop touches no memory.
    while unsafe { sq.push(nop) }.is_err() {
        sq.submit();
        thread::yield_now();
    }
    sq.submit();
}

const SCENARIOS: &[harness::Scenario] = &[
    ("the_counter_counts", the_counter_counts),
    ("inline", inline),
    ("caller_driven", caller_driven),
    ("caller_driven_in_parts", caller_driven_in_parts),
    ("one_worker", one_worker),
    ("two_workers_that_sleep_at_once", two_workers_that_sleep_at_once),
    ("eight_workers", eight_workers),
    #[cfg(target_arch = "x86_64")]
    ("guarded", guarded),
    #[cfg(target_arch = "x86_64")]
    ("guarded_faults", guarded_faults),
    ("a_users_mover_on_threads", a_users_mover_on_threads),
    ("a_users_mover_driven_by_the_caller", a_users_mover_driven_by_the_caller),
    ("four_submitters", four_submitters),
    ("rings_of_each_drive", rings::of_each_drive),
    ("rings_with_a_users_mover", rings::with_a_users_mover),
    ("scopes_whose_operations_are_late", pace::scopes_whose_operations_are_late),
    ("more_wakers_than_are_carried", pace::more_wakers_than_are_carried),
    ("virtual_data_movers", vdm::virtual_data_movers),
    ("durable_operations", durable::durable_operations),
    ("dsa_at_its_worst", dsa::dsa_at_its_worst),
];

fn main() -> ExitCode {
    harness::main(SCENARIOS, |scenario| {
        scenario();
        // A ring's reaper thread ends by itself, and gives back its memory then: in no other scenario's time.
        while fs::read_dir("/proc/self/task").expect("procfs").count() > 1 {
            thread::yield_now();
        }
    })
}
