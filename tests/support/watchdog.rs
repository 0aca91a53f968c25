//! A limit for tests whose failure would be to hang: they fail with a sentence instead.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a test may take before it counts as hung. No test comes near it, loaded machine or not.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `body` on a thread of its own and hands on what it returns, or its panic; panics if it does not end.
pub(crate) fn must_end<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (ended, end) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = body();
        // The receiver is gone only if the limit has passed.
        let _ = ended.send(());
        result
    });
    if end.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("not done after {LIMIT:?}: it hangs");
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
