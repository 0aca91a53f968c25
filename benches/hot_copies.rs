//! Many copies of one page: what offloading them gains over a loop of `memcpy`.
//!
//! | group | memory on each side | where it lies |
//! |---|---|---|
//! | 64 pages | 256 KiB | an L2 cache, of either core |
//! | 4096 pages | 16 MiB | the L3 cache, where it is that large |
//! | 65,536 pages | 256 MiB | memory |
//!
//! | contestant | what a round does |
//! |---|---|
//! | memcpy loop | one thread, page by page |
//! | memring, one worker | `push_batch`, `submit`, `wait` for all, which helps: two threads copy; `drain` |
//! | memring, inline | the same on the submitter alone: what the queue costs |
//!
//! Sources and destinations are kept off equal low address bits: at a distance of 256 MiB, and at multiples of 4 KiB,
//! loads and stores of the same copy get into each other's way, for all contestants, but not equally.

mod contest;

use std::hint::black_box;
use std::rc::Rc;

use contest::{Contestant, Entry, Group};
use memring::queue::{CompletionQueue, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Sqe, WORKERS};

const PAGE: usize = 4096;
const PAGES: [usize; 3] = [64, 4096, 65_536];
/// Between the end of the sources and the destinations: an odd number of cache lines, so that no low bits are equal.
const GAP: usize = 65 * PAGE + 33 * 64;

fn main() {
    let groups: Vec<Group> = PAGES
        .into_iter()
        .map(|pages| {
            let work = Rc::new(Work::new(pages));
            let (plain, offloaded, inline) = (Rc::clone(&work), Rc::clone(&work), work);
            Group {
                name: format!("{pages} copies of 4 KiB"),
                operations: pages as u64,
                entries: vec![
                    Entry::new("memcpy loop", move || Plain(Rc::clone(&plain))),
                    Entry::new("memring, one worker", move || Memring::new(&offloaded, WORKERS)),
                    Entry::new("memring, inline", move || Memring::new(&inline, INLINE)),
                ],
            }
        })
        .collect();
    contest::main("hot_copies", &groups);
}

/// The memory of a group. Its contestants use it in turns, one at a time.
struct Work {
    /// Only its address is used, after the beginning: see [`Work::page`].
    base: *mut u8,
    pages: usize,
}

impl Work {
    fn new(pages: usize) -> Self {
        let size = 2 * pages * PAGE + GAP;
        // Written all over, so that every page is there. Never freed: the benchmark ends with the process.
        let memory: &'static mut [u8] = (0..=250).cycle().take(size).collect::<Vec<_>>().leak();
        Self { base: memory.as_mut_ptr(), pages }
    }

    /// Where a page is copied from, and to.
    #[inline]
    fn page(&self, index: usize) -> (*mut u8, *const u8) {
        let src = self.base.wrapping_add(index * PAGE);
        (src.wrapping_add(self.pages * PAGE + GAP), src)
    }

    #[expect(unsafe_code, reason = "looks at memory by address")]
    fn check(&self) {
        for (dst, src) in [0, self.pages / 2, self.pages - 1].map(|index| self.page(index)) {
            // SAFETY: the page lies in the leaked memory, and no contestant is at work.
            let source = unsafe { std::slice::from_raw_parts(src, PAGE) };
            // SAFETY: likewise.
            let destination = unsafe { std::slice::from_raw_parts(dst, PAGE) };
            assert_eq!(source, destination, "not copied");
        }
    }
}

struct Plain(Rc<Work>);

impl Contestant for Plain {
    #[expect(unsafe_code, reason = "memcpy is unsafe")]
    fn round(&mut self) {
        let len = black_box(PAGE);
        for (dst, src) in (0..self.0.pages).map(|index| self.0.page(index)) {
            // SAFETY: both pages lie in the leaked memory, apart from each other, and nobody else is at work.
            unsafe { dst.copy_from_nonoverlapping(src, len) }
        }
    }

    fn check(&mut self) {
        self.0.check();
    }
}

struct Memring {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    work: Rc<Work>,
    batch: Vec<Sqe>,
    on: MoverId,
    rounds: u64,
}

impl Memring {
    fn new(work: &Rc<Work>, on: MoverId) -> Self {
        let pair = QueuePair::builder().entries(work.pages).workers(1).build();
        let (sq, cq) = pair.expect("a queue pair").split();
        let pages = (0..work.pages).map(|index| work.page(index));
        let batch = pages.map(|(dst, src)| Sqe::memcpy(dst, src, PAGE).on(on)).collect();
        Self { sq, cq, work: Rc::clone(work), batch, on, rounds: 0 }
    }
}

impl Contestant for Memring {
    #[expect(unsafe_code, reason = "pushes are unsafe")]
    fn round(&mut self) {
        let count = self.batch.len();
        // SAFETY: the pages lie in the leaked memory, and are touched by nobody else until all is reaped.
        unsafe { self.sq.push_batch(&self.batch) }.expect("room for a batch");
        self.sq.submit();
        assert_eq!(self.cq.wait(count, None), Ok(count));
        for cqe in self.cq.drain() {
            assert!(cqe.status().is_success());
        }
        self.rounds += 1;
    }

    fn check(&mut self) {
        self.work.check();
        let stats = self.cq.stats();
        assert_eq!(stats.mover(self.on).operations, self.rounds * self.batch.len() as u64, "lost: {stats:?}");
    }
}
