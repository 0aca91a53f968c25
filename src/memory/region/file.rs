//! What the regions of one file share: the descriptor that is synced, whose turn it is, and what has failed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use crate::os::lock;

/// A file of a queue's regions.
///
/// It is opened anew for the queue, never duplicated: the kernel tells of a failed write-back once for each *open* of a
/// file, so a descriptor that somebody else syncs too would hide failures from us, and ours from him.
#[derive(Debug)]
pub(crate) struct SyncedFile {
    file: File,
    stand: Mutex<Stand>,
    trouble: Mutex<Trouble>,
    injected: Mutex<Option<i32>>,
}

/// How far the syncing of a file is: for who syncs it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stand {
    /// The group of flushes that waits for the next fsync, by its key.
    pub(crate) open: Option<usize>,
    /// An fsync is in the kernel's hands.
    pub(crate) is_syncing: bool,
}

#[derive(Debug, Default)]
struct Trouble {
    /// How many fsyncs have failed.
    failures: u64,
    errno: i32,
}

impl SyncedFile {
    pub(super) fn open(file: &File) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let open = |writes| OpenOptions::new().read(true).write(writes).open(&path);
        // For an fsync any descriptor will do; only preallocation needs one that writes.
        let file = open(true).or_else(|_| open(false))?;
        Ok(Self { file, stand: Mutex::default(), trouble: Mutex::default(), injected: Mutex::default() })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Reads or changes how far it is.
    pub(crate) fn stand<R>(&self, f: impl FnOnce(&mut Stand) -> R) -> R {
        f(&mut lock(&self.stand))
    }

    /// Has the next fsync fail, for a test.
    pub(super) fn inject(&self, errno: i32) {
        *lock(&self.injected) = Some(errno);
    }

    /// What the fsync that is over has failed with, if a test wants it.
    pub(crate) fn injected_failure(&self) -> Option<i32> {
        lock(&self.injected).take()
    }

    /// An fsync has failed: all its regions are poisoned.
    pub(crate) fn fail(&self, errno: i32) {
        let mut trouble = lock(&self.trouble);
        trouble.failures += 1;
        trouble.errno = errno;
    }

    /// How many fsyncs have failed so far.
    pub(super) fn failures(&self) -> u64 {
        lock(&self.trouble).failures
    }

    /// The errno of the last failure, if there were more than `forgiven`; and how many there were.
    pub(super) fn error(&self, forgiven: u64) -> (Option<i32>, u64) {
        let trouble = lock(&self.trouble);
        ((trouble.failures > forgiven).then_some(trouble.errno), trouble.failures)
    }
}
