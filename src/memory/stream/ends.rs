//! The ends of a streamed operation: the part of a line at each side that it shares with other memory.
//!
//! Two things hold up the streamed stores around such an end. Stores leave a core in order, so a plain store into a
//! line that is not cached stops all later ones for a latency of memory: hence the lines are asked for first, and
//! written last. And libc writes a few bytes by one masked store, which some CPUs do slowly (on a Zen 4, 4 KiB of ones
//! took 100 ns more with it): hence these are plain stores of 1 to 32 bytes.
#![expect(unsafe_code, reason = "reads and writes at addresses that callers vouch for")]

use super::{LINE, kernel};

/// A destination, parted at its lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Bytes before the first whole line.
    pub(super) head: usize,
    /// Bytes in whole lines.
    pub(super) body: usize,
    /// Bytes after the last whole line.
    pub(super) tail: usize,
}

impl Parts {
    /// Of `len` bytes, at least one line.
    pub(super) fn of(dst: *mut u8, len: usize) -> Self {
        let head = dst.addr().wrapping_neg() % LINE;
        let tail = (len - head) % LINE;
        Self { head, body: len - head - tail, tail }
    }

    /// Where the tail begins.
    pub(super) fn tail_at(self) -> usize {
        self.head + self.body
    }

    /// Asks for the lines of the ends, if there are such.
    #[inline]
    pub(super) fn prefetch_ends(self, dst: *mut u8) {
        if self.head > 0 {
            kernel::prefetch_to_write(dst);
        }
        if self.tail > 0 {
            kernel::prefetch_to_write(dst.wrapping_add(self.tail_at()));
        }
    }
}

/// Copies less than a line.
///
/// # Safety
///
/// `src` is valid for reads and `dst` for writes of `len` bytes, fewer than [`LINE`], and they do not overlap.
#[inline]
pub(super) unsafe fn copy_few(dst: *mut u8, src: *const u8, len: usize) {
    let mut done = 0;
    // Each bit of the length is one store.
    macro_rules! unit {
        ($($bytes:literal)*) => {
            $(if len & $bytes != 0 {
                // SAFETY: the bits below this one came before, so `done` and this many bytes are within `len`.
                unsafe { copy_unit::<$bytes>(dst.wrapping_add(done), src.wrapping_add(done)) };
                done += $bytes;
            })*
        };
    }
    unit!(1 2 4 8 16 32);
    debug_assert_eq!(done, len, "a line or more");
}

/// # Safety
///
/// That of [`copy_few`], for `N` bytes.
#[inline]
unsafe fn copy_unit<const N: usize>(dst: *mut u8, src: *const u8) {
    // SAFETY: the caller's contract; bytes need no alignment.
    let unit = unsafe { src.cast::<[u8; N]>().read() };
    // SAFETY: likewise.
    unsafe { dst.cast::<[u8; N]>().write(unit) };
}
