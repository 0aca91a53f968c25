//! Tickets and where they lie: the arithmetic shared by all rings.
//!
//! A *ticket* is the running number of an entry, a `u64` that never wraps in practice (at one entry per nanosecond it
//! lasts 584 years). A ring of a power-of-two capacity keeps ticket `t` in slot `t mod capacity`; the *lap* is
//! `t div capacity`. Because tickets never repeat, a compare-and-swap on one cannot be fooled by reuse (no ABA).

use core::ops::{Deref, Range};

/// A power-of-two number of slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    mask: u64,
    shift: u32,
}

impl Capacity {
    /// The least power of two that holds `slots`, and at least one.
    pub(crate) fn at_least(slots: usize) -> Self {
        let capacity = slots.next_power_of_two();
        Self { mask: capacity as u64 - 1, shift: capacity.trailing_zeros() }
    }

    pub(crate) fn get(self) -> usize {
        1 << self.shift
    }

    /// The slots of `count` consecutive tickets, at most a capacity of them: the run up to the wrap, and the one after
    /// it.
    ///
    /// Walking runs instead of tickets checks bounds twice a batch, not twice an entry.
    #[inline]
    pub(crate) fn runs(self, ticket: u64, count: usize) -> [Run; 2] {
        let first = self.slot(ticket);
        let before_wrap = count.min(self.get() - first);
        [
            Run { ticket, slots: first..first + before_wrap, part: 0..before_wrap },
            Run { ticket: ticket + before_wrap as u64, slots: 0..count - before_wrap, part: before_wrap..count },
        ]
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked below a capacity that is a usize")]
    pub(crate) fn slot(self, ticket: u64) -> usize {
        (ticket & self.mask) as usize
    }

    /// The phase of a ticket's lap: true on the first lap, then alternating, so that zeroed slots read as unpublished.
    #[inline]
    pub(crate) fn phase(self, ticket: u64) -> bool {
        (ticket >> self.shift) & 1 == 0
    }
}

/// Neighbouring slots of one lap, the ticket of the first, and the part of the batch that belongs there.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) ticket: u64,
    pub(crate) slots: Range<usize>,
    pub(crate) part: Range<usize>,
}

/// Keeps a value alone on its cache lines: 128 bytes, since x86 fetches lines in pairs and some aarch64 lines are that
/// long.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A plain value that a ring can hold as `N` words.
///
/// Implemented by the entries that travel through the rings, and by word arrays themselves.
///
/// # Examples
///
/// ```
/// use memring_ring::Words;
/// assert_eq!(<[u64; 2]>::from_words([1, 2]).to_words(), [1, 2]);
/// ```
pub trait Words<const N: usize>: Copy {
    /// The words of this value. Must not panic: it runs between a reservation and its publication.
    fn to_words(self) -> [u64; N];
    /// The value of these words; the inverse of [`to_words`](Words::to_words).
    fn from_words(words: [u64; N]) -> Self;
}

impl<const N: usize> Words<N> for [u64; N] {
    #[inline]
    fn to_words(self) -> [u64; N] {
        self
    }
    #[inline]
    fn from_words(words: [u64; N]) -> Self {
        words
    }
}
