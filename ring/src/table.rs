//! Tables: entries that wait for their turn outside of any lane, each under a key.
//!
//! The members of a chain wait here while those before them run: whoever ends one takes out the next. While an entry
//! waits, somebody else may *mark* it, and whoever takes it is told.
//!
//! ```text
//!   free    tag | key + 1         the first free slot; 0: none. Each change moves the tag, so a compare-and-swap
//!                                 is not fooled by a slot that has come back
//!   slot:   words[W]              what the entry says; of a free slot, the first names the free slot after it
//!           state                 generation | FREE, HELD or MARKED
//!
//!   put:   pop a free slot ; store the words ; state = HELD
//!   take:  read the words ; state = next generation, FREE ; push the slot as free      only by who was told the key
//!   mark:  read the state ; read the words ; if they are wanted: compare-and-swap HELD -> MARKED
//! ```
//!
//! A put finds a slot as long as no more entries are there than slots: in memring each holds a credit. A key is known
//! to one party at a time (the entry before it holds it), so two takes never meet. A mark may come at any time: its
//! compare-and-swap succeeds only if the slot still is in the generation whose words it has read (P9), and the take,
//! which modifies the same word, sees it or comes before it.
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | `free` | put and take, compare-and-swap | AcqRel: who gets a slot knows that its last taker has read it (P2) |
//! | `state` | put and take (swap), mark (compare-and-swap) | put's Release, partner: mark's Acquire load (P1, P9) |
//! | `words` | put | Relaxed; ordered by `state` for a mark, by the key's journey for a take |

use alloc::boxed::Box;

use crate::index::{CachePadded, Words};
use crate::sync::{AtomicU64, Copied, Mutant, Ordering, Shadow, is_active, ordering};

const FREE: u64 = 0;
const HELD: u64 = 1;
const MARKED: u64 = 2;
/// The part of a state that is not its generation.
const CONDITION: u64 = 3;
const GENERATION: u64 = 4;

/// Bits of `free` that hold a key and one.
const KEY_BITS: u32 = 20;
const KEY: u64 = (1 << KEY_BITS) - 1;
const TAG: u64 = 1 << KEY_BITS;

/// The tag of the list's next state, without a key.
fn next_tag(free: u64) -> u64 {
    let step = if is_active(Mutant::TableTag) { 0 } else { TAG };
    (free & !KEY).wrapping_add(step)
}

/// One entry and its state: one cache line when `W` is 7.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<const W: usize> {
    words: [AtomicU64; W],
    state: AtomicU64,
    shadow: Shadow,
}

impl<const W: usize> Slot<W> {
    fn words(&self) -> [u64; W] {
        // Ordering: Relaxed; the caller knows the entry, or asks the generation afterwards.
        core::array::from_fn(|word| self.words[word].load(Ordering::Relaxed))
    }
}

/// Entries of `W` words, at least one, under keys; see the [module](self) for the protocol.
///
/// # Examples
///
/// ```
/// let table = memring_ring::Table::<1>::new(2);
/// let (one, two) = (table.put([1]).unwrap(), table.put([2]).unwrap());
/// assert_eq!(table.put([3]), None, "there are two slots");
/// assert_eq!(table.mark(|&[word]: &[u64; 1]| word == 2), 1);
/// assert_eq!(table.take::<[u64; 1]>(one), ([1], false));
/// assert_eq!(table.take::<[u64; 1]>(two), ([2], true));
/// assert_eq!(table.held(), 0);
/// ```
#[derive(Debug)]
pub struct Table<const W: usize> {
    free: CachePadded<AtomicU64>,
    slots: Box<[Slot<W>]>,
}

impl<const W: usize> Table<W> {
    /// The most slots of a table.
    pub const MAX: usize = (1 << KEY_BITS) - 2;

    /// A table of so many slots.
    ///
    /// # Panics
    ///
    /// If there are more than [`Table::MAX`].
    #[must_use]
    pub fn new(slots: usize) -> Self {
        assert!(slots <= Self::MAX, "a table has at most 2^20 - 2 slots");
        let next = |key| if key + 1 < slots { key as u64 + 2 } else { 0 };
        let slot = |key| Slot {
            words: core::array::from_fn(|_| AtomicU64::new(next(key))),
            state: AtomicU64::new(FREE),
            shadow: Shadow::new(),
        };
        let first = u64::from(slots > 0);
        Self { free: CachePadded::new(AtomicU64::new(first)), slots: (0..slots).map(slot).collect() }
    }

    /// Puts an entry in, and gives the key to take it out by; none if all slots hold one.
    #[must_use]
    pub fn put<E: Words<W>>(&self, entry: E) -> Option<u32> {
        let key = self.pop_free()?;
        let slot = &self.slots[key as usize];
        slot.shadow.write();
        for (word, value) in slot.words.iter().zip(entry.to_words()) {
            word.store(value, Ordering::Relaxed); // Ordering: published by `state`, and by whatever carries the key.
        }
        // Ordering: Relaxed; the slot is ours, and its last taker is known.
        let free = slot.state.load(Ordering::Relaxed);
        // Ordering: Release, partner: the Acquire in `mark` (P1).
        slot.state.swap((free & !CONDITION) | HELD, ordering(Mutant::TablePublish, Ordering::Release));
        Some(key)
    }

    /// The entry of this key, which stays.
    ///
    /// Only for whoever may take it: the key must have come from [`put`](Table::put), whose entry nobody has taken.
    ///
    /// # Panics
    ///
    /// If no slot has this key.
    #[must_use]
    pub fn peek<E: Words<W>>(&self, key: u32) -> E {
        E::from_words(self.slots[key as usize].words())
    }

    /// Takes the entry of this key out, and says whether it was marked.
    ///
    /// The key must have come from [`put`](Table::put), whose entry nobody has taken; the slot is free afterwards.
    ///
    /// # Panics
    ///
    /// If no slot has this key.
    pub fn take<E: Words<W>>(&self, key: u32) -> (E, bool) {
        let slot = &self.slots[key as usize];
        let copied = Copied::of(core::iter::once(&slot.shadow));
        let words = slot.words();
        copied.keep();
        let state = slot.state.load(Ordering::Relaxed); // Ordering: only its generation counts; a mark leaves it alone.
        debug_assert_ne!(state & CONDITION, FREE, "an entry is taken twice");
        let step = if is_active(Mutant::TableGeneration) { 0 } else { GENERATION };
        let next = (state & !CONDITION).wrapping_add(step) | FREE;
        let before = slot.state.swap(next, Ordering::AcqRel); // Ordering: AcqRel, partner: `mark` (P9).
        self.push_free(key);
        (E::from_words(words), before & CONDITION == MARKED)
    }

    /// Marks every entry that is wanted and not marked yet, and returns how many: each of them will be
    /// [taken](Table::take) as marked.
    ///
    /// An entry that is taken meanwhile is not counted. `is_wanted` may be shown words that are no entry's.
    pub fn mark<E: Words<W>>(&self, is_wanted: impl Fn(&E) -> bool) -> u64 {
        let mark = |slot: &&Slot<W>| {
            // Ordering: Acquire, partner: the Release in `put` (P1).
            let state = slot.state.load(ordering(Mutant::TableObserve, Ordering::Acquire));
            if state & CONDITION != HELD || !is_wanted(&E::from_words(slot.words())) {
                return false;
            }
            let marked = (state & !CONDITION) | MARKED;
            // Ordering: AcqRel, partner: the swap in `take` (P9). It fails if the words belonged to another generation.
            slot.state.compare_exchange(state, marked, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        self.slots.iter().filter(mark).count() as u64
    }

    /// How many entries are there. Exact only while nobody puts or takes.
    #[must_use]
    pub fn held(&self) -> u64 {
        // Ordering: a hint.
        self.slots.iter().filter(|slot| slot.state.load(Ordering::Relaxed) & CONDITION != FREE).count() as u64
    }

    fn pop_free(&self) -> Option<u32> {
        // Ordering: Acquire, partner: the Release in `push_free` (P2).
        let order = ordering(Mutant::TableReuse, Ordering::Acquire);
        let mut free = self.free.load(order);
        loop {
            let key = u32::try_from((free & KEY).checked_sub(1)?).ok()?;
            // Ordering: Relaxed; if the slot has been taken meanwhile, the tag has moved and the value is not used.
            let next = self.slots[key as usize].words[0].load(Ordering::Relaxed);
            let after = next_tag(free) | next;
            match self.free.compare_exchange_weak(free, after, order, order) {
                Ok(_) => return Some(key),
                Err(now) => free = now,
            }
        }
    }

    fn push_free(&self, key: u32) {
        let mut free = self.free.load(Ordering::Relaxed); // Ordering: the compare-and-swap decides.
        loop {
            let after = next_tag(free) | (u64::from(key) + 1);
            // Ordering: Relaxed; published by the compare-and-swap.
            self.slots[key as usize].words[0].store(free & KEY, Ordering::Relaxed);
            // Ordering: Release, partner: the Acquire in `pop_free` (P2).
            match self.free.compare_exchange_weak(free, after, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => free = now,
            }
        }
    }
}
