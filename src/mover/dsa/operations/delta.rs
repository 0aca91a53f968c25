//! CR_DELTA and AP_DELTA: how two regions differ, and making one into the other.
//!
//! A record is a list of entries of ten bytes: the offset of a word in units of 8 bytes, as u16, and the second
//! source's word there. Offsets ascend. What fits into 16 bits of such units is 512 KiB, the most that is compared.
//!
//! A device compares by cache lines, so where it stops when the record is full is not exact: nearly full is full too.
//! Here it is exact.
//!
//! Source: SPEC chapter 8. That a record to apply is of whole entries is inferred.

use core::fmt;

/// The unit of comparison, bytes.
const WORD: usize = 8;
/// An entry: an offset and a word, bytes.
const ENTRY: usize = 2 + WORD;
/// The most that is compared, bytes.
const MOST: usize = 0x8_0000;

/// What CR_DELTA found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeltaResult {
    /// The sources are equal, and the record is empty.
    Equal,
    /// The record has every difference.
    Complete,
    /// The record is full, and there are more. It cannot be applied.
    Overflow,
}

impl DeltaResult {
    /// The result in a completion record.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::operations::DeltaResult::Overflow.to_u8(), 2);
    /// ```
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Equal => 0,
            Self::Complete => 1,
            Self::Overflow => 2,
        }
    }

    /// What a completion record's result says, if it is one of these.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::operations::DeltaResult;
    /// assert_eq!(DeltaResult::from_u8(1), Some(DeltaResult::Complete));
    /// assert_eq!(DeltaResult::from_u8(3), None);
    /// ```
    #[must_use]
    pub const fn from_u8(result: u8) -> Option<Self> {
        match result {
            0 => Some(Self::Equal),
            1 => Some(Self::Complete),
            2 => Some(Self::Overflow),
            _ => None,
        }
    }

    /// Whether this mask has the result's bit: what [`CHECK_RESULT`](crate::dsa::Flags::CHECK_RESULT) asks for.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::operations::DeltaResult;
    /// assert!(DeltaResult::Complete.is_expected_by(0b010));
    /// assert!(!DeltaResult::Overflow.is_expected_by(0b010));
    /// ```
    #[must_use]
    pub const fn is_expected_by(self, mask: u8) -> bool {
        mask & (1 << self.to_u8()) != 0
    }
}

/// A delta record that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Created {
    /// What was found.
    pub result: DeltaResult,
    /// The length of the record, bytes.
    pub record_len: usize,
    /// How much was compared: all, unless the record was full; bytes. A completion record says 0 instead of all.
    pub compared: usize,
}

/// Why no delta record can be made of two sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateError {
    /// The sources have different lengths.
    Lengths,
    /// Their length is no multiple of 8.
    Misaligned,
    /// They are longer than 512 KiB.
    TooLong,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lengths => "the sources of a delta record have different lengths",
            Self::Misaligned => "the length of a delta record's sources is no multiple of 8",
            Self::TooLong => "the sources of a delta record are longer than 512 KiB",
        })
    }
}

impl core::error::Error for CreateError {}

/// Writes down what the second source has that the first has not. The record is at most as long as `record`.
///
/// # Errors
///
/// The lengths of the sources, as [`CreateError`] says.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::{DeltaResult, create_delta};
/// let mut record = [0; 80];
/// let created = create_delta(&[0; 16], &[0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], &mut record)?;
/// assert_eq!((created.result, created.record_len), (DeltaResult::Complete, 10));
/// assert_eq!(record[..10], [1, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
/// # Ok::<(), memring::dsa::operations::CreateError>(())
/// ```
pub fn create_delta(src_1: &[u8], src_2: &[u8], record: &mut [u8]) -> Result<Created, CreateError> {
    if src_1.len() != src_2.len() {
        return Err(CreateError::Lengths);
    }
    if !src_1.len().is_multiple_of(WORD) {
        return Err(CreateError::Misaligned);
    }
    if src_1.len() > MOST {
        return Err(CreateError::TooLong);
    }
    let mut left = record;
    let mut record_len = 0;
    for (offset, (one, two)) in (0_u16..=u16::MAX).zip(src_1.chunks(WORD).zip(src_2.chunks(WORD))) {
        if one == two {
            continue;
        }
        let Some((entry, rest)) = left.split_first_chunk_mut::<ENTRY>() else {
            return Ok(Created { result: DeltaResult::Overflow, record_len, compared: usize::from(offset) * WORD });
        };
        let (at, word) = entry.split_at_mut(2);
        at.copy_from_slice(&offset.to_le_bytes());
        word.copy_from_slice(two);
        left = rest;
        record_len += ENTRY;
    }
    let result = if record_len == 0 { DeltaResult::Equal } else { DeltaResult::Complete };
    Ok(Created { result, record_len, compared: src_1.len() })
}

/// Why a delta record could not be applied. What comes before the wrong entry has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplyError {
    /// An offset is not above the one before it.
    NotAscending {
        /// How much of the record was applied, bytes.
        applied: usize,
    },
    /// An offset is not inside of the destination.
    OutOfRange {
        /// How much of the record was applied, bytes.
        applied: usize,
    },
    /// The record ends inside of an entry.
    Cut {
        /// How much of the record was applied, bytes.
        applied: usize,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, applied) = match self {
            Self::NotAscending { applied } => ("its offsets do not ascend", applied),
            Self::OutOfRange { applied } => ("it has an offset outside of the destination", applied),
            Self::Cut { applied } => ("it ends inside of an entry", applied),
        };
        write!(f, "a delta record was applied up to byte {applied}: {what}")
    }
}

impl core::error::Error for ApplyError {}

/// Makes what the first source was into what the second one was.
///
/// # Errors
///
/// The record is wrong, as [`ApplyError`] says.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::{ApplyError, apply_delta};
/// let mut dst = [0; 16];
/// apply_delta(&[1, 0, 1, 2, 3, 4, 5, 6, 7, 8], &mut dst)?;
/// assert_eq!(dst[8..], [1, 2, 3, 4, 5, 6, 7, 8]);
/// let refused = apply_delta(&[2, 0, 1, 2, 3, 4, 5, 6, 7, 8], &mut dst);
/// assert_eq!(refused, Err(ApplyError::OutOfRange { applied: 0 }));
/// # Ok::<(), ApplyError>(())
/// ```
pub fn apply_delta(record: &[u8], dst: &mut [u8]) -> Result<(), ApplyError> {
    let (mut left, mut applied, mut lowest) = (record, 0, 0);
    while let Some(([low, high, word @ ..], rest)) = left.split_first_chunk::<ENTRY>() {
        let offset = usize::from(u16::from_le_bytes([*low, *high]));
        if offset < lowest {
            return Err(ApplyError::NotAscending { applied });
        }
        let Some(to) = dst.get_mut(offset * WORD..(offset + 1) * WORD) else {
            return Err(ApplyError::OutOfRange { applied });
        };
        to.copy_from_slice(word);
        (left, applied, lowest) = (rest, applied + ENTRY, offset + 1);
    }
    if left.is_empty() { Ok(()) } else { Err(ApplyError::Cut { applied }) }
}
