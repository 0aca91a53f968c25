//! Budgets: how much one poll may claim, so that a driver looks around now and then.
//!
//! A driver thread claims a chunk, with an operation that may be longer, and polls again. What the reaper drives inside
//! `drain` has the builder's `poll_budget`, which is *strict*: a longer operation is cut.

/// Entries that one claim takes at the most. 32 measured better than 128: drivers share a batch more evenly.
pub(super) const CHUNK_ENTRIES: usize = 32;
/// Bytes after which a claim takes no further entry: a driver holds back little that another could do.
pub(super) const CHUNK_BYTES: u64 = 256 << 10;
/// A budget makes no part shorter than this, bytes: the cutting would cost more than the copying.
const LEAST_PART: u64 = 4096;

/// How much one poll may claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(super) bytes: u64,
    pub(super) operations: u64,
    /// The bytes that a strict one began with. Of a strict one not even the last operation may go beyond the bytes: it
    /// is cut, if its mover allows that.
    strict: Option<u64>,
    /// Of an asynchronous mover: the bytes that it may move by the CPU all the same.
    pub(super) cpu_bytes: u64,
}

impl Budget {
    /// One chunk: what a driver thread claims before it looks around.
    pub(crate) const CHUNK: Self =
        Self { bytes: CHUNK_BYTES, operations: CHUNK_ENTRIES as u64, strict: None, cpu_bytes: 0 };

    pub(crate) fn strict(bytes: u64, operations: u64) -> Self {
        Self { bytes, operations, strict: Some(bytes), cpu_bytes: 0 }
    }

    #[inline]
    pub(super) fn is_strict(self) -> bool {
        self.strict.is_some()
    }

    /// The same, for a mover whose polls move no bytes, unless the CPU stands in for its device.
    pub(crate) fn asynchronous(self) -> Self {
        Self { bytes: u64::MAX, strict: None, cpu_bytes: self.bytes.max(1), ..self }
    }

    /// Counts what was taken of the other, which was made of this one.
    pub(crate) fn charge(&mut self, of: Self) {
        (self.operations, self.bytes) = (of.operations, of.cpu_bytes.min(self.bytes));
    }

    pub(crate) fn is_spent(self) -> bool {
        self.bytes == 0 || self.operations == 0
    }

    /// Whether an entry of this length must not be claimed whole.
    #[inline]
    pub(super) fn is_exceeded_by(self, len: u64) -> bool {
        self.strict.is_some() && len > self.bytes
    }

    /// How many bytes of a longer entry may be done. None: not now.
    pub(super) fn room(self) -> Option<u64> {
        match self.strict {
            None => Some(u64::MAX),
            Some(_) if self.bytes >= LEAST_PART => Some(self.bytes),
            Some(all) => (self.bytes == all).then_some(LEAST_PART),
        }
    }

    /// Takes bytes from it, or what is left of it.
    #[inline]
    pub(super) fn take(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
