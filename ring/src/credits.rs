//! Credits: the right to have an operation under way.
//!
//! There are as many credits as the queue has entries. Pushing takes one, reaping gives it back, so neither a lane nor
//! the completion ring can overflow, and "full" is known where it can still be answered: at the push.
//!
//! Credits are tokens, all alike, held in one counter. What makes them more than a number is what they *know*: whoever
//! gives a credit back has finished with a slot (the reaper has read it), and whoever takes it may cause that slot to
//! be written again. That knowledge travels in the counter's AcqRel read-modify-writes: they form one release sequence,
//! so a taker knows what every earlier giver knew, whichever credit it was (P2).

use crate::index::CachePadded;
use crate::sync::{AtomicU64, Mutant, Ordering, ordering};

/// A fixed number of credits; see the [module](self).
///
/// # Examples
///
/// ```
/// let credits = memring_ring::Credits::new(4);
/// assert!(credits.take(3));
/// assert!(!credits.take(2), "all or nothing: one is left");
/// credits.give_back(3);
/// assert_eq!(credits.available(), 4);
/// ```
#[derive(Debug)]
pub struct Credits {
    available: CachePadded<AtomicU64>,
    total: u64,
}

impl Credits {
    /// `total` credits, all available.
    #[must_use]
    pub fn new(total: u64) -> Self {
        Self { available: CachePadded::new(AtomicU64::new(total)), total }
    }

    /// Takes `count` credits, or none: false if fewer are available.
    #[must_use]
    #[inline]
    pub fn take(&self, count: u64) -> bool {
        // Ordering: Relaxed; the compare-and-swap decides.
        let mut available = self.available.load(Ordering::Relaxed);
        while available >= count {
            // Ordering: AcqRel on success, partner: `give_back` (P2).
            let order = ordering(Mutant::CreditTake, Ordering::AcqRel);
            match self.available.compare_exchange_weak(available, available - count, order, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => available = now,
            }
        }
        false
    }

    /// Gives `count` credits back. The slots behind them may be written from now on.
    #[inline]
    pub fn give_back(&self, count: u64) {
        // Ordering: AcqRel, partner: `take` (P2).
        let before = self.available.fetch_add(count, ordering(Mutant::CreditGive, Ordering::AcqRel));
        debug_assert!(before + count <= self.total, "more credits given back than taken");
    }

    /// How many could be taken now. Advisory.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.available.load(Ordering::Relaxed) // Ordering: a hint.
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}
