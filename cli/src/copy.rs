//! The copying itself: a file's chunks as entries, in batches, through a queue pair that is kept full.
//!
//! ```text
//!   chunks ──fill──▶ batch ──push_batch, submit──▶ queue ──wait, drain──▶ progress, failures
//!                      ▲                             │
//!                      └──── Full: wait until the batch has room ◀────────┘
//! ```
//!
//! A chunk's user data is its offset in the file, so a completion says by itself which bytes it stands for. What is
//! done is counted by completions, never by what was pushed. A page that is missing in either file, because another
//! process cut it short or a disk fails, is a completion too.
//!
//! A durable copy's entries complete when their bytes are on stable storage. So the disk begins with the first chunk,
//! not after the last one, and chunks that wait for it together become one fsync.
#![expect(unsafe_code, reason = "pushes entries that name the two mappings, and has pages mapped ahead")]

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::MmapRaw;
use memring::queue::{BuildError, CompletionQueue, PushError, QueuePair, Stats, SubmissionQueue};
use memring::{MoverId, Sqe, Status};
use rustix::mm::{Advice, madvise};

use crate::durability::{self, Region};
use crate::failed_chunks::FailedChunks;
use crate::failure::Failure;

/// Entries submitted together: enough to make a submit's cost disappear, few enough that workers begin soon.
const BATCH: usize = 64;
/// Pages mapped ahead of the copying, bytes: so many that it pays, so few that none is written back before it is
/// filled.
const AHEAD: usize = 64 << 20;

/// How the copying is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) chunk: usize,
    pub(crate) entries: usize,
    /// The library's default, if none.
    pub(crate) workers: Option<usize>,
    pub(crate) on: MoverId,
}

/// Why a copy is lost.
#[derive(Debug)]
pub(crate) enum Lost {
    /// One of the two files has no page for the byte at this offset.
    MissingPage(u64),
    /// An fsync of the copy failed.
    Unsynced(io::Error),
    Failed(Failure),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The copy's mapping, for writing.
#[derive(Debug)]
pub(crate) enum Target {
    Plain(MmapRaw),
    /// Entries complete when they are on stable storage.
    Durable(Region),
}

impl Target {
    fn as_mut_ptr(&self) -> *mut u8 {
        match self {
            Self::Plain(mapping) => mapping.as_mut_ptr(),
            Self::Durable(region) => region.as_mut_ptr(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(mapping) => mapping.len(),
            Self::Durable(region) => region.len(),
        }
    }

    /// Has the kernel map these pages at once rather than fault by fault.
    fn map_ahead(&self, part: Range<usize>) {
        let page = rustix::param::page_size();
        let begin = part.start - part.start % page;
        let address = self.as_mut_ptr().wrapping_add(begin).cast();
        // SAFETY: the mapping has these bytes, and its first one is a page's. This advice maps pages for writing, and
        // changes no byte. Optional: before Linux 5.14 it is refused, and a page that could not be had is told by the
        // fault.
        let _ = unsafe { madvise(address, part.end - begin, Advice::LinuxPopulateWrite) };
    }
}

/// A queue pair, ready for one copy.
#[derive(Debug)]
pub(crate) struct Copier {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    plan: Plan,
}

impl Copier {
    pub(crate) fn build(plan: Plan) -> Result<Self, Failure> {
        let mut builder = QueuePair::builder().entries(plan.entries);
        if let Some(workers) = plan.workers {
            builder = builder.workers(workers);
        }
        if cfg!(target_arch = "x86_64") {
            // Elsewhere there is none, and a source that shrinks ends the process by SIGBUS.
            builder = builder.fault_guard();
        }
        match builder.build() {
            Ok(pair) => {
                let (sq, cq) = pair.split();
                Ok(Self { sq, cq, plan })
            }
            Err(error @ (BuildError::Entries(_) | BuildError::Workers(_))) => Err(Failure::usage(error.to_string())),
            Err(error) => Err(Failure::new(error.to_string())),
        }
    }

    /// The mapping of this file, from its beginning, as a target whose copies are durable.
    pub(crate) fn durable_target(&mut self, file: &File, mapping: MmapRaw) -> Result<Target, Failure> {
        Region::register(&mut self.sq, file, mapping).map(Target::Durable)
    }

    /// Copies all of `from` to `to`, and says what each mover did. `progress` hears of each chunk that is done.
    ///
    /// The queue ends here, on every path, so that no mover touches a mapping after this has returned.
    pub(crate) fn copy(self, from: &MmapRaw, to: &Target, progress: impl FnMut(u64)) -> Result<Stats, Lost> {
        let len = from.len().min(to.len());
        let batch_max = self.plan.entries.min(BATCH);
        Copying {
            copier: self,
            from,
            to,
            left: 0..len,
            batch: Vec::with_capacity(batch_max),
            batch_max,
            in_flight: 0,
            missing: None,
            unsynced: None,
            failed: FailedChunks::default(),
            progress,
        }
        .run()
    }

    /// What each mover did so far: nothing, for a file without bytes.
    pub(crate) fn stats(&self) -> Stats {
        self.cq.stats()
    }
}

/// A copy under way.
struct Copying<'a, P> {
    copier: Copier,
    from: &'a MmapRaw,
    to: &'a Target,
    /// What is not in a batch yet.
    left: Range<usize>,
    /// Entries that were not pushed yet.
    batch: Vec<Sqe>,
    batch_max: usize,
    /// Operations submitted and not reaped.
    in_flight: usize,
    /// The lowest offset of a page that is not there.
    missing: Option<u64>,
    /// What the system said of the first fsync that failed.
    unsynced: Option<io::Error>,
    failed: FailedChunks,
    progress: P,
}

impl<P: FnMut(u64)> Copying<'_, P> {
    fn run(mut self) -> Result<Stats, Lost> {
        loop {
            self.fill();
            if self.batch.is_empty() && self.in_flight == 0 {
                break;
            }
            let is_full = !self.push()?;
            if is_full || self.left.is_empty() {
                let awaited = self.copier.cq.wait(self.worth_waiting_for(), None);
                awaited.map_err(|error| Failure::new(error.to_string()))?;
            }
            self.reap();
        }
        if let Some(at) = self.missing {
            return Err(Lost::MissingPage(at));
        }
        if let Some(error) = self.unsynced {
            return Err(Lost::Unsynced(error));
        }
        if !self.failed.is_empty() {
            return Err(Failure::new(self.failed.to_string()).into());
        }
        Ok(self.copier.stats())
    }

    /// Makes the next batch, if the last one is gone.
    fn fill(&mut self) {
        if !self.batch.is_empty() || self.left.is_empty() {
            return;
        }
        let bytes = self.copier.plan.chunk.saturating_mul(self.batch_max).min(self.left.len()).min(AHEAD);
        self.to.map_ahead(self.left.start..self.left.start + bytes);
        while !self.left.is_empty() && self.batch.len() < self.batch_max {
            let at = self.left.start;
            let len = self.left.len().min(self.copier.plan.chunk);
            self.left.start += len;
            let (to, from) = (self.to.as_mut_ptr().wrapping_add(at), self.from.as_ptr().wrapping_add(at));
            let entry = Sqe::memcpy(to, from, len).on(self.copier.plan.on).user_data(at as u64);
            self.batch.push(if let Target::Durable(region) = self.to { region.durable(entry) } else { entry });
        }
    }

    /// Pushes the batch and submits it, if the queue has room.
    fn push(&mut self) -> Result<bool, Failure> {
        let sq = &mut self.copier.sq;
        // SAFETY: each entry names bytes inside the two mappings. These are borrowed for longer than `self` lives, and
        // the completion queue is dropped with `self`. The destination is a file of our own that this process maps
        // once; the chunks do not overlap, and nothing reads it before the copy is done. No reference to either is ever
        // made. That another process may write the source meanwhile, as with any file, can tear the bytes, not the
        // program; that it may cut a file short is what the fault guard is for.
        match unsafe { sq.push_batch(&self.batch) } {
            Ok(()) => {
                self.in_flight += sq.submit();
                self.batch.clear();
                Ok(true)
            }
            Err(PushError::Full(_)) => Ok(false),
            Err(error) => Err(Failure::new(error.to_string())),
        }
    }

    /// How many completions make the next step possible: room for the batch, or with no batch left, a batch's worth.
    fn worth_waiting_for(&self) -> usize {
        let free = self.copier.plan.entries - self.in_flight;
        let needed = if self.batch.is_empty() { self.batch_max } else { self.batch.len().saturating_sub(free) };
        needed.clamp(1, self.in_flight.max(1))
    }

    fn reap(&mut self) {
        for cqe in self.copier.cq.drain() {
            self.in_flight -= 1;
            if cqe.status().is_success() {
                let rest = self.from.len() as u64 - cqe.user_data();
                (self.progress)(rest.min(self.copier.plan.chunk as u64));
            } else if cqe.status() == Status::FAULT {
                let at = cqe.user_data() + u64::from(cqe.value());
                self.missing = Some(self.missing.map_or(at, |lowest| lowest.min(at)));
            } else if let Some(error) = durability::failed_fsync(&cqe) {
                self.unsynced.get_or_insert(error);
            } else {
                self.failed.add(cqe.user_data(), cqe.status());
            }
        }
        if self.missing.is_some() || self.unsynced.is_some() || !self.failed.is_empty() {
            // The copy is lost: what is under way is waited for, and nothing more is begun.
            self.left = 0..0;
            self.batch.clear();
        }
    }
}
