//! Groups: flushes of one file that wait together and become one fsync.
//!
//! ```text
//!   a flush comes:     its file has an open group  -> joins it
//!                      none                        -> opens one, which is ready if no fsync of the file is under way
//!   a group begins:    it is open no more; the kernel has the fsync of all that it covers
//!   the fsync is over: all of the group have ended; the file's open group, if there is one, is ready
//!   it has failed:     so have those that wait for the next one
//! ```
//!
//! A flush joins a group only while that is not in the kernel's hands: an fsync that has begun may have passed over a
//! page that was stored after it. So what a later flush covers is synced by a later fsync, and at most one of a file is
//! under way. From the first flush on there is a place for each that there is a credit for, and for each group.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use slab::Slab;

use crate::memory::region::SyncedFile;

/// Groups of flushes, whose tokens are of type `T`.
#[derive(Debug)]
pub(super) struct Groups<T> {
    flushes: Slab<Flush<T>>,
    groups: Slab<Group>,
    /// Groups that may begin, in the order in which they came to it.
    ready: VecDeque<usize>,
}

/// A flush that waits for its group's fsync.
#[derive(Debug)]
struct Flush<T> {
    token: T,
    /// The one that came before it.
    before: Option<usize>,
}

#[derive(Debug)]
struct Group {
    file: Arc<SyncedFile>,
    /// What it covers, in the file.
    bytes: Range<u64>,
    /// Its last flush.
    last: Option<usize>,
    /// How often its fsync has come back undone.
    tries: u32,
}

/// So often is an fsync begun that comes back undone, before that is a failure.
const TRIES: u32 = 100;

impl<T> Groups<T> {
    pub(super) fn new() -> Self {
        Self { flushes: Slab::new(), groups: Slab::new(), ready: VecDeque::new() }
    }

    /// Makes room for so many flushes, if there is none yet: the only call that allocates.
    pub(super) fn reserve(&mut self, entries: usize) {
        if self.flushes.capacity() == 0 {
            self.flushes.reserve_exact(entries);
            self.groups.reserve_exact(entries);
            self.ready.reserve_exact(entries);
        }
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.flushes.is_empty()
    }

    /// A flush of these bytes of a file has come.
    pub(super) fn join(&mut self, file: &Arc<SyncedFile>, bytes: Range<u64>, token: T) {
        let stand = file.stand(|stand| *stand);
        let key = stand.open.unwrap_or_else(|| {
            let group = Group { file: Arc::clone(file), bytes: bytes.clone(), last: None, tries: 0 };
            let key = self.groups.insert(group);
            file.stand(|stand| stand.open = Some(key));
            if !stand.is_syncing {
                self.ready.push_back(key);
            }
            key
        });
        let group = &mut self.groups[key];
        group.bytes = group.bytes.start.min(bytes.start)..group.bytes.end.max(bytes.end);
        group.last = Some(self.flushes.insert(Flush { token, before: group.last }));
    }

    /// The next group that may begin: its key, the file and the bytes to sync. It takes no more flushes.
    pub(super) fn begin(&mut self) -> Option<(usize, Arc<SyncedFile>, Range<u64>)> {
        let key = self.ready.pop_front()?;
        let group = &self.groups[key];
        group.file.stand(|stand| {
            // A group that begins for the second time is open no more, and another one may be.
            stand.open = stand.open.filter(|open| *open != key);
            stand.is_syncing = true;
        });
        Some((key, Arc::clone(&group.file), group.bytes.clone()))
    }

    /// A group that has begun comes back undone: whether it begins again.
    pub(super) fn may_try_again(&mut self, key: usize) -> bool {
        let group = &mut self.groups[key];
        group.tries += 1;
        let may = group.tries < TRIES;
        if may {
            self.ready.push_back(key);
        }
        may
    }

    /// The fsync of a group is over: gives its tokens to `end`, those who came last first, with the errno if it has
    /// failed. Then the file is poisoned, and those who wait for the next one have failed with it.
    pub(super) fn end(&mut self, key: usize, errno: Option<i32>, mut end: impl FnMut(T, Option<i32>)) {
        let group = self.groups.remove(key);
        let file = &group.file;
        let errno = errno.or_else(|| file.injected_failure());
        if let Some(errno) = errno {
            // Before the first of them is told: who hears of it finds the region poisoned.
            file.fail(errno);
        }
        let waiting = file.stand(|stand| {
            stand.is_syncing = false;
            if errno.is_some() { stand.open.take() } else { stand.open }
        });
        self.release(&group, |token| end(token, errno));
        match waiting {
            Some(key) if errno.is_some() => {
                let waiting = self.groups.remove(key);
                self.release(&waiting, |token| end(token, errno));
            }
            Some(key) => self.ready.push_back(key),
            None => {}
        }
    }

    fn release(&mut self, group: &Group, mut end: impl FnMut(T)) {
        let mut next = group.last;
        while let Some(flush) = next.map(|key| self.flushes.remove(key)) {
            end(flush.token);
            next = flush.before;
        }
    }
}
