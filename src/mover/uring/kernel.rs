//! The kernel's side: fsyncs by io_uring, or one after the other by fdatasync where that is not allowed.
//!
//! Sources: io_uring_enter(2) (IORING_OP_FSYNC: the range is `off` and `len`, of which `len` is 32 bits wide, and 0
//! with 0 means all of the file), io_uring_setup(2) (ENOSYS, EPERM, the sysctl `io_uring_disabled`).
#![expect(unsafe_code, reason = "pushes entries to an io_uring, which name descriptors and no memory")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Instant;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Fsyncs that can be under way: one a file. What is more waits.
const MOST: u32 = 64;
/// Room for all of them, and for the watch of the bell, should the kernel take none.
const ENTRIES: u32 = 2 * MOST;
/// The completion that says that the driver's bell has rung, or may have.
const BELL: u64 = u64::MAX;

/// The way of syncing.
pub(super) enum Kernel {
    Uring(Box<Uring>),
    /// An fsync blocks whoever begins it, and its end is told by the next look.
    Fdatasync(Option<(usize, io::Result<()>)>),
}

/// An io_uring of fsyncs.
pub(super) struct Uring {
    ring: IoUring,
    under_way: u32,
    /// Not handed over yet.
    is_unsubmitted: bool,
    /// The kernel watches the bell's descriptor.
    is_watching: bool,
    /// It says that it cannot, since it is too old (before 5.13).
    cannot_watch: bool,
}

/// How a group's fsync ended.
pub(super) enum Outcome {
    Synced,
    Failed(i32),
    /// It was not done, and says nothing of the file: its thread ended, or a signal came.
    NotDone(i32),
}

/// Why this process must not use io_uring, if it must not. What will not change is asked of the kernel once.
pub(super) fn refusal() -> Option<i32> {
    static REFUSAL: OnceLock<Option<i32>> = OnceLock::new();
    if let Some(&known) = REFUSAL.get() {
        return known;
    }
    let refusal = IoUring::new(1).err().map(|error| error.raw_os_error().unwrap_or(libc::ENOSYS));
    if matches!(refusal, None | Some(libc::ENOSYS | libc::EPERM)) {
        return *REFUSAL.get_or_init(|| refusal);
    }
    refusal
}

impl Kernel {
    /// An io_uring, if it may be, and the kernel gives one; its completions make `signal` readable.
    pub(super) fn open(uses_uring: bool, signal: Option<BorrowedFd<'_>>) -> Self {
        let ring = if uses_uring && refusal().is_none() { Uring::new(signal).ok() } else { None };
        ring.map_or(Self::Fdatasync(None), |ring| Self::Uring(Box::new(ring)))
    }

    /// Whether an fsync may be given to it now.
    pub(super) fn has_room(&mut self) -> bool {
        match self {
            Self::Uring(uring) => uring.under_way < MOST,
            Self::Fdatasync(end) => end.is_none(),
        }
    }

    /// Syncs these bytes of a file, on behalf of a group.
    pub(super) fn sync(&mut self, group: usize, file: &File, bytes: &Range<u64>) {
        match self {
            Self::Uring(uring) => uring.push_fsync(group, file, bytes),
            Self::Fdatasync(end) => *end = Some((group, file.sync_data())),
        }
    }

    /// Hands over what was given to it. False: the kernel does not take it now; try again.
    pub(super) fn submit(&mut self) -> bool {
        let Self::Uring(uring) = self else { return true };
        if uring.is_unsubmitted {
            let submitted = uring.ring.submit();
            uring.is_unsubmitted = submitted.is_err() || !uring.ring.submission().is_empty();
        }
        !uring.is_unsubmitted
    }

    /// A group whose fsync is over.
    pub(super) fn next_end(&mut self) -> Option<(usize, Outcome)> {
        match self {
            Self::Uring(uring) => uring.next_end(),
            Self::Fdatasync(end) => end.take().map(|(group, result)| {
                let errno = result.err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
                (group, Outcome::of(errno))
            }),
        }
    }

    /// Blocks until an fsync is over, `bell` is readable, or the deadline has passed; or less long. False: there is
    /// nothing here to wait for.
    pub(super) fn wait(&mut self, bell: BorrowedFd<'_>, deadline: Option<Instant>) -> bool {
        let Self::Uring(uring) = self else { return false };
        if uring.cannot_watch {
            return false;
        }
        // A signal, or a kernel that is short of something: the caller looks again.
        let _early = uring.wait(bell, deadline);
        true
    }
}

impl Outcome {
    fn of(errno: Option<i32>) -> Self {
        match errno {
            None => Self::Synced,
            Some(errno @ (libc::ECANCELED | libc::EINTR | libc::EAGAIN)) => Self::NotDone(errno),
            Some(errno) => Self::Failed(errno),
        }
    }
}

impl Uring {
    fn new(signal: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let ring = IoUring::new(ENTRIES)?;
        if let Some(signal) = signal {
            ring.submitter().register_eventfd(signal.as_raw_fd())?;
        }
        Ok(Self { ring, under_way: 0, is_unsubmitted: false, is_watching: false, cannot_watch: false })
    }

    fn push_fsync(&mut self, group: usize, file: &File, bytes: &Range<u64>) {
        let fsync = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC);
        // A range that is too long for it, or that would mean another: all of the file.
        let fsync = match u32::try_from(bytes.end - bytes.start) {
            Ok(len @ 1..) => fsync.offset(bytes.start).len(len),
            _ => fsync,
        };
        (self.under_way, self.is_unsubmitted) = (self.under_way + 1, true);
        self.push(&fsync.build().user_data(group as u64));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry names a descriptor that stays open until it has completed: the group holds the file, and
        // the bell's is its station's, which outlives the mover. It names no memory.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // There is room for all that is ever under way, once the kernel has taken it.
            let _again = self.ring.submit();
        }
    }

    fn next_end(&mut self) -> Option<(usize, Outcome)> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() == BELL {
                self.is_watching = cqueue::more(entry.flags());
                self.cannot_watch = entry.result() < 0;
                continue;
            }
            self.under_way -= 1;
            let group = usize::try_from(entry.user_data()).expect("it was an index");
            return Some((group, Outcome::of((entry.result() < 0).then(|| -entry.result()))));
        }
    }

    fn wait(&mut self, bell: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<()> {
        if !self.is_watching {
            let watch = opcode::PollAdd::new(Fd(bell.as_raw_fd()), libc::POLLIN as u32).multi(true);
            self.push(&watch.build().user_data(BELL));
            self.is_watching = true;
        }
        let Some(deadline) = deadline else { return self.ring.submit_and_wait(1).map(drop) };
        let timeout = Timespec::from(deadline.saturating_duration_since(Instant::now()));
        let args = SubmitArgs::new().timespec(&timeout);
        match self.ring.submitter().submit_with_args(1, &args) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            waited => waited.map(drop),
        }
    }
}
