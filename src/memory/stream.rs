//! Copying and setting past the cache: non-temporal stores, for bytes that nobody will read soon.
//!
//! A plain store first fetches the line it writes, and leaves it in the cache in place of something else. A
//! non-temporal store does neither, which about halves the memory traffic of a large copy; on bytes that *are* read
//! soon it is several times slower. Hence it is used only where the submitter says so (`NO_CACHE_HINT`), and for
//! lengths where the unaligned ends do not weigh.
//!
//! **Such stores are not ordered by a release store.** They wait in write-combining buffers until an SFENCE of the
//! same thread; before it, nobody may be told that they are done. The functions here therefore return
//! [`Stores`], and what posts completions [fences](Stores::fence) first.
//!
//! | kernel | CPUID | for |
//! |---|---|---|
//! | AVX2, 32-byte stores | leaf 7, EBX bit 5 | copy, set |
//! | SSE2, 16-byte stores | always, on x86-64 | copy, set |
//! | CLZERO, a line at once | leaf 8000_0008h, EBX bit 0 (AMD) | set to zero |
//! | none | other CPUs | the plain routines |
//!
//! Sources: Intel SDM volume 1, 10.4.6.2 (non-temporal stores, write combining); AMD APM volume 3, CLZERO (a
//! non-temporal, weakly ordered store of one line).
#![expect(unsafe_code, reason = "vector stores between addresses that callers vouch for")]

use super::copy;

/// Below this many bytes a streamed operation is a plain one. The unaligned ends of a shorter one would weigh too much.
pub(crate) const STREAM_MIN_BYTES: usize = 1024;

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

/// Copies between regions that do not overlap, past the cache if that is possible and worth it.
///
/// # Safety
///
/// That of [`copy::memcpy`].
pub(crate) unsafe fn stream_copy(dst: *mut u8, src: *const u8, len: usize) -> Stores {
    match kernel::choose() {
        Some(kernel) if len >= STREAM_MIN_BYTES => {
            // SAFETY: the caller's contract; `choose` has asked the CPU.
            unsafe { kernel::copy(kernel, dst, src, len) };
            Stores::Streamed
        }
        _ => {
            // SAFETY: the caller's contract.
            unsafe { copy::memcpy(dst, src, len) };
            Stores::Plain
        }
    }
}

/// Sets every byte to `value`, past the cache if that is possible and worth it.
///
/// # Safety
///
/// That of [`copy::memset`].
pub(crate) unsafe fn stream_set(dst: *mut u8, value: u8, len: usize) -> Stores {
    match kernel::choose() {
        Some(kernel) if len >= STREAM_MIN_BYTES => {
            // SAFETY: the caller's contract; `choose` has asked the CPU.
            unsafe { kernel::set(kernel, dst, value, len) };
            Stores::Streamed
        }
        _ => {
            // SAFETY: the caller's contract.
            unsafe { copy::memset(dst, value, len) };
            Stores::Plain
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod kernel {
    use core::arch::asm;
    use core::arch::x86_64::{
        __cpuid, __m128i, __m256i, _mm_loadu_si128, _mm_set1_epi8, _mm_sfence, _mm_stream_si128, _mm256_loadu_si256,
        _mm256_set1_epi8, _mm256_stream_si256,
    };
    use std::sync::OnceLock;

    use crate::memory::copy;

    /// A cache line of every x86-64 CPU, and the unit of CLZERO, bytes.
    const LINE: usize = 64;

    /// What this CPU has.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Kernel {
        avx2: bool,
        clzero: bool,
    }

    pub(super) fn choose() -> Option<Kernel> {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        Some(*KERNEL.get_or_init(|| Kernel { avx2: is_x86_feature_detected!("avx2"), clzero: has_clzero() }))
    }

    fn has_clzero() -> bool {
        __cpuid(0x8000_0000).eax >= 0x8000_0008 && __cpuid(0x8000_0008).ebx & 1 != 0
    }

    pub(super) fn fence() {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }

    /// The bytes up to the first line of `dst`, and those in whole lines.
    fn split(dst: *mut u8, len: usize) -> (usize, usize) {
        let head = dst.addr().wrapping_neg() % LINE;
        (head, (len - head) / LINE * LINE)
    }

    /// # Safety
    ///
    /// That of [`copy::memcpy`], with `len` at least a line; `kernel` came from [`choose`].
    pub(super) unsafe fn copy(kernel: Kernel, dst: *mut u8, src: *const u8, len: usize) {
        let (head, body) = split(dst, len);
        let tail = head + body;
        // SAFETY: the first `head` bytes of both regions.
        unsafe { copy::memcpy(dst, src, head) };
        let (to, from) = (dst.wrapping_add(head), src.wrapping_add(head));
        if kernel.avx2 {
            // SAFETY: the CPU has AVX2; `body` bytes of both regions follow, and `to` is aligned to a line.
            unsafe { copy_lines_avx2(to, from, body) };
        } else {
            // SAFETY: as above; SSE2 is part of x86-64.
            unsafe { copy_lines_sse2(to, from, body) };
        }
        // SAFETY: the last bytes of both regions.
        unsafe { copy::memcpy(dst.wrapping_add(tail), src.wrapping_add(tail), len - tail) };
    }

    /// # Safety
    ///
    /// That of [`copy::memset`], with `len` at least a line; `kernel` came from [`choose`].
    pub(super) unsafe fn set(kernel: Kernel, dst: *mut u8, value: u8, len: usize) {
        let (head, body) = split(dst, len);
        let tail = head + body;
        // SAFETY: the first `head` bytes of the region.
        unsafe { copy::memset(dst, value, head) };
        let to = dst.wrapping_add(head);
        if value == 0 && kernel.clzero {
            // SAFETY: the CPU has CLZERO; whole lines of the region.
            unsafe { zero_lines(to, body) };
        } else if kernel.avx2 {
            // SAFETY: the CPU has AVX2; `body` bytes follow, and `to` is aligned to a line.
            unsafe { set_lines_avx2(to, value, body) };
        } else {
            // SAFETY: as above; SSE2 is part of x86-64.
            unsafe { set_lines_sse2(to, value, body) };
        }
        // SAFETY: the last bytes of the region.
        unsafe { copy::memset(dst.wrapping_add(tail), value, len - tail) };
    }

    /// # Safety
    ///
    /// `to` is aligned to a line and valid for writes, `from` for reads, of `len` bytes, whole lines; AVX2 is there.
    #[target_feature(enable = "avx2")]
    unsafe fn copy_lines_avx2(to: *mut u8, from: *const u8, len: usize) {
        for at in (0..len).step_by(LINE) {
            let (to, from) = (to.wrapping_add(at).cast::<__m256i>(), from.wrapping_add(at).cast::<__m256i>());
            // SAFETY: the first half of a line of the source; no alignment is asked for.
            let low = unsafe { _mm256_loadu_si256(from) };
            // SAFETY: its second half.
            let high = unsafe { _mm256_loadu_si256(from.wrapping_add(1)) };
            // SAFETY: the first half of a line of the destination, aligned.
            unsafe { _mm256_stream_si256(to, low) };
            // SAFETY: its second half.
            unsafe { _mm256_stream_si256(to.wrapping_add(1), high) };
        }
    }

    /// # Safety
    ///
    /// That of [`copy_lines_avx2`], without AVX2.
    unsafe fn copy_lines_sse2(to: *mut u8, from: *const u8, len: usize) {
        for at in (0..len).step_by(size_of::<__m128i>()) {
            // SAFETY: 16 bytes of the source; no alignment is asked for.
            let bytes = unsafe { _mm_loadu_si128(from.wrapping_add(at).cast()) };
            // SAFETY: 16 bytes of the destination, aligned.
            unsafe { _mm_stream_si128(to.wrapping_add(at).cast(), bytes) };
        }
    }

    /// # Safety
    ///
    /// `to` is aligned to a line and valid for writes of `len` bytes, whole lines; AVX2 is there.
    #[target_feature(enable = "avx2")]
    unsafe fn set_lines_avx2(to: *mut u8, value: u8, len: usize) {
        let bytes = _mm256_set1_epi8(value.cast_signed());
        for at in (0..len).step_by(size_of::<__m256i>()) {
            // SAFETY: 32 bytes of the region, aligned.
            unsafe { _mm256_stream_si256(to.wrapping_add(at).cast(), bytes) };
        }
    }

    /// # Safety
    ///
    /// That of [`set_lines_avx2`], without AVX2.
    unsafe fn set_lines_sse2(to: *mut u8, value: u8, len: usize) {
        // SAFETY: SSE2 is part of x86-64.
        let bytes = unsafe { _mm_set1_epi8(value.cast_signed()) };
        for at in (0..len).step_by(size_of::<__m128i>()) {
            // SAFETY: 16 bytes of the region, aligned.
            unsafe { _mm_stream_si128(to.wrapping_add(at).cast(), bytes) };
        }
    }

    /// # Safety
    ///
    /// `to` is aligned to a line and valid for writes of `len` bytes, whole lines; CLZERO is there.
    unsafe fn zero_lines(to: *mut u8, len: usize) {
        for at in (0..len).step_by(LINE) {
            // SAFETY: one whole line of the region; the instruction takes its address in RAX.
            unsafe { asm!("clzero", in("rax") to.wrapping_add(at), options(nostack, preserves_flags)) };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod kernel {
    /// There is none.
    #[derive(Clone, Copy, Debug)]
    pub(super) enum Kernel {}

    pub(super) fn choose() -> Option<Kernel> {
        None
    }

    pub(super) fn fence() {}

    /// # Safety
    ///
    /// Cannot be called.
    pub(super) unsafe fn copy(kernel: Kernel, _dst: *mut u8, _src: *const u8, _len: usize) {
        match kernel {}
    }

    /// # Safety
    ///
    /// Cannot be called.
    pub(super) unsafe fn set(kernel: Kernel, _dst: *mut u8, _value: u8, _len: usize) {
        match kernel {}
    }
}
