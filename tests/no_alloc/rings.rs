//! Rings: awaited, started, in line, in scopes, waited for, driven, with buffers that are used again and again.
//!
//! The warm-up does what the rounds do, until each driver thread has worked: this thread's parker, the places of more
//! operations than there are entries, and a scope's submission queue are made once. What a dropped operation leaves
//! behind is boxed, so none is dropped here while it runs.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use memring::future::Memset;
use memring::queue::{Arm, Drive, Driver};
use memring::{Operation, Ring, RingBuilder};

use super::{Keeper, ROUNDS, calls_during, until_others_sleep};

const ENTRIES: usize = 16;
/// As many again stand in line.
const PAGES: usize = 2 * ENTRIES;
const LEN: usize = 3000;

type Set = Operation<Memset<Vec<u8>>>;

struct Rings {
    ring: Ring,
    pages: Vec<Vec<u8>>,
    sets: Vec<Set>,
    mover: memring::MoverId,
}

impl Rings {
    fn new(builder: RingBuilder, mover: &str) -> Self {
        let ring = builder.entries(ENTRIES).build().expect("a ring");
        let mover = ring.mover(mover).expect("it was added");
        Self { ring, pages: vec![vec![0; LEN]; PAGES], sets: Vec::with_capacity(PAGES), mover }
    }

    /// Begins a set of each page.
    fn begin(&mut self, mut begin: impl FnMut(&Ring, Set) -> Set) {
        while let Some(page) = self.pages.pop() {
            let set = self.ring.memset(page, 1).on(self.mover);
            self.sets.push(begin(&self.ring, set));
        }
    }

    /// Takes back the page of each set.
    fn end(&mut self, mut end: impl FnMut(&Ring, Set) -> Vec<u8>) {
        while let Some(set) = self.sets.pop() {
            self.pages.push(end(&self.ring, set));
        }
    }

    fn block(ring: &Ring, set: Set) -> Vec<u8> {
        ring.block_on(set).expect("this thread may block").unwrap_or_else(|failed| failed.buffers)
    }

    fn poll(set: &mut Set) -> Option<Vec<u8>> {
        match Pin::new(set).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(end) => Some(end.expect("it is possible")),
            Poll::Pending => None,
        }
    }

    fn round(&mut self) {
        // One after the other.
        self.begin(|_, set| set);
        self.end(Self::block);
        // Together, in line, by a reactor that polls.
        self.begin(|_, set| set);
        let mut left = self.sets.len();
        while left > 0 {
            for set in &mut self.sets {
                if let Some(page) = Self::poll(set) {
                    self.pages.push(page);
                    left -= 1;
                }
            }
            if self.ring.arm() != Arm::Armed {
                self.ring.drive(8192);
            }
            self.ring.clear();
            thread::yield_now();
        }
        self.sets.clear();
        // As many as there is room for, and others that are cancelled or refused.
        // (A ring has room for so many cancels that nobody has heard yet.)
        let (mover, mut cancels) = (self.mover, ENTRIES);
        self.begin(|ring, set| match set.try_start() {
            Ok(set) if cancels > 0 => {
                cancels -= 1;
                set.cancel()
            }
            Ok(set) => set,
            Err(full) => ring.memset(full.buffers, 1).on(mover).cancel(),
        });
        self.end(Self::block);
        // Waited for.
        self.begin(|_, set| set.no_cache());
        self.ring.wait_all(&mut self.sets).expect("this thread may block");
        self.end(|_, set| set.into_result().expect("it was waited for").unwrap_or_else(|failed| failed.buffers));
        self.copies();
        self.scope();
    }

    /// The other verbs, by the CPU.
    fn copies(&mut self) {
        let (dst, src) = self.pages.pop().zip(self.pages.pop()).expect("there are many");
        let copy = self.ring.memcpy(dst, src).try_start().unwrap_or_else(|failed| panic!("{}", failed.error));
        let (dst, src) = self.ring.block_on(copy).expect("this thread may block").expect("it is possible");
        let dst = self.ring.block_on(self.ring.memmove(dst, 0..1000, 100)).expect("it may").expect("it can");
        let dst = self.ring.block_on(self.ring.flush(dst)).expect("it may").expect("it can");
        let small = self.ring.block_on(self.ring.memset(src, 1).on(memring::INLINE)).expect("it may").expect("it can");
        self.pages.extend([dst, small]);
    }

    /// More operations than there are entries.
    fn scope(&mut self) {
        let (pages, mover) = (&mut self.pages, self.mover);
        let mut parts = pages.iter_mut().flat_map(|page| page.chunks_mut(600));
        self.ring.scope(|s| parts.by_ref().for_each(|part| s.on(mover).memset(part, 2))).expect("it is possible");
        assert!(self.pages.iter().all(|page| page[LEN - 1] == 2));
    }

    fn is_warm(&self) -> bool {
        let threads = self.ring.stats().drivers;
        threads.iter().all(|stats| stats.operations > 0 || !matches!(stats.driver, Driver::Thread(_)))
    }

    fn run_without_allocating(mut self) {
        let begin = Instant::now();
        (0..3).for_each(|_| self.round());
        while !self.is_warm() {
            assert!(begin.elapsed() < Duration::from_secs(60), "a driver never works: {:?}", self.ring.stats());
            self.round();
        }
        until_others_sleep();
        let calls = calls_during(|| (0..ROUNDS).for_each(|_| self.round()));
        assert_eq!(calls, 0, "calls of the allocator in {ROUNDS} rounds of a ring");
    }
}

pub(crate) fn of_each_drive() {
    let drives: [RingBuilder; 7] = [
        Ring::builder().workers(0).inline_max(usize::MAX),
        Ring::builder().workers(0),
        Ring::builder().workers(0).poll_budget(4096),
        Ring::builder().workers(1),
        Ring::builder().workers(2).inline_max(0).spin(Duration::ZERO),
        Ring::builder().workers(1).reaper_thread(),
        Ring::builder().workers(0).reaper_thread(),
    ];
    drives.into_iter().for_each(|builder| Rings::new(builder, "workers").run_without_allocating());
}

pub(crate) fn with_a_users_mover() {
    for drive in [Drive::Threads(2), Drive::Caller] {
        Rings::new(Ring::builder().workers(1).mover("keeper", drive, Keeper::new), "keeper").run_without_allocating();
    }
}
