//! Where one poll reports what is done: completions are gathered and posted together.

use std::sync::Arc;

use super::account::Account;
use super::claimed::Token;
use crate::cqe::{Cqe, Status};
use crate::memory::Stores;
use crate::sqe::ROUTED;

/// Completions gathered before they are posted: as many as a claim has operations.
const GATHER: usize = 32;

/// Room for the completions of one poll; a driver keeps it between polls.
#[derive(Debug)]
pub(crate) struct Gathered {
    cqes: [Cqe; GATHER],
    len: usize,
}

impl Gathered {
    pub(crate) fn new() -> Self {
        Self { cqes: [Cqe::new(0, Status::SUCCESS, ROUTED); GATHER], len: 0 }
    }

    /// Adds one, and says whether the room is full now: then it must be taken.
    #[inline]
    pub(crate) fn add(&mut self, cqe: Cqe) -> bool {
        self.cqes[self.len] = cqe;
        self.len += 1;
        self.len == GATHER
    }

    /// What was gathered since the last time, to be posted.
    #[inline]
    pub(crate) fn take(&mut self) -> &[Cqe] {
        let len = core::mem::take(&mut self.len);
        &self.cqes[..len]
    }
}

/// Where a poll reports what is done.
///
/// Completions are gathered and posted together, at the latest when the poll returns.
#[derive(Debug)]
pub struct Completions<'a> {
    pub(super) account: &'a Arc<Account>,
    gathered: &'a mut Gathered,
    operations: u64,
    bytes: u64,
    /// What the operations since the last post have stored.
    stores: Stores,
}

impl<'a> Completions<'a> {
    #[inline]
    pub(crate) fn new(account: &'a Arc<Account>, gathered: &'a mut Gathered) -> Self {
        Self { account, gathered, operations: 0, bytes: 0, stores: Stores::Plain }
    }

    /// The operation has ended like this; its memory is the submitter's again.
    #[inline]
    pub fn complete(&mut self, token: impl Token, status: Status) {
        self.complete_with(token, status, 0);
    }

    /// As [`complete`](Completions::complete), with a value for the completion.
    #[inline]
    pub fn complete_with(&mut self, token: impl Token, status: Status, value: u32) {
        let Some((cqe, bytes)) = token.end(status, value, self) else { return };
        self.operations += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.gathered.add(cqe) {
            self.post();
        }
    }

    /// As [`complete_with`](Completions::complete_with), for an operation whose stores may need a fence: one fence for
    /// all that are posted together.
    #[inline]
    pub(super) fn complete_after(&mut self, stores: Stores, token: impl Token, status: Status, value: u32) {
        self.stores = self.stores.and(stores);
        self.complete_with(token, status, value);
    }

    /// Fences and counts, then posts: whoever has reaped a completion finds it counted.
    #[inline]
    fn post(&mut self) {
        std::mem::take(&mut self.stores).fence();
        self.account.record(self.operations, self.bytes);
        (self.operations, self.bytes) = (0, 0);
        self.account.outlet.post(self.gathered.take());
    }
}

impl Drop for Completions<'_> {
    /// Posts what was gathered, also when the poll panicked: those operations have ended.
    #[inline]
    fn drop(&mut self) {
        if self.operations > 0 {
            self.post();
        }
    }
}
