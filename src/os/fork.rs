//! Knowing of a fork: a queue must not be used by a child, which has its memory but not its threads.
//!
//! A `pthread_atfork` handler counts forks in the child; whoever was born at another count is foreign there.
//! Reading the count is one load, where `getpid` is a system call.
#![expect(unsafe_code, reason = "pthread_atfork has no safe wrapper in libc or std")]

use std::sync::OnceLock;

use memring_ring::Counter;

static FORKS: OnceLock<Counter> = OnceLock::new();

extern "C" fn count_fork() {
    // In the child, before fork returns: one relaxed store, which is async-signal-safe.
    if let Some(forks) = FORKS.get() {
        forks.bump(1);
    }
}

/// The process that something was made in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    forks: &'static Counter,
    count: u64,
}

impl Birth {
    /// Here and now.
    pub(crate) fn now() -> Self {
        let forks = FORKS.get_or_init(|| {
            // SAFETY: `count_fork` is a function for the whole life of the process and does only async-signal-safe
            // things. Its only failure is ENOMEM; a fork then goes unnoticed, as without this module.
            unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
            Counter::new()
        });
        Self { forks, count: forks.get() }
    }

    /// Whether this process is a child of the one it was born in.
    #[inline]
    pub(crate) fn is_foreign(self) -> bool {
        self.forks.get() != self.count
    }
}
