//! A driver's account: what it claimed, what it completed, and where its completions go.

use std::sync::Arc;

use memring_ring::Counter;

use super::outlet::Outlet;
use crate::cqe::{Cqe, Status};
use crate::sqe::{MoverId, Sqe};

/// The books of one driver. The driver writes them; anyone may read them.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) mover: MoverId,
    pub(crate) outlet: Arc<Outlet>,
    quiescent_on_panic: bool,
    claimed: Counter,
    operations: Counter,
    bytes: Counter,
    batches: Counter,
    abandoned: Counter,
    /// Operations that ended otherwise than in a poll of this driver: their tokens were dropped, or completed by
    /// another driver. Counted apart, since any thread may do that.
    ended_elsewhere: Counter,
    bytes_elsewhere: Counter,
}

impl Account {
    pub(crate) fn new(mover: MoverId, outlet: Arc<Outlet>, quiescent_on_panic: bool) -> Self {
        Self {
            mover,
            outlet,
            quiescent_on_panic,
            claimed: Counter::new(),
            operations: Counter::new(),
            bytes: Counter::new(),
            batches: Counter::new(),
            abandoned: Counter::new(),
            ended_elsewhere: Counter::new(),
            bytes_elsewhere: Counter::new(),
        }
    }

    /// Counts operations that the driver took on.
    #[inline]
    pub(crate) fn claim(&self, operations: u64) {
        self.claimed.bump(operations);
    }

    /// Counts a batch of completed operations, and the bytes of those that succeeded.
    #[inline]
    pub(crate) fn record(&self, operations: u64, bytes: u64) {
        self.operations.bump(operations);
        self.bytes.bump(bytes);
        self.batches.bump(1);
    }

    /// A token was dropped instead of completed. Says so, unless a panic leaves open whether its memory is still in
    /// use.
    #[cold]
    pub(super) fn token_dropped(&self, sqe: &Sqe) {
        if self.quiescent_on_panic || !std::thread::panicking() {
            self.end_elsewhere(Cqe::new(sqe.data(), Status::JOB_CORRUPTED, self.mover), 0);
        }
    }

    /// A token was completed by another driver, perhaps of another queue: it ends where it was claimed.
    #[cold]
    pub(super) fn end_elsewhere(&self, cqe: Cqe, bytes: u64) {
        self.ended_elsewhere.add(1);
        self.bytes_elsewhere.add(bytes);
        self.outlet.post(&[cqe]);
    }

    /// Operations that the mover holds: claimed, not ended, and not among those that still wait in its driver's chunk.
    pub(crate) fn held(&self, waits: u64) -> u64 {
        self.claimed.get() - self.operations() - self.abandoned.get() - waits
    }

    /// Gives up, for good, what its mover holds: all that was claimed and has not ended, but for what still `waits` in
    /// the driver's chunk.
    pub(crate) fn abandon_held(&self, waits: u64) {
        let held = self.held(waits);
        self.abandoned.bump(held);
        self.outlet.abandon(held);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.get() + self.ended_elsewhere.get()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get().saturating_add(self.bytes_elsewhere.get())
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches.get()
    }
}
