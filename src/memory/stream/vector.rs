//! Lines by non-temporal stores of vectors: one kernel, stamped for each width that a CPU may have.
//!
//! Loads stand before the stores of the same two lines, which measured 3 % better than one line after the other; four
//! lines, and the 64-byte stores of AVX-512, gained nothing more on a Zen 4.
#![expect(unsafe_code, reason = "vector stores between addresses that callers vouch for")]

macro_rules! kernel {
    ($module:ident by $vector:ident: $load:ident, $stream:ident, $set1:ident, if the CPU has $feature:literal) => {
        pub(super) mod $module {
            use core::arch::x86_64::{$load, $set1, $stream, $vector};

            use super::super::LINE;

            /// Bytes of a vector.
            const BYTES: usize = size_of::<$vector>();

            /// # Safety
            ///
            /// That of [`CopyLines`](super::super::kernel::CopyLines).
            #[target_feature(enable = $feature)]
            pub(in super::super) unsafe fn copy_lines(to: *mut u8, from: *const u8, len: usize) {
                let pairs = len / (2 * LINE);
                for pair in 0..pairs {
                    let at = pair * 2 * LINE;
                    // SAFETY: two lines of both regions.
                    unsafe { copy_vectors::<{ 2 * LINE / BYTES }>(to.wrapping_add(at), from.wrapping_add(at)) };
                }
                let at = pairs * 2 * LINE;
                if at < len {
                    // SAFETY: the last line of both regions.
                    unsafe { copy_vectors::<{ LINE / BYTES }>(to.wrapping_add(at), from.wrapping_add(at)) };
                }
            }

            /// # Safety
            ///
            /// That of [`copy_lines`], for `N` vectors.
            #[target_feature(enable = $feature)]
            #[inline]
            unsafe fn copy_vectors<const N: usize>(to: *mut u8, from: *const u8) {
                let (to, from) = (to.cast::<$vector>(), from.cast::<$vector>());
                let mut vectors = [$set1(0); N];
                for (index, vector) in vectors.iter_mut().enumerate() {
                    // SAFETY: a vector of the source; no alignment is asked for.
                    *vector = unsafe { $load(from.wrapping_add(index)) };
                }
                for (index, vector) in vectors.into_iter().enumerate() {
                    // SAFETY: a vector of the destination, aligned.
                    unsafe { $stream(to.wrapping_add(index), vector) };
                }
            }

            /// # Safety
            ///
            /// That of [`SetLines`](super::super::kernel::SetLines).
            #[target_feature(enable = $feature)]
            pub(in super::super) unsafe fn set_lines(to: *mut u8, value: u8, len: usize) {
                let vector = $set1(value.cast_signed());
                for at in (0..len).step_by(BYTES) {
                    // SAFETY: a vector of the region, aligned.
                    unsafe { $stream(to.wrapping_add(at).cast(), vector) };
                }
            }
        }
    };
}

kernel!(avx2 by __m256i: _mm256_loadu_si256, _mm256_stream_si256, _mm256_set1_epi8, if the CPU has "avx2");
kernel!(sse2 by __m128i: _mm_loadu_si128, _mm_stream_si128, _mm_set1_epi8, if the CPU has "sse2");
