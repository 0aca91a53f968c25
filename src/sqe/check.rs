//! Whether an entry makes sense: what a push can tell from the entry alone.
//!
//! The quick answer ([`Sqe::is_plain`]) is for the path of every entry, the exact one ([`Sqe::check`]) for what the
//! quick one does not let through.

use super::{OpFlags, Opcode, Sqe, SqeFlags};

impl Sqe {
    /// Whether word 3 is an address.
    #[inline]
    pub(crate) const fn has_source(&self) -> bool {
        let [opcode, ..] = self.head().to_le_bytes();
        opcode < 64 && HAS_SOURCE >> opcode & 1 != 0
    }

    /// Whether its regions are plainly sound: what [`check`](Sqe::check) would find without a doubt, in few
    /// instructions.
    ///
    /// The opcode must be a known one, and the length at most `isize::MAX`.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let [head, _, dst, src, len, operand, internal] = self.to_raw();
        let opcode = head & 0x1f;
        // 1 to USER_SPACE - len: one comparison for null and beyond.
        let beyond = USER_SPACE - len;
        if operand | internal != 0 {
            return false;
        }
        if len == 0 {
            return true;
        }
        if dst.wrapping_sub(1) >= beyond {
            return false;
        }
        if HAS_SOURCE >> opcode & 1 == 0 {
            return true;
        }
        src.wrapping_sub(1) < beyond && (opcode != Opcode::Memcpy as u64 || dst.abs_diff(src) >= len)
    }

    /// Checks all that can be told from the entry alone, and says what is wrong with it. Zero lengths are not.
    pub(crate) fn check(&self) -> Result<Opcode, Refusal> {
        let [head, _, dst, src, len, operand, internal] = self.to_raw();
        let Some(opcode) = self.opcode() else { return Err(Refusal::UnknownOpcode) };
        let is_known = (head & !KNOWN_HEAD) | internal == 0 && (operand == 0 || self.asks_of_region());
        if !is_known {
            return Err(Refusal::UnknownFlags);
        }
        if len == 0 || opcode == Opcode::Nop {
            return Ok(opcode);
        }
        let has_source = self.has_source();
        if dst == 0 || (has_source && src == 0) {
            return Err(Refusal::Null);
        }
        if wraps(dst, len) || (has_source && wraps(src, len)) {
            return Err(Refusal::Wraps);
        }
        if opcode == Opcode::Memcpy && dst.abs_diff(src) < len {
            return Err(Refusal::Overlap);
        }
        Ok(opcode)
    }
}

/// No user's address lies beyond: Linux gives user space the lower half of 64-bit addresses.
const USER_SPACE: u64 = if usize::BITS == 64 { 1 << 63 } else { 1 << 32 };

/// The opcodes whose word 3 is an address, as a set of bits.
const HAS_SOURCE: u64 = 1 << Opcode::Memcpy as u8 | 1 << Opcode::Memmove as u8;

/// The bits of word 0 that this version knows: the opcode, the known flags, and the mover.
const KNOWN_HEAD: u64 =
    0xff | ((SqeFlags::KNOWN.bits() as u64) << 8) | (0xff << 16) | ((OpFlags::KNOWN.bits() as u64) << 32);

/// Why an entry was refused, without the entry: the check's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Null,
    Wraps,
    Overlap,
    UnknownOpcode,
    UnknownFlags,
    UnknownMover,
    Unsupported,
    NotDurable,
    OutsideRegion,
}

/// Whether `len` bytes at `address` leave the address space, or the part of it that an allocation can fill.
#[inline]
fn wraps(address: u64, len: u64) -> bool {
    let (end, overflow) = address.overflowing_add(len);
    overflow | (len > isize::MAX as u64) | (end > usize::MAX as u64)
}
