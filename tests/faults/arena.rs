//! Memory of which some pages can be taken away, and given back.
#![expect(unsafe_code, reason = "maps and protects memory, and looks at it by address")]

use std::fs::File;
use std::io::Error;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;

pub(crate) const PAGE: usize = 4096;

/// What is wrong with some pages of an [`Arena`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// From this page on, the file has been cut off: SIGBUS.
    CutFrom(usize),
    /// These pages allow no access: SIGSEGV.
    NoAccess(Range<usize>),
    /// These pages can be read: SIGSEGV for who writes.
    ReadOnly(Range<usize>),
}

impl Trouble {
    pub(crate) fn lets_read(&self, at: usize) -> bool {
        match self {
            Self::CutFrom(page) => at / PAGE < *page,
            Self::NoAccess(pages) => !pages.contains(&(at / PAGE)),
            Self::ReadOnly(_) => true,
        }
    }

    pub(crate) fn lets_write(&self, at: usize) -> bool {
        match self {
            Self::ReadOnly(pages) => !pages.contains(&(at / PAGE)),
            other => other.lets_read(at),
        }
    }
}

/// A mapped file of whole pages.
#[derive(Debug)]
pub(crate) struct Arena {
    base: *mut u8,
    file: File,
    pages: usize,
}

impl Arena {
    /// So many pages of bytes that differ from their neighbours, and from those a page away.
    pub(crate) fn new(pages: usize) -> Self {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"arena".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "memfd_create: {}", Error::last_os_error());
        // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len((pages * PAGE) as u64).expect("it can grow");
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, where the kernel likes.
        let base = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap: {}", Error::last_os_error());
        let mut arena = Self { base: base.cast(), file, pages };
        for (at, byte) in arena.bytes_mut().iter_mut().enumerate() {
            *byte = u8::try_from((at + at / PAGE) % 251).expect("it is small");
        }
        arena
    }

    pub(crate) fn at(&self, at: usize) -> *mut u8 {
        self.base.wrapping_add(at)
    }

    pub(crate) fn len(&self) -> usize {
        self.pages * PAGE
    }

    /// All of it. No page may be missing.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as this, and no operation is under way while a test looks.
        unsafe { std::slice::from_raw_parts(self.base, self.len()) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; it is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len()) }
    }

    pub(crate) fn take_away(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::CutFrom(page) => self.file.set_len((page * PAGE) as u64).expect("it can be cut"),
            Trouble::NoAccess(pages) => self.protect(pages, libc::PROT_NONE),
            Trouble::ReadOnly(pages) => self.protect(pages, libc::PROT_READ),
        }
    }

    /// Every page is there again; those that were cut off are zeros.
    pub(crate) fn give_back(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::CutFrom(_) => self.file.set_len(self.len() as u64).expect("it can grow"),
            Trouble::NoAccess(pages) | Trouble::ReadOnly(pages) => {
                self.protect(pages, libc::PROT_READ | libc::PROT_WRITE);
            }
        }
    }

    fn protect(&self, pages: &Range<usize>, access: libc::c_int) {
        assert!(pages.end <= self.pages);
        // SAFETY: the pages belong to the mapping.
        let refused = unsafe { libc::mprotect(self.at(pages.start * PAGE).cast(), pages.len() * PAGE, access) };
        assert_eq!(refused, 0, "mprotect: {}", Error::last_os_error());
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is this arena's own, and nothing uses it any more.
        unsafe { libc::munmap(self.base.cast(), self.len()) };
    }
}
