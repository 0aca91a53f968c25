//! The kernels, and the choice of one: made once, by asking the CPU.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a fence and a prefetch have no safe wrapper"))]

use std::sync::OnceLock;

/// Copies whole lines. Unsafe: both regions are valid for so many bytes and do not overlap, the destination is aligned
/// to a line, and the CPU has what the kernel uses.
pub(crate) type CopyLines = unsafe fn(to: *mut u8, from: *const u8, len: usize);
/// Sets whole lines. Unsafe: likewise.
pub(crate) type SetLines = unsafe fn(to: *mut u8, value: u8, len: usize);
/// Sets whole lines to zero. Unsafe: likewise.
pub(crate) type ZeroLines = unsafe fn(to: *mut u8, len: usize);

/// Who stores the lines of a streamed operation. There are only such as this CPU can run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    pub(crate) copy: CopyLines,
    pub(crate) set: SetLines,
    /// For the value zero, where something is better at it than `set`.
    pub(crate) zero: Option<ZeroLines>,
}

impl Kernel {
    /// The best one, if there is any.
    #[inline]
    pub(super) fn chosen() -> Option<Self> {
        static CHOSEN: OnceLock<Option<Kernel>> = OnceLock::new();
        *CHOSEN.get_or_init(|| Self::available().next())
    }

    /// All that this CPU can run, the best one first.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        use super::clzero;
        use super::vector::{avx2, sse2};

        let avx2 = Self { copy: avx2::copy_lines, set: avx2::set_lines, zero: None };
        let sse2 = Self { copy: sse2::copy_lines, set: sse2::set_lines, zero: None };
        let zero = clzero::is_available().then_some(clzero::zero_lines as ZeroLines);
        let kernels = [is_x86_feature_detected!("avx2").then_some(avx2), Some(sse2)];
        kernels.into_iter().flatten().map(move |kernel| Self { zero, ..kernel })
    }

    /// None: nobody has written one.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        std::iter::empty()
    }
}

/// Orders the streamed stores of this thread before what it does next.
#[inline]
pub(super) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}

/// Asks for a line that will soon be written, or whose page will. Any address will do; it never faults.
#[inline]
pub(super) fn prefetch_to_write(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `prefetch`. It asks to read, since not every CPU has PREFETCHW; what nobody else holds is writable.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Asks for a line that will be read, into the second-level cache. Any address will do; it never faults.
#[inline]
pub(super) fn prefetch(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64; a prefetch reads nothing that the program could see, and ignores bad addresses.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T1 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
