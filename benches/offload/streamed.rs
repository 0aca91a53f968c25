//! A piece by non-temporal stores, as one writes it by hand: no prefetch, no unaligned ends.
#![expect(unsafe_code, reason = "copies between addresses")]

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi8, _mm_sfence, _mm_stream_si128};
use std::hint::black_box;

use super::Piece;

/// Bytes that a turn of the loops does: a cache line.
const LINE: usize = 64;

/// As [`Piece::execute`].
///
/// # Safety
///
/// That of [`Piece::execute`].
pub(super) unsafe fn execute(piece: &Piece) {
    let len = black_box(piece.len);
    assert!(piece.dst.addr().is_multiple_of(LINE) && len.is_multiple_of(LINE), "the benchmarks' memory is of lines");
    // SAFETY: SSE2 is part of x86-64.
    let value = unsafe { _mm_set1_epi8(black_box(piece.value).cast_signed()) };
    for at in (0..len).step_by(LINE) {
        let to = piece.dst.wrapping_add(at).cast::<__m128i>();
        let vectors = piece.src.map_or([value; 4], |src| {
            let from = src.wrapping_add(at).cast::<__m128i>();
            // SAFETY: a line of the source, and no alignment is asked for.
            [0, 1, 2, 3].map(|vector| unsafe { _mm_loadu_si128(from.wrapping_add(vector)) })
        });
        for (index, vector) in vectors.into_iter().enumerate() {
            // SAFETY: a line of the destination, aligned.
            unsafe { _mm_stream_si128(to.wrapping_add(index), vector) };
        }
    }
    // SAFETY: as above.
    unsafe { _mm_sfence() };
}
