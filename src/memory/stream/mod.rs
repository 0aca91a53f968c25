//! Copying and setting past the cache: non-temporal stores, for bytes that nobody will read soon.
//!
//! A plain store first fetches the line it writes, and leaves it in the cache in place of something else. A
//! non-temporal store does neither, which takes a third off the memory traffic of a large copy; on bytes that *are*
//! read soon it is several times slower. Hence it is used only where somebody says so (`NO_CACHE_HINT`), and for
//! lengths where the unaligned ends do not weigh.
//!
//! **Such stores are not ordered by a release store.** They wait in write-combining buffers until an SFENCE of the
//! same thread; before it, nobody may be told that they are done. The functions here therefore return
//! [`Stores`], and what posts completions [fences](Stores::fence) first.
//!
//! ```text
//!  copy:  [head | line line line ... line | line line ... | tail]
//!          plain  a kernel, up to the end of a page of     plain
//!                 the source, then up to the next, ...
//!  first: prefetch the lines of head and tail; last: write them (`ends.rs`)
//!  before each page's lines: prefetch the beginning of the next page; before the last page's, of the next operation
//! ```
//!
//! The hardware prefetches a source by itself, but stops at the end of each page of 4 KiB, whose successor may lie
//! anywhere. So each page would begin with a few full latencies of memory, and a miss of the TLB: that is what the
//! prefetches hide. They ask for the second-level cache: lines that wait in the first one are read without a miss, and
//! misses are what starts the hardware prefetcher on its page (a tenth slower in order). Within a page, more prefetches
//! gained nothing: a copy takes one core about as long as reading does. Of a destination's page one line is asked for
//! before its first store, which takes 4 to 8 % off a copy of 256 MiB (its TLB entry is there then; with huge pages it
//! gains as much, so that is not all). More lines of it would be fetched for nothing.
//!
//! This file and `ends.rs` do all but the lines; `kernel.rs` chooses once who does those:
//!
//! | kernel | CPUID | for |
//! |---|---|---|
//! | `vector.rs`, AVX2: 32-byte stores | leaf 7, EBX bit 5 | copy, set |
//! | `vector.rs`, SSE2: 16-byte stores | always, on x86-64 | copy, set |
//! | `clzero.rs`, a line at once | leaf 8000_0008h, EBX bit 0 (AMD) | set to zero |
//! | none | other CPUs | the plain routines |
//!
//! Source: Intel SDM volume 1, 10.4.6.2 (non-temporal stores, write combining).
#![expect(unsafe_code, reason = "calls kernels on addresses that callers vouch for")]

#[cfg(target_arch = "x86_64")]
mod clzero;
mod ends;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod vector;

pub(crate) use kernel::Kernel;

use self::ends::{Parts, copy_few};
use super::copy;

/// Below this many bytes a streamed operation is a plain one. The unaligned ends of a shorter one would weigh too much.
pub(crate) const STREAM_MIN_BYTES: usize = 1024;

/// A cache line of every x86-64 CPU, the unit of CLZERO and of the kernels, bytes.
const LINE: usize = 64;
/// Where a hardware prefetcher stops, bytes.
const PAGE: usize = 4096;
/// Lines prefetched of what comes next. 4 and 8 hide a little less; 32 take longer to ask for than they save.
const LINES_AHEAD: usize = 16;

/// Whether stores were made that a fence must follow before anyone hears of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "streamed stores must be fenced before their completion is posted"]
pub(crate) enum Stores {
    /// Ordinary stores: a release store orders them.
    #[default]
    Plain,
    /// Non-temporal stores: only a store fence orders them.
    Streamed,
}

impl Stores {
    /// Either of them, if either needs a fence.
    #[inline]
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Streamed { self } else { other }
    }

    /// Orders the stores of this thread before what it does next.
    #[inline]
    pub(crate) fn fence(self) {
        if self == Self::Streamed {
            kernel::fence();
        }
    }
}

/// Where a thread will probably copy next, if it knows: a hint, which need not be valid memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    pub(crate) dst: *mut u8,
    pub(crate) src: *const u8,
}

/// Copies between regions that do not overlap, past the cache if that is possible and worth it.
///
/// # Safety
///
/// That of [`copy::memcpy`].
pub(crate) unsafe fn stream_copy(dst: *mut u8, src: *const u8, len: usize, next: Option<Ahead>) -> Stores {
    // SAFETY: the caller's contract.
    unsafe { copy_by(Kernel::chosen(), dst, src, len, next) }
}

/// Sets every byte to `value`, past the cache if that is possible and worth it.
///
/// # Safety
///
/// That of [`copy::memset`].
pub(crate) unsafe fn stream_set(dst: *mut u8, value: u8, len: usize) -> Stores {
    // SAFETY: the caller's contract.
    unsafe { set_by(Kernel::chosen(), dst, value, len) }
}

/// As [`stream_copy`], by this kernel.
///
/// # Safety
///
/// That of [`copy::memcpy`].
pub(crate) unsafe fn copy_by(
    kernel: Option<Kernel>,
    dst: *mut u8,
    src: *const u8,
    len: usize,
    next: Option<Ahead>,
) -> Stores {
    let Some(kernel) = kernel.filter(|_| len >= STREAM_MIN_BYTES) else {
        // SAFETY: the caller's contract.
        unsafe { copy::memcpy(dst, src, len) };
        return Stores::Plain;
    };
    let parts = Parts::of(dst, len);
    parts.prefetch_ends(dst);
    let (to, from) = (dst.wrapping_add(parts.head), src.wrapping_add(parts.head));
    // SAFETY: whole lines of both regions, the destination's aligned.
    unsafe { copy_pages(kernel, to, from, parts.body, next) };
    // SAFETY: the first bytes of both regions.
    unsafe { copy_few(dst, src, parts.head) };
    // SAFETY: the last bytes of both regions.
    unsafe { copy_few(dst.wrapping_add(parts.tail_at()), src.wrapping_add(parts.tail_at()), parts.tail) };
    Stores::Streamed
}

/// As [`stream_set`], by this kernel.
///
/// # Safety
///
/// That of [`copy::memset`].
pub(crate) unsafe fn set_by(kernel: Option<Kernel>, dst: *mut u8, value: u8, len: usize) -> Stores {
    let Some(kernel) = kernel.filter(|_| len >= STREAM_MIN_BYTES) else {
        // SAFETY: the caller's contract.
        unsafe { copy::memset(dst, value, len) };
        return Stores::Plain;
    };
    let parts = Parts::of(dst, len);
    parts.prefetch_ends(dst);
    let to = dst.wrapping_add(parts.head);
    match kernel.zero {
        // SAFETY: whole lines of the region, aligned; the kernel is one that this CPU can run.
        Some(zero) if value == 0 => unsafe { zero(to, parts.body) },
        // SAFETY: likewise.
        _ => unsafe { (kernel.set)(to, value, parts.body) },
    }
    let line = [value; LINE];
    // SAFETY: the first bytes of the region, from a line of our own.
    unsafe { copy_few(dst, line.as_ptr(), parts.head) };
    // SAFETY: the last bytes of the region, likewise.
    unsafe { copy_few(dst.wrapping_add(parts.tail_at()), line.as_ptr(), parts.tail) };
    Stores::Streamed
}

/// Copies whole lines, page by page of the source, and asks for the beginnings of what comes next before each.
///
/// # Safety
///
/// That of [`copy::memcpy`]; `to` is aligned to a line, and `len` is of whole lines.
unsafe fn copy_pages(kernel: Kernel, to: *mut u8, from: *const u8, len: usize, next: Option<Ahead>) {
    let (mut done, mut next) = (0, next);
    while done < len {
        let (to, from, left) = (to.wrapping_add(done), from.wrapping_add(done), len - done);
        let (of_page, of_dst_page) = (PAGE - from.addr() % PAGE, PAGE - to.addr() % PAGE);
        if of_page < left {
            prefetch(from.wrapping_add(of_page));
        }
        if of_dst_page < left {
            kernel::prefetch_to_write(to.wrapping_add(of_dst_page));
        }
        if let Some(next) = next.take_if(|_| left <= PAGE) {
            prefetch(next.src);
            kernel::prefetch_to_write(next.dst);
        }
        // A line of a source that is not aligned may reach into the next page.
        let now = of_page.next_multiple_of(LINE).min(left);
        // SAFETY: whole lines of both regions, the destination's aligned; the kernel is one that this CPU can run.
        unsafe { (kernel.copy)(to, from, now) };
        done += now;
    }
}

/// Asks for the lines at the beginning of a source.
#[inline]
fn prefetch(from: *const u8) {
    for line in 0..LINES_AHEAD {
        kernel::prefetch(from.wrapping_add(line * LINE));
    }
}
