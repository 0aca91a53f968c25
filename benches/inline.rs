//! The inline path: what an entry costs when no other thread is involved.
//!
//! 32 copies of 64 bytes in the L1 cache, so the copying is next to nothing and the rest is ours: check, route, credit,
//! stage, gate, execute, completion, drain. The rival is a bare loop of `memcpy` over the same regions.
//!
//! The regions (destination, source, length) lie in a table that every contestant reads, and that went through
//! `black_box`: nobody knows a length or an address before it runs, so nobody's `memcpy` becomes two vector moves.
//!
//! | contestant | what a round does |
//! |---|---|
//! | plain memcpy | 32 calls of `memcpy` |
//! | push_batch | one `push_batch` of 32 entries made beforehand, `submit`, `drain` |
//! | push | 32 entries made and pushed one by one, `submit`, `drain` |
//! | caller-driven | as `push_batch`, on a queue without workers: through the lane, executed inside `drain` |
//!
//! Every completion is looked at. memring's statistics must say that the thread did everything itself.

mod contest;

use std::hint::black_box;

use contest::{Contestant, Entry, Group};
use memring::queue::{CompletionQueue, Driver, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Sqe, WORKERS};

const COPIES: usize = 32;
const LEN: usize = 64;
/// Keeps destinations and sources in different sets of the L1 cache: it has 64 sets of 64 bytes.
const GAP: usize = LEN * COPIES;

fn main() {
    let group = Group {
        name: format!("{COPIES} copies of {LEN} bytes"),
        operations: COPIES as u64,
        entries: vec![
            Entry::new("plain memcpy", Plain::new),
            Entry::new("memring, push_batch", || Memring::new(INLINE, Pushing::Batch)),
            Entry::new("memring, push", || Memring::new(INLINE, Pushing::OneByOne)),
            Entry::new("memring, caller-driven", || Memring::new(WORKERS, Pushing::Batch)),
        ],
    };
    contest::main("inline", &[group]);
}

/// One copy to be made.
#[derive(Clone, Copy)]
struct Copy {
    dst: *mut u8,
    src: *const u8,
    len: usize,
}

/// The copies of a round, and the memory that they name.
struct Work {
    memory: Vec<u8>,
    copies: Vec<Copy>,
}

impl Work {
    fn new() -> Self {
        let mut memory: Vec<u8> = (0..=250).cycle().take(2 * GAP).collect();
        // One pointer for both sides, so that making the next does not end the one before.
        let base = memory.as_mut_ptr();
        let copy = |index| {
            let src = base.wrapping_add(index * LEN);
            black_box(Copy { dst: src.wrapping_add(GAP), src, len: LEN })
        };
        let copies = (0..COPIES).map(copy).collect();
        Self { memory, copies }
    }

    fn check(&self) {
        assert_eq!(self.memory[..GAP], self.memory[GAP..], "not copied");
    }
}

struct Plain(Work);

impl Plain {
    fn new() -> Self {
        Self(Work::new())
    }
}

impl Contestant for Plain {
    #[expect(unsafe_code, reason = "memcpy is unsafe")]
    fn round(&mut self) {
        for copy in black_box(&self.0.copies) {
            // SAFETY: both regions lie in the work's memory, apart from each other.
            unsafe { copy.dst.copy_from_nonoverlapping(copy.src, copy.len) }
        }
    }

    fn check(&mut self) {
        self.0.check();
    }
}

#[derive(PartialEq)]
enum Pushing {
    Batch,
    OneByOne,
}

struct Memring {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    work: Work,
    batch: Vec<Sqe>,
    on: MoverId,
    pushing: Pushing,
    rounds: u64,
}

impl Memring {
    fn new(on: MoverId, pushing: Pushing) -> Self {
        let (sq, cq) = QueuePair::builder().workers(0).build().expect("a queue pair").split();
        let work = Work::new();
        let batch = work.copies.iter().map(|copy| Sqe::memcpy(copy.dst, copy.src, copy.len).on(on)).collect();
        Self { sq, cq, work, batch, on, pushing, rounds: 0 }
    }
}

impl Contestant for Memring {
    #[expect(unsafe_code, reason = "pushes are unsafe")]
    fn round(&mut self) {
        match self.pushing {
            // SAFETY: the regions live as long as the queue, and are touched by nobody until all is reaped.
            Pushing::Batch => unsafe { self.sq.push_batch(black_box(&self.batch)) }.expect("room for a batch"),
            Pushing::OneByOne => {
                for copy in black_box(&self.work.copies) {
                    let sqe = Sqe::memcpy(copy.dst, copy.src, copy.len).on(self.on);
                    // SAFETY: as above.
                    unsafe { self.sq.push(sqe) }.expect("room for a batch");
                }
            }
        }
        self.sq.submit();
        let mut back = 0;
        for cqe in self.cq.drain() {
            assert!(cqe.status().is_success());
            back += 1;
        }
        assert_eq!(back, COPIES);
        self.rounds += 1;
    }

    fn check(&mut self) {
        self.work.check();
        let who = if self.on == INLINE { Driver::Submitter } else { Driver::Caller };
        let stats = self.cq.stats();
        let by_itself = stats.driver(self.on, who).map(|driver| driver.operations);
        assert_eq!(by_itself, Some(self.rounds * COPIES as u64), "somebody else worked: {stats:?}");
    }
}
