//! Tallies: what was done, as the statistics tell it.

use memring_ring::Counter;

/// What was done, for the statistics. One writer bumps; others add.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    operations: Counter,
    bytes: Counter,
    batches: Counter,
    /// What was done otherwise than by the mover's own means.
    fallbacks: Counter,
    /// By threads that are not the writer.
    operations_elsewhere: Counter,
    bytes_elsewhere: Counter,
}

impl Tally {
    /// Counts a batch of operations that ended, and the bytes of those that succeeded: for the one writer.
    #[inline]
    pub(super) fn record(&self, operations: u64, bytes: u64) {
        self.operations.bump(operations);
        self.bytes.bump(bytes);
        self.batches.bump(1);
    }

    /// Counts the bytes of a part: for the one writer.
    pub(super) fn record_part(&self, bytes: u64) {
        self.bytes.bump(bytes);
    }

    /// Counts what was done otherwise than by the mover's own means: for the one writer.
    pub(super) fn record_fallbacks(&self, count: u64) {
        self.fallbacks.bump(count);
    }

    /// Counts operations that ended, and bytes, from any thread.
    pub(crate) fn add(&self, operations: u64, bytes: u64) {
        self.operations_elsewhere.add(operations);
        self.bytes_elsewhere.add(bytes);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.get() + self.operations_elsewhere.get()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get().saturating_add(self.bytes_elsewhere.get())
    }

    pub(crate) fn fallbacks(&self) -> u64 {
        self.fallbacks.get()
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches.get()
    }
}
