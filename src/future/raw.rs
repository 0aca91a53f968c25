//! Raw operations: one entry each, for whose memory somebody else vouches, in a place that was opened ahead. For the
//! layer above.
#![expect(unsafe_code, reason = "hands on the contract of a push")]

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread;

use memring_ring::slot::Key;

use super::failed::{BlockError, OpError};
use super::ring::Ring;
use super::shared::Shared;
use super::turns::Seen;
use crate::os::abort;
use crate::sqe::Sqe;

/// A ring of which raw operations are all that there is: nobody stands in line.
#[derive(Debug)]
pub(crate) struct RawRing(Arc<Shared>);

impl RawRing {
    pub(crate) fn new(ring: &Ring) -> Self {
        Self(Arc::clone(&ring.shared))
    }

    /// Opens a place for one operation. None: this is a forked child.
    pub(crate) fn open(&self) -> Option<Key> {
        // There somebody may hold the lock for ever.
        (!self.0.direct.is_forked()).then(|| self.0.entrance.open(&self.0.places, 1))
    }

    /// Closes a place in which nothing has begun.
    pub(crate) fn close_unused(&self, key: Key) {
        if !self.0.direct.is_forked() {
            self.0.entrance.close_unused(&self.0.places, key);
        }
    }

    /// Begins the operation of a place. If it is refused, the place is closed.
    ///
    /// # Safety
    ///
    /// The push's contract holds for the entry until the place is complete, or until [`end`](RawRing::end) has
    /// returned.
    pub(crate) unsafe fn begin(&self, key: Key, sqe: Sqe) -> Result<(), OpError> {
        if self.0.direct.is_forked() {
            return Err(OpError::Forked);
        }
        // SAFETY: the caller vouches for it.
        if unsafe { self.0.entrance.begin_in(&self.0.places, key, sqe) }? {
            self.0.answer_call();
        }
        Ok(())
    }

    /// Whether a place that has begun is complete, and how; else `waker` will be woken, and no other. `seen` is its
    /// future's, from poll to poll.
    pub(crate) fn poll(&self, key: Key, seen: &mut Seen, waker: &Waker) -> Poll<Option<OpError>> {
        let outcome = self.0.poll(key, seen, waker);
        if outcome.is_ready() {
            drop(self.0.finish(key));
        }
        outcome
    }

    /// Walks away from a place that has begun, and leaves something to be dropped at its end; or drops it now, if that
    /// has come.
    pub(crate) fn abandon(&self, key: Key, left: impl Send + 'static) {
        let mut left = Some(left);
        let _ = self.0.abandon(key, || Box::new(left.take()));
    }

    /// Closes the ring, and waits until no mover touches the memory of an operation any more.
    pub(crate) fn end(&self) {
        let parts = &**self.0;
        match parts.may_block() {
            Ok(()) => parts.wait_for_end(),
            Err(BlockError::Forked) => {}
            Err(BlockError::WouldDeadlock) => {
                while !parts.poll_shutdown(Waker::noop()) {
                    if parts.direct.is_closed() {
                        let operations = parts.direct.in_flight();
                        abort(format_args!("dropped on a driver thread over {operations} operations under way"));
                    }
                    thread::yield_now();
                }
            }
        }
    }
}
