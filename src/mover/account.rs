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
    /// Tokens dropped without completion: counted apart, since they may be dropped on any thread.
    dropped: Counter,
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
            dropped: Counter::new(),
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

    /// As [`record`](Account::record), where several threads share one account: the submitters of the inline mover.
    #[inline]
    pub(crate) fn record_shared(&self, operations: u64, bytes: u64) {
        self.operations.add(operations);
        self.bytes.add(bytes);
        self.batches.add(1);
    }

    /// A token was dropped instead of completed. Says so, unless a panic leaves open whether its memory is still in use.
    #[cold]
    pub(super) fn token_dropped(&self, sqe: &Sqe) {
        if self.quiescent_on_panic || !std::thread::panicking() {
            self.dropped.add(1);
            self.outlet.post(&[Cqe::new(sqe.data(), Status::JOB_CORRUPTED, self.mover)]);
        }
    }

    /// Gives up, for good, what is claimed and not ended.
    pub(crate) fn abandon_claimed(&self) {
        self.outlet.abandon(self.claimed.get() - self.operations());
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.get() + self.dropped.get()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches.get()
    }
}
