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
//! While somebody stands in line, nobody else finds room.
//!
//! The reaper must not take this lock each time it gives credits back, only when somebody waits. `is_waiting` says so,
//! under a lock of its own: who comes to stand in line sets it and *then* tries once more; the reaper gives credits
//! back and *then* looks. Whichever lock is first, one of the two sees the other.
#![expect(unsafe_code, reason = "pushes entries, for whose memory their operations vouch")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memring_ring::slot::Key;
use slab::Slab;

use super::failed::OpError;
use super::places::Places;
use crate::error::PushError;
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
pub(super) struct Begun {
    /// Its place.
    pub(super) key: Key,
    /// The reaper is called for: something has completed at once, or there is work for who drives.
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
    /// Who has which number, and what it left behind.
    numbers: Slab<Numbered>,
}

/// One number that is in use.
struct Numbered(Option<Orphan>);

impl std::fmt::Debug for Numbered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Numbered").field(&self.0.is_some()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way; after a panic elsewhere they hold what they held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entrance {
    pub(super) fn new(sq: SubmissionQueue, entries: usize) -> Self {
        let (line, numbers) = (VecDeque::with_capacity(entries), Slab::with_capacity(entries));
        Self { inside: Mutex::new(Inside { sq, line, numbers }), is_waiting: Mutex::new(false) }
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
        sqes.iter_mut().for_each(|sqe| *sqe = sqe.user_data(key.to_word()));
        // SAFETY: the caller vouches for it.
        let begun = unsafe { inside.push(sqes) }.and_then(|()| inside.submit().ok_or(PushError::Closed(sqes[0])));
        match begun {
            Ok(is_called) => Ok(Begun { key, is_called }),
            Err(PushError::Full(_) | PushError::TooLong(_)) if patience == Patience::Waits => {
                Ok(Begun { key, is_called: self.stand_in_line(&mut inside, sqes) })
            }
            Err(error) => {
                inside.close_unused(places, key, sqes.len() as u64);
                Err(OpError::refused(&error))
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
        let sqe = sqe.user_data(key.to_word());
        // SAFETY: the caller vouches for it.
        let begun = unsafe { inside.push(&[sqe]) }.and_then(|()| inside.submit().ok_or(PushError::Closed(sqe)));
        begun.map_err(|error| {
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
        let is_first = inside.line.is_empty();
        inside.line.extend(sqes);
        *lock(&self.is_waiting) = true;
        if !is_first {
            return false;
        }
        // What is refused now is left for the reaper, who alone completes.
        let is_stuck = inside.advance().is_some_and(|error| !matches!(error, PushError::Full(_)));
        let submitted = inside.submit();
        if submitted.is_none() {
            // The queue was closed in between, and they were discarded: all of the line, which was empty before.
            inside.line.clear();
            inside.line.extend(sqes);
        }
        self.note_line(inside);
        submitted.unwrap_or(true) || is_stuck
    }

    fn note_line(&self, inside: &Inside) {
        if inside.line.is_empty() {
            *lock(&self.is_waiting) = false;
        }
    }

    /// Whether somebody stands in line.
    pub(super) fn is_waited_for(&self) -> bool {
        *lock(&self.is_waiting)
    }

    /// Pushes from the front of the line what there are credits for: for the reaper. What is refused is given to
    /// `refuse`, with the reason.
    pub(super) fn feed(&self, mut refuse: impl FnMut(Key, OpError)) {
        if !self.is_waited_for() {
            return;
        }
        let mut inside = lock(&self.inside);
        while let Some(error) = inside.advance().filter(|error| !matches!(error, PushError::Full(_))) {
            let refused = inside.front();
            inside.line.drain(..refused).for_each(|sqe| refuse(Key::from_word(sqe.data()), OpError::refused(&error)));
        }
        // The reaper is here: what it is called for by this submit it finds by its next look.
        inside.submit();
        self.note_line(&inside);
    }

    /// Takes out of the line what belongs to a place; how many entries.
    pub(super) fn withdraw(&self, key: Key) -> u64 {
        if !self.is_waited_for() {
            return 0;
        }
        let mut inside = lock(&self.inside);
        let before = inside.line.len();
        inside.line.retain(|sqe| sqe.data() != key.to_word());
        self.note_line(&inside);
        (before - inside.line.len()) as u64
    }

    /// Leaves what a dropped operation owned to whoever closes its place.
    pub(super) fn leave(&self, key: Key, orphan: Orphan) {
        if let Some(numbered) = lock(&self.inside).numbers.get_mut(key.number() as usize) {
            numbered.0 = Some(orphan);
        }
    }

    /// Gives a number back, and returns what was left under it. The place is closed.
    #[inline]
    pub(super) fn give_back(&self, key: Key) -> Option<Orphan> {
        lock(&self.inside).numbers.try_remove(key.number() as usize).and_then(|numbered| numbered.0)
    }
}

impl Inside {
    /// A number, and its place.
    #[inline]
    fn open(&mut self, places: &Places, left: u64) -> Key {
        let number = u32::try_from(self.numbers.insert(Numbered(None))).expect("memory ends before the numbers do");
        places.add(number);
        places.open(number, left)
    }

    /// Takes a place back whose operations were refused.
    #[cold]
    fn close_unused(&mut self, places: &Places, key: Key, left: u64) {
        places.count_down(key, left);
        places.close(key);
        self.numbers.remove(key.number() as usize);
    }

    /// Stages entries, if nobody stands in line before them.
    ///
    /// # Safety
    ///
    /// That of [`Entrance::begin`].
    #[inline]
    unsafe fn push(&mut self, sqes: &[Sqe]) -> Result<(), PushError> {
        match sqes {
            [first, ..] if !self.line.is_empty() => Err(PushError::Full(*first)),
            // SAFETY: the caller vouches for it.
            [one] => unsafe { self.sq.push(*one) },
            // SAFETY: as above.
            _ => unsafe { self.sq.push_batch(sqes) },
        }
    }

    /// How many entries go first, together: a chain must be submitted whole.
    fn front(&self) -> usize {
        self.line.iter().position(|sqe| !sqe.is_linked()).map_or(self.line.len(), |last| last + 1)
    }

    /// Stages from the front of the line until it is empty, or one is refused: why.
    fn advance(&mut self) -> Option<PushError> {
        while !self.line.is_empty() {
            let count = self.front();
            let front = &self.line.make_contiguous()[..count];
            // SAFETY: who put them in line vouches for them.
            if let Err(error) = unsafe { self.sq.push_batch(front) } {
                return Some(error);
            }
            self.line.drain(..count);
        }
        None
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
