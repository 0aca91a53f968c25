//! Walks: going through regions piece by piece, from either end, until done or until a page is missing.
//!
//! A piece crosses no boundary of pages in any of its operands. So before it is touched it is known whether all of it
//! can be, and an operation stops with every operand at the same place. It also ends where a fault is made up.

use super::Scratch;
use super::execution::Executor;
use super::memory::{Access, Memory, Vouched};
use crate::mover::dsa::operations::Direction;

/// An address of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    /// As in [`FaultInfo::operand`](crate::dsa::FaultInfo::operand).
    pub(super) number: u8,
    pub(super) address: u64,
    pub(super) access: Access,
}

/// Where an operation stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) operand: u8,
    pub(super) address: u64,
    pub(super) access: Access,
}

/// How far an operation is through its regions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    len: u64,
    done: u64,
    /// The length of the piece that is worked on.
    current: u64,
    direction: Direction,
}

/// A part of regions: the offset of its first byte, and its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) len: usize,
}

impl Walk {
    pub(super) fn new(len: u32, direction: Direction) -> Self {
        Self { len: len.into(), done: 0, current: 0, direction }
    }

    pub(super) fn forward(len: u32) -> Self {
        Self::new(len, Direction::Forward)
    }

    /// So much is done, without the piece that is worked on, as a record says it.
    pub(super) fn done(&self) -> u32 {
        u32::try_from(self.done).unwrap_or(u32::MAX)
    }

    /// So much of the piece that is worked on is done, and the rest will not be.
    pub(super) fn end_within(&mut self, bytes: usize) {
        self.done += bytes as u64;
        self.current = 0;
    }

    /// How far it is to the next boundary.
    fn room_before_boundary(&self, address: u64, page: u64) -> u64 {
        match self.direction {
            Direction::Forward => page - address.wrapping_add(self.done) % page,
            Direction::Backward => address.wrapping_add(self.len - self.done).wrapping_sub(1) % page + 1,
        }
    }

    /// The offset of the first byte of a piece of this length.
    fn offset(&self, len: u64) -> u64 {
        match self.direction {
            Direction::Forward => self.done,
            Direction::Backward => self.len - self.done - len,
        }
    }
}

impl<M: Memory> Executor<'_, '_, M> {
    /// The next piece, all of which can be accessed; nothing, if all is done. The one before it counts as done then.
    pub(super) fn next(&mut self, operands: &[Operand], walk: &mut Walk) -> Result<Option<Piece>, Stop> {
        self.next_of(operands, walk, 1)
    }

    /// The same, of pieces whose lengths are multiples of `unit`, as the length of all and the addresses are.
    pub(super) fn next_of(&mut self, operands: &[Operand], walk: &mut Walk, unit: u64) -> Result<Option<Piece>, Stop> {
        walk.done += walk.current;
        walk.current = 0;
        let mut len = (walk.len - walk.done).min(Scratch::BYTES as u64);
        if len == 0 {
            return Ok(None);
        }
        for operand in operands {
            len = len.min(walk.room_before_boundary(operand.address, M::PAGE_BYTES));
            if let Some(offset) = self.planned(operand.number) {
                len = len.min((offset / unit * unit).saturating_sub(walk.done));
            }
            if len == 0 {
                return Err(operand.stop(walk.offset(1)));
            }
        }
        let piece = Piece { at: walk.offset(len), len: usize::try_from(len).unwrap_or(0) };
        for operand in operands {
            if !self.memory.is_mapped(operand.address.wrapping_add(piece.at), piece.len, operand.access) {
                return Err(operand.stop(piece.at));
            }
        }
        walk.current = len;
        Ok(Some(piece))
    }
}

impl<M: Memory> Vouched<'_, M> {
    /// Reads a piece of an operand.
    pub(super) fn take(&mut self, operand: Operand, piece: Piece, into: &mut [u8]) -> Result<(), Stop> {
        let is_mapped = self.read(operand.address.wrapping_add(piece.at), into);
        is_mapped.then_some(()).ok_or(operand.stop(piece.at))
    }

    /// Writes a piece of an operand.
    pub(super) fn put(&mut self, operand: Operand, piece: Piece, from: &[u8]) -> Result<(), Stop> {
        let is_mapped = self.write(operand.address.wrapping_add(piece.at), from);
        is_mapped.then_some(()).ok_or(operand.stop(piece.at))
    }

    /// Reads a few bytes, which may cross a boundary of pages.
    pub(super) fn take_across(&mut self, operand: Operand, into: &mut [u8]) -> Result<(), Stop> {
        let (first, second) = into.split_at_mut(before_boundary::<M>(operand.address, into.len()));
        let next = operand.on(first.len());
        if !self.read(operand.address, first) {
            return Err(operand.stop(0));
        }
        if second.is_empty() || self.read(next.address, second) { Ok(()) } else { Err(next.stop(0)) }
    }

    /// Writes a few bytes, which may cross a boundary of pages: all or nothing.
    pub(super) fn put_across(&mut self, operand: Operand, from: &[u8]) -> Result<(), Stop> {
        let (first, second) = from.split_at(before_boundary::<M>(operand.address, from.len()));
        let next = operand.on(first.len());
        if !second.is_empty() && !self.is_mapped(next.address, second.len(), Access::Write) {
            return Err(next.stop(0));
        }
        let is_written = self.write(operand.address, first) && (second.is_empty() || self.write(next.address, second));
        if is_written { Ok(()) } else { Err(operand.stop(0)) }
    }
}

fn before_boundary<M: Memory>(address: u64, len: usize) -> usize {
    let room = M::PAGE_BYTES - address % M::PAGE_BYTES;
    usize::try_from(room).map_or(len, |room| room.min(len))
}

impl Operand {
    pub(super) const fn reads(number: u8, address: u64) -> Self {
        Self { number, address, access: Access::Read }
    }

    pub(super) const fn writes(number: u8, address: u64) -> Self {
        Self { number, address, access: Access::Write }
    }

    /// The same, so many bytes further.
    pub(super) fn on(self, bytes: usize) -> Self {
        Self { address: self.address.wrapping_add(bytes as u64), ..self }
    }

    /// It stopped at this offset.
    pub(super) fn stop(self, at: u64) -> Stop {
        Stop { operand: self.number, address: self.address.wrapping_add(at), access: self.access }
    }
}
