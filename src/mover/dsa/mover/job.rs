//! Jobs: operations that a device has, piece by piece.
//!
//! A device takes no more than so many bytes in one descriptor. What is longer comes here in parts already, but for
//! what must be done in turn: a copy over its own source. That is one job, whose pieces go one after the other.

use crate::mover::Held;
use crate::mover::dsa::{Flags, GenCap, Operation};
use crate::sqe::{OpFlags, Opcode, Sqe};

/// An operation under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) token: Held,
    /// Bytes that no piece has covered yet.
    beyond: u64,
    /// Faults in a row that brought no byte of progress.
    pub(super) tries: u32,
}

impl Job {
    pub(super) fn new(token: Held) -> Self {
        let beyond = token.sqe().len();
        Self { token, beyond, tries: 0 }
    }

    pub(super) fn sqe(&self) -> &Sqe {
        self.token.sqe()
    }

    pub(super) fn has_more(&self) -> bool {
        self.beyond > 0
    }

    /// The next piece, of at most this many bytes: from the lower end on, or down from the upper end of what is copied
    /// upwards over itself.
    #[inline]
    pub(super) fn next_piece(&mut self, limit: u32) -> Operation {
        let sqe = *self.token.sqe();
        let len = u32::try_from(self.beyond).unwrap_or(u32::MAX).min(limit);
        let at = if goes_down(&sqe) { self.beyond - u64::from(len) } else { sqe.len() - self.beyond };
        self.beyond -= u64::from(len);
        piece(&sqe, at, len)
    }

    /// How far into the operation this address of its destination is, bytes.
    pub(super) fn offset_of(&self, dst: u64) -> u32 {
        u32::try_from(dst.wrapping_sub(self.sqe().dst().addr() as u64)).unwrap_or(u32::MAX)
    }
}

fn goes_down(sqe: &Sqe) -> bool {
    sqe.is_sequential() && sqe.dst().addr() > sqe.src().addr()
}

/// So many bytes of an entry, from `at` on.
#[inline]
fn piece(sqe: &Sqe, at: u64, len: u32) -> Operation {
    let [_, _, dst, src, ..] = sqe.to_raw();
    match sqe.opcode() {
        _ if len == 0 => Operation::Nop,
        Some(Opcode::Memcpy | Opcode::Memmove) => Operation::Memmove { src: src + at, dst: dst + at, len },
        // The pattern is one byte, eight times.
        Some(Opcode::Memset) => Operation::Fill { pattern: src, pattern_high: 0, dst: dst + at, len },
        Some(Opcode::Flush) => Operation::CacheFlush { address: dst + at, len },
        Some(Opcode::Nop) | None => Operation::Nop,
    }
}

/// The flags of an entry's descriptors.
#[inline]
pub(super) fn flags(sqe: &Sqe, can: GenCap) -> Flags {
    if !matches!(sqe.opcode(), Some(Opcode::Memcpy | Opcode::Memmove | Opcode::Memset)) || sqe.len() == 0 {
        return Flags::RECORD;
    }
    if sqe.is_durable() {
        let reads_back = can.contains(GenCap::DESTINATION_READBACK);
        return if reads_back { Flags::RECORD.with(Flags::DESTINATION_READBACK) } else { Flags::RECORD };
    }
    let is_for_cache = can.contains(GenCap::CACHE_CONTROL) && !sqe.op_flags().contains(OpFlags::NO_CACHE_HINT);
    if is_for_cache { Flags::RECORD.with(Flags::CACHE_CONTROL) } else { Flags::RECORD }
}
