//! Sleeping on a word: the futex, as the [`Sleep`] of every doorbell.
//!
//! Source: futex(2). The words are private to the process (`FUTEX_PRIVATE_FLAG`).
#![expect(unsafe_code, reason = "the futex system call has no safe wrapper in libc or std")]

use core::ptr;
use core::time::Duration;

use memring_ring::{Sleep, Word};

/// The kernel's futex.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Futex;

impl Sleep for Futex {
    fn sleep(&self, word: &Word, timeout: Option<Duration>) {
        let Some(blocked) = word.blocked() else { return };
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is a live, aligned u32 for the whole call, since it is borrowed; `limit` is null or points
        // at a timespec that outlives the call. Every outcome (woken, timed out, EAGAIN, EINTR) is a legal return of
        // `sleep`.
        unsafe { libc::syscall(libc::SYS_futex, word.address(), operation, blocked, limit) };
    }

    fn wake(&self, word: &Word) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: FUTEX_WAKE uses the address as a key only.
        unsafe { libc::syscall(libc::SYS_futex, word.address(), operation, 1) };
    }
}
