//! What is left of an operation that stopped at a page fault, as an operation of its own.
//!
//! A record says how far the operation came; what to submit next depends on the operation:
//!
//! | opcode | what changes |
//! |---|---|
//! | MEMMOVE forward | src and dst go on |
//! | MEMMOVE backward | nothing but the length: the first part is left |
//! | FILL, COMPVAL | the region goes on, and the pattern is rotated |
//! | COMPARE, DUALCAST, CFLUSH | all regions go on |
//! | CR_DELTA | the sources go on, and the record behind what was written, which leaves less room for it |
//! | AP_DELTA | the record goes on |
//! | CRCGEN, COPY_CRC | the regions go on, and the seed is the sum so far |
//! | BATCH | the list goes on by descriptors |
//! | DRAIN, TRANSL_FETCH | nothing |
//!
//! What the parts found is joined by who submits them: an offset that a later comparison finds counts from its own
//! start, and so do the offsets in a later part of a delta record.
//!
//! Source: SPEC chapter 8. That patterns are rotated is inferred; the operations on data integrity fields are not
//! resumed.

use super::{Flags, Operation};
use crate::mover::dsa::RecordView;
use crate::mover::dsa::operations::{Crc, Direction, rotated, rotated_16};

/// The least room in which a device makes a delta record, bytes.
const LEAST_DELTA_LEN: u32 = 80;

impl Operation {
    /// What is left of the operation, which had these flags, after it stopped as this record says; and the flags of the
    /// rest, since a seed that was in memory is in the descriptor then.
    ///
    /// `None` if it did not stop so that the rest can be submitted, if the record cannot be right, or if there is no
    /// descriptor for the rest: no room for a delta record, or an operation on data integrity fields.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Flags, Operation, RecordStatus, RecordView};
    /// let copy = Operation::Memmove { src: 0x1000, dst: 0x9000, len: 100 };
    /// let stopped = RecordView::new(RecordStatus::PAGE_FAULT).with_bytes_completed(60);
    /// let rest = Operation::Memmove { src: 0x1000 + 60, dst: 0x9000 + 60, len: 40 };
    /// assert_eq!(copy.rest(Flags::RECORD, &stopped), Some((rest, Flags::RECORD)));
    /// // It had gone from the end.
    /// let rest = Operation::Memmove { src: 0x1000, dst: 0x9000, len: 40 };
    /// assert_eq!(copy.rest(Flags::RECORD, &stopped.with_result(1)), Some((rest, Flags::RECORD)));
    /// ```
    #[must_use]
    pub fn rest(&self, flags: Flags, record: &RecordView) -> Option<(Self, Flags)> {
        if !record.status().is_resumable() {
            return None;
        }
        let done = record.bytes_completed();
        let on = |address: u64| address.wrapping_add(u64::from(done));
        let rest = match *self {
            Self::Memmove { src, dst, len } => {
                let len = left(len, done)?;
                match Direction::from_result(record.result()) {
                    Direction::Forward => Self::Memmove { src: on(src), dst: on(dst), len },
                    Direction::Backward => Self::Memmove { src, dst, len },
                }
            }
            Self::Fill { pattern, pattern_high, dst, len } => {
                let (pattern, pattern_high) = rotated_fill(pattern, pattern_high, flags, done);
                Self::Fill { pattern, pattern_high, dst: on(dst), len: left(len, done)? }
            }
            Self::Compare { src_1, src_2, len, expected } => {
                Self::Compare { src_1: on(src_1), src_2: on(src_2), len: left(len, done)?, expected }
            }
            Self::CompareValue { src, pattern, len, expected } => {
                Self::CompareValue { src: on(src), pattern: rotated(pattern, done), len: left(len, done)?, expected }
            }
            Self::Dualcast { src, dst_1, dst_2, len } => {
                Self::Dualcast { src: on(src), dst_1: on(dst_1), dst_2: on(dst_2), len: left(len, done)? }
            }
            Self::CacheFlush { address, len } => Self::CacheFlush { address: on(address), len: left(len, done)? },
            Self::Batch { list, count } => {
                let count = left(count, record.descriptors_completed())?;
                Self::Batch { list: list.wrapping_add(64 * u64::from(record.descriptors_completed())), count }
            }
            Self::ApplyDelta { record: from, dst, len, record_len } => {
                Self::ApplyDelta { record: on(from), dst, len, record_len: left(record_len, done)? }
            }
            Self::CreateDelta { .. } => self.rest_of_delta(record)?,
            Self::Crc { .. } | Self::CopyCrc { .. } => return self.rest_of_crc(flags, record),
            Self::Drain { .. } | Self::TranslationFetch { .. } => *self,
            _ => return None,
        };
        Some((rest, flags))
    }

    fn rest_of_delta(&self, view: &RecordView) -> Option<Self> {
        let &Self::CreateDelta { src_1, src_2, len, record, max_record_len, expected_mask } = self else { return None };
        let (done, written) = (view.bytes_completed(), view.delta_record_len());
        let max_record_len = max_record_len.checked_sub(written).filter(|room| *room >= LEAST_DELTA_LEN)?;
        Some(Self::CreateDelta {
            src_1: src_1.wrapping_add(u64::from(done)),
            src_2: src_2.wrapping_add(u64::from(done)),
            len: left(len, done)?,
            record: record.wrapping_add(u64::from(written)),
            max_record_len,
            expected_mask,
        })
    }

    /// With nothing done the record has no sum, and the operation begins again.
    fn rest_of_crc(&self, flags: Flags, record: &RecordView) -> Option<(Self, Flags)> {
        let done = record.bytes_completed();
        if done == 0 {
            return Some((*self, flags));
        }
        let seed = if Crc::from_flags(flags).bytes() == 8 { record.crc64() } else { record.crc32().into() };
        let on = |address: u64| address.wrapping_add(u64::from(done));
        let rest = match *self {
            Self::Crc { src, len, .. } => Self::Crc { src: on(src), len: left(len, done)?, seed, seed_address: 0 },
            Self::CopyCrc { src, dst, len, .. } => {
                Self::CopyCrc { src: on(src), dst: on(dst), len: left(len, done)?, seed, seed_address: 0 }
            }
            _ => return None,
        };
        Some((rest, flags.without(Flags::READ_SEED)))
    }
}

/// What is left of a length: something, or the operation would not have stopped.
fn left(len: u32, done: u32) -> Option<u32> {
    len.checked_sub(done).filter(|left| *left != 0)
}

fn rotated_fill(low: u64, high: u64, flags: Flags, done: u32) -> (u64, u64) {
    if !flags.contains(Flags::FILL_16) {
        return (rotated(low, done), high);
    }
    let [l0, l1, l2, l3, l4, l5, l6, l7, high @ ..] =
        rotated_16(u128::from(low) | u128::from(high) << 64, done).to_le_bytes();
    (u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]), u64::from_le_bytes(high))
}
