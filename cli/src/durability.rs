//! The seam: everything that the command asks of memring's durability, so that one file knows how it is spelled.
#![expect(unsafe_code, reason = "vouches for who uses the files that it maps")]

use std::fs::{self, File};
use std::io;

use memmap2::{MmapOptions, MmapRaw};
use memring::queue::{FlushMethod, Stats, SubmissionQueue};
use memring::{Cqe, MappedFile, OpError, OpFlags, Ring, Sqe, Status};

use crate::failure::{Failure, reason};

/// A file's mapping that durable entries may name.
#[derive(Debug)]
pub(crate) struct Region(memring::Region);

impl Region {
    /// Makes the mapping of this file, from its beginning, known to the queue.
    pub(crate) fn register(sq: &mut SubmissionQueue, file: &File, mapping: MmapRaw) -> Result<Self, Failure> {
        // SAFETY: nobody takes a span of it.
        let mapped = unsafe { MappedFile::from_mmap_raw(file, mapping, 0) };
        sq.register(mapped).map(Self).map_err(|error| Failure::new(error.to_string()))
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The same entry, whose destination is in this region, complete only when that is on stable storage.
    pub(crate) fn durable(&self, entry: Sqe) -> Sqe {
        entry.flags(OpFlags::MEM_DURABLE).within(&self.0)
    }
}

/// How many fsyncs memring has made.
pub(crate) fn fsyncs(stats: &Stats) -> u64 {
    stats.fsyncs
}

/// What the system said of the fsync that this completion waited for, if it failed.
pub(crate) fn failed_fsync(cqe: &Cqe) -> Option<io::Error> {
    failed(cqe.status(), cqe.value())
}

fn failed(status: Status, errno: u32) -> Option<io::Error> {
    (status == Status::IO).then(|| io::Error::from_raw_os_error(errno.cast_signed()))
}

/// A part of a file to which many threads append, each record durable when `append` returns.
#[derive(Debug)]
pub(crate) struct Appender {
    region: memring::Region,
    ring: Ring,
}

impl Appender {
    /// For so many threads at a time, on the bytes of this part of the file, which exist. No record is longer than
    /// `record_max`: the appending thread copies it by itself, as it would for a write.
    pub(crate) fn new(
        file: &File,
        offset: u64,
        len: usize,
        record_max: usize,
        threads: usize,
    ) -> Result<Self, Failure> {
        let said = |error: &dyn std::error::Error| Failure::new(error.to_string());
        let mapping = MmapOptions::new().offset(offset).len(len).map_raw(file);
        let mapping = mapping.map_err(|error| Failure::new(format!("cannot map the log: {}", reason(&error))))?;
        let mut builder = Ring::builder().entries(threads).workers(1).inline_max(record_max);
        if cfg!(target_arch = "x86_64") {
            // Somebody may cut the file short.
            builder = builder.fault_guard();
        }
        let ring = builder.build().map_err(|error| said(&error))?;
        // SAFETY: the log is this command's own, of a name that nobody else knows; each thread has its own part. Who
        // finds it nevertheless and cuts it short meets the fault guard.
        let mapped = unsafe { MappedFile::from_mmap_raw(file, mapping, offset) };
        let region = ring.register(mapped).map_err(|error| said(&error))?;
        Ok(Self { region, ring })
    }

    /// Puts the record at this offset of the part, and returns it when it is on stable storage. No other thread appends
    /// to the same bytes.
    pub(crate) fn append(&self, at: usize, record: Vec<u8>) -> io::Result<Vec<u8>> {
        let span = self.region.span(at..at + record.len()).map_err(io::Error::other)?;
        let appended = self.ring.block_on(self.ring.memcpy(span, record).durable()).map_err(io::Error::other)?;
        match appended {
            Ok((_, record)) => Ok(record),
            Err(refused) => Err(match refused.error {
                OpError::Mover(status, value) => {
                    failed(status, value).unwrap_or_else(|| io::Error::other(refused.error))
                }
                error => io::Error::other(error),
            }),
        }
    }

    pub(crate) fn fsyncs(&self) -> u64 {
        fsyncs(&self.ring.stats())
    }
}

/// What the kernel says when it is asked for an io_uring, if it refuses.
pub(crate) fn io_uring_refusal() -> Option<io::Error> {
    FlushMethod::refusal()
}

/// How memring makes flushes durable here.
pub(crate) fn flushes_by() -> Result<&'static str, Failure> {
    match FlushMethod::in_use() {
        FlushMethod::IoUring => Ok("io_uring"),
        FlushMethod::Fdatasync => Ok("fdatasync"),
        other => Err(Failure::new(format!("memring flushes by {other:?}, which this command does not know"))),
    }
}

/// The instruction that writes cache lines back, if this CPU has one.
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
