//! Sleeping on a word, for the device's bell. A ring of it is async-signal-safe.
//!
//! Source: futex(2), signal-safety(7).
#![expect(unsafe_code, reason = "the futex system call has no safe wrapper in libc or std")]

use std::ptr;
use std::time::Duration;

use memring_ring::{Sleep, Word};

/// The kernel's futex. It knows no time limit: nobody here has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Futex;

impl Sleep for Futex {
    fn sleep(&self, word: &Word, _timeout: Option<Duration>) {
        let Some(blocked) = word.blocked() else { return };
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let forever = ptr::null::<libc::timespec>();
        // SAFETY: the word is a live, aligned u32 for the whole call, since it is borrowed.
        unsafe { libc::syscall(libc::SYS_futex, word.address(), operation, blocked, forever) };
    }

    fn wake(&self, word: &Word) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: FUTEX_WAKE uses the address as a key only.
        unsafe { libc::syscall(libc::SYS_futex, word.address(), operation, 1) };
    }
}
