//! What the kernel says of a file's pages: `cachestat(2)`, from Linux 6.5.
#![expect(unsafe_code, reason = "a system call that neither libc nor rustix wraps")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// The same on all architectures. Source: include/uapi/asm-generic/unistd.h of Linux 6.5.
const SYS_CACHESTAT: libc::c_long = 451;

/// `struct cachestat_range` of include/uapi/linux/mman.h.
#[repr(C)]
struct Bytes {
    off: u64,
    len: u64,
}

/// `struct cachestat` of include/uapi/linux/mman.h: numbers of pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) cached: u64,
    pub(crate) dirty: u64,
    pub(crate) under_writeback: u64,
    pub(crate) evicted: u64,
    pub(crate) recently_evicted: u64,
}

const _: () = assert!(size_of::<Bytes>() == 16 && size_of::<Pages>() == 40);

impl Pages {
    /// Whether no page has anything that the file system was not told to write, or that it is still writing.
    pub(crate) fn are_clean(&self) -> bool {
        (self.dirty, self.under_writeback) == (0, 0)
    }
}

/// The pages of these bytes of the file. A page that is dirty under any mapping of it counts as dirty.
pub(crate) fn cachestat(file: &File, range: Range<usize>) -> io::Result<Pages> {
    let bytes = Bytes { off: range.start as u64, len: range.len() as u64 };
    let mut pages = Pages::default();
    // SAFETY: the kernel reads one live `Bytes` and writes one live `Pages`, whose layouts are its own.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const bytes, &raw mut pages, 0) };
    if result == 0 { Ok(pages) } else { Err(io::Error::last_os_error()) }
}
