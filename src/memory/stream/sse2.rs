//! Lines by non-temporal stores of 16 bytes: SSE2, which every x86-64 CPU has. As `avx2.rs`, which says why.
#![expect(unsafe_code, reason = "vector stores between addresses that callers vouch for")]

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi8, _mm_setzero_si128, _mm_stream_si128};

use super::LINE;

/// Vectors of a line.
const VECTORS: usize = LINE / size_of::<__m128i>();

/// # Safety
///
/// That of [`CopyLines`](super::kernel::CopyLines).
#[target_feature(enable = "sse2")]
pub(super) unsafe fn copy_lines(to: *mut u8, from: *const u8, len: usize) {
    let pairs = len / (2 * LINE);
    for pair in 0..pairs {
        let at = pair * 2 * LINE;
        // SAFETY: two lines of both regions.
        unsafe { copy_vectors::<{ 2 * VECTORS }>(to.wrapping_add(at), from.wrapping_add(at)) };
    }
    let at = pairs * 2 * LINE;
    if at < len {
        // SAFETY: the last line of both regions.
        unsafe { copy_vectors::<VECTORS>(to.wrapping_add(at), from.wrapping_add(at)) };
    }
}

/// # Safety
///
/// That of [`copy_lines`], for `N` vectors.
#[target_feature(enable = "sse2")]
#[inline]
unsafe fn copy_vectors<const N: usize>(to: *mut u8, from: *const u8) {
    let (to, from) = (to.cast::<__m128i>(), from.cast::<__m128i>());
    let mut vectors = [_mm_setzero_si128(); N];
    for (index, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: 16 bytes of the source; no alignment is asked for.
        *vector = unsafe { _mm_loadu_si128(from.wrapping_add(index)) };
    }
    for (index, vector) in vectors.into_iter().enumerate() {
        // SAFETY: 16 bytes of the destination, aligned.
        unsafe { _mm_stream_si128(to.wrapping_add(index), vector) };
    }
}

/// # Safety
///
/// That of [`SetLines`](super::kernel::SetLines).
#[target_feature(enable = "sse2")]
pub(super) unsafe fn set_lines(to: *mut u8, value: u8, len: usize) {
    let vector = _mm_set1_epi8(value.cast_signed());
    for at in (0..len).step_by(size_of::<__m128i>()) {
        // SAFETY: 16 bytes of the region, aligned.
        unsafe { _mm_stream_si128(to.wrapping_add(at).cast(), vector) };
    }
}
