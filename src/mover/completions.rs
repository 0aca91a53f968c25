//! Where one poll reports what is done: completions are gathered and posted together.

use std::sync::Arc;

use super::account::{Account, done};
use super::claimed::Token;
use super::guard::Guard;
use super::in_use::InUse;
use super::sequel::{Ended, Telling};
use crate::cqe::{Cqe, Status};
use crate::memory::Stores;
use crate::sqe::{ROUTED, Sqe};

/// Completions gathered before they are posted: as many as a claim has operations.
const GATHER: usize = 32;

/// Room for what comes of one poll; a driver keeps it between polls.
#[derive(Debug)]
pub(crate) struct Gathered {
    cqes: [Cqe; GATHER],
    len: usize,
    /// Next members of chains, for the driver that ended those before them.
    successors: [Sqe; GATHER],
    successors_len: usize,
}

impl Gathered {
    /// How many completions it has room for.
    pub(crate) const ROOM: usize = GATHER;

    pub(crate) fn new() -> Self {
        Self {
            cqes: [Cqe::new(0, Status::SUCCESS, ROUTED); GATHER],
            len: 0,
            successors: [Sqe::nop(); GATHER],
            successors_len: 0,
        }
    }

    /// Room for completions that are posted together.
    #[inline]
    pub(crate) fn room(&mut self) -> &mut [Cqe] {
        &mut self.cqes
    }

    /// Adds one, and says whether the room is full now: then it must be taken.
    #[inline]
    fn add(&mut self, cqe: Cqe) -> bool {
        self.cqes[self.len] = cqe;
        self.len += 1;
        self.len == GATHER
    }

    /// Lets the last one stand for one operation more, if it can.
    fn join(&mut self, cqe: Cqe) -> bool {
        let Some(last) = self.cqes[..self.len].last_mut() else { return false };
        let joined = last.joined_by(cqe);
        *last = joined.unwrap_or(*last);
        joined.is_some()
    }

    /// What was gathered since the last time, to be posted.
    #[inline]
    fn take(&mut self) -> &[Cqe] {
        let len = core::mem::take(&mut self.len);
        &self.cqes[..len]
    }

    /// Whether there was room for this successor.
    fn keep(&mut self, successor: Sqe) -> bool {
        let Some(place) = self.successors.get_mut(self.successors_len) else { return false };
        *place = successor;
        self.successors_len += 1;
        true
    }

    /// Whether entries wait that this driver has to do next.
    #[inline]
    pub(crate) fn has_successors(&self) -> bool {
        self.successors_len > 0
    }

    /// Moves successors out, as many as there is room for; returns how many.
    pub(crate) fn take_successors(&mut self, into: &mut [Sqe]) -> usize {
        let count = self.successors_len.min(into.len());
        into[..count].copy_from_slice(&self.successors[..count]);
        self.successors.copy_within(count..self.successors_len, 0);
        self.successors_len -= count;
        count
    }

    /// Whoever waits there with this user data: taken out, one at a time.
    pub(crate) fn withdraw_successor(&mut self, user_data: u64) -> Option<Sqe> {
        let waiting = &mut self.successors[..self.successors_len];
        let at = waiting.iter().position(|sqe| sqe.data() == user_data)?;
        waiting[at..].rotate_left(1);
        self.successors_len -= 1;
        Some(self.successors[self.successors_len])
    }
}

/// Where a poll reports what is done.
///
/// Completions are gathered and posted together, at the latest when the poll returns.
#[derive(Debug)]
pub struct Completions<'a> {
    pub(super) account: &'a Arc<Account>,
    gathered: &'a mut Gathered,
    /// Tokens and operations that ended, beyond one of each for each completion gathered; wrapping, so it may be less.
    tokens_beyond: u64,
    operations_beyond: u64,
    bytes: u64,
    /// Operations that end without a completion, or within another's.
    silent: u64,
    /// What the operations since the last post have stored.
    stores: Stores,
}

impl<'a> Completions<'a> {
    #[inline]
    pub(crate) fn new(account: &'a Arc<Account>, gathered: &'a mut Gathered) -> Self {
        Self { account, gathered, tokens_beyond: 0, operations_beyond: 0, bytes: 0, silent: 0, stores: Stores::Plain }
    }

    /// The operation has ended like this; its memory is the submitter's again.
    #[inline]
    pub fn complete(&mut self, token: impl Token, status: Status) {
        self.complete_with(token, status, 0);
    }

    /// As [`complete`](Completions::complete), with a value for the completion.
    #[inline]
    pub fn complete_with(&mut self, token: impl Token, status: Status, value: u32) {
        token.end(status, value, self);
    }

    /// Counts so many operations, or parts of some, that the mover did otherwise than by its own means: by the CPU, in
    /// place of its device. They are told as [`MoverStats::fallbacks`](crate::queue::MoverStats::fallbacks).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::mover::{Capabilities, Completions, DataMover, Lane, Progress};
    /// use memring::queue::{Drive, QueuePair};
    /// use memring::{Opcode, Sqe, Status};
    ///
    /// struct WithoutDevice;
    ///
    /// // SAFETY: touches no memory: it is given nops only.
    /// unsafe impl DataMover for WithoutDevice {
    ///     fn capabilities(&self) -> Capabilities {
    ///         Capabilities::new(&[Opcode::Nop])
    ///     }
    ///     fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
    ///         let Some(token) = lane.claim() else { return Progress::Idle };
    ///         done.complete(token, Status::SUCCESS);
    ///         done.fell_back(1);
    ///         Progress::Busy
    ///     }
    /// }
    ///
    /// let pair = QueuePair::builder().mover("device", Drive::Caller, || WithoutDevice).build()?;
    /// let device = pair.mover("device").expect("it was just added");
    /// let (mut sq, mut cq) = pair.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop().on(device)) }?;
    /// sq.submit();
    /// assert_eq!(cq.drain().count(), 1);
    /// assert_eq!(cq.stats().mover(device).fallbacks, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fell_back(&mut self, count: u64) {
        self.account.tally.record_fallbacks(count);
    }

    /// The queue's fault guard, if it has one: for what a mover of memring's own does by the CPU.
    pub(super) fn guard(&self) -> Option<Guard> {
        self.account.sequel.guard()
    }

    /// As [`complete_with`](Completions::complete_with), for an operation whose stores may need a fence: one fence for
    /// all that are posted together.
    #[inline]
    pub(super) fn complete_after(&mut self, stores: Stores, token: impl Token, status: Status, value: u32) {
        self.stores = self.stores.and(stores);
        self.complete_with(token, status, value);
    }

    /// As [`complete_after`](Completions::complete_after), for an entry that the caller executed without a token.
    pub(crate) fn complete_inline(&mut self, stores: Stores, sqe: &Sqe, status: Status, value: u32) {
        self.stores = self.stores.and(stores);
        self.end(sqe, status, value);
    }

    /// Ends an entry that was claimed here.
    #[inline]
    pub(super) fn end(&mut self, sqe: &Sqe, status: Status, value: u32) {
        if InUse::IS_CHECKED || !sqe.is_ordinary() {
            return self.end_special(*sqe, status, value);
        }
        self.bytes = self.bytes.saturating_add(done(sqe, status));
        if self.gathered.add(Cqe::new(sqe.data(), status, self.account.mover).with_value(value)) {
            self.post();
        }
    }

    /// Ends an entry whose end is more than a completion: it has flags, successors, or other parts.
    #[inline(never)]
    fn end_special(&mut self, sqe: Sqe, status: Status, value: u32) {
        if sqe.record().is_some() {
            self.end_part(done(&sqe, status));
        } else {
            self.tokens_beyond = self.tokens_beyond.wrapping_add(1);
            self.bytes = self.bytes.saturating_add(done(&sqe, status));
        }
        if let Some(ended) = self.account.outlet.join(sqe, status, value) {
            self.go_on(ended);
        }
    }

    /// Before a part counts as done, its stores are fenced and its bytes are in the books: another driver may be the
    /// one that posts the completion.
    fn end_part(&mut self, bytes: u64) {
        std::mem::take(&mut self.stores).fence();
        self.account.settle(1);
        self.account.tally.record_part(bytes);
    }

    /// The rest of an operation that is lost already ends without having begun.
    pub(crate) fn end_lost(&mut self, rest: Sqe) {
        self.end_part(0);
        if let Some(ended) = self.account.outlet.join(rest, Status::SUCCESS, 0) {
            self.go_on(ended);
        }
    }

    /// Reports an operation's end, and goes on with what waits for it.
    fn go_on(&mut self, ended: Ended) {
        if ended.is_half_way() {
            // Whoever flushes is another thread.
            std::mem::take(&mut self.stores).fence();
            return self.account.sequel.make_durable(ended.sqe);
        }
        self.report(ended);
        if ended.sqe.next().is_none() {
            return;
        }
        // Whoever goes on may be another thread.
        std::mem::take(&mut self.stores).fence();
        let sequel = &*self.account.sequel;
        let Some(next) = sequel.follow(ended, &mut |ended| self.report(ended)) else { return };
        if next.mover() != self.account.mover || !self.gathered.keep(next) {
            // In the order of the chain: what was done first is told first.
            self.post();
            sequel.send(next);
        }
    }

    fn report(&mut self, ended: Ended) {
        if ended.sqe.mover() == self.account.mover {
            self.operations_beyond = self.operations_beyond.wrapping_add(1);
            self.bytes = self.bytes.saturating_add(ended.uncounted);
        } else {
            self.account.sequel.tally(&ended.sqe).add(1, ended.uncounted);
        }
        let is_full = match ended.telling(&self.account.outlet) {
            Telling::Silent => {
                self.silent += 1;
                false
            }
            Telling::Together(cqe) if self.gathered.join(cqe) => {
                self.silent += 1;
                false
            }
            Telling::Together(cqe) | Telling::Alone(cqe) => {
                // Counted already.
                self.tokens_beyond = self.tokens_beyond.wrapping_sub(1);
                self.operations_beyond = self.operations_beyond.wrapping_sub(1);
                self.gathered.add(cqe)
            }
        };
        if is_full {
            self.post();
        }
    }

    /// Fences and counts, then posts: whoever has reaped a completion finds it counted.
    #[inline(never)]
    fn post(&mut self) {
        let cqes = self.gathered.take();
        let tokens = self.tokens_beyond.wrapping_add(cqes.len() as u64);
        let operations = self.operations_beyond.wrapping_add(cqes.len() as u64);
        std::mem::take(&mut self.stores).fence();
        self.account.record(tokens, operations, self.bytes);
        (self.tokens_beyond, self.operations_beyond, self.bytes) = (0, 0, 0);
        self.account.post(cqes, std::mem::take(&mut self.silent));
    }
}

impl Drop for Completions<'_> {
    /// Posts what was gathered, also when the poll panicked: those operations have ended.
    #[inline]
    fn drop(&mut self) {
        if self.gathered.len > 0 || self.silent | self.tokens_beyond | self.operations_beyond > 0 {
            self.post();
        }
    }
}
