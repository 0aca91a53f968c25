//! Who competes: three ways to append a record to a part of the log so that it is durable when the append returns.
//!
//! All three append to the same kind of place: a part of one file, in pages of its own, whose bytes are there already.
//! Only one of them runs at a time, so that no fsync finds another's dirty pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::durability::Appender;
use crate::failure::Failure;

/// A way to append durably, for many threads.
pub(crate) trait Contestant: Sync {
    /// Writes a record at this offset of the part, where no other thread writes, and returns it once it is on stable
    /// storage.
    fn append(&self, at: usize, record: Vec<u8>) -> io::Result<Vec<u8>>;

    /// How many fsyncs that has taken so far.
    fn fsyncs(&self) -> u64;
}

/// Their names, in the order in which [`all`] makes them.
pub(crate) const NAMES: [&str; 3] = ["write+fdatasync", "group commit", "memring"];

/// One of each, for records of at most `record_max` bytes; each has a part of the file of `len` bytes, one after the
/// other.
pub(crate) fn all(
    file: &File,
    len: usize,
    record_max: usize,
    threads: usize,
) -> Result<[Box<dyn Contestant + '_>; 3], Failure> {
    let part = |number: u64| Part { file, offset: number * len as u64 };
    Ok([
        Box::new(Each { part: part(0), fsyncs: Mutex::default() }),
        Box::new(Group { part: part(1), state: Mutex::default(), ended: Condvar::new() }),
        Box::new(Appender::new(file, part(2).offset, len, record_max, threads)?),
    ])
}

/// A part of the log.
struct Part<'a> {
    file: &'a File,
    offset: u64,
}

impl Part<'_> {
    fn write(&self, at: usize, record: &[u8]) -> io::Result<()> {
        self.file.write_all_at(record, self.offset + at as u64)
    }
}

/// Every record by a write and an fdatasync of its own.
struct Each<'a> {
    part: Part<'a>,
    fsyncs: Mutex<u64>,
}

impl Contestant for Each<'_> {
    fn append(&self, at: usize, record: Vec<u8>) -> io::Result<Vec<u8>> {
        self.part.write(at, &record)?;
        self.part.file.sync_data()?;
        *lock(&self.fsyncs) += 1;
        Ok(record)
    }

    fn fsyncs(&self) -> u64 {
        *lock(&self.fsyncs)
    }
}

/// Group commit, as it is usually written: whoever finds no fsync under way makes one for all whose writes are done,
/// the others wait for its end.
struct Group<'a> {
    part: Part<'a>,
    state: Mutex<State>,
    /// An fsync has ended.
    ended: Condvar,
}

/// Records are counted in the order in which their writes ended, so `durable` says of each whether it is.
#[derive(Default)]
struct State {
    written: u64,
    durable: u64,
    is_syncing: bool,
    /// An fsync failed: nothing is durable any more, since the next one may succeed without the lost bytes.
    failed: Option<i32>,
    fsyncs: u64,
}

impl Contestant for Group<'_> {
    fn append(&self, at: usize, record: Vec<u8>) -> io::Result<Vec<u8>> {
        self.part.write(at, &record)?;
        let mut state = lock(&self.state);
        state.written += 1;
        let mine = state.written;
        while state.durable < mine {
            if let Some(errno) = state.failed {
                return Err(io::Error::from_raw_os_error(errno));
            }
            state = if state.is_syncing {
                self.ended.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.lead(state)
            };
        }
        Ok(record)
    }

    fn fsyncs(&self) -> u64 {
        lock(&self.state).fsyncs
    }
}

impl Group<'_> {
    /// Makes everything durable whose write has ended by now.
    fn lead<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.is_syncing = true;
        let covered = state.written;
        drop(state);
        let synced = self.part.file.sync_data();
        let mut state = lock(&self.state);
        state.is_syncing = false;
        state.fsyncs += 1;
        match synced {
            Ok(()) => state.durable = covered,
            Err(error) => state.failed = Some(error.raw_os_error().unwrap_or(libc::EIO)),
        }
        self.ended.notify_all();
        state
    }
}

impl Contestant for Appender {
    fn append(&self, at: usize, record: Vec<u8>) -> io::Result<Vec<u8>> {
        self.append(at, record)
    }

    fn fsyncs(&self) -> u64 {
        self.fsyncs()
    }
}

/// No closure here panics with the lock held, and if one did, the numbers are still numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
