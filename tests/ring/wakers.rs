//! Wakers of the test, and the smallest executor.

use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often it was woken, and can be waited for.
#[derive(Default)]
pub(crate) struct Wakes {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Wakes {
    /// A counter, and its waker.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    /// How often it was woken.
    pub(crate) fn count(&self) -> usize {
        *self.count.lock().expect("nobody panics with it")
    }

    /// Sleeps until it was woken more than `seen` times; how often that is.
    pub(crate) fn wait_for_more(&self, seen: usize) -> usize {
        let count = self.count.lock().expect("nobody panics with it");
        *self.changed.wait_while(count, |count| *count == seen).expect("nobody panics with it")
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        *self.count.lock().expect("nobody panics with it") += 1;
        self.changed.notify_all();
    }
}

/// Runs a future to its end on this thread, which does nothing else: it sleeps until it is woken.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let (wakes, waker) = Wakes::new();
    let mut future = pin!(future);
    loop {
        let seen = wakes.count();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        wakes.wait_for_more(seen);
    }
}

/// Polls once, with this waker.
pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls once, and is not told of anything afterwards.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}
