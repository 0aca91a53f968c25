//! Operations that go somewhere and change nothing: CFLUSH, TRANSL_FETCH, DRAIN, and the readback of what was written.
//!
//! Source: SPEC chapter 8.

use super::execution::{Executor, operands};
use super::memory::{Access, Memory};
use super::validation;
use super::walk::{Operand, Stop, Walk};
use crate::mover::dsa::{Flags, Operation, RecordStatus, RecordView};

impl<M: Memory> Executor<'_, '_, M> {
    pub(super) fn flush(&mut self, address: u64, len: u32) -> RecordView {
        let mut walk = Walk::forward(len);
        match self.visit(Operand::reads(3, address), &mut walk, true) {
            Ok(()) => self.record(RecordStatus::SUCCESS),
            Err(stop) => self.faulted(stop, walk.done()),
        }
    }

    /// Goes through a region without reading it.
    fn visit(&mut self, operand: Operand, walk: &mut Walk, flushes: bool) -> Result<(), Stop> {
        while let Some(piece) = self.next(&[operand], walk)? {
            if flushes && !self.memory.flush(operand.address.wrapping_add(piece.at), piece.len) {
                return Err(operand.stop(piece.at));
            }
        }
        Ok(())
    }

    /// How much it has translated is not told.
    pub(super) fn translate(&mut self, address: u64, len: u32, stride: u32) -> RecordView {
        let operand = Operand::reads(1, address);
        let unused = self.unused(RecordStatus::SUCCESS);
        let translated = if self.flags.contains(Flags::USE_STRIDE) {
            self.stride(operand, len, stride)
        } else {
            self.visit(operand, &mut Walk::forward(len), false)
        };
        match translated {
            Ok(()) => unused,
            Err(stop) => self.faulted(stop, unused.bytes_completed()),
        }
    }

    /// One address each `stride` bytes.
    fn stride(&mut self, operand: Operand, len: u32, stride: u32) -> Result<(), Stop> {
        for at in (0..u64::from(len)).step_by(usize::try_from(stride.max(1)).unwrap_or(usize::MAX)) {
            let address = operand.address.wrapping_add(at);
            if self.is_planned(1, at + 1) || !self.memory.is_mapped(address, 1, Access::Read) {
                return Err(operand.stop(at));
            }
        }
        Ok(())
    }

    /// All that came before has ended: the queue sees to that.
    pub(super) fn drain(&mut self, readback_1: u64, readback_2: u64) -> RecordView {
        let unused = self.unused(RecordStatus::SUCCESS);
        let readbacks = [(Flags::READBACK_1_VALID, 1, readback_1), (Flags::READBACK_2_VALID, 2, readback_2)];
        for (flag, number, address) in readbacks {
            let is_missing = |this: &mut Self| this.is_planned(number, 1) || !this.memory.read(address, &mut [0]);
            if self.flags.contains(flag) && is_missing(self) {
                let stop = Operand::reads(number, address).stop(0);
                return self.stopped(RecordStatus::READBACK_PAGE_FAULT, stop, unused.bytes_completed());
            }
        }
        unused
    }

    /// What a readback is for, and a durable destination: what was written is in memory, and not only in the cache.
    pub(super) fn read_back(&mut self, operation: &Operation) {
        let durable = [Flags::DESTINATION_READBACK, Flags::CACHE_CONTROL_3];
        if !durable.into_iter().any(|flag| self.flags.contains(flag)) {
            return;
        }
        self.forget_plan();
        let len = match *operation {
            Operation::CreateDelta { max_record_len, .. } => max_record_len,
            _ => validation::length(operation).unwrap_or(0),
        };
        for operand in operands(operation, self.flags).iter().flatten().filter(|one| one.access == Access::Write) {
            // What cannot be read was not written either.
            let _ = self.visit(*operand, &mut Walk::forward(len), true);
        }
    }
}
