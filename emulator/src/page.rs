//! The shared page, as the library uses it: counters, and the switch that takes the queue away.
#![expect(unsafe_code, reason = "maps a page")]

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout;

/// The page. It stays mapped until the process ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page(&'static [AtomicU64; layout::WORDS]);

impl Page {
    const BYTES: usize = layout::WORDS * size_of::<u64>();

    /// Maps the file with the page; without one, or if it cannot be mapped, a page of this process alone, which its
    /// children share.
    pub(crate) fn map(path: Option<&Path>) -> Option<Self> {
        let file = path.and_then(|path| OpenOptions::new().read(true).write(true).open(path).ok());
        let (flags, fd) = match &file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), Self::BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
        if address == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: so many bytes are mapped, aligned to pages, for good, and everybody uses them as atomics only.
        Some(Self(unsafe { &*address.cast() }))
    }

    pub(crate) fn add(self, word: usize, count: u64) -> u64 {
        // Ordering: Relaxed: a count.
        self.0.get(word).map_or(0, |word| word.fetch_add(count, Ordering::Relaxed))
    }

    pub(crate) fn is_disabled(self) -> bool {
        self.0[layout::DISABLED].load(Ordering::Relaxed) != 0 // Ordering: Relaxed: a switch that orders nothing else.
    }

    /// True for who was the first.
    pub(crate) fn disable(self) -> bool {
        self.0[layout::DISABLED].swap(1, Ordering::Relaxed) == 0 // Ordering: as above.
    }
}
