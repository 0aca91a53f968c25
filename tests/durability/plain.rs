//! The plain way to be durable, and its mutants: copies, and an fdatasync that all who wait together share.
#![expect(unsafe_code, reason = "copies into mapped memory, and calls sync_file_range")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::{Condvar, Mutex, MutexGuard};

use memmap2::MmapRaw;

use super::log::{Durably, Kind};

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Nothing,
    /// It acknowledges without any fsync.
    FlushesNothing,
    /// An fsync that is under way acknowledges also those who came after it had begun.
    JoinsTheOneInFlight,
    /// The word is stored before what it publishes is durable; one fsync is for both.
    PublishesTooEarly,
    /// It writes the dirty pages, and forgets the file's metadata and the device's own cache.
    WritesPagesOnly,
    /// It tries again after a failed fsync, which then succeeds, and knows of no failure.
    TriesAgain,
    /// Only who led the fsync that failed hears of it, and only once.
    TellsTheLeaderOnly,
    /// It acknowledges before it copies.
    CopiesLater,
}

/// So many records wait to be copied, for [`Flaw::CopiesLater`].
const LATER: usize = 8;

/// The right one.
pub(crate) const PLAIN: Kind =
    Kind { name: "mmap and a shared fdatasync", open: |file| Log::open(file, Flaw::Nothing) };

pub(crate) const FLUSHES_NOTHING: Kind =
    Kind { name: "flush does nothing", open: |file| Log::open(file, Flaw::FlushesNothing) };

pub(crate) const JOINS_THE_ONE_IN_FLIGHT: Kind =
    Kind { name: "acknowledge by the fsync in flight", open: |file| Log::open(file, Flaw::JoinsTheOneInFlight) };

pub(crate) const PUBLISHES_TOO_EARLY: Kind =
    Kind { name: "one fsync for data and word", open: |file| Log::open(file, Flaw::PublishesTooEarly) };

pub(crate) const WRITES_PAGES_ONLY: Kind =
    Kind { name: "sync_file_range", open: |file| Log::open(file, Flaw::WritesPagesOnly) };

pub(crate) const TRIES_AGAIN: Kind =
    Kind { name: "retry a failed fsync", open: |file| Log::open(file, Flaw::TriesAgain) };

pub(crate) const TELLS_THE_LEADER_ONLY: Kind =
    Kind { name: "a failure is the leader's alone", open: |file| Log::open(file, Flaw::TellsTheLeaderOnly) };

pub(crate) const COPIES_LATER: Kind =
    Kind { name: "acknowledge before the copy", open: |file| Log::open(file, Flaw::CopiesLater) };

struct Log {
    mapping: MmapRaw,
    /// Opened anew: errors of writeback are reported once to each open file, so another's fsync takes none of ours.
    file: File,
    group: Mutex<Group>,
    ended: Condvar,
    later: Mutex<Vec<(usize, Vec<u8>)>>,
    flaw: Flaw,
}

/// The fsyncs, which are numbered from one.
#[derive(Default)]
struct Group {
    begun: u64,
    ended: u64,
    is_under_way: bool,
    failures: u64,
    errno: i32,
    is_poisoned: bool,
}

impl Log {
    fn open(file: &File, flaw: Flaw) -> io::Result<Box<dyn Durably>> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = File::options().read(true).write(true).open(path)?;
        let mapping = MmapRaw::map_raw(&file)?;
        Ok(Box::new(Self {
            mapping,
            file,
            group: Mutex::default(),
            ended: Condvar::new(),
            later: Mutex::default(),
            flaw,
        }))
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().expect("nobody panics with it")
    }

    fn copy(&self, at: usize, bytes: &[u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.mapping.len()), "outside of the log");
        let dst = self.mapping.as_mut_ptr().wrapping_add(at);
        // SAFETY: it lies in the mapping, no reference to mapped bytes exists, and no other thread has these bytes.
        unsafe { dst.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn copy_or_not_yet(&self, at: usize, bytes: &[u8]) {
        if self.flaw != Flaw::CopiesLater {
            return self.copy(at, bytes);
        }
        let mut later = self.later.lock().expect("nobody panics with it");
        later.push((at, bytes.to_vec()));
        while later.len() > LATER {
            let (at, bytes) = later.remove(0);
            self.copy(at, &bytes);
        }
    }

    fn fsync(&self) -> io::Result<()> {
        match self.flaw {
            Flaw::FlushesNothing => Ok(()),
            Flaw::WritesPagesOnly => self.write_pages(),
            Flaw::TriesAgain => self.file.sync_data().or_else(|_| self.file.sync_data()),
            _ => self.file.sync_data(),
        }
    }

    fn write_pages(&self) -> io::Result<()> {
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        // SAFETY: it takes numbers.
        let result = unsafe { libc::sync_file_range(self.file.as_raw_fd(), 0, 0, all) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits for an fsync that begins after this is called: it leads that, or follows whoever does.
    fn commit(&self) -> io::Result<()> {
        let mut group = self.group();
        let joins = self.flaw == Flaw::JoinsTheOneInFlight && group.is_under_way;
        let mine = if joins { group.begun } else { group.begun + 1 };
        if group.is_poisoned && self.flaw != Flaw::TellsTheLeaderOnly {
            return Err(io::Error::from_raw_os_error(group.errno));
        }
        let failures = group.failures;
        loop {
            if group.failures != failures && self.flaw != Flaw::TellsTheLeaderOnly {
                return Err(io::Error::from_raw_os_error(group.errno));
            }
            if group.ended >= mine {
                return Ok(());
            }
            if group.is_under_way {
                group = self.ended.wait(group).expect("nobody panics with it");
                continue;
            }
            group.is_under_way = true;
            group.begun += 1;
            drop(group);
            let result = self.fsync();
            group = self.group();
            group.is_under_way = false;
            group.ended = group.begun;
            self.ended.notify_all();
            if let Err(error) = result {
                group.failures += 1;
                group.errno = error.raw_os_error().unwrap_or(libc::EIO);
                group.is_poisoned = true;
                return Err(error);
            }
        }
    }
}

impl Durably for Log {
    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.copy_or_not_yet(at, bytes);
        self.commit()
    }

    fn flush(&self, _: Range<usize>) -> io::Result<()> {
        self.commit()
    }

    fn publish(&self, at: usize, bytes: &[u8], word_at: usize, word: u64) -> io::Result<()> {
        if self.flaw == Flaw::PublishesTooEarly {
            self.copy(at, bytes);
        } else {
            self.write(at, bytes)?;
        }
        self.write(word_at, &word.to_le_bytes())
    }

    fn clear_error(&self) -> Option<i32> {
        let mut group = self.group();
        std::mem::take(&mut group.is_poisoned).then_some(group.errno)
    }
}
