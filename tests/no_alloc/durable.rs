//! Rounds of durable operations: flushes, durable copies inline and by a worker, chains, and failures.
#![expect(unsafe_code, reason = "maps a file, and pushes entries")]

use std::fs::File;

use memmap2::MmapMut;
use memring::queue::{Builder, CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{MappedFile, OpFlags, Region, Sqe};

use super::{ROUNDS, calls_during, until_others_sleep};

const PAGE: usize = 4096;
const PAGES: usize = 32;

struct Queue {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    region: Region,
    sqes: Vec<Sqe>,
}

fn file() -> File {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    file.set_len((PAGES * PAGE) as u64).expect("its length");
    file
}

impl Queue {
    fn new(builder: Builder) -> Self {
        let (sq, cq) = builder.entries(64).inline_max(100).build().expect("a queue").split();
        let file = file();
        // SAFETY: the file is this test's own.
        let map = Box::leak(Box::new(unsafe { MmapMut::map_mut(&file).expect("a mapping") }));
        // SAFETY: it stays mapped, and nobody else has it.
        let mapped = unsafe { MappedFile::from_raw(&file, map.as_mut_ptr(), map.len(), 0) };
        let region = sq.register(mapped).expect("a region");
        let at = |page: usize| region.as_mut_ptr().wrapping_add(page * PAGE);
        let durable = |page: usize, len| Sqe::memset(at(page), 1, len).flags(OpFlags::MEM_DURABLE);
        let mut sqes: Vec<Sqe> = (0..8).map(|page| Sqe::flush_in(&region, page * PAGE..(page + 1) * PAGE)).collect();
        sqes.extend((8..16).map(|page| durable(page, if page % 2 == 0 { 64 } else { PAGE })));
        sqes.extend([durable(16, 64).link(), durable(17, PAGE).link(), Sqe::flush(at(18), PAGE)]);
        Self { sq, cq, region, sqes }
    }

    fn round(&mut self, fails: bool) {
        if fails {
            self.region.inject_failure(5);
        }
        // SAFETY: the region's bytes, which nobody else has.
        unsafe { self.sq.push_batch(&self.sqes) }.expect("room");
        self.sq.submit();
        let mut ended = 0;
        while ended < self.sqes.len() {
            self.cq.wait(1, None).expect("no fork");
            ended += self.cq.drain().count();
        }
        assert_eq!(self.region.clear_error().is_some(), fails);
    }
}

pub(crate) fn durable_operations() {
    let builders: [fn() -> Builder; 4] = [
        || QueuePair::builder().workers(1),
        || QueuePair::builder().workers(0),
        || QueuePair::builder().workers(0).flush_drive(Drive::Caller),
        || QueuePair::builder().workers(1).io_uring(false),
    ];
    for builder in builders {
        let mut queue = Queue::new(builder());
        // The first flush of a queue makes room for all that will be.
        (0..20).for_each(|round| queue.round(round == 5));
        until_others_sleep();
        let calls = calls_during(|| (0..ROUNDS / 10).for_each(|round| queue.round(round % 4 == 0)));
        assert_eq!(calls, 0, "calls of the allocator, {builder:?}");
    }
}
