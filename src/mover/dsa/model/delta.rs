//! CR_DELTA and AP_DELTA, entry by entry: each may find its page missing.
//!
//! A device compares by blocks, and what is compared when it stops excludes the block whose entries could not all be
//! written. Blocks are of 8 bytes here, so that a record is exactly full; or, by a setting, of 64, so that it may be
//! full with room left.
//!
//! Source: SPEC chapter 8.

use super::execution::Executor;
use super::memory::Memory;
use super::walk::{Operand, Piece, Stop, Walk};
use crate::mover::dsa::operations::DeltaResult;
use crate::mover::dsa::{Operation, RecordStatus, RecordView};

/// The unit of comparison, bytes.
const WORD: usize = 8;
/// An entry: an offset and a word, bytes.
const ENTRY: usize = 2 + WORD;
/// A cache line, bytes.
const LINE: usize = 64;

/// A delta record that is being made.
struct Delta {
    to: Operand,
    room: usize,
    written: usize,
}

/// Why a delta record ends before its sources do.
enum End {
    Full,
    Fault(Stop),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Fault(stop)
    }
}

impl<M: Memory> Executor<'_, '_, M> {
    pub(super) fn create_delta(&mut self, operation: &Operation) -> RecordView {
        let &Operation::CreateDelta { src_1, src_2, len, record, max_record_len, expected_mask } = operation else {
            return self.record(RecordStatus::BAD_OPCODE);
        };
        let room = usize::try_from(max_record_len).unwrap_or(0);
        let mut delta = Delta { to: Operand::writes(3, record), room, written: 0 };
        let mut walk = Walk::forward(len);
        let end = self.compare_sources([Operand::reads(1, src_1), Operand::reads(2, src_2)], &mut walk, &mut delta);
        let (result, compared) = match end {
            Ok(()) if delta.written == 0 => (DeltaResult::Equal, 0),
            Ok(()) => (DeltaResult::Complete, 0),
            Err(End::Full) => (DeltaResult::Overflow, walk.done()),
            // Of one that stopped the result is whether anything was written.
            Err(End::Fault(stop)) => {
                return delta.told_by(self.faulted(stop, walk.done())).with_result((delta.written != 0).into());
            }
        };
        let record = self.found(result.is_expected_by(expected_mask));
        delta.told_by(record).with_result(result.to_u8()).with_bytes_completed(compared)
    }

    fn compare_sources(&mut self, [one, two]: [Operand; 2], walk: &mut Walk, delta: &mut Delta) -> Result<(), End> {
        while let Some(piece) = self.next_of(&[one, two], walk, WORD as u64)? {
            let mut compared = 0;
            self.compare_piece([one, two], piece, delta, &mut compared).inspect_err(|_| walk.end_within(compared))?;
        }
        Ok(())
    }

    /// Adds to `compared` what it has compared.
    fn compare_piece(
        &mut self,
        [src_1, src_2]: [Operand; 2],
        piece: Piece,
        delta: &mut Delta,
        compared: &mut usize,
    ) -> Result<(), End> {
        let block = if self.device.settings.ends_deltas_early { LINE } else { WORD };
        let fault = self.planned(delta.to.number);
        let (one, two) = self.scratch.both(piece.len);
        self.memory.take(src_1, piece, one)?;
        self.memory.take(src_2, piece, two)?;
        for (one, two) in one.chunks(block).zip(two.chunks(block)) {
            let first = (piece.at + *compared as u64) / WORD as u64;
            let words = || one.chunks(WORD).zip(two.chunks(WORD)).zip(first..);
            let differing = || words().filter(|((one, two), _)| one != two);
            let mut written = delta.written;
            if written + differing().count() * ENTRY > delta.room {
                return Err(End::Full);
            }
            for ((_, word), number) in differing() {
                let to = delta.to.on(written);
                written += ENTRY;
                if fault.is_some_and(|offset| offset < written as u64) {
                    return Err(to.stop(0).into());
                }
                self.memory.put_across(to, &entry(number, word))?;
            }
            // Now all entries of the block count.
            delta.written = written;
            *compared += one.len();
        }
        Ok(())
    }

    pub(super) fn apply_delta(&mut self, record: u64, dst: u64, len: u32, record_len: u32) -> RecordView {
        let (from, to) = (Operand::reads(1, record), Operand::writes(3, dst));
        let mut lowest = 0;
        for applied in (0..record_len).step_by(ENTRY) {
            let ended = |this: &Self, status| this.record(status).with_bytes_completed(applied);
            let end = u64::from(applied) + ENTRY as u64;
            let mut entry = [0; ENTRY];
            let from = from.on(usize::try_from(applied).unwrap_or(usize::MAX));
            let read =
                if self.is_planned(1, end) { Err(from.stop(0)) } else { self.memory.take_across(from, &mut entry) };
            if let Err(stop) = read {
                return self.faulted(stop, applied);
            }
            let [low, high, word @ ..] = entry;
            let number = u32::from(u16::from_le_bytes([low, high]));
            if number < lowest {
                return ended(self, RecordStatus::DELTA_NOT_ASCENDING);
            }
            let at = u64::from(number) * WORD as u64;
            if at >= u64::from(len) {
                return ended(self, RecordStatus::DELTA_OUT_OF_RANGE);
            }
            let piece = Piece { at, len: WORD };
            let put = if self.is_planned(3, end) { Err(to.stop(at)) } else { self.memory.put(to, piece, &word) };
            if let Err(stop) = put {
                return self.faulted(stop, applied);
            }
            lowest = number + 1;
        }
        self.record(RecordStatus::SUCCESS)
    }
}

/// At most 512 KiB are compared: the number of a word has 16 bits.
fn entry(number: u64, word: &[u8]) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let (at, to) = entry.split_at_mut(2);
    at.copy_from_slice(number.to_le_bytes().split_at(2).0);
    to.copy_from_slice(word);
    entry
}

impl Delta {
    /// A record that says how much was written.
    fn told_by(&self, record: RecordView) -> RecordView {
        record.with_delta_record_len(u32::try_from(self.written).unwrap_or(u32::MAX))
    }
}
