//! Jobs: operations that a device has, piece by piece.
//!
//! A device takes no more than so many bytes in one descriptor. What is longer comes here in parts already, but for
//! what must be done in turn: a copy over its own source. That is one job, whose pieces go one after the other.

use crate::mover::Held;
use crate::mover::dsa::{Descriptor, DsaOpcode, Flags, GenCap};
use crate::sqe::{OpFlags, Opcode, Sqe};

/// An operation under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) token: Held,
    /// Bytes that no piece has covered yet.
    beyond: u64,
    /// Faults in a row that brought no byte of progress.
    pub(super) tries: u32,
    /// The device has read back all that it wrote.
    is_read_back: bool,
}

/// Some bytes of an operation: from where on, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    at: u64,
    len: u32,
}

impl Job {
    #[inline]
    pub(super) fn new(token: Held) -> Self {
        let beyond = token.sqe().len();
        Self { token, beyond, tries: 0, is_read_back: true }
    }

    #[inline]
    pub(super) fn sqe(&self) -> &Sqe {
        self.token.sqe()
    }

    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.beyond > 0
    }

    /// Whether it ends when its piece is done, and that is all.
    #[inline]
    pub(super) fn is_last_piece(&self) -> bool {
        self.beyond == 0 && !self.sqe().is_durable()
    }

    /// Whether what it is to make durable may still be in the CPU's caches, or on its way.
    pub(super) fn must_be_written_back(&self) -> bool {
        self.sqe().is_durable() && !self.is_read_back
    }

    /// Whether the device reads back what it writes; once it has not, the operation as a whole was not.
    #[inline]
    pub(super) fn read_back_by_device(&mut self, does: bool) {
        self.is_read_back &= does;
    }

    /// The next piece, of at most this many bytes: from the lower end on, or down from the upper end of what is copied
    /// upwards over itself.
    #[inline]
    pub(super) fn next_piece(&mut self, longest: u32) -> Piece {
        match u32::try_from(self.beyond) {
            Ok(len) if len <= longest && self.beyond == self.sqe().len() => {
                self.beyond = 0;
                Piece { at: 0, len }
            }
            _ => self.cut(longest),
        }
    }

    #[cold]
    fn cut(&mut self, longest: u32) -> Piece {
        let sqe = self.token.sqe();
        let len = u32::try_from(self.beyond).unwrap_or(u32::MAX).min(longest);
        let goes_down = sqe.is_sequential() && sqe.dst().addr() > sqe.src().addr();
        let at = if goes_down { self.beyond - u64::from(len) } else { sqe.len() - self.beyond };
        self.beyond -= u64::from(len);
        Piece { at, len }
    }

    /// The descriptor of a piece, for a device that can do this.
    #[inline]
    pub(super) fn descriptor(&self, Piece { at, len }: Piece, can: GenCap, record: u64) -> Descriptor {
        let sqe = self.token.sqe();
        let [_, _, dst, src, ..] = sqe.to_raw();
        let (opcode, flags, words) = match sqe.opcode() {
            Some(Opcode::Memcpy | Opcode::Memmove) => (DsaOpcode::MEMMOVE, store_flags(sqe, can), [src + at, dst + at]),
            // The pattern is one byte, eight times.
            Some(Opcode::Memset) => (DsaOpcode::FILL, store_flags(sqe, can), [src, dst + at]),
            Some(Opcode::Flush) => (DsaOpcode::CFLUSH, Flags::RECORD, [0, dst + at]),
            Some(Opcode::Nop) | None => return nop(record),
        };
        if len == 0 { nop(record) } else { Descriptor::of_words(opcode, flags, record, words, len) }
    }

    /// How far into the operation this address of its destination is, bytes.
    pub(super) fn offset_of(&self, dst: u64) -> u32 {
        u32::try_from(dst.wrapping_sub(self.sqe().dst().addr() as u64)).unwrap_or(u32::MAX)
    }
}

fn nop(record: u64) -> Descriptor {
    Descriptor::of_words(DsaOpcode::NOP, Flags::RECORD, record, [0; 2], 0)
}

/// The flags of what stores.
#[inline]
fn store_flags(sqe: &Sqe, can: GenCap) -> Flags {
    let asked = sqe.op_flags();
    if asked.contains(OpFlags::MEM_DURABLE) {
        let reads_back = can.contains(GenCap::DESTINATION_READBACK);
        if reads_back { Flags::RECORD.with(Flags::DESTINATION_READBACK) } else { Flags::RECORD }
    } else if can.contains(GenCap::CACHE_CONTROL) && !asked.contains(OpFlags::NO_CACHE_HINT) {
        Flags::RECORD.with(Flags::CACHE_CONTROL)
    } else {
        Flags::RECORD
    }
}
