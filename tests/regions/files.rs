//! Mapped files of the tests, and the queues that they are registered with.
#![expect(unsafe_code, reason = "maps files, and pushes raw entries")]

use std::fs::File;

use memmap2::MmapMut;
use memring::queue::{Builder, CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{Cqe, MappedFile, Region, Sqe};

pub(crate) const PAGE: usize = 4096;

/// A file on a disk, or so the build's folder is.
pub(crate) fn file(len: usize) -> File {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(len as u64).unwrap();
    file
}

/// A mapping of it, which is never unmapped: whatever a test does, its addresses stay.
pub(crate) fn map(file: &File) -> &'static mut [u8] {
    // SAFETY: the file is this test's own.
    let mapping = Box::leak(Box::new(unsafe { MmapMut::map_mut(file).unwrap() }));
    &mut mapping[..]
}

/// All of a file, mapped.
pub(crate) fn mapped(file: &File) -> MappedFile {
    let mapping = map(file);
    // SAFETY: it stays mapped, and nobody else has it.
    unsafe { MappedFile::from_raw(file, mapping.as_mut_ptr(), mapping.len(), 0) }
}

/// A way to make durable, and its name for a failure's message.
pub(crate) type Way = (&'static str, fn() -> Builder);

pub(crate) const WAYS: [Way; 5] = [
    ("a thread", || QueuePair::builder().workers(1)),
    ("a thread, nobody else", || QueuePair::builder().workers(0)),
    ("the caller", || QueuePair::builder().workers(0).flush_drive(Drive::Caller)),
    ("the caller, beside a worker", || QueuePair::builder().workers(1).flush_drive(Drive::Caller)),
    ("fdatasync", || QueuePair::builder().workers(1).io_uring(false)),
];

/// A queue with a region.
pub(crate) struct Queue {
    pub(crate) sq: SubmissionQueue,
    pub(crate) cq: CompletionQueue,
    pub(crate) region: Region,
}

impl Queue {
    pub(crate) fn new(builder: Builder, pages: usize) -> Self {
        let (sq, cq) = builder.build().unwrap().split();
        let region = sq.register(mapped(&file(pages * PAGE))).unwrap();
        Self { sq, cq, region }
    }

    pub(crate) fn at(&self, page: usize) -> *mut u8 {
        self.region.as_mut_ptr().wrapping_add(page * PAGE)
    }

    /// Runs entries, and gives their ends in the order in which they come.
    pub(crate) fn run(&mut self, sqes: &[Sqe]) -> Vec<Cqe> {
        // SAFETY: each entry names memory of the region, or that outlives this call, once.
        unsafe { self.sq.push_batch(sqes) }.unwrap();
        self.sq.submit();
        let mut ends = Vec::new();
        while ends.len() < sqes.len() {
            self.cq.wait(1, None).unwrap();
            ends.extend(self.cq.drain());
        }
        ends
    }
}
