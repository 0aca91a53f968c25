//! memring on trial: a region of a ring, in each way that it has to the disk.
#![expect(unsafe_code, reason = "registers a raw mapping")]

use std::fs::File;
use std::future::IntoFuture;
use std::io;
use std::ops::Range;

use memmap2::MmapRaw;
use memring::queue::Drive;
use memring::{Failed, MappedFile, OpError, Region, Ring, RingBuilder, Span, Status};

use super::log::{Durably, Kind};

pub(crate) const BY_URING: Kind =
    Kind { name: "memring, by io_uring", open: |file| Log::open(file, Ring::builder().workers(1)) };

pub(crate) const BY_FDATASYNC: Kind =
    Kind { name: "memring, by fdatasync", open: |file| Log::open(file, Ring::builder().workers(1).io_uring(false)) };

pub(crate) const BY_CALLERS: Kind = Kind {
    name: "memring, driven by callers",
    open: |file| Log::open(file, Ring::builder().workers(0).flush_drive(Drive::Caller)),
};

struct Log {
    ring: Ring,
    region: Region,
    /// Last, so that it is unmapped when nothing is in flight any more.
    _mapping: MmapRaw,
}

impl Log {
    fn open(file: &File, builder: RingBuilder) -> io::Result<Box<dyn Durably>> {
        let mapping = MmapRaw::map_raw(file)?;
        let ring = builder.build().map_err(io::Error::other)?;
        // SAFETY: it stays mapped longer than the ring is there.
        let mapped = unsafe { MappedFile::from_raw(file, mapping.as_mut_ptr(), mapping.len(), 0) };
        let region = ring.register(mapped).map_err(io::Error::other)?;
        Ok(Box::new(Self { ring, region, _mapping: mapping }))
    }

    fn span(&self, at: usize, len: usize) -> io::Result<Span> {
        self.region.span(at..at + len).map_err(io::Error::other)
    }

    /// Waits for an operation, and says as the system would what became of it.
    fn run<B: Send>(&self, operation: impl Future<Output = Result<B, Failed<B>>>) -> io::Result<()> {
        let end = self.ring.block_on(operation).map_err(io::Error::other)?;
        end.map(drop).map_err(|failed| match failed.error {
            OpError::Mover(Status::IO, errno) => io::Error::from_raw_os_error(errno.cast_signed()),
            error => io::Error::other(error),
        })
    }
}

impl Durably for Log {
    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.run(self.ring.memcpy(self.span(at, bytes.len())?, bytes.to_vec()).durable())
    }

    fn flush(&self, range: Range<usize>) -> io::Result<()> {
        self.run(self.ring.flush_in(&self.region, range))
    }

    fn publish(&self, at: usize, bytes: &[u8], word_at: usize, word: u64) -> io::Result<()> {
        let record = self.ring.batch().memcpy(self.span(at, bytes.len())?, bytes.to_vec());
        let both = record.memcpy(self.span(word_at, 8)?, word.to_le_bytes().to_vec());
        self.run(both.linked().into_future().durable())
    }

    fn clear_error(&self) -> Option<i32> {
        self.region.clear_error()
    }
}
