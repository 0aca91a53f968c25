//! The gate of a queue pair: counts what is submitted, and closes.
//!
//! The last owner of a queue must know, when it closes the intake, exactly how many operations got in: it then waits
//! for that many ends before it lets go of the memory. A flag beside a counter would need a Dekker handshake between
//! `submit` and `close`. One word that holds both needs none: every passage and the closing stand in the order of that
//! word's modifications, so each passage is either counted by the close or refused.
//!
//! ```text
//!   word = closed (bit 63) | operations passed (63 bits)
//!   pass(n):  compare-and-swap  open, k  ->  open, k + n       refused when closed
//!   close():  fetch_or(closed)                                 returns k: final
//! ```

use crate::index::CachePadded;
use crate::sync::{AtomicU64, Mutant, Ordering, is_active};

const CLOSED: u64 = 1 << 63;

/// An intake that can be closed once; see the [module](self).
///
/// # Examples
///
/// ```
/// let gate = memring_ring::Gate::default();
/// assert!(gate.pass(3));
/// assert_eq!(gate.close(), 3);
/// assert!(!gate.pass(1));
/// assert_eq!(gate.passed(), 3);
/// ```
#[derive(Debug, Default)]
pub struct Gate {
    word: CachePadded<AtomicU64>,
}

impl Gate {
    /// Lets `count` operations in, before they are published; false if the gate is closed.
    #[must_use]
    pub fn pass(&self, count: u64) -> bool {
        let mut word = self.word.load(Ordering::Relaxed); // Ordering: the compare-and-swap decides.
        while word & CLOSED == 0 {
            if is_active(Mutant::GatePass) {
                self.word.fetch_add(count, Ordering::Relaxed); // Ordering: the mutant's, wrong on purpose.
                return true;
            }
            // Ordering: AcqRel, partner: `close`. What the closer did before is known to who is refused, and the
            // count reaches the closer; the operations' bytes travel by the lanes, not by this word.
            match self.word.compare_exchange_weak(word, word + count, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Closes the gate, for good, and returns how many operations have passed it: no more will.
    pub fn close(&self) -> u64 {
        self.word.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED // Ordering: AcqRel, partner: `pass`.
    }

    /// How many operations have passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.word.load(Ordering::Acquire) & !CLOSED // Ordering: Acquire, partner: `pass`; a count only.
    }

    /// Whether the gate is closed. An open answer is advisory: [`pass`](Gate::pass) decides.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CLOSED != 0 // Ordering: a hint.
    }
}
