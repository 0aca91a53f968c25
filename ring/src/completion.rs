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
//! **Pop** (the one consumer): the slot of ticket `head` is published when its phase bit is that of `head`'s lap. `head` is a plain
//! field of the [`Consumer`]: producers never look at it, so four completions share a cache line that only
//! flows one way. Slots begin as zero, which is the phase of no first-lap ticket.
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | `tail` | producers, `fetch_add` | AcqRel, as in [`mpmc`](crate::mpmc) (P4); Acquire by who waits for the end (P7) |
//! | `word` | the producer of the ticket | Release; partner: the consumer's Acquire load (P1) |
//! | `user_data` | the producer of the ticket | Relaxed; ordered by `word` |

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::index::{CachePadded, Capacity, Words};
use crate::sync::{AtomicU64, Mutant, Ordering, Shadow, ordering};

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
    capacity: Capacity,
    slots: Box<[Slot]>,
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
    pub fn push_batch<C: Words<2>>(&self, completions: &[C]) {
        if completions.is_empty() {
            return;
        }
        let ring = &*self.0;
        // Ordering: AcqRel on `tail`, partner: every other reservation (P4), and the Acquire of `pushed` (P7).
        let first =
            ring.tail.fetch_add(completions.len() as u64, ordering(Mutant::CompletionReserve, Ordering::AcqRel));
        for (ticket, completion) in (first..).zip(completions) {
            let slot = &ring.slots[ring.capacity.slot(ticket)];
            let [user_data, word] = completion.to_words();
            let phase = if ring.capacity.phase(ticket) { PHASE_BIT } else { 0 };
            debug_assert_ne!(
                slot.word.load(Ordering::Relaxed) & PHASE_BIT, // Ordering: P4 has ordered the last publication before this.
                phase,
                "a completion was pushed without a credit"
            );
            slot.shadow.write();
            slot.user_data.store(user_data, Ordering::Relaxed); // Ordering: published by `word` below.
            // Ordering: Release, partner: the Acquire in `Consumer::is_published` (P1).
            slot.word.store((word & !PHASE_BIT) | phase, ordering(Mutant::CompletionPublish, Ordering::Release));
        }
    }

    /// How many completions were reserved since the beginning.
    ///
    /// Seen from here, the operations behind them have ended: a mover reserves after its last touch (P7).
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.0.tail.load(Ordering::Acquire) // Ordering: Acquire, partner: the AcqRel of `tail` in `push_batch` (P7).
    }

    /// As [`pushed`](Producer::pushed), for a ringer that has fenced: orders nothing by itself.
    #[must_use]
    pub fn pushed_relaxed(&self) -> u64 {
        self.0.tail.load(Ordering::Relaxed) // Ordering: the SeqCst fence of `Doorbell::ring` stands before it.
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
        let limit = self.head + wanted.min(self.ring.capacity.get()) as u64;
        while self.seen < limit && self.is_published(self.seen) {
            self.seen += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most a capacity, which is a usize")]
        let ready = (self.seen - self.head) as usize;
        ready
    }

    /// Takes the next completion, if it is published. Its phase bit is cleared.
    pub fn pop<C: Words<2>>(&mut self) -> Option<C> {
        if self.ready(1) == 0 {
            return None;
        }
        let slot = &self.ring.slots[self.ring.capacity.slot(self.head)];
        slot.shadow.read();
        // Ordering: Relaxed, both; the Acquire in `is_published` has seen this ticket, and nobody writes it until its credit returns.
        let words = [slot.user_data.load(Ordering::Relaxed), slot.word.load(Ordering::Relaxed) & !PHASE_BIT];
        self.head += 1;
        Some(C::from_words(words))
    }

    /// How many completions were popped since the beginning: the ticket that comes next.
    #[must_use]
    pub fn popped(&self) -> u64 {
        self.head
    }

    #[inline]
    fn is_published(&self, ticket: u64) -> bool {
        let slot = &self.ring.slots[self.ring.capacity.slot(ticket)];
        // Ordering: Acquire, partner: the Release of `word` in `push_batch` (P1).
        let word = slot.word.load(ordering(Mutant::CompletionObserve, Ordering::Acquire));
        (word & PHASE_BIT != 0) == self.ring.capacity.phase(ticket)
    }
}
