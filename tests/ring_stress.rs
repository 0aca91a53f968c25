//! Goal: no mover touches a buffer that was freed, and no buffer is freed twice or never, wherever an operation is
//! dropped, cancelled or awaited. The stress test of rings that runs under AddressSanitizer (`.ci/sanitizers`), and
//! without it like any other test.
//!
//! Method: in every drive four threads begin copies, sets, moves and batches on buffers of the heap, and each ends in a
//! random way: dropped before, in the middle, or after; cancelled and awaited; cancelled and dropped; awaited by the
//! ring or polled until it is there; left to another thread; in a scope that panics. The ring is dropped by whoever is
//! last, with operations under way. A buffer is plain memory that is freed by its drop, so a mover that comes too late
//! writes to what AddressSanitizer has poisoned, and one that is never dropped is a leak to LeakSanitizer. What is
//! awaited is judged, too. No operation is forgotten here: that is a leak by design.
//!
//! Not under ThreadSanitizer: what orders a ring's threads is partly in parts of std that come compiled (contended
//! locks, the drops of `Arc`), where it does not see. The rings' own edges are models (`loom-tests/`), and the movers',
//! which are those that touch the buffers, are under it in `stress.rs`.
//!
//! The number of operations bounds the time; `MEMRING_STRESS=full` multiplies it, and `MEMRING_SEED` repeats a run.
#![expect(unsafe_code, reason = "implements buffers and a mover")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread;

use memring::dsa::model::{ModelPortal, Settings};
use memring::dsa::{Dsa, Mode, Preset, WorkQueueCapabilities};
use memring::future::{Many, Memcpy, Memset, Verb};
use memring::mover::{Capabilities, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::Drive;
use memring::{Failed, IoBuf, IoBufMut, MoverId, OpError, Opcode, Operation, OutOfRange, Ring, RingBuilder, Status};

use random::{Random, seed};
use watchdog::must_end;

const THREADS: u64 = 4;
/// Longer than what is inline, and than what a poll of some of the rings may move, bytes.
const MOST: usize = 9_000;

/// Rounds of one thread in one ring.
fn rounds() -> usize {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 20_000 } else { 600 }
}

/// Memory of the heap that is marked, and freed, when it is dropped.
struct Page(Box<[u8]>);

impl Page {
    fn new(len: usize, value: u8) -> Self {
        Self(vec![value; len].into())
    }

    fn is_all(&self, value: u8) -> bool {
        self.0.iter().all(|&byte| byte == value)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.0.fill(0xdd);
    }
}

// SAFETY: the bytes lie on the heap until the page is dropped.
unsafe impl IoBuf for Page {
    fn bytes(&self) -> Result<*const [u8], OutOfRange> {
        Ok(&raw const *self.0)
    }
}

// SAFETY: as above, and nobody else has them.
unsafe impl IoBufMut for Page {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        Ok(&raw mut *self.0)
    }
}

/// A mover that keeps some tokens from poll to poll, and drops one in sixteen.
struct Keeper {
    kept: Vec<Kept>,
    random: Random,
}

impl Keeper {
    fn new() -> Self {
        Self { kept: Vec::with_capacity(8), random: Random::new(seed()) }
    }
}

// SAFETY: sets what a claimed entry names, and completes its token, or drops it untouched.
unsafe impl DataMover for Keeper {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Memset])
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
        let least = if claimed { 4 } else { 0 };
        while self.kept.len() > least {
            let token = self.kept.swap_remove(self.random.below(self.kept.len()));
            if self.random.below(16) == 0 {
                continue;
            }
            let sqe = token.sqe();
            let len = usize::try_from(sqe.len()).expect("a length");
            // SAFETY: the entry's submitter vouched for its region.
            unsafe { sqe.dst().write_bytes(sqe.pattern(), len) };
            done.complete(token, Status::SUCCESS);
        }
        Progress::Busy
    }
}

/// An operation of any kind that is left for whoever finds it.
enum Left {
    Copy(Operation<Memcpy<Page, Page>>, u8),
    Set(Operation<Memset<Page>>, u8),
    Batch(Operation<Many<Page, Page>>, u8),
}

/// One thread, and the shelf where it leaves operations for others.
struct Thread<'a> {
    ring: Ring,
    keeper: Option<MoverId>,
    shelf: &'a Mutex<Vec<Left>>,
    random: Random,
}

impl Thread<'_> {
    fn run(mut self) {
        for round in 0..rounds() {
            let value = u8::try_from(round % 255).expect("it is less") + 1;
            match self.random.below(8) {
                0..=2 => {
                    let copy = self.copy(value);
                    self.end(copy, |copy| Left::Copy(copy, value), |done| is_copied(done, value));
                }
                3..=5 => {
                    let set = self.set(value);
                    self.end(set, |set| Left::Set(set, value), |done| is_set(done, value));
                }
                6 => {
                    let batch = self.batch(value);
                    self.end(batch, |batch| Left::Batch(batch, value), |done| is_done(done, value));
                }
                _ => self.scope(value),
            }
            if self.random.below(3) == 0 {
                let found = self.shelf.lock().expect("nobody panics with it").pop();
                self.find(found);
            }
        }
    }

    fn copy(&mut self, value: u8) -> Operation<Memcpy<Page, Page>> {
        let len = self.random.below(MOST);
        let copy = self.ring.memcpy(Page::new(len, 0), Page::new(len, value));
        if self.random.below(4) == 0 { copy.no_cache() } else { copy }
    }

    fn set(&mut self, value: u8) -> Operation<Memset<Page>> {
        let set = self.ring.memset(Page::new(self.random.below(MOST), 0), value);
        match self.keeper {
            Some(keeper) if self.random.below(2) == 0 => set.on(keeper),
            _ => set,
        }
    }

    fn batch(&mut self, value: u8) -> Operation<Many<Page, Page>> {
        let count = self.random.below(20);
        let batch = (0..count).fold(self.ring.batch(), |batch, _| {
            let len = self.random.below(2000);
            let batch = batch.memcpy(Page::new(len, 0), Page::new(len, value));
            if self.random.below(2) == 0 { batch } else { batch.flush().memset(Page::new(len, 0), value) }
        });
        if count < 3 { batch.linked().into_future() } else { batch.into_future() }
    }

    /// Brings an operation some way, and ends it.
    fn end<V: Verb>(
        &mut self,
        mut operation: Operation<V>,
        leave: impl FnOnce(Operation<V>) -> Left,
        judge: impl FnOnce(Result<V::Buffers, Failed<V::Buffers>>),
    ) {
        if self.random.below(2) == 0 {
            operation = match operation.try_start() {
                Ok(started) => started,
                Err(failed) => return assert_eq!(failed.error, OpError::Full),
            };
        }
        for _ in 0..self.random.below(4) {
            if let Poll::Ready(end) = Pin::new(&mut operation).poll(&mut Context::from_waker(Waker::noop())) {
                return judge(end);
            }
        }
        match self.random.below(8) {
            0 | 1 => drop(operation),
            2 => drop(operation.cancel()),
            3 => judge(self.ring.block_on(operation.cancel()).expect("this thread may block")),
            4 => self.shelf.lock().expect("nobody panics with it").push(leave(operation)),
            5 => judge(loop {
                match Pin::new(&mut operation).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(end) => break end,
                    Poll::Pending => thread::yield_now(),
                }
            }),
            _ => judge(self.ring.block_on(operation).expect("this thread may block")),
        }
    }

    fn find(&mut self, left: Option<Left>) {
        let drops = self.random.below(2) == 0;
        match left {
            None => {}
            Some(left) if drops => drop(left),
            Some(Left::Copy(copy, value)) => is_copied(self.ring.block_on(copy).expect("it may"), value),
            Some(Left::Set(set, value)) => is_set(self.ring.block_on(set).expect("it may"), value),
            Some(Left::Batch(batch, value)) => is_done(self.ring.block_on(batch).expect("it may"), value),
        }
    }

    /// A scope on memory that is freed when it has ended, by a panic or not.
    fn scope(&mut self, value: u8) {
        let len = 1 + self.random.below(20_000);
        let (mut dst, src) = (Page::new(len, 0), Page::new(len, value));
        let panics = self.random.below(3) == 0;
        let end = catch_unwind(AssertUnwindSafe(|| {
            self.ring.scope(|s| {
                dst.0.chunks_mut(700).zip(src.0.chunks(700)).for_each(|(to, from)| s.memcpy(to, from));
                if panics {
                    resume_unwind(Box::new("as the test wants it"));
                }
            })
        }));
        assert!(end.map_or(panics, |end| end.is_ok()));
        assert!(dst.is_all(value), "wrong bytes after a scope");
    }
}

fn is_copied(end: Result<(Page, Page), Failed<(Page, Page)>>, value: u8) {
    match end {
        Ok((dst, src)) => assert!(dst.is_all(value) && src.is_all(value), "wrong bytes after a copy"),
        Err(failed) => assert_eq!(failed.error, OpError::Cancelled),
    }
}

fn is_set(end: Result<Page, Failed<Page>>, value: u8) {
    match end {
        Ok(page) => assert!(page.is_all(value), "wrong bytes after a set"),
        Err(failed) => assert!([Status::CANCELLED, Status::JOB_CORRUPTED].contains(&failed.error.status())),
    }
}

type Done = Vec<(Page, Option<Page>)>;

fn is_done(end: Result<Done, Failed<Done>>, value: u8) {
    match end {
        Ok(done) => assert!(done.iter().all(|(page, _)| page.is_all(value)), "wrong bytes after a batch"),
        Err(failed) => assert_eq!(failed.error, OpError::Cancelled),
    }
}

fn drops(builder: RingBuilder, entries: usize) {
    let seed = seed();
    let ring = builder.entries(entries).build().expect("a ring");
    let keeper = ring.mover("keeper");
    let shelf = Mutex::new(Vec::new());
    thread::scope(|threads| {
        for number in 0..THREADS {
            let thread = Thread { ring: ring.clone(), keeper, shelf: &shelf, random: Random::new(seed ^ number) };
            threads.spawn(move || thread.run());
        }
        // Whoever is last drops it, or what lies on the shelf does.
        drop(ring);
    });
}

/// With two work queues of DSA in software, at their worst, in the place of the keeper.
fn with_dsa(drive: Drive, entries: usize) {
    let (device, queue) = (Preset::V2Full.capabilities(), WorkQueueCapabilities::new(Mode::Dedicated, 4));
    let portal = |seed| ModelPortal::new(device, queue, Settings::hostile(seed)).with_turn(1);
    let dsa = Dsa::new((0..2).map(|seed| portal(seed).into())).expect("there are two");
    drops(Ring::builder().workers(1).mover("keeper", drive, move || dsa.mover()), entries);
}

const SCENARIOS: &[harness::Scenario] = &[
    ("inline_64", || drops(Ring::builder().workers(0).inline_max(usize::MAX), 64)),
    ("caller_driven_8", || drops(Ring::builder().workers(0), 8)),
    ("caller_driven_in_parts_64", || drops(Ring::builder().workers(0).poll_budget(4096), 64)),
    ("one_worker_8", || drops(Ring::builder().workers(1), 8)),
    ("one_worker_64", || drops(Ring::builder().workers(1).inline_max(0), 64)),
    ("two_workers_8", || drops(Ring::builder().workers(2), 8)),
    ("two_workers_64", || drops(Ring::builder().workers(2), 64)),
    ("reaper_thread_8", || drops(Ring::builder().workers(1).reaper_thread(), 8)),
    ("reaper_alone_64", || drops(Ring::builder().workers(0).reaper_thread(), 64)),
    ("kept_by_threads_8", || {
        drops(Ring::builder().workers(1).mover("keeper", Drive::Threads(2), Keeper::new), 8);
    }),
    ("kept_by_the_caller_64", || {
        drops(Ring::builder().workers(1).mover("keeper", Drive::Caller, Keeper::new), 64);
    }),
    ("dsa_by_threads_64", || with_dsa(Drive::Threads(2), 64)),
    ("dsa_by_the_caller_8", || with_dsa(Drive::Caller, 8)),
];

fn main() -> ExitCode {
    harness::main(SCENARIOS, must_end)
}
