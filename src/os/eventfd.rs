//! Waking a reactor: a descriptor that becomes readable.
//!
//! Source: eventfd(2). The counter saturates only after 2^64 - 2 signals, so a loop that never reads it is right too,
//! if its epoll is edge-triggered.
#![expect(unsafe_code, reason = "eventfd has no safe wrapper in libc or std")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A non-blocking eventfd, closed on exec.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// One that somebody else has made.
    pub(crate) fn from_owned(fd: OwnedFd) -> Self {
        Self(File::from(fd))
    }

    /// Makes it readable.
    pub(crate) fn signal(&self) {
        // The only error is EAGAIN at a saturated counter: then it is readable already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        // The only error is EAGAIN: then it was unreadable already.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
