//! Slots: the life of something awaited, which may be one operation, a batch or a scope.
//!
//! Three parties meet in a slot. Its **owner** (a future) opens it, looks whether it is complete, leaves a waker, and
//! in the end closes it or walks away. The **reaper**, who is one at a time by a [role](crate::role), counts its
//! operations down and completes it. And the **memory** of its operations is freed by whoever is last: the owner if the
//! slot was complete, the reaper if the owner had walked away.
//!
//! The waker is a foreign value and does not lie here: the caller keeps a cell beside each slot, and the slot says
//! whose turn it is to touch the cell. Every access happens inside a closure that is given to a transition, but for the
//! owner's when the slot is complete. A closure moves the waker, and no more: foreign code in it, or a panic, would
//! leave the slot between two states.
//!
//! ```text
//!   state = generation (32 bits) | bits
//!
//!                    cell may be touched by   then
//!   0                the owner                register: store, 0 -> WAKER
//!   WAKER            nobody                   register: WAKER -> 0        complete: WAKER -> WAKING
//!   WAKING           the reaper               complete: take, -> COMPLETE, and only then wake
//!   COMPLETE         the owner                close
//!   ABANDONED        nobody                   complete: -> COMPLETE | ABANDONED, and the reaper closes
//!   WAKING|ABANDONED the reaper               complete: take, -> COMPLETE, and the reaper closes
//! ```
//!
//! ```text
//!   complete:  subtract from `left` ; not the last: done
//!              0      -> COMPLETE                             the owner will look
//!              WAKER  -> WAKING ; take the waker ; -> COMPLETE ; wake it
//!   register:  COMPLETE: ready
//!              WAKING:   an older waker is on its way to be woken: the owner wakes its new one itself
//!              WAKER:    -> 0, and as for 0
//!              0:        store the waker ; -> WAKER ; if COMPLETE came in between: ready
//!   abandon:   take the waker back ; fetch_or(ABANDONED) ; COMPLETE was there: the owner closes
//! ```
//!
//! The waker is taken *before* COMPLETE is published, since from then on the cell is the owner's, and woken *after* it,
//! since the woken one must find it complete (P13). What the owner leaves for the reaper to free is stored before
//! ABANDONED, and what the reaper leaves for the owner to read before COMPLETE (P14).
//!
//! A key is a slot's number and its generation, so a completion that comes once too often for a slot's last owner does
//! nothing to the next one. The generation alone would not do: the reaper might look, then the slot be closed and
//! opened again, and then the reaper count. But what it has completed itself it knows, so it finds COMPLETE or a later
//! generation.
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | `state` | owner and reaper, read-modify-writes | AcqRel: each takes over what the other did (P13, P14) |
//! | `left` | owner and reaper, `fetch_sub` | AcqRel: the last one knows what the others did (P15) |
//! | `outcome` | the reaper | Relaxed; ordered by its role, by `left` and by COMPLETE |

use alloc::boxed::Box;

use crate::sync::{AtomicU64, Mutant, Ordering, is_active, ordering};

const WAKER: u64 = 1;
const WAKING: u64 = 2;
const COMPLETE: u64 = 4;
const ABANDONED: u64 = 8;
/// One generation; the bits below are the condition.
const GENERATION: u64 = 1 << 32;
/// What tells a slot whose key's operations have all ended: another generation, or COMPLETE.
const ENDED: u64 = !(GENERATION - 1) | COMPLETE;

/// A slot's number and its generation, in one word: what an operation's `user_data` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// As a word: generation in the upper half, number in the lower.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// The key of this word, whether or not there is such a slot.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The slot's number.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    const fn generation(self) -> u64 {
        self.0 & !(GENERATION - 1)
    }
}

/// What the owner finds when it leaves a waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a slot that is ready wakes nobody"]
pub enum Registered {
    /// The waker was left: it will be woken.
    Stored,
    /// The slot is complete. The cell is the owner's, and may hold the waker.
    Ready,
    /// An older waker is being woken. The owner must wake its new one itself, and come again.
    Waking,
}

/// What completing a slot leaves to the reaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an abandoned slot is the reaper's to close"]
pub enum Completed {
    /// Others are still to come, or nobody had left a waker.
    Nobody,
    /// A waker was taken out of the cell: wake it.
    Woken,
    /// The owner has walked away: free what it left, and close the slot. If a waker was taken nevertheless, it is to be
    /// dropped.
    Abandoned,
    /// The slot was complete, or belongs to another owner by now. Nothing was done.
    Stale,
}

/// One slot; see the [module](self). Its cell lies elsewhere.
#[derive(Debug)]
#[repr(align(32))]
struct Slot {
    state: AtomicU64,
    left: AtomicU64,
    outcome: AtomicU64,
}

/// Numbered slots, beginning at any number.
///
/// # Examples
///
/// ```
/// use memring_ring::slot::{Completed, Registered, Slots};
/// let slots = Slots::new(0, 4);
/// let key = slots.open(2, 1);
/// assert_eq!(slots.register(key, || ()), Registered::Stored);
/// assert_eq!(slots.complete(key, 1, |_| 7, || ()), Completed::Woken);
/// assert_eq!(slots.outcome(key), Some(7));
/// slots.close(key);
/// assert_eq!(slots.complete(key, 1, |_| 7, || ()), Completed::Stale);
/// ```
#[derive(Debug)]
pub struct Slots {
    first: u32,
    slots: Box<[Slot]>,
}

impl Slots {
    /// `count` slots, the first of which has this number.
    #[must_use]
    pub fn new(first: u32, count: u32) -> Self {
        let slot = |_| Slot { state: AtomicU64::new(0), left: AtomicU64::new(0), outcome: AtomicU64::new(0) };
        Self { first, slots: (0..count).map(slot).collect() }
    }

    fn slot(&self, key: Key) -> &Slot {
        &self.slots[(key.number() - self.first) as usize]
    }

    /// Opens a slot that nobody has, for `left` operations.
    #[inline]
    pub fn open(&self, number: u32, left: u64) -> Key {
        let slot = &self.slots[(number - self.first) as usize];
        // Ordering: Relaxed, all three; who closed the slot has handed its number on, and the reaper hears of the key
        // by way of the queue.
        slot.left.store(left, Ordering::Relaxed);
        slot.outcome.store(0, Ordering::Relaxed);
        let state = slot.state.load(Ordering::Relaxed);
        debug_assert_eq!(state & (GENERATION - 1), 0, "an open slot is opened");
        Key(state | u64::from(number))
    }

    /// Leaves a waker, which `store` puts into the slot's cell: for the owner.
    #[inline]
    pub fn register(&self, key: Key, store: impl FnOnce()) -> Registered {
        let state = &self.slot(key).state;
        // Ordering: AcqRel, partner: WAKING in `complete`: one of the two gets the cell (P13).
        let order = ordering(Mutant::SlotRegister, Ordering::AcqRel);
        // Ordering: Acquire, partner: COMPLETE in `complete` (P14).
        let observe = ordering(Mutant::SlotObserve, Ordering::Acquire);
        let mut now = state.load(observe);
        loop {
            if now & COMPLETE != 0 {
                return Registered::Ready;
            }
            if now & WAKING != 0 {
                return Registered::Waking;
            }
            if now & WAKER == 0 {
                break;
            }
            match state.compare_exchange_weak(now, now & !WAKER, order, observe) {
                Ok(_) => now &= !WAKER,
                Err(other) => now = other,
            }
        }
        store();
        match state.compare_exchange(now, now | WAKER, order, observe) {
            Ok(_) => Registered::Stored,
            Err(_) => Registered::Ready,
        }
    }

    /// Whether the slot is complete: for the owner.
    #[must_use]
    #[inline]
    pub fn is_complete(&self, key: Key) -> bool {
        // Ordering: Acquire, partner: COMPLETE in `complete` (P14).
        self.slot(key).state.load(ordering(Mutant::SlotObserve, Ordering::Acquire)) & COMPLETE != 0
    }

    /// What the reaper has noted, if the slot is complete: for the owner.
    #[must_use]
    #[inline]
    pub fn outcome(&self, key: Key) -> Option<u64> {
        // Ordering: Relaxed; ordered by the Acquire before it.
        self.is_complete(key).then(|| self.slot(key).outcome.load(Ordering::Relaxed))
    }

    /// Counts `count` operations of the slot as done, and completes the slot with the last: for the reaper.
    ///
    /// `note` makes the slot's outcome of the one noted before (at first 0). `take` takes the waker out of the cell; it
    /// is called only if there is one, and the waker is woken after this has returned.
    #[inline]
    pub fn complete(&self, key: Key, count: u64, note: impl FnOnce(u64) -> u64, take: impl FnOnce()) -> Completed {
        let slot = self.slot(key);
        // Ordering: Relaxed; a key whose generation is now came from the queue, after the slot was opened, and who has
        // the reaper's role knows what was completed before.
        if slot.state.load(Ordering::Relaxed) & ENDED != key.generation() {
            return Completed::Stale;
        }
        // Ordering: Relaxed, both; only who has the reaper's role notes, and the countdown publishes.
        slot.outcome.store(note(slot.outcome.load(Ordering::Relaxed)), Ordering::Relaxed);
        if !slot.count_down(count) {
            return Completed::Nobody;
        }
        slot.finish(key, take)
    }

    /// Counts down from the owner's side; true: the last, and the owner completes it by
    /// [`finish`](Slots::finish). For slots that were opened with more than they would have operations.
    #[must_use]
    pub fn count_down(&self, key: Key, count: u64) -> bool {
        self.slot(key).count_down(count)
    }

    /// Completes a slot that was [counted down](Slots::count_down) to nothing: for the owner.
    pub fn finish(&self, key: Key, take: impl FnOnce()) -> Completed {
        self.slot(key).finish(key, take)
    }

    /// Walks away from a slot, whose waker `take` takes out of the cell, if there is one: for the owner. True: the slot
    /// was complete, and the owner closes it; else the reaper will, and frees what was left for it.
    #[must_use = "true leaves the slot to the owner"]
    pub fn abandon(&self, key: Key, take: impl FnOnce()) -> bool {
        let state = &self.slot(key).state;
        // Ordering: Relaxed; the compare-and-swap decides.
        let mut now = state.load(Ordering::Relaxed);
        while now & WAKER != 0 {
            // Ordering: AcqRel, partner: WAKING in `complete` (P13).
            match state.compare_exchange_weak(now, now & !WAKER, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    take();
                    break;
                }
                Err(other) => now = other,
            }
        }
        // Ordering: AcqRel, partner: COMPLETE in `complete`, from either side (P14).
        let before = state.fetch_or(ABANDONED, ordering(Mutant::SlotAbandon, Ordering::AcqRel));
        before & COMPLETE != 0
    }

    /// Ends the slot's generation. Whoever has its number may open it again.
    #[inline]
    pub fn close(&self, key: Key) {
        let next = if is_active(Mutant::SlotGeneration) { 0 } else { GENERATION };
        // Ordering: Relaxed; the number is handed on by other means.
        self.slot(key).state.store(key.generation().wrapping_add(next), Ordering::Relaxed);
    }
}

impl Slot {
    #[inline]
    fn count_down(&self, count: u64) -> bool {
        // Ordering: AcqRel, partner: the other countdowns (P15).
        let before = self.left.fetch_sub(count, ordering(Mutant::SlotCountDown, Ordering::AcqRel));
        debug_assert!(before >= count, "a slot has more ends than operations");
        before == count
    }

    #[inline]
    fn finish(&self, key: Key, take: impl FnOnce()) -> Completed {
        // Ordering: AcqRel, partner: `register` and `abandon` (P13, P14).
        let order = ordering(Mutant::SlotComplete, Ordering::AcqRel);
        // Ordering: Relaxed; the compare-and-swap decides.
        let mut now = self.state.load(Ordering::Relaxed);
        loop {
            let next = if now & WAKER == 0 { now | COMPLETE } else { (now & !WAKER) | WAKING };
            match self.state.compare_exchange_weak(now, next, order, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        if now & WAKER == 0 {
            return if now & ABANDONED == 0 { Completed::Nobody } else { Completed::Abandoned };
        }
        if is_active(Mutant::SlotWaking) {
            // Wrong: the cell is the owner's again while the waker is still in it.
            self.state.swap(key.generation() | COMPLETE, Ordering::AcqRel); // Ordering: as below.
            take();
            return Completed::Woken;
        }
        take();
        let before = self.state.swap(key.generation() | COMPLETE, order);
        if before & ABANDONED == 0 { Completed::Woken } else { Completed::Abandoned }
    }
}
