//! Progress: how much has been done, for those who were not told of each part.
//!
//! Whoever sees a number sees all that was done before it was counted (P16). So it is counted *after* it is done: a
//! sleeper that takes note of a number, looks, and sleeps until there is more has looked at everything up to it.
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | the word | who has done something, `fetch_add` | Release; the Acquire of `done` (P16) |

use crate::sync::{AtomicU64, Mutant, Ordering, ordering};

/// A number that only grows; see the [module](self).
///
/// # Examples
///
/// ```
/// let progress = memring_ring::Progress::default();
/// progress.advance(2);
/// assert_eq!(progress.done(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// Counts what has been done.
    #[inline]
    pub fn advance(&self, amount: u64) {
        // Ordering: Release, partner: `done` (P16).
        self.0.fetch_add(amount, ordering(Mutant::ProgressAdvance, Ordering::Release));
    }

    /// How much has been done, as far as this thread has heard.
    #[must_use]
    #[inline]
    pub fn done(&self) -> u64 {
        // Ordering: Acquire, partner: `advance` (P16).
        self.0.load(ordering(Mutant::ProgressObserve, Ordering::Acquire))
    }
}
