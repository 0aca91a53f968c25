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
use super::budget::{Budget, CHUNK_BYTES, CHUNK_ENTRIES};
use super::claimed::{Claimed, Held};
use super::completions::{Completions, Gathered};
use super::station::Station;
use crate::memory::region::{Backing, Found, RegionId};
use crate::sqe::Sqe;

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
    /// What is claimed ends after the poll.
    is_asynchronous: bool,
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
        let is_asynchronous = station.capabilities.is_asynchronous();
        Self { station, account, chunk, budget, longest, is_asynchronous, first, refills: 0 }
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

    /// Whether something waits that this poll has not claimed.
    pub(crate) fn has_more(&self) -> bool {
        !self.chunk.is_empty() || !self.station.is_empty()
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

    /// Claims the successor of an operation before its time, if it is this mover's and `wanted`: the mover sees to it
    /// that it begins when the operation has succeeded, and cancels it if not. One that somebody has cancelled already
    /// is marked so.
    ///
    /// If regions are to be `heeded`, none is claimed whose destination is in a file's pages.
    pub(super) fn claim_next(&mut self, held: &mut Held, heeded: bool, wanted: impl Fn(&Sqe) -> bool) -> Option<Held> {
        if held.sqe().next().is_none() || !held.sqe().cuts_off_on_failure() {
            return None;
        }
        let is_ours =
            |next: &Sqe| next.mover() == self.account.mover && wanted(next) && !(heeded && self.is_in_page_cache(next));
        let next = self.account.sequel.take_next(held.sqe(), &is_ours)?;
        held.forget_next();
        self.account.claim(1);
        Some(Held::of(next))
    }

    /// Who drives: a number of its own.
    pub(super) fn driver(&self) -> usize {
        Arc::as_ptr(self.account).addr()
    }

    /// How many bytes this poll may move by the CPU, of a mover whose operations are asynchronous.
    pub(super) fn cpu_bytes(&self) -> u64 {
        self.budget.cpu_bytes
    }

    /// So many are left of them.
    pub(super) fn leave_cpu_bytes(&mut self, bytes: u64) {
        self.budget.cpu_bytes = bytes;
    }

    /// Whether there are registered regions, in which something may be.
    pub(super) fn has_regions(&self) -> bool {
        !self.account.outlet.regions.is_empty()
    }

    /// Whether the destination is in a file's pages that the kernel keeps.
    pub(super) fn is_in_page_cache(&self, sqe: &Sqe) -> bool {
        let len = usize::try_from(sqe.len()).unwrap_or(usize::MAX);
        let found = self.account.outlet.regions.find(RegionId::of(sqe.region()), sqe.dst().addr(), len);
        matches!(found, Found::Inside(Backing::PageCache))
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
        if self.budget.bytes == 0 && self.has_claimed() && !self.budget.is_strict() {
            return Next::NotNow;
        }
        let sqe = self.chunk.sqes[self.chunk.next];
        let is_long = sqe.len() > self.longest || self.budget.is_exceeded_by(sqe.len());
        let has_parts = sqe.has_parts() && !(self.is_asynchronous && sqe.is_sequential());
        match self.station.capabilities.part().filter(|_| is_long && has_parts) {
            Some(part) => self.cut(sqe, part),
            None => {
                self.budget.take(sqe.len());
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
        if self.has_claimed() && !self.budget.is_strict() && !self.is_asynchronous {
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
        self.budget.take(part.len());
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
        self.budget.take(if is_unpaid { 0 } else { bytes });
        (self.first, self.refills) = (0, self.refills + 1);
        self.budget.operations -= taken as u64;
        self.account.claim(taken as u64);
        if !self.station.is_empty() {
            self.station.wake_one();
        }
        true
    }
}
