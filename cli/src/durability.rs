//! The seam: everything that the command asks of memring's durability, so that one file knows how it is spelled.
//!
//! STUB: memring's regions and durable flushes are not there yet. Until they are, copies are made durable by the last
//! fsync of `memring cp --durable` alone, the third contestant of `memring log` is one `fdatasync` a record, and what
//! `memring info` says of memring is found here. What each function is to become stands beside it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use io_uring::IoUring;
use memmap2::MmapRaw;
use memring::queue::{Stats, SubmissionQueue};
use memring::{Cqe, Sqe, Status};

use crate::failure::{Failure, reason};

/// A file's mapping that durable entries may name.
#[derive(Debug)]
pub(crate) struct Region(MmapRaw);

impl Region {
    /// Makes the mapping of this file, from its beginning, known to the queue.
    ///
    /// To become `sq.register(MappedFile::new(file, mapping, 0))`; the error says by itself what is wrong.
    pub(crate) fn register(_sq: &mut SubmissionQueue, _file: &File, mapping: MmapRaw) -> Result<Self, Failure> {
        Ok(Self(mapping))
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The same entry, whose destination is in this region, complete only when that is on stable storage.
    ///
    /// To become `entry.flags(OpFlags::MEM_DURABLE)`, with the region's name if an entry can bear one.
    pub(crate) fn durable(&self, entry: Sqe) -> Sqe {
        entry
    }
}

/// How many fsyncs memring has made.
///
/// To become `stats.mover(URING).batches`.
pub(crate) fn fsyncs(_stats: &Stats) -> u64 {
    0
}

/// What the system said of the fsync that this completion waited for, if it failed.
pub(crate) fn failed_fsync(cqe: &Cqe) -> Option<io::Error> {
    let errno = i32::try_from(cqe.value()).unwrap_or_default();
    (cqe.status() == Status::IO).then(|| io::Error::from_raw_os_error(errno))
}

/// A part of a file to which many threads append, each record durable when `append` returns.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    offset: u64,
    fsyncs: Mutex<u64>,
}

impl Appender {
    /// For so many threads at a time, on the bytes of this part of the file, which exist. No record is longer than
    /// `record_max`: the appending thread copies it by itself, as it would for a write.
    ///
    /// To become a mapping of the part, and a `Ring` of at least `threads` entries that copies a record on the
    /// appending thread, with the mapping registered.
    pub(crate) fn new(
        file: &File,
        offset: u64,
        _len: usize,
        _record_max: usize,
        _threads: usize,
    ) -> Result<Self, Failure> {
        let file = file.try_clone().map_err(|error| Failure::new(reason(&error)))?;
        Ok(Self { file, offset, fsyncs: Mutex::default() })
    }

    /// Puts the record at this offset of the part, and returns it when it is on stable storage. No other thread appends
    /// to the same bytes.
    ///
    /// To become `ring.block_on(ring.memcpy(region.span(at..at + record.len())?, record).durable())`.
    pub(crate) fn append(&self, at: usize, record: Vec<u8>) -> io::Result<Vec<u8>> {
        self.file.write_all_at(&record, self.offset + at as u64)?;
        self.file.sync_data()?;
        *self.fsyncs.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Ok(record)
    }

    pub(crate) fn fsyncs(&self) -> u64 {
        *self.fsyncs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel says when it is asked for an io_uring, if it refuses.
///
/// The answer yes or no is to come from `memring::uring_is_allowed()`; why, from the system itself as here.
pub(crate) fn io_uring_refusal() -> Option<io::Error> {
    IoUring::new(1).err()
}

/// How memring makes flushes durable here.
///
/// To become the words for `QueuePair::builder().entries(1).workers(0).build()?.flushes_by()`.
pub(crate) fn flushes_by() -> Result<&'static str, Failure> {
    Ok(if io_uring_refusal().is_none() { "io_uring" } else { "fdatasync" })
}

/// The instruction that writes cache lines back, if this CPU has one.
///
/// To become a word of memring's, which has detected it by CPUID.
pub(crate) fn cache_flush() -> Option<&'static str> {
    if cfg!(target_arch = "aarch64") {
        return Some("DC CVAC");
    }
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpus.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    [("clwb", "CLWB"), ("clflushopt", "CLFLUSHOPT"), ("clflush", "CLFLUSH")]
        .into_iter()
        .find_map(|(flag, name)| has(flag).then_some(name))
}
