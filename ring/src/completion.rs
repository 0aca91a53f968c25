//! The completion ring: many producers, one consumer, sixteen bytes a slot.
//!
//! Movers tell here what became of each operation; whoever holds the [`Consumer`] reads it.
//!
//! ```text
//!  slot of ticket t:   user_data   relaxed
//!                      word        63 bits of payload, and the phase bit: the lap's parity
//! ```
//!
//! **Push** (`n` completions, cannot fail, never waits): `t = tail.fetch_add(n)`; per completion: store `user_data`,
//! then `word` with the phase of the ticket's lap. A mover never waits because each completion returns the credit its
//! operation took, and there are no more credits than slots: ticket `t - capacity` was reaped before `t` is handed out.
//!
//! **Pop** (the one consumer): the slot of ticket `head` is published when its phase bit is that of `head`'s lap.
//! `head` is a plain field of the [`Consumer`]: producers never look at it, so four completions share a cache line
//! that only flows one way. Slots begin as zero, which is the phase of no first-lap ticket.
//!
//! **Skip**: an operation that ends without a completion is counted, so that the end of all operations can be told.
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | `skipped` | producers, `fetch_add` | AcqRel; Acquire by who waits for the end (P7) |
//! | `tail` | producers, `fetch_add` | AcqRel, as in a lane (P4); Acquire by who waits for the end (P7) |
//! | `word` | the producer of the ticket | Release; partner: the consumer's Acquire load (P1) |
//! | `user_data` | the producer of the ticket | Relaxed; ordered by `word` |

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::index::{CachePadded, Capacity, Words};
use crate::sync::{AtomicU64, Copied, Mutant, Ordering, PUSH_LOOKS, Shadow, ordering};

/// The bit of the second word that belongs to the ring.
pub const PHASE_BIT: u64 = 1 << 63;

#[derive(Debug)]
#[repr(C, align(16))]
struct Slot {
    user_data: AtomicU64,
    word: AtomicU64,
    shadow: Shadow,
}

#[derive(Debug)]
struct Ring {
    tail: CachePadded<AtomicU64>,
    skipped: CachePadded<AtomicU64>,
    capacity: Capacity,
    slots: Box<[Slot]>,
}

impl Slot {
    #[inline]
    fn publish(&self, phase: u64, [user_data, word]: [u64; 2]) {
        if PUSH_LOOKS {
            let last = self.word.load(Ordering::Relaxed); // Ordering: P4 has ordered the last publication before this.
            debug_assert_ne!(last & PHASE_BIT, phase, "a completion was pushed without a credit");
        }
        self.shadow.write();
        self.user_data.store(user_data, Ordering::Relaxed); // Ordering: published by `word` below.
        // Ordering: Release, partner: the Acquire in `has_phase` (P1).
        self.word.store((word & !PHASE_BIT) | phase, ordering(Mutant::CompletionPublish, Ordering::Release));
    }

    #[inline]
    fn has_phase(&self, phase: u64) -> bool {
        // Ordering: Acquire, partner: the Release of `word` in `publish` (P1).
        self.word.load(ordering(Mutant::CompletionObserve, Ordering::Acquire)) & PHASE_BIT == phase
    }
}

impl Ring {
    /// The phase bit of all tickets in this one's lap.
    #[inline]
    fn phase_bit(&self, ticket: u64) -> u64 {
        if self.capacity.phase(ticket) { PHASE_BIT } else { 0 }
    }
}

/// A completion ring with room for `slots` completions, rounded up to a power of two: its two ends.
///
/// # Examples
///
/// ```
/// let (producer, mut consumer) = memring_ring::completion::ring(2);
/// producer.push_batch(&[[7, 100], [8, 200]]);
/// assert_eq!(consumer.ready(2), 2);
/// assert_eq!(consumer.pop::<[u64; 2]>(), Some([7, 100]));
/// assert_eq!(consumer.pop::<[u64; 2]>(), Some([8, 200]));
/// assert_eq!(consumer.pop::<[u64; 2]>(), None);
/// ```
#[must_use]
pub fn ring(slots: usize) -> (Producer, Consumer) {
    let capacity = Capacity::at_least(slots);
    let slot = |_| Slot { user_data: AtomicU64::new(0), word: AtomicU64::new(0), shadow: Shadow::new() };
    let ring = Arc::new(Ring {
        tail: CachePadded::new(AtomicU64::new(0)),
        skipped: CachePadded::new(AtomicU64::new(0)),
        capacity,
        slots: (0..capacity.get()).map(slot).collect(),
    });
    (Producer(Arc::clone(&ring)), Consumer { ring, head: 0, seen: 0 })
}

/// The movers' end: any number of threads push through it.
#[derive(Clone, Debug)]
pub struct Producer(Arc<Ring>);

impl Producer {
    /// Publishes `completions`, whose second words must leave [`PHASE_BIT`] clear (it is masked off).
    ///
    /// Each completion must stand for an operation whose credit was taken and not yet given back.
    ///
    /// # Panics
    ///
    /// If there are more completions than slots: before anything was reserved, so the ring is unharmed.
    pub fn push_batch<C: Words<2>>(&self, completions: &[C]) {
        if completions.is_empty() {
            return;
        }
        let ring = &*self.0;
        assert!(completions.len() <= ring.capacity.get(), "a batch is longer than its ring");
        // Ordering: AcqRel on `tail`, partner: every other reservation (P4), and the Acquire of `pushed` (P7).
        let first =
            ring.tail.fetch_add(completions.len() as u64, ordering(Mutant::CompletionReserve, Ordering::AcqRel));
        for run in ring.capacity.runs(first, completions.len()) {
            let phase = ring.phase_bit(run.ticket);
            for (slot, completion) in ring.slots[run.slots].iter().zip(&completions[run.part]) {
                slot.publish(phase, completion.to_words());
            }
        }
    }

    /// How many completions were reserved since the beginning.
    ///
    /// Seen from here, the operations behind them have ended: a mover reserves after its last touch (P7).
    #[must_use]
    pub fn pushed(&self) -> u64 {
        // Ordering: Acquire, partner: the AcqRel of `tail` in `push_batch` (P7).
        self.0.tail.load(ordering(Mutant::CompletionEnd, Ordering::Acquire))
    }

    /// As [`pushed`](Producer::pushed), for a ringer that has fenced: orders nothing by itself.
    #[must_use]
    pub fn pushed_relaxed(&self) -> u64 {
        self.0.tail.load(Ordering::Relaxed) // Ordering: the SeqCst fence of `Doorbell::ring` stands before it.
    }

    /// Counts `count` operations that end without a completion. Their credits are the caller's to give back, before
    /// this: whoever sees the end finds the room (P7).
    pub fn skip(&self, count: u64) {
        // Ordering: AcqRel, partner: the Acquire of `ended` (P7).
        self.0.skipped.fetch_add(count, ordering(Mutant::CompletionSkip, Ordering::AcqRel));
    }

    /// How many operations have ended without a completion.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.skipped.load(Ordering::Acquire) // Ordering: Acquire, partner: the AcqRel of `skip` (P7).
    }

    /// How many operations have ended, with a completion or without. What was said of [`pushed`](Producer::pushed)
    /// holds of all of them.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.pushed() + self.skipped()
    }
}

/// The reaper's end. There is one, and it is not shared: `&mut` is its lock.
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    /// The next ticket to pop.
    head: u64,
    /// Tickets below this were seen published: `head <= seen`.
    seen: u64,
}

impl Consumer {
    /// Looks for published completions until `wanted` are ready or one is missing; returns how many are ready.
    pub fn ready(&mut self, wanted: usize) -> usize {
        let seen = self.seen();
        let wanted = wanted.min(self.ring.capacity.get());
        if seen < wanted {
            self.look(wanted - seen);
        }
        self.seen()
    }

    /// How many completions the last look has found and nobody has popped: what [`ready`](Consumer::ready) answers,
    /// without a look.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most a capacity, which is a usize")]
    pub fn seen(&self) -> usize {
        (self.seen - self.head) as usize
    }

    /// Moves `seen` over at most `most` more published completions.
    #[inline]
    fn look(&mut self, most: usize) {
        let ring = &*self.ring;
        for run in ring.capacity.runs(self.seen, most) {
            let (length, phase) = (run.slots.len(), ring.phase_bit(run.ticket));
            let published = ring.slots[run.slots].iter().take_while(|slot| slot.has_phase(phase)).count();
            self.seen += published as u64;
            if published < length {
                break;
            }
        }
    }

    /// Takes the next completion, if it is published. Its phase bit is cleared.
    pub fn pop<C: Words<2>>(&mut self) -> Option<C> {
        self.ready(1);
        self.pop_seen()
    }

    /// Takes the next completion, if a look has [seen](Consumer::seen) it: touches no slot that it does not take.
    #[inline]
    pub fn pop_seen<C: Words<2>>(&mut self) -> Option<C> {
        if self.head == self.seen {
            return None;
        }
        let slot = &self.ring.slots[self.ring.capacity.slot(self.head)];
        Copied::of(core::iter::once(&slot.shadow)).keep();
        // Ordering: Relaxed, both; the Acquire in `has_phase` has seen this ticket, and nobody writes it until its
        // credit returns.
        let words = [slot.user_data.load(Ordering::Relaxed), slot.word.load(Ordering::Relaxed) & !PHASE_BIT];
        self.head += 1;
        Some(C::from_words(words))
    }

    /// Makes as if no look had found anything: for who must not take what another's look has found.
    pub fn forget_seen(&mut self) {
        self.seen = self.head;
    }

    /// How many completions were popped since the beginning: the ticket that comes next.
    #[must_use]
    pub fn popped(&self) -> u64 {
        self.head
    }
}
