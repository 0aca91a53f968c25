//! What the device cannot do, or has not done: by the CPU.
#![expect(unsafe_code, reason = "executes entries, whose submitters vouched for their memory")]

use core::ptr::{with_exposed_provenance as source, with_exposed_provenance_mut as destination};

use crate::mover::dsa::Operation;
use crate::mover::{Done, Guard, execute};
use crate::os::{Access, Populated, populate};
use crate::sqe::Sqe;

/// Memory of an operation that is not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing;

/// Does a piece of an entry. Without a guard, it does not touch memory of which the kernel knows that some is missing.
///
/// # Safety
///
/// The piece is one of an entry that was pushed, and no device has it.
pub(super) unsafe fn do_piece(piece: &Operation, guard: Option<Guard>) -> Result<Done, Missing> {
    let entry = match *piece {
        Operation::Memmove { src, dst, len } => {
            Sqe::memmove(destination(place(dst)), source(place(src)), place(len.into()))
        }
        Operation::Fill { pattern, dst, len, .. } => {
            let [byte, ..] = pattern.to_le_bytes();
            Sqe::memset(destination(place(dst)), byte, place(len.into()))
        }
        Operation::CacheFlush { address, len } => Sqe::flush(source(place(address)), place(len.into())),
        _ => Sqe::nop(),
    };
    if guard.is_none() && !may_be_there(&entry) {
        return Err(Missing);
    }
    // SAFETY: the caller's contract.
    Ok(unsafe { execute(&entry, guard, || None) })
}

/// Makes the destination of an entry durable, as far as the CPU's caches keep it from that.
///
/// # Safety
///
/// It was pushed, and no device has it.
pub(super) unsafe fn write_back(sqe: &Sqe, guard: Option<Guard>) -> Done {
    let flush = Sqe::flush(sqe.dst(), place(sqe.len()));
    // SAFETY: the caller's contract; a flush only reads.
    unsafe { execute(&flush, guard, || None) }
}

/// Whether the kernel knows of no byte of an entry that is missing.
fn may_be_there(entry: &Sqe) -> bool {
    let is_there =
        |pointer: *const u8, access| populate(pointer.addr() as u64, entry.len(), access) != Populated::Missing;
    let stored = if entry.is_flush() { Access::Read } else { Access::Write };
    entry.len() == 0 || ((!entry.has_source() || is_there(entry.src(), Access::Read)) && is_there(entry.dst(), stored))
}

/// An address, or a length, as the process counts it.
fn place(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
