//! Splits: operations that are done in parts, by whoever has time, and end once.
//!
//! A large copy is one entry that travels: whoever claims it from its lane cuts a part off, puts the rest back, and
//! does the part. So the right to the next part is the entry itself, and a claim of the lane decides who has it: there
//! is no second way to reach a part, hence nothing that could be late. What the parts share is a record under a key:
//!
//! ```text
//!   begin(entry, start, len):   a slot of the table holds the whole entry ; left = len ; worst = none
//!   blame(key, place, kind):    worst = the trouble nearest to the start
//!   finish(key, n):             left -= n ; who reaches zero takes the record out: the operation has ended
//! ```
//!
//! The parts add up to the length, so exactly one finisher reaches zero, and nobody has the key after that. It may give
//! the slot to the next operation at once: nothing of this one is left (P10).
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | `left` | begin (store), finish (fetch_sub) | AcqRel: the last finisher knows all that the others did (P10) |
//! | `worst` | begin (store), blame (fetch_min) | Relaxed; ordered by `left` |
//! | `start` | begin (store) | Relaxed; ordered by what carries the key |

use alloc::boxed::Box;

use crate::index::Words;
use crate::sync::{AtomicU64, Mutant, Ordering, ordering};
use crate::table::Table;

/// Records of operations that are done in parts; see the [module](self).
///
/// # Examples
///
/// ```
/// let splits = memring_ring::Splits::<1>::new(1);
/// let key = splits.begin([7], 0x1000, 100).unwrap();
/// assert_eq!(splits.finish::<[u64; 1]>(key, 60), None, "40 are left");
/// splits.blame(key, 0x1041, 6);
/// assert_eq!(splits.finish::<[u64; 1]>(key, 40), Some(([7], Some((0x41, 6)))));
/// ```
#[derive(Debug)]
pub struct Splits<const W: usize> {
    wholes: Table<W>,
    records: Box<[Record]>,
}

#[derive(Debug)]
struct Record {
    start: AtomicU64,
    left: AtomicU64,
    worst: AtomicU64,
}

/// No trouble so far.
const NONE: u64 = u64::MAX;
/// Bits of a trouble that are its kind; those above are the distance from the start.
const KIND_BITS: u32 = 8;

impl<const W: usize> Splits<W> {
    /// Room for so many operations at once.
    ///
    /// # Panics
    ///
    /// If that is more than [`Table::MAX`].
    #[must_use]
    pub fn new(operations: usize) -> Self {
        let record = |_| Record { start: AtomicU64::new(0), left: AtomicU64::new(0), worst: AtomicU64::new(NONE) };
        Self { wholes: Table::new(operations), records: (0..operations).map(record).collect() }
    }

    /// Begins an operation whose parts will add up to `len`, not zero, from the place `start` on, and gives the key
    /// that its parts share; none if there is no room.
    #[must_use]
    pub fn begin<E: Words<W>>(&self, whole: E, start: u64, len: u64) -> Option<u32> {
        let key = self.wholes.put(whole)?;
        let record = &self.records[key as usize];
        // Ordering: Relaxed, all; whatever hands the key on publishes them, and the last finisher of the operation
        // that had this record before is known by the slot it gave back (P2).
        record.start.store(start, Ordering::Relaxed);
        record.left.store(len, Ordering::Relaxed);
        record.worst.store(NONE, Ordering::Relaxed); // Ordering: as above.
        Some(key)
    }

    /// Notes that something of this kind went wrong at this place, in a part that is not finished yet; what is nearest
    /// to the start is kept.
    ///
    /// # Panics
    ///
    /// If no record has this key.
    pub fn blame(&self, key: u32, place: u64, kind: u8) {
        let record = &self.records[key as usize];
        let offset = place.wrapping_sub(record.start.load(Ordering::Relaxed)); // Ordering: came with the key.
        let trouble = offset.min(NONE >> KIND_BITS) << KIND_BITS | u64::from(kind);
        record.worst.fetch_min(trouble.min(NONE - 1), Ordering::Relaxed); // Ordering: published by `finish`.
    }

    /// Whether something went wrong so far. Advisory: a reason to begin no further part.
    ///
    /// # Panics
    ///
    /// If no record has this key.
    #[must_use]
    pub fn is_troubled(&self, key: u32) -> bool {
        self.records[key as usize].worst.load(Ordering::Relaxed) != NONE // Ordering: a hint.
    }

    /// Finishes a part of `len`. Who finishes the last one gets the whole entry, and the trouble that is nearest to its
    /// start, if there was any: how far from it, and of what kind.
    ///
    /// # Panics
    ///
    /// If no record has this key.
    pub fn finish<E: Words<W>>(&self, key: u32, len: u64) -> Option<(E, Option<(u64, u8)>)> {
        let record = &self.records[key as usize];
        // Ordering: AcqRel, partner: the other finishers (P10).
        let before = record.left.fetch_sub(len, ordering(Mutant::SplitCountDown, Ordering::AcqRel));
        debug_assert!(before >= len, "the parts are longer than the whole");
        if before != len {
            return None;
        }
        let worst = record.worst.load(Ordering::Relaxed); // Ordering: the last `fetch_sub` has acquired them all.
        let (whole, _) = self.wholes.take(key);
        Some((whole, (worst != NONE).then_some((worst >> KIND_BITS, worst.to_le_bytes()[0]))))
    }
}
