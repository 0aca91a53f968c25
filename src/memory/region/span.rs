//! Spans: parts of a region that somebody has for himself.
#![expect(unsafe_code, reason = "bytes of a mapping, which nobody else accesses")]

use core::fmt;
use core::ops::{Deref, DerefMut, Range};

use super::Region;

/// Bytes of a [`Region`] for oneself: see [`Region::span`].
pub struct Span {
    region: Region,
    range: Range<usize>,
}

impl Span {
    pub(super) fn of(region: &Region, range: Range<usize>) -> Result<Self, SpanError> {
        let len = region.len();
        if range.start > range.end || range.end > len {
            return Err(SpanError::OutOfRange { start: range.start, end: range.end, len });
        }
        if region.0.birth.is_foreign() {
            return Err(SpanError::Forked);
        }
        region.0.entry.lend(&range)?;
        Ok(Self { region: region.clone(), range })
    }

    /// The region that it is of.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Where in the region it lies, bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Where it begins in memory.
    pub(crate) fn address(&self) -> *mut u8 {
        self.region.as_mut_ptr().wrapping_add(self.range.start)
    }
}

impl Deref for Span {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the region keeps the mapping, of which these bytes are a part, and nobody else has them, as who
        // registered it vouched for and the region's list of spans sees to; whatever they are, they are bytes.
        unsafe { core::slice::from_raw_parts(self.address(), self.range.len()) }
    }
}

impl DerefMut for Span {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.address(), self.range.len()) }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.region.0.give_back(&self.range);
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("range", &self.range).finish_non_exhaustive()
    }
}

/// Why there is no such span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanError {
    /// It does not lie in the region.
    OutOfRange {
        /// Where it would begin, bytes.
        start: usize,
        /// Where it would end.
        end: usize,
        /// The length of the region.
        len: usize,
    },
    /// The region is registered no more: its memory may be gone.
    Deregistered,
    /// The region belongs to the parent process.
    Forked,
    /// Somebody has these bytes already.
    InUse {
        /// Where theirs begin.
        start: usize,
        /// Where they end.
        end: usize,
    },
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { start, end, len } => {
                write!(f, "the bytes {start}..{end} are not in a region of {len}")
            }
            Self::Deregistered => f.write_str("the region is registered no more"),
            Self::Forked => f.write_str("the region belongs to the parent process"),
            Self::InUse { start, end } => write!(f, "the bytes {start}..{end} are somebody else's"),
        }
    }
}

impl core::error::Error for SpanError {}
