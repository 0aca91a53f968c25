//! Parkers: how a thread that blocks is woken, as a [`Waker`] like any other.
//!
//! A wake is a number that goes up, so one that comes while its thread does something else is not lost, and blocking
//! calls inside blocking calls do not take each other's wakes.

use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::os::lock;
use crate::queue::Arm;

/// How often who blocks looks again at a mover that does not signal.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// One thread's wakes.
#[derive(Debug, Default)]
pub(super) struct Parker {
    wakes: Mutex<u64>,
    changed: Condvar,
}

impl Parker {
    /// This thread's parker, and the waker that wakes it. They are made once for a thread.
    pub(super) fn of_this_thread() -> (Arc<Self>, Waker) {
        thread_local! {
            static OWN: (Arc<Parker>, Waker) = pair();
        }
        // A thread that is about to end has none any more: it makes one for this call.
        OWN.try_with(Clone::clone).unwrap_or_else(|_| pair())
    }

    /// How often it was woken.
    pub(super) fn wakes(&self) -> u64 {
        *lock(&self.wakes)
    }

    /// Sleeps while it has been woken `seen` times, for at most `limit`.
    pub(super) fn sleep(&self, seen: u64, limit: Option<Duration>) {
        let wakes = lock(&self.wakes);
        // Whatever the outcome, the caller looks again.
        match limit {
            None => drop(self.changed.wait_while(wakes, |wakes| *wakes == seen)),
            Some(limit) => drop(self.changed.wait_timeout_while(wakes, limit, |wakes| *wakes == seen)),
        }
    }

    /// Sleeps after a turn, as what the turn has left allows.
    pub(super) fn rest(&self, seen: u64, arm: Arm) {
        match arm {
            Arm::NotEmpty => {}
            Arm::MustPoll => self.sleep(seen, Some(LOOK_AGAIN)),
            Arm::Armed => self.sleep(seen, None),
        }
    }

    pub(super) fn unpark(&self) {
        *lock(&self.wakes) += 1;
        self.changed.notify_one();
    }
}

fn pair() -> (Arc<Parker>, Waker) {
    let parker = Arc::new(Parker::default());
    (Arc::clone(&parker), Waker::from(parker))
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}
