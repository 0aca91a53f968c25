//! The gate of a queue pair: counts what is submitted, and closes.
//!
//! The last owner of a queue must know, when it closes the intake, exactly how many operations got in: it then waits
//! for that many ends before it lets go of the memory. A flag beside a counter would need a Dekker handshake between
//! `submit` and `close`. One word that holds both needs none: every passage and the closing stand in the order of that
//! word's modifications, so each passage is either counted by the close or refused.
//!
//! A gate can also be *held*: then `pass` sends everyone to whoever holds it, who counts them in by
//! [`pass_held`](Gate::pass_held) and decides in what order they go on. A gate that is never held costs its passers
//! nothing for it.
//!
//! ```text
//!   word = closed (bit 63) | held (bit 62) | operations passed (62 bits)
//!   pass(n):       compare-and-swap  open, k  ->  open, k + n      refused when closed or held
//!   pass_held(n):  the same, refused when closed
//!   close():       fetch_or(closed)                                returns k: final
//!   hold():        fetch_or(held)                                  returns k: so many went the short way so far
//!   release():     fetch_and(!held)
//! ```

use crate::index::CachePadded;
use crate::sync::{AtomicU64, Mutant, Ordering, is_active};

const CLOSED: u64 = 1 << 63;
const HELD: u64 = 1 << 62;
const COUNT: u64 = HELD - 1;

/// What a gate says to who wants to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only Passed lets anyone in"]
pub enum Passage {
    /// Let in, and counted.
    Passed,
    /// Not let in: ask who holds the gate.
    Held,
    /// Not let in, for good.
    Closed,
}

/// An intake that can be closed once; see the [module](self).
///
/// # Examples
///
/// ```
/// use memring_ring::{Gate, Passage};
/// let gate = Gate::default();
/// assert_eq!(gate.pass(3), Passage::Passed);
/// gate.hold();
/// assert_eq!(gate.pass(1), Passage::Held);
/// assert!(gate.pass_held(1));
/// gate.release();
/// assert_eq!(gate.close(), 4);
/// assert_eq!(gate.pass(1), Passage::Closed);
/// assert_eq!(gate.passed(), 4);
/// ```
#[derive(Debug, Default)]
pub struct Gate {
    word: CachePadded<AtomicU64>,
}

impl Gate {
    /// Lets `count` operations in, before they are published, if the gate is neither closed nor held.
    #[inline]
    pub fn pass(&self, count: u64) -> Passage {
        match self.enter(count, CLOSED | HELD) {
            Ok(()) => Passage::Passed,
            Err(word) if word & CLOSED != 0 => Passage::Closed,
            Err(_) => Passage::Held,
        }
    }

    /// Lets `count` operations in although the gate is held: for who holds it. False if the gate is closed.
    #[must_use]
    pub fn pass_held(&self, count: u64) -> bool {
        self.enter(count, CLOSED).is_ok()
    }

    /// Counts, unless one of these bits stands in the way; then gives the word that had it.
    #[inline]
    fn enter(&self, count: u64, obstacles: u64) -> Result<(), u64> {
        let mut word = self.word.load(Ordering::Relaxed); // Ordering: the compare-and-swap decides.
        while word & obstacles == 0 {
            if is_active(Mutant::GatePass) {
                self.word.fetch_add(count, Ordering::Relaxed); // Ordering: the mutant's, wrong on purpose.
                return Ok(());
            }
            // Ordering: AcqRel, partner: `close`. What the closer did before is known to who is refused, and the
            // count reaches the closer; the operations' bytes travel by the lanes, not by this word.
            match self.word.compare_exchange_weak(word, word + count, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(word)
    }

    /// Closes the gate, for good, and returns how many operations have passed it: no more will.
    pub fn close(&self) -> u64 {
        self.word.fetch_or(CLOSED, Ordering::AcqRel) & COUNT // Ordering: AcqRel, partner: `pass`.
    }

    /// Holds the gate: from now on nobody [passes](Gate::pass). All that passed before are counted.
    pub fn hold(&self) {
        self.word.fetch_or(HELD, Ordering::AcqRel); // Ordering: AcqRel, partner: `pass`.
    }

    /// Lets everyone pass again.
    pub fn release(&self) {
        self.word.fetch_and(!HELD, Ordering::AcqRel); // Ordering: AcqRel, partner: `pass`.
    }

    /// How many operations have passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.word.load(Ordering::Acquire) & COUNT // Ordering: Acquire, partner: `pass`; a count only.
    }

    /// Whether the gate is closed. An open answer is advisory: [`pass`](Gate::pass) decides.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CLOSED != 0 // Ordering: a hint.
    }
}
