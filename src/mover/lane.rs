//! The way in: a mover's lane, as one poll sees it.
//!
//! ```text
//!   the ring ──refill──▶ chunk ──claim──▶ token        a long entry: ──cut──▶ token of a part
//!                          ▲                                           └────▶ the rest, back into the ring
//!   successors ────────────┘
//! ```
//!
//! The next member of a chain whose last one ended under this driver does not pass through the ring again: the driver
//! keeps it. A long entry is done part by part. The rest goes back into the ring *before* the part is done, so that
//! other drivers share it, and behind all that waits there, so that none of them is held up by more than a part. Where
//! the operation writes over its own source, the rest goes back *after* the part.

use std::sync::Arc;

use super::account::Account;
use super::claimed::Claimed;
use super::completions::{Completions, Gathered};
use super::station::Station;
use crate::sqe::Sqe;

/// Entries that one claim takes at the most. 32 measured better than 128: drivers share a batch more evenly.
pub(super) const CHUNK_ENTRIES: usize = 32;
/// Bytes after which a claim takes no further entry: a driver holds back little that another could do.
const CHUNK_BYTES: u64 = 256 << 10;
/// A budget makes no part shorter than this, bytes: the cutting would cost more than the copying.
const LEAST_PART: u64 = 4096;

/// Entries that a driver has taken from its lane and not handed to its mover yet.
#[derive(Debug)]
pub(crate) struct Chunk {
    sqes: [Sqe; CHUNK_ENTRIES],
    next: usize,
    len: usize,
    /// Whether some of them may be too long for the poll that claims them, and are not paid for yet.
    is_unpaid: bool,
    /// Whether a claim of the last poll was refused: the lane was empty, or the budget spent.
    exhausted: bool,
    rest: Option<Rest>,
}

/// What is left of an operation and must wait until the mover returns from its poll.
#[derive(Debug)]
enum Rest {
    /// It goes on when the part before it is done, which was claimed last.
    InTurn(Sqe),
    /// It goes no further, since a part of it has failed: it ends.
    Lost(Sqe),
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self { sqes: [Sqe::nop(); CHUNK_ENTRIES], next: 0, len: 0, is_unpaid: false, exhausted: false, rest: None }
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

    /// Takes out all that was not handed out.
    pub(crate) fn take_all(&mut self) -> &[Sqe] {
        let waiting = std::mem::replace(&mut self.next, self.len)..self.len;
        &self.sqes[waiting]
    }

    /// An entry with this user data that has not begun: taken out, one at a time.
    pub(crate) fn withdraw(&mut self, user_data: u64) -> Option<Sqe> {
        let waiting = &mut self.sqes[self.next..self.len];
        let at = waiting.iter().position(|sqe| sqe.data() == user_data && sqe.record().is_none())?;
        waiting[at..].rotate_left(1);
        self.len -= 1;
        Some(self.sqes[self.len])
    }

    /// After a poll, the part before the rest is done: gives the rest back to the lane, or ends it if the operation is
    /// lost. Whether others can go on with it.
    pub(crate) fn settle_rest(&mut self, station: &Station, done: &mut Completions<'_>) -> bool {
        let Some(rest) = self.rest.take() else { return false };
        match rest {
            Rest::InTurn(rest) if !done.account.outlet.is_lost(&rest) => {
                done.account.settle(1);
                station.push_batch(&[rest]);
                true
            }
            Rest::InTurn(rest) | Rest::Lost(rest) => {
                done.end_lost(rest);
                false
            }
        }
    }
}

/// How much one poll may claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
    /// The bytes that a strict one began with. Of a strict one not even the last operation may go beyond the bytes: it
    /// is cut, if its mover allows that.
    strict: Option<u64>,
}

impl Budget {
    /// One chunk: what a driver thread claims before it looks around.
    pub(crate) const CHUNK: Self = Self { bytes: CHUNK_BYTES, operations: CHUNK_ENTRIES as u64, strict: None };

    pub(crate) fn strict(bytes: u64, operations: u64) -> Self {
        Self { bytes, operations, strict: Some(bytes) }
    }

    /// How many bytes of a longer entry may be done. None: not now.
    fn room(self) -> Option<u64> {
        match self.strict {
            None => Some(u64::MAX),
            Some(_) if self.bytes >= LEAST_PART => Some(self.bytes),
            Some(all) => (self.bytes == all).then_some(LEAST_PART),
        }
    }

    pub(crate) fn is_spent(self) -> bool {
        self.bytes == 0 || self.operations == 0
    }

    /// Whether an entry of this length must not be claimed whole.
    #[inline]
    fn is_exceeded_by(self, len: u64) -> bool {
        self.strict.is_some() && len > self.bytes
    }
}

/// What became of the next entry of a chunk.
enum Next {
    /// It may be claimed, or a part of it that stands in its place.
    Ready,
    /// It must wait for another poll.
    NotNow,
    /// It was the rest of an operation that has failed, and stands there no more.
    Lost,
}

/// A mover's lane, for the length of one poll.
#[derive(Debug)]
pub struct Lane<'a> {
    station: &'a Station,
    account: &'a Arc<Account>,
    chunk: &'a mut Chunk,
    budget: &'a mut Budget,
    /// Longer entries are cut.
    longest: u64,
    /// The entry of the chunk that this poll began with.
    first: usize,
    /// Chunks that this poll has taken.
    refills: u32,
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
        let (longest, first) = (station.capabilities.longest_whole(), chunk.next);
        Self { station, account, chunk, budget, longest, first, refills: 0 }
    }

    /// Takes on the successors that earlier polls have left to this driver, as far as there is room.
    #[cold]
    pub(crate) fn take_successors(&mut self, gathered: &mut Gathered) {
        if !self.chunk.is_empty() {
            return;
        }
        let taken = gathered.take_successors(&mut self.chunk.sqes);
        (self.chunk.next, self.chunk.len, self.chunk.is_unpaid) = (0, taken, true);
        self.first = 0;
        self.account.claim(taken as u64);
    }

    /// Claims the next operation, if there is one and this poll may still take it.
    #[inline]
    pub fn claim(&mut self) -> Option<Claimed<'_>> {
        self.claim_ahead().map(|(claimed, _)| claimed)
    }

    /// As [`claim`](Lane::claim), with what the next claims will yield at no cost.
    #[inline]
    pub(crate) fn claim_ahead(&mut self) -> Option<(Claimed<'_>, &Chunk)> {
        if (self.chunk.is_empty() || self.chunk.is_unpaid) && !self.make_ready() {
            self.chunk.exhausted = true;
            return None;
        }
        let sqe = self.chunk.sqes.get(self.chunk.next)?;
        self.chunk.next += 1;
        Some((Claimed::new(sqe, self.account), self.chunk))
    }

    /// Sees to it that the chunk's next entry may be claimed as it stands there; false if there is none for this poll.
    #[inline(never)]
    fn make_ready(&mut self) -> bool {
        while !self.chunk.is_empty() || self.refill() {
            if !self.chunk.is_unpaid {
                return true;
            }
            match self.pay() {
                Next::Ready => return true,
                Next::NotNow => return false,
                Next::Lost => {}
            }
        }
        false
    }

    /// Takes the next entry, of a chunk that may have long ones, from the budget; cuts it, if it is too long.
    fn pay(&mut self) -> Next {
        if self.budget.bytes == 0 && self.has_claimed() && self.budget.strict.is_none() {
            return Next::NotNow;
        }
        let sqe = self.chunk.sqes[self.chunk.next];
        let is_long = sqe.len() > self.longest || self.budget.is_exceeded_by(sqe.len());
        match self.station.capabilities.part().filter(|_| is_long && sqe.has_parts()) {
            Some(part) => self.cut(sqe, part),
            None => {
                self.budget.bytes = self.budget.bytes.saturating_sub(sqe.len());
                Next::Ready
            }
        }
    }

    /// Puts a part in the place of the next entry, which is longer than this poll may do, and the rest where others
    /// find it.
    #[cold]
    fn cut(&mut self, sqe: Sqe, part: u64) -> Next {
        let is_lost = self.account.outlet.is_lost(&sqe);
        let Some(room) = self.budget.room() else { return Next::NotNow };
        // Nobody else reaps what a strict poll ends before it returns.
        if self.has_claimed() && self.budget.strict.is_none() {
            return Next::NotNow;
        }
        if self.chunk.rest.is_some() && (is_lost || sqe.is_sequential()) {
            return Next::NotNow;
        }
        if is_lost {
            self.chunk.next += 1;
            self.chunk.rest = Some(Rest::Lost(sqe));
            return Next::Lost;
        }
        let part = part.min(room);
        let cut = (part < sqe.len()).then(|| self.account.outlet.cut(sqe, part)).flatten();
        let (part, rest) = cut.map_or((sqe, None), |(part, rest)| (part, Some(rest)));
        self.budget.bytes = self.budget.bytes.saturating_sub(part.len());
        self.chunk.sqes[self.chunk.next] = part;
        match rest {
            Some(rest) if sqe.is_sequential() => {
                self.account.claim(1);
                self.chunk.rest = Some(Rest::InTurn(rest));
            }
            Some(rest) => {
                self.station.push_batch(&[rest]);
                self.station.wake_one();
            }
            None => {}
        }
        Next::Ready
    }

    /// Whether this poll has claimed something already: its completion would wait for a part to be done.
    fn has_claimed(&self) -> bool {
        self.refills > 1 || self.chunk.next != self.first
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
        // If all of them together are not too long, none is.
        let is_unpaid = bytes > self.longest || self.budget.is_exceeded_by(bytes);
        (self.chunk.next, self.chunk.len, self.chunk.is_unpaid) = (0, taken, is_unpaid);
        self.budget.bytes = if is_unpaid { self.budget.bytes } else { self.budget.bytes.saturating_sub(bytes) };
        (self.first, self.refills) = (0, self.refills + 1);
        self.budget.operations -= taken as u64;
        self.account.claim(taken as u64);
        if !self.station.is_empty() {
            self.station.wake_one();
        }
        true
    }
}
