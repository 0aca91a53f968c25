//! Lanes: many producers, many consumers, many entries per reservation.
//!
//! A lane carries submission entries from the submitters to the drivers of one mover.
//!
//! ```text
//!            head (next ticket to claim)        tail (next ticket to reserve)
//!              v                                  v
//!  ... claimed | published published reserved ... | free ...
//!
//!  slot of ticket t:   words[W]   what the entry says; relaxed atomics, so a racing read is a wrong value, never UB
//!                      seq        t + 1 once published; anything else means "not this ticket (yet)"
//! ```
//!
//! **Push** (`n` entries, cannot fail): `t = tail.fetch_add(n)`; per entry, in order: store the words, then
//! `seq = ticket + 1`. It cannot fail because every entry holds a *credit* ([`Credits`](crate::Credits)) and the lane
//! has a slot for every credit: if ticket `t` is handed out, ticket `t - capacity` was claimed, completed and reaped.
//! Nothing that can block or panic stands between the reservation and the last publication, since a reserved slot
//! hides all later ones. Who has popped an entry may also push it again, or what is left of it, with the same credit:
//! the pop came before, and freed a slot (P4).
//!
//! **Pop** (up to a cost): read `head`; count the published tickets from there in a tight loop (their cache misses
//! overlap); copy their words out; claim them with one compare-and-swap of `head`. If it fails, someone else has them:
//! the copy is dropped and the popper starts again. A popper that is stopped anywhere holds nothing.
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | `tail` | producers, `fetch_add` | AcqRel: an earlier reservation hands on what its credit knew (P4) |
//! | `seq` | the producer of the ticket | Release; partner: the popper's Acquire load (P1) |
//! | `words` | the producer of the ticket | Relaxed; ordered by `seq` before the copy, by the credit before reuse |
//! | `head` | poppers, compare-and-swap | AcqRel: who meets a recycled slot meets the `head` that let it be recycled |

use alloc::boxed::Box;

use crate::index::{CachePadded, Capacity, Words};
use crate::sync::{AtomicU64, Copied, Mutant, Ordering, PUSH_LOOKS, Shadow, is_active, ordering};

/// One entry and its sequence word: one cache line when `W` is 7.
#[derive(Debug)]
#[repr(C, align(64))]
struct Slot<const W: usize> {
    words: [AtomicU64; W],
    seq: AtomicU64,
    shadow: Shadow,
}

impl<const W: usize> Slot<W> {
    #[inline]
    fn publish(&self, ticket: u64, capacity: Capacity, words: [u64; W]) {
        if PUSH_LOOKS {
            let last = self.seq.load(Ordering::Relaxed); // Ordering: P4 has ordered the last publication before this.
            debug_assert_eq!(
                last,
                (ticket + 1).saturating_sub(capacity.get() as u64),
                "an entry was pushed without a credit"
            );
        }
        self.shadow.write();
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed); // Ordering: published by `seq` below.
        }
        // Ordering: Release, partner: the Acquire in `is_published` (P1).
        self.seq.store(ticket + 1, ordering(Mutant::LanePublish, Ordering::Release));
    }

    #[inline]
    fn is_published(&self, ticket: u64) -> bool {
        // Ordering: Acquire, partner: the Release of `seq` in `publish` (P1).
        self.seq.load(ordering(Mutant::LaneObserve, Ordering::Acquire)) == ticket + 1
    }

    #[inline]
    fn words(&self) -> [u64; W] {
        // Ordering: Relaxed, after the Acquire of `seq`, before the claim of `head`.
        core::array::from_fn(|word| self.words[word].load(Ordering::Relaxed))
    }
}

/// A bounded lock-free queue of entries of `W` words; see the [module](self) for the protocol.
///
/// # Examples
///
/// ```
/// use memring_ring::Lane;
/// let lane = Lane::<2>::new(4);
/// lane.push_batch(&[[1, 10], [2, 20], [3, 30]]);
/// let mut out = [[0; 2]; 8];
/// assert_eq!(lane.pop(&mut out, 2, |_| 1), (2, 2), "the budget is two entries of cost one");
/// assert_eq!(out[..2], [[1, 10], [2, 20]]);
/// ```
#[derive(Debug)]
pub struct Lane<const W: usize> {
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
    capacity: Capacity,
    slots: Box<[Slot<W>]>,
}

impl<const W: usize> Lane<W> {
    /// A lane with room for `slots` entries, rounded up to a power of two.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let capacity = Capacity::at_least(slots);
        let slot = |_| Slot {
            words: core::array::from_fn(|_| AtomicU64::new(0)),
            seq: AtomicU64::new(0),
            shadow: Shadow::new(),
        };
        Self {
            tail: CachePadded::new(AtomicU64::new(0)),
            head: CachePadded::new(AtomicU64::new(0)),
            capacity,
            slots: (0..capacity.get()).map(slot).collect(),
        }
    }

    /// Publishes all of `entries`, adjacent and in order.
    ///
    /// Each entry must hold one of at most [`capacity`](Lane::capacity) credits, taken before this call and given back
    /// after the entry's completion was reaped. Without that, entries overwrite each other (no memory is harmed: they
    /// are atomics); debug builds notice.
    ///
    /// # Panics
    ///
    /// If there are more entries than slots: before anything was reserved, so the lane is unharmed.
    pub fn push_batch<E: Words<W>>(&self, entries: &[E]) {
        if entries.is_empty() {
            return;
        }
        assert!(entries.len() <= self.capacity.get(), "a batch is longer than its lane");
        // Ordering: AcqRel on `tail`, partner: every other reservation (P4 in ring/README.md).
        let first = self.tail.fetch_add(entries.len() as u64, ordering(Mutant::LaneReserve, Ordering::AcqRel));
        for run in self.capacity.runs(first, entries.len()) {
            for (offset, (slot, entry)) in self.slots[run.slots].iter().zip(&entries[run.part]).enumerate() {
                slot.publish(run.ticket + offset as u64, self.capacity, entry.to_words());
            }
        }
    }

    /// Claims published entries into `into`, in order, and returns how many, and the sum of their costs.
    ///
    /// It takes at least one if one is published, and goes on until `into` is full or the sum of `cost` reaches
    /// `budget`.
    pub fn pop<E: Words<W>>(&self, into: &mut [E], budget: u64, cost: impl Fn(&E) -> u64) -> (usize, u64) {
        let mut head = self.head.load(Ordering::Relaxed); // Ordering: a stale value fails the claim below.
        loop {
            let published = self.published(head, into.len());
            if published == 0 {
                // Ordering: Relaxed; the slot's Acquire above has brought the `head` that let it be recycled.
                let now = self.head.load(Ordering::Relaxed);
                if now == head {
                    return (0, 0);
                }
                head = now;
                continue;
            }
            let (taken, spent) = self.copy_out(head, &mut into[..published], budget, &cost);
            let copied = Copied::of((head..).take(taken).map(|ticket| &self.slots[self.capacity.slot(ticket)].shadow));
            // Ordering: AcqRel, partner: the other poppers' claims; the copy above stays before the claim (P2).
            let order = ordering(Mutant::LaneFree, Ordering::AcqRel);
            match self.head.compare_exchange(head, head + taken as u64, order, Ordering::Relaxed) {
                Ok(_) => {
                    copied.keep();
                    return (taken, spent);
                }
                Err(_) if is_active(Mutant::LaneClaim) => return (taken, spent),
                Err(now) => head = now,
            }
        }
    }

    /// Whether a pop would find nothing. Advisory, unless asked between a sleeper's announcement and its sleep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut head = self.head.load(Ordering::Relaxed); // Ordering: as in `pop`.
        loop {
            if self.is_published(head) {
                return false;
            }
            let now = self.head.load(Ordering::Relaxed); // Ordering: as in `pop`.
            if now == head {
                return true;
            }
            head = now;
        }
    }

    /// How many entries were pushed since the beginning, or are being pushed.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.tail.load(Ordering::Relaxed) // Ordering: a count; an entry itself is acquired when it is popped.
    }

    /// How many were popped since the beginning.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.head.load(Ordering::Relaxed) // Ordering: a count.
    }

    /// Entries reserved and not yet claimed, as far as this thread can tell.
    #[must_use]
    pub fn depth(&self) -> u64 {
        // Ordering: a hint for routing; `head` first, so the difference cannot wrap.
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed).saturating_sub(head) // Ordering: a hint, as above.
    }

    /// The number of slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity.get()
    }

    #[inline]
    fn is_published(&self, ticket: u64) -> bool {
        self.slots[self.capacity.slot(ticket)].is_published(ticket)
    }

    /// How many tickets from `head` on are published, without a gap, up to `most`.
    #[inline]
    fn published(&self, head: u64, most: usize) -> usize {
        let mut published = 0;
        for run in self.capacity.runs(head, most.min(self.capacity.get())) {
            let length = run.slots.len();
            let slots = self.slots[run.slots].iter().enumerate();
            let count = slots.take_while(|(offset, slot)| slot.is_published(run.ticket + *offset as u64)).count();
            published += count;
            if count < length {
                break;
            }
        }
        published
    }

    /// Copies entries from `head` on until `into` is full or the budget is reached; they may turn out to be another's.
    #[inline]
    fn copy_out<E: Words<W>>(&self, head: u64, into: &mut [E], budget: u64, cost: impl Fn(&E) -> u64) -> (usize, u64) {
        let (mut spent, mut taken) = (0_u64, 0);
        for run in self.capacity.runs(head, into.len()) {
            for (slot, place) in self.slots[run.slots].iter().zip(&mut into[run.part]) {
                *place = E::from_words(slot.words());
                taken += 1;
                spent = spent.saturating_add(cost(place));
                if spent >= budget {
                    return (taken, spent);
                }
            }
        }
        (taken, spent)
    }
}
