//! Counters for statistics: what was done, by whom, and how often.
//!
//! They order nothing and prove nothing about memory; tests read them to see *who* executed something, which no clock
//! can tell. One writer at a time may use the cheap [`bump`](Counter::bump); several use [`add`](Counter::add).

use crate::sync::{AtomicU64, Ordering};

/// A running total.
///
/// # Examples
///
/// ```
/// let counter = memring_ring::Counter::new();
/// counter.add(2);
/// counter.bump(1);
/// assert_eq!(counter.get(), 3);
/// ```
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds, from any thread.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed); // Ordering: a statistic.
    }

    /// Adds without a locked instruction. Concurrent calls may lose amounts: for the counter's one writer.
    #[inline]
    pub fn bump(&self, amount: u64) {
        // Ordering: a statistic, both.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Where the total lies, for whoever monitors it.
    #[must_use]
    pub fn address(&self) -> *const u64 {
        core::ptr::from_ref(&self.0).cast()
    }

    /// The total so far, as this thread sees it.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed) // Ordering: a statistic.
    }
}
