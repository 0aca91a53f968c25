//! MEMMOVE, DUALCAST, FILL, and what sums: CRCGEN, COPY_CRC.
//!
//! A copy between regions that overlap goes the way it must. Where they do not, either way is right, and a device that
//! stops may have gone any: only then does a record say which.
//!
//! Source: SPEC chapter 8.

use super::execution::Executor;
use super::memory::{Access, Memory};
use super::walk::{Operand, Piece, Stop, Walk};
use crate::mover::dsa::operations::{self, Crc, Direction};
use crate::mover::dsa::{Flags, RecordStatus, RecordView};

impl<M: Memory> Executor<'_, '_, M> {
    pub(super) fn memmove(&mut self, src: u64, dst: u64, len: u32) -> RecordView {
        let is_free = src.abs_diff(dst) >= u64::from(len);
        let turns = is_free && self.device.settings.turns_copies && self.device.dice.below(2) == 1;
        let direction = if turns { Direction::Backward } else { Direction::of(src, dst, len.into()) };
        let mut walk = Walk::new(len, direction);
        match self.copy(&[Operand::reads(1, src), Operand::writes(3, dst)], &mut walk) {
            Ok(()) => self.record(RecordStatus::SUCCESS),
            Err(stop) => self.faulted(stop, walk.done()).with_result(direction.to_result()),
        }
    }

    pub(super) fn dualcast(&mut self, src: u64, [dst_1, dst_2]: [u64; 2], len: u32) -> RecordView {
        let operands = [Operand::reads(1, src), Operand::writes(3, dst_1), Operand::writes(4, dst_2)];
        let mut walk = Walk::forward(len);
        match self.copy(&operands, &mut walk) {
            Ok(()) => self.record(RecordStatus::SUCCESS),
            Err(stop) => self.faulted(stop, walk.done()),
        }
    }

    /// From the first operand to the others.
    fn copy(&mut self, operands: &[Operand], walk: &mut Walk) -> Result<(), Stop> {
        while let Some(piece) = self.next(operands, walk)? {
            self.transfer(operands, piece)?;
        }
        Ok(())
    }

    /// A piece of it, which stays in the scratch.
    fn transfer(&mut self, operands: &[Operand], piece: Piece) -> Result<(), Stop> {
        let bytes = self.scratch.one(piece.len);
        operands.iter().try_for_each(|operand| match operand.access {
            Access::Read => self.memory.take(*operand, piece, bytes),
            Access::Write => self.memory.put(*operand, piece, bytes),
        })
    }

    pub(super) fn fill(&mut self, pattern: [u64; 2], dst: u64, len: u32) -> RecordView {
        let mut walk = Walk::forward(len);
        match self.repeat(pattern, Operand::writes(3, dst), &mut walk) {
            Ok(()) => self.record(RecordStatus::SUCCESS),
            Err(stop) => self.faulted(stop, walk.done()),
        }
    }

    fn repeat(&mut self, [low, high]: [u64; 2], dst: Operand, walk: &mut Walk) -> Result<(), Stop> {
        while let Some(piece) = self.next(&[dst], walk)? {
            let bytes = self.scratch.one(piece.len);
            if self.flags.contains(Flags::FILL_16) {
                let pattern = u128::from(low) | u128::from(high) << 64;
                operations::fill_16(bytes, operations::rotated_16(pattern, walk.done()));
            } else {
                operations::fill(bytes, operations::rotated(low, walk.done()));
            }
            self.memory.put(dst, piece, bytes)?;
        }
        Ok(())
    }

    /// Sums, and copies if there is a destination.
    pub(super) fn sum(&mut self, src: u64, dst: Option<u64>, len: u32, seed: u64, seed_address: u64) -> RecordView {
        let crc = Crc::from_flags(self.flags);
        let mut walk = Walk::forward(len);
        let mut sum = match self.seed(crc, seed, seed_address) {
            Ok(seed) => seed,
            Err(stop) => return self.faulted(stop, 0),
        };
        let src = Operand::reads(1, src);
        let copied = match dst {
            Some(dst) => self.add_up(crc, &mut sum, &[src, Operand::writes(3, dst)], &mut walk),
            None => self.add_up(crc, &mut sum, &[src], &mut walk),
        };
        match copied {
            Ok(()) => with_sum(self.record(RecordStatus::SUCCESS), crc, sum),
            // There is no sum yet.
            Err(stop) if walk.done() == 0 => self.faulted(stop, 0),
            Err(stop) => with_sum(self.faulted(stop, walk.done()), crc, sum),
        }
    }

    fn add_up(&mut self, crc: Crc, sum: &mut u64, operands: &[Operand], walk: &mut Walk) -> Result<(), Stop> {
        while let Some(piece) = self.next(operands, walk)? {
            self.transfer(operands, piece)?;
            *sum = crc.sum(self.scratch.one(piece.len), *sum);
        }
        Ok(())
    }

    fn seed(&mut self, crc: Crc, seed: u64, address: u64) -> Result<u64, Stop> {
        if !self.flags.contains(Flags::READ_SEED) {
            return Ok(seed);
        }
        let operand = Operand::reads(2, address);
        if self.is_planned(2, 1) {
            return Err(operand.stop(0));
        }
        let mut bytes = [0; 8];
        self.memory.take_across(operand, bytes.split_at_mut(crc.bytes()).0)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn with_sum(record: RecordView, crc: Crc, sum: u64) -> RecordView {
    let [a, b, c, d, ..] = sum.to_le_bytes();
    if crc.bytes() == 8 { record.with_crc64(sum) } else { record.with_crc32(u32::from_le_bytes([a, b, c, d])) }
}
