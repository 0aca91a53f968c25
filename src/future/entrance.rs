//! The entrance: where operations get their place and their entry its turn.
//!
//! ```text
//!   begin:  lock ; a number ; its place ; push and submit          the line is empty and a credit is there
//!                                         to the end of the line   otherwise
//!   feed:   (the reaper, after credits have come back) lock ; push from the front of the line, as many as there are
//! ```
//!
//! It is the *entries* that stand in line, not their futures: whoever finds room pushes for them. So they go in the
//! order in which they came, a future that is not polled holds nobody up, and nobody waits with a credit in his hand.
//! While somebody stands in line, nobody else finds room. Who leaves the line is not searched in it: his number says
//! that he has left, and his entries are passed over when their turn comes.
//!
//! The reaper must not take this lock each time it gives credits back, only when somebody waits. `is_waiting` says so,
//! under a lock of its own: who comes to stand in line sets it and *then* tries once more; the reaper gives credits
//! back and *then* looks. Whichever lock is first, one of the two sees the other.
//!
//! An entry that stands in line, waits for the one before it in its chain, or is flushed when its bytes are in place,
//! comes late to where it is done. If that
//! is a place that only callers drive, its future may have looked for something to drive, found nothing, and gone to
//! sleep. So such a future leaves a second waker here, for whoever leaves something to drive and goes away.
#![expect(unsafe_code, reason = "pushes entries, for whose memory their operations vouch")]

use core::fmt;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::Waker;

use memring_ring::slot::Key;
use slab::Slab;

use super::failed::OpError;
use super::places::Places;
use super::scope::most_at_once;
use crate::error::PushError;
use crate::os::lock;
use crate::queue::SubmissionQueue;
use crate::sqe::Sqe;

/// Buffers whose operation was dropped while a mover may touch them.
pub(super) type Orphan = Box<dyn Send>;

/// What happens when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Stand in line.
    Waits,
    /// Go away.
    Leaves,
}

/// What has begun.
#[derive(Clone, Copy, Debug)]
#[must_use = "a call is to be answered"]
pub(super) struct Begun {
    /// Its place.
    pub(super) key: Key,
    /// The reaper is called for: something has completed at once, or there is work for who drives. To be answered when
    /// the key is where it belongs.
    pub(super) is_called: bool,
}

/// Who passes from futures to the queue; see the [module](self).
#[derive(Debug)]
pub(super) struct Entrance {
    inside: Mutex<Inside>,
    is_waiting: Mutex<bool>,
}

#[derive(Debug)]
struct Inside {
    sq: SubmissionQueue,
    line: VecDeque<Sqe>,
    /// Entries of the line whose operations have left it.
    left: usize,
    numbers: Slab<Numbered>,
    /// How many numbers have a sleeper.
    sleepers: usize,
}

/// Who has a number.
struct Numbered {
    /// The key, as a word.
    key: u64,
    /// Entries of his that stand in line.
    waiting: usize,
    /// What he has left behind.
    orphan: Option<Orphan>,
    /// Something of his may come to its lane after he has looked there.
    comes_late: bool,
    /// Who sleeps until it does.
    sleeper: Option<Waker>,
}

impl fmt::Debug for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbered").field("key", &self.key).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Entrance {
    pub(super) fn new(sq: SubmissionQueue, entries: usize) -> Self {
        // As long as one scope can make it, however slow the others are: it need not grow because somebody has lost his
        // CPU for a moment. Several scopes, and many futures, make it longer once.
        let line = VecDeque::with_capacity(entries.max(most_at_once(entries)));
        let numbers = Slab::with_capacity(entries);
        let inside = Inside { sq, line, left: 0, numbers, sleepers: 0 };
        Self { inside: Mutex::new(inside), is_waiting: Mutex::new(false) }
    }

    /// Opens a place for `left` operations that will be pushed otherwise.
    pub(super) fn open(&self, places: &Places, left: u64) -> Key {
        lock(&self.inside).open(places, left)
    }

    /// Begins all of the operations, which share a place, or none.
    ///
    /// # Safety
    ///
    /// The push's contract holds for each entry until the place is complete.
    #[inline]
    pub(super) unsafe fn begin(&self, places: &Places, sqes: &mut [Sqe], patience: Patience) -> Result<Begun, OpError> {
        let mut inside = lock(&self.inside);
        let key = inside.open(places, sqes.len() as u64);
        if sqes.iter().any(|sqe| sqe.is_durable() || (sqes.len() > 1 && sqe.is_linked())) {
            inside.expect_late(key);
        }
        sqes.iter_mut().for_each(|sqe| *sqe = sqe.user_data(key.to_word()));
        // SAFETY: the caller vouches for it.
        match unsafe { inside.push_and_submit(sqes) } {
            Ok(is_called) => Ok(Begun { key, is_called }),
            Err(PushError::Full(_) | PushError::TooLong(_)) if patience == Patience::Waits => {
                Ok(Begun { key, is_called: self.stand_in_line(&mut inside, sqes) })
            }
            Err(error) => {
                inside.close_unused(places, key, sqes.len() as u64);
                // What waits its turn may be longer than the queue.
                let is_long = matches!(error, PushError::TooLong(_));
                Err(if is_long { OpError::Full } else { OpError::refused(&error) })
            }
        }
    }

    /// Begins the one operation of a place that is open already; whether the reaper is called for. If it is refused,
    /// the place is closed.
    ///
    /// # Safety
    ///
    /// The push's contract holds for the entry until the place is complete.
    pub(super) unsafe fn begin_in(&self, places: &Places, key: Key, sqe: Sqe) -> Result<bool, OpError> {
        let mut inside = lock(&self.inside);
        // SAFETY: the caller vouches for it.
        unsafe { inside.push_and_submit(&[sqe.user_data(key.to_word())]) }.map_err(|error| {
            inside.close_unused(places, key, 1);
            OpError::refused(&error)
        })
    }

    /// Closes a place for one operation in which none has begun.
    pub(super) fn close_unused(&self, places: &Places, key: Key) {
        lock(&self.inside).close_unused(places, key, 1);
    }

    /// Has entries wait for their turn, which have their user data. Whether the reaper is called for.
    ///
    /// # Safety
    ///
    /// As [`begin`](Entrance::begin).
    pub(super) unsafe fn wait_in_line(&self, sqes: &[Sqe]) -> bool {
        self.stand_in_line(&mut lock(&self.inside), sqes)
    }

    /// Puts entries at the end of the line, and pushes what can be after all: credits may have come back meanwhile.
    fn stand_in_line(&self, inside: &mut Inside, sqes: &[Sqe]) -> bool {
        inside.line.extend(sqes);
        if let Some(numbered) = sqes.first().and_then(|sqe| inside.numbers.get_mut(number_of(sqe))) {
            numbered.waiting += sqes.len();
            numbered.comes_late = true;
        }
        *lock(&self.is_waiting) = true;
        self.advance(inside)
    }

    /// Lets those go who stand in front and find room. Whether the reaper is called for: also if somebody is refused,
    /// since he alone completes.
    fn advance(&self, inside: &mut Inside) -> bool {
        let (is_called, refusal) = inside.advance();
        if inside.line.is_empty() {
            *lock(&self.is_waiting) = false;
        }
        is_called || refusal.is_some()
    }

    /// Whether somebody stands in line.
    pub(super) fn is_waited_for(&self) -> bool {
        *lock(&self.is_waiting)
    }

    /// Lets those go who stand in front and find room: for the reaper. Who is refused is given to `refuse`, with the
    /// number of his entries and the reason.
    pub(super) fn feed(&self, mut refuse: impl FnMut(Key, u64, OpError)) {
        if !self.is_waited_for() {
            return;
        }
        let mut inside = lock(&self.inside);
        // The reaper is here: what it is called for it finds by its next look.
        while let (_, Some(error)) = inside.advance() {
            let (key, count) = inside.turn_away();
            refuse(key, count, OpError::refused(&error));
        }
        if inside.line.is_empty() {
            *lock(&self.is_waiting) = false;
        }
    }

    /// Has what belongs to a place leave the line; how many entries, and whether the reaper is called for: who stood
    /// behind it may go.
    pub(super) fn withdraw(&self, key: Key) -> (u64, bool) {
        if !self.is_waited_for() {
            return (0, false);
        }
        let mut inside = lock(&self.inside);
        let numbered = inside.numbers.get_mut(key.number() as usize).filter(|numbered| numbered.key == key.to_word());
        let count = numbered.map_or(0, |numbered| std::mem::take(&mut numbered.waiting));
        if count == 0 {
            return (0, false);
        }
        inside.left += count;
        inside.close_ranks();
        (count as u64, self.advance(&mut inside))
    }

    /// Whether something of a place may come to its lane after its future has looked there.
    pub(super) fn comes_late(&self, key: Key) -> bool {
        lock(&self.inside).numbers.get(key.number() as usize).is_some_and(|numbered| numbered.comes_late)
    }

    /// Has `waker` woken by who leaves something to drive: once. Call it before the last look.
    pub(super) fn fall_asleep(&self, key: Key, waker: Waker) {
        // Foreign code, as all that is dropped here: outside of the lock.
        let _before = lock(&self.inside).set_sleeper(key, Some(waker));
    }

    /// How many sleep.
    pub(super) fn sleepers(&self) -> usize {
        lock(&self.inside).sleepers
    }

    /// Takes out some of those who sleep, at most so many; how many.
    pub(super) fn rouse(&self, most: usize, rouse: impl FnMut(Waker)) -> usize {
        let mut inside = lock(&self.inside);
        let most = most.min(inside.sleepers);
        if most > 0 {
            let sleepers = inside.numbers.iter_mut().filter_map(|(_, numbered)| numbered.sleeper.take());
            sleepers.take(most).for_each(rouse);
            inside.sleepers -= most;
        }
        most
    }

    /// Leaves what a dropped operation owned to whoever closes its place.
    pub(super) fn leave(&self, key: Key, orphan: Orphan) {
        let mut inside = lock(&self.inside);
        if let Some(numbered) = inside.numbers.get_mut(key.number() as usize) {
            numbered.orphan = Some(orphan);
        }
        let before = inside.set_sleeper(key, None);
        drop(inside);
        drop(before);
    }

    /// Gives a number back, and returns what was left under it. The place is closed.
    #[inline]
    pub(super) fn give_back(&self, key: Key) -> Option<Orphan> {
        let numbered = lock(&self.inside).give_back(key);
        numbered.and_then(|numbered| numbered.orphan)
    }
}

fn number_of(sqe: &Sqe) -> usize {
    Key::from_word(sqe.data()).number() as usize
}

impl Inside {
    /// A number, and its place.
    #[inline]
    fn open(&mut self, places: &Places, left: u64) -> Key {
        let vacant = self.numbers.vacant_entry();
        let number = u32::try_from(vacant.key()).expect("memory ends before the numbers do");
        places.add(number);
        let key = places.open(number, left);
        vacant.insert(Numbered { key: key.to_word(), waiting: 0, orphan: None, comes_late: false, sleeper: None });
        key
    }

    #[inline]
    fn give_back(&mut self, key: Key) -> Option<Numbered> {
        let numbered = self.numbers.try_remove(key.number() as usize)?;
        self.sleepers -= usize::from(numbered.sleeper.is_some());
        Some(numbered)
    }

    fn expect_late(&mut self, key: Key) {
        self.numbers[key.number() as usize].comes_late = true;
    }

    /// Puts a sleeper in the place of another one, whom it returns.
    fn set_sleeper(&mut self, key: Key, sleeper: Option<Waker>) -> Option<Waker> {
        let numbered = self.numbers.get_mut(key.number() as usize)?;
        self.sleepers += usize::from(sleeper.is_some());
        let before = std::mem::replace(&mut numbered.sleeper, sleeper);
        self.sleepers -= usize::from(before.is_some());
        before
    }

    /// Takes a place back whose operations were refused.
    #[cold]
    fn close_unused(&mut self, places: &Places, key: Key, left: u64) {
        places.count_down(key, left);
        places.close(key);
        self.numbers.remove(key.number() as usize);
    }

    /// Begins entries, all or none, if nobody stands in line before them; whether a hook has come meanwhile.
    ///
    /// # Safety
    ///
    /// That of [`Entrance::begin`].
    #[inline]
    unsafe fn push_and_submit(&mut self, sqes: &[Sqe]) -> Result<bool, PushError> {
        match sqes {
            [first, ..] if !self.line.is_empty() => return Err(PushError::Full(*first)),
            // SAFETY: the caller vouches for it.
            [one] => unsafe { self.sq.push(*one) }?,
            // SAFETY: as above.
            _ => unsafe { self.sq.push_batch(sqes) }?,
        }
        self.submit().ok_or(PushError::Closed(sqes[0]))
    }

    /// Whether an entry's operation has left the line: it has no number any more, or says so.
    fn has_left(&self, sqe: &Sqe) -> bool {
        self.numbers.get(number_of(sqe)).is_none_or(|numbered| numbered.key != sqe.data() || numbered.waiting == 0)
    }

    /// Takes those who have left out of the line, when they are the most of it.
    fn close_ranks(&mut self) {
        if self.left > self.line.len() / 2 {
            let mut line = std::mem::take(&mut self.line);
            line.retain(|sqe| !self.has_left(sqe));
            (self.line, self.left) = (line, 0);
        }
    }

    /// How many entries from this one on go together: a chain must be submitted whole.
    fn chain_at(&self, first: usize) -> usize {
        let mut rest = self.line.iter().skip(first);
        rest.position(|sqe| !sqe.is_linked()).map_or(self.line.len() - first, |last| last + 1)
    }

    /// Begins from the front of the line until it is empty, or somebody finds no room or is refused; whether a hook has
    /// come meanwhile, and the refusal.
    fn advance(&mut self) -> (bool, Option<PushError>) {
        let mut is_called = false;
        loop {
            while self.line.front().is_some_and(|sqe| self.has_left(sqe)) {
                self.line.pop_front();
                self.left = self.left.saturating_sub(1);
            }
            let (staged, stop) = self.stage_front();
            if staged > 0
                && let Some(called) = self.submit()
            {
                is_called |= called;
                for sqe in self.line.drain(..staged) {
                    if let Some(numbered) = self.numbers.get_mut(number_of(&sqe)) {
                        numbered.waiting -= 1;
                    }
                }
            }
            // If the queue was closed before the submit, what was staged is still in line, and refused by the next
            // push.
            match stop {
                Some(PushError::Full(_)) => return (is_called, None),
                None if !self.line.is_empty() => {}
                refusal_or_end => return (is_called, refusal_or_end),
            }
        }
    }

    /// Stages from the front of the line on, until somebody has left or is refused; how many, and the refusal.
    fn stage_front(&mut self) -> (usize, Option<PushError>) {
        let mut staged = 0;
        while let Some(&front) = self.line.get(staged) {
            if self.has_left(&front) {
                break;
            }
            let pushed = if front.is_linked() {
                let chain = self.chain_at(staged);
                let entries = &self.line.make_contiguous()[staged..][..chain];
                // SAFETY: who put them in line vouches for them.
                unsafe { self.sq.push_batch(entries) }.map(|()| chain)
            } else {
                // SAFETY: as above.
                unsafe { self.sq.push(front) }.map(|()| 1)
            };
            match pushed {
                Ok(count) => staged += count,
                Err(error) => return (staged, Some(error)),
            }
        }
        (staged, None)
    }

    /// Takes those in front, who were refused, out of the line.
    fn turn_away(&mut self) -> (Key, u64) {
        let count = self.chain_at(0);
        let key = Key::from_word(self.line[0].data());
        self.line.drain(..count);
        if let Some(numbered) = self.numbers.get_mut(key.number() as usize) {
            numbered.waiting = numbered.waiting.saturating_sub(count);
        }
        (key, count as u64)
    }

    /// Publishes what is staged; whether a hook has come meanwhile, on this thread, and found that it must not go on.
    /// None: the queue was closed after the push, and what was staged is discarded.
    #[inline]
    fn submit(&mut self) -> Option<bool> {
        let staged = self.sq.staged();
        let before = SUBMITTING.replace(Some(false));
        let submitted = self.sq.submit();
        let is_called = SUBMITTING.replace(before) == Some(true);
        (submitted == staged).then_some(is_called)
    }
}

thread_local! {
    /// While this thread submits under the entrance's lock: whether a hook has come.
    static SUBMITTING: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether this thread is in the middle of a submit: a hook must go away then, and who submits comes in its place.
pub(super) fn is_submitting() -> bool {
    let is_submitting = SUBMITTING.get().is_some();
    if is_submitting {
        SUBMITTING.set(Some(true));
    }
    is_submitting
}
