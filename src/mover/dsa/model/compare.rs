//! COMPARE and COMPVAL. A difference that was found is told rather than a page that is missing behind it; and where a
//! page is missing the result is that there is no difference so far.
//!
//! Source: SPEC chapter 8.

use super::Device;
use super::execution::Executor;
use super::memory::Memory;
use super::walk::{Operand, Stop, Walk};
use crate::mover::dsa::RecordView;
use crate::mover::dsa::operations;

/// Found by who looks at so many bytes at once: then an offset may be lower by less than that.
const GRAIN: usize = 64;

impl<M: Memory> Executor<'_, '_, M> {
    pub(super) fn compare(&mut self, src_1: u64, src_2: u64, len: u32, expected: u8) -> RecordView {
        let mut walk = Walk::forward(len);
        let found = self.difference([Operand::reads(1, src_1), Operand::reads(2, src_2)], &mut walk);
        self.compared(found, &walk, expected)
    }

    pub(super) fn compare_value(&mut self, src: u64, pattern: u64, len: u32, expected: u8) -> RecordView {
        let mut walk = Walk::forward(len);
        let found = self.difference_from_value(Operand::reads(1, src), pattern, &mut walk);
        let found = found.map(|offset| offset.map(|offset| self.device.blurred(offset)));
        self.compared(found, &walk, expected)
    }

    /// The offset of the first difference.
    fn difference(&mut self, [one, two]: [Operand; 2], walk: &mut Walk) -> Result<Option<u32>, Stop> {
        while let Some(piece) = self.next(&[one, two], walk)? {
            let (bytes, others) = self.scratch.both(piece.len);
            self.memory.take(one, piece, bytes)?;
            self.memory.take(two, piece, others)?;
            if let Some(at) = operations::compare(bytes, others) {
                return Ok(Some(offset(walk, at)));
            }
        }
        Ok(None)
    }

    fn difference_from_value(&mut self, src: Operand, pattern: u64, walk: &mut Walk) -> Result<Option<u32>, Stop> {
        while let Some(piece) = self.next(&[src], walk)? {
            let bytes = self.scratch.one(piece.len);
            self.memory.take(src, piece, bytes)?;
            if let Some(at) = operations::compare_value(bytes, operations::rotated(pattern, walk.done())) {
                return Ok(Some(offset(walk, at)));
            }
        }
        Ok(None)
    }

    fn compared(&self, found: Result<Option<u32>, Stop>, walk: &Walk, expected: u8) -> RecordView {
        match found {
            Ok(None) => self.found(expected & 1 == 0).with_result(0),
            Ok(Some(offset)) => self.found(expected & 1 == 1).with_result(1).with_bytes_completed(offset),
            Err(stop) => self.faulted(stop, walk.done()).with_result(0),
        }
    }
}

fn offset(walk: &Walk, at: usize) -> u32 {
    walk.done().saturating_add(u32::try_from(at).unwrap_or(u32::MAX))
}

impl Device {
    /// An offset that a comparison with a pattern may name instead of this one.
    fn blurred(&mut self, offset: u32) -> u32 {
        if !self.settings.blurs_offsets {
            return offset;
        }
        offset.saturating_sub(u32::try_from(self.dice.below(GRAIN)).unwrap_or(0))
    }
}
