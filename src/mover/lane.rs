//! The way in: a mover's lane, as one poll sees it.

use std::sync::Arc;

use super::account::Account;
use super::claimed::Claimed;
use super::station::Station;
use crate::sqe::Sqe;

/// Entries that one claim takes at the most. 32 measured better than 128: drivers share a batch more evenly.
pub(super) const CHUNK_ENTRIES: usize = 32;
/// Bytes after which a claim takes no further entry: a driver holds back little that another could do.
const CHUNK_BYTES: u64 = 256 << 10;

/// Entries that a driver has taken from its lane and not handed to its mover yet.
#[derive(Debug)]
pub(crate) struct Chunk {
    sqes: [Sqe; CHUNK_ENTRIES],
    next: usize,
    len: usize,
    /// Whether a claim of the last poll was refused: the lane was empty, or the budget spent.
    exhausted: bool,
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self { sqes: [Sqe::nop(); CHUNK_ENTRIES], next: 0, len: 0, exhausted: false }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.len
    }

    /// Whether the mover has claimed all that the last poll let it.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// What the next claim will yield, if it was taken already.
    pub(crate) fn peek(&self) -> Option<&Sqe> {
        self.sqes[..self.len].get(self.next)
    }

    /// Operations taken and not handed out.
    pub(crate) fn len(&self) -> usize {
        self.len - self.next
    }
}

/// How much one poll may claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
}

impl Budget {
    /// One chunk: what a driver thread claims before it looks around.
    pub(crate) const CHUNK: Self = Self { bytes: CHUNK_BYTES, operations: CHUNK_ENTRIES as u64 };

    /// Nothing but what the driver has taken already.
    pub(crate) const NOTHING: Self = Self { bytes: 0, operations: 0 };

    pub(crate) fn is_spent(self) -> bool {
        self.bytes == 0 || self.operations == 0
    }
}

/// A mover's lane, for the length of one poll.
#[derive(Debug)]
pub struct Lane<'a> {
    station: &'a Station,
    account: &'a Arc<Account>,
    chunk: &'a mut Chunk,
    budget: &'a mut Budget,
}

impl<'a> Lane<'a> {
    #[inline]
    pub(crate) fn new(
        station: &'a Station,
        account: &'a Arc<Account>,
        chunk: &'a mut Chunk,
        budget: &'a mut Budget,
    ) -> Self {
        chunk.exhausted = false;
        Self { station, account, chunk, budget }
    }

    /// Claims the next operation, if there is one and this poll may still take it.
    #[inline]
    pub fn claim(&mut self) -> Option<Claimed<'_>> {
        self.claim_ahead().map(|(claimed, _)| claimed)
    }

    /// As [`claim`](Lane::claim), with what the next claims will yield at no cost.
    #[inline]
    pub(crate) fn claim_ahead(&mut self) -> Option<(Claimed<'_>, &Chunk)> {
        if self.chunk.is_empty() && !self.refill() {
            self.chunk.exhausted = true;
            return None;
        }
        let sqe = self.chunk.sqes.get(self.chunk.next)?;
        self.chunk.next += 1;
        Some((Claimed::new(sqe, self.account), self.chunk))
    }

    /// Takes a chunk from the ring, at the budget's cost; if more is left there, another driver hears of it.
    fn refill(&mut self) -> bool {
        if self.budget.is_spent() {
            return false;
        }
        let most = self.budget.operations.min(self.station.capabilities.claims_together() as u64);
        #[expect(clippy::cast_possible_truncation, reason = "no more than CHUNK_ENTRIES")]
        let into = &mut self.chunk.sqes[..most as usize];
        let (taken, bytes) = self.station.lane.pop(into, CHUNK_BYTES.min(self.budget.bytes), Sqe::len);
        if taken == 0 {
            return false;
        }
        (self.chunk.next, self.chunk.len) = (0, taken);
        self.budget.bytes = self.budget.bytes.saturating_sub(bytes);
        self.budget.operations -= taken as u64;
        self.account.claim(taken as u64);
        if !self.station.is_empty() {
            self.station.wake_one();
        }
        true
    }
}
