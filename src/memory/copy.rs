//! Copying and setting through the platform's own routines.
//!
//! `core::ptr` lowers to libc's memcpy, memmove and memset, which choose their kernels by CPU and size
//! better than a library should try to. What they cannot know, that nobody will read the bytes soon, is `stream`'s.
#![expect(unsafe_code, reason = "moving bytes between addresses that callers vouch for")]

use core::ptr;

/// Copies between regions that do not overlap.
///
/// # Safety
///
/// `src` is valid for reads and `dst` for writes of `len` bytes, and they do not overlap. With `len` 0, anything goes.
#[inline]
pub(crate) unsafe fn memcpy(dst: *mut u8, src: *const u8, len: usize) {
    if len != 0 {
        // SAFETY: the caller's contract is this function's; alignment of u8 is 1.
        unsafe { ptr::copy_nonoverlapping(src, dst, len) }
    }
}

/// Copies between regions that may overlap.
///
/// # Safety
///
/// `src` is valid for reads and `dst` for writes of `len` bytes. With `len` 0, anything goes.
#[inline]
pub(crate) unsafe fn memmove(dst: *mut u8, src: *const u8, len: usize) {
    if len != 0 {
        // SAFETY: the caller's contract is this function's; alignment of u8 is 1.
        unsafe { ptr::copy(src, dst, len) }
    }
}

/// Sets every byte to `value`.
///
/// # Safety
///
/// `dst` is valid for writes of `len` bytes. With `len` 0, anything goes.
#[inline]
pub(crate) unsafe fn memset(dst: *mut u8, value: u8, len: usize) {
    if len != 0 {
        // SAFETY: the caller's contract is this function's; alignment of u8 is 1.
        unsafe { ptr::write_bytes(dst, value, len) }
    }
}
