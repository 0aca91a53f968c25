//! A driver's account: what it claimed, what it completed, and where its completions go.

use std::sync::Arc;

use memring_ring::Counter;

use super::outlet::Outlet;
use super::sequel::{Ended, Sequel};
use super::tally::Tally;
use crate::cqe::{Cqe, Status};
use crate::sqe::{MoverId, Sqe};

/// The books of one driver. The driver writes them; anyone may read them.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) mover: MoverId,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) sequel: Arc<dyn Sequel>,
    pub(crate) tally: Tally,
    quiescent_on_panic: bool,
    /// Tokens that the driver took on, and those that have ended under it: an operation, or a part of one, each.
    claimed: Counter,
    ended: Counter,
    abandoned: Counter,
    recovered: Counter,
    /// Tokens that ended otherwise than in a poll of this driver: they were dropped, or completed by another driver.
    /// Counted apart, since any thread may do that.
    ended_elsewhere: Counter,
}

impl Account {
    pub(crate) fn new(mover: MoverId, outlet: Arc<Outlet>, sequel: Arc<dyn Sequel>, quiescent_on_panic: bool) -> Self {
        Self {
            mover,
            outlet,
            sequel,
            tally: Tally::default(),
            quiescent_on_panic,
            claimed: Counter::new(),
            ended: Counter::new(),
            abandoned: Counter::new(),
            recovered: Counter::new(),
            ended_elsewhere: Counter::new(),
        }
    }

    /// Counts tokens that the driver took on.
    #[inline]
    pub(crate) fn claim(&self, tokens: u64) {
        self.claimed.bump(tokens);
    }

    /// Counts tokens that ended, or were given back, under their own driver.
    #[inline]
    pub(crate) fn settle(&self, tokens: u64) {
        self.ended.bump(tokens);
    }

    /// Counts a batch of tokens that ended under their own driver, the operations that ended with them, and the bytes
    /// of those that succeeded.
    #[inline]
    pub(crate) fn record(&self, tokens: u64, operations: u64, bytes: u64) {
        self.settle(tokens);
        self.tally.record(operations, bytes);
    }

    /// Posts completions, and counts `silent` operations that end without one.
    #[inline]
    pub(crate) fn post(&self, cqes: &[Cqe], silent: u64) {
        if self.outlet.post(cqes, silent) {
            self.sequel.open_barrier();
        }
    }

    /// A token was dropped instead of completed. Says so, unless a panic leaves open whether its memory is still in
    /// use.
    #[cold]
    pub(super) fn token_dropped(&self, sqe: &Sqe) {
        if self.quiescent_on_panic || !std::thread::panicking() {
            self.end_elsewhere(*sqe, Status::JOB_CORRUPTED, 0);
        }
    }

    /// A token was dropped, or completed by another driver, perhaps of another queue: it ends where it was claimed.
    #[cold]
    pub(super) fn end_elsewhere(&self, sqe: Sqe, status: Status, value: u32) {
        self.ended_elsewhere.add(1);
        if self.abandoned.get() > self.recovered.get() {
            // Its instance broke down, and another one knew of it.
            self.recovered.add(1);
            self.outlet.recover();
        }
        self.tally.add(0, done(&sqe, status));
        let Some(ended) = self.outlet.join(sqe, status, value) else { return };
        self.end(ended);
        if ended.sqe.next().is_some()
            && let Some(next) = self.sequel.follow(ended, &mut |ended| self.end(ended))
        {
            self.sequel.send(next);
        }
    }

    /// Counts an operation's end and tells it at once.
    fn end(&self, ended: Ended) {
        let is_own = ended.sqe.mover() == self.mover;
        let tally = if is_own { &self.tally } else { self.sequel.tally(&ended.sqe) };
        tally.add(1, ended.uncounted);
        if self.outlet.tell(ended) {
            self.sequel.open_barrier();
        }
    }

    /// Tokens that the mover holds: claimed, not ended, and not among those that still wait in its driver's chunk.
    pub(crate) fn held(&self, waits: u64) -> u64 {
        let abandoned = self.abandoned.get().saturating_sub(self.recovered.get());
        let settled = self.ended.get() + self.ended_elsewhere.get() + abandoned + waits;
        // Of a mover that broke down, the parts of this may be out of step for a moment.
        self.claimed.get().saturating_sub(settled)
    }

    /// Gives up, for good, what its mover holds: all that was claimed and has not ended, but for what still `waits` in
    /// the driver's chunk.
    pub(crate) fn abandon_held(&self, waits: u64) {
        let held = self.held(waits);
        self.abandoned.bump(held);
        self.outlet.abandon(held);
    }
}

/// The bytes that count as done.
#[inline]
pub(super) fn done(sqe: &Sqe, status: Status) -> u64 {
    if status.is_success() { sqe.len() } else { 0 }
}
