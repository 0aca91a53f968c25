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
    let is_there = || match *piece {
        Operation::Memmove { src, dst, len } => {
            may_be_there(src, len, Access::Read) && may_be_there(dst, len, Access::Write)
        }
        Operation::Fill { dst, len, .. } => may_be_there(dst, len, Access::Write),
        Operation::CacheFlush { address, len } => may_be_there(address, len, Access::Read),
        _ => true,
    };
    if guard.is_none() && !is_there() {
        return Err(Missing);
    }
    // SAFETY: the caller's contract.
    Ok(unsafe { execute(&entry, guard, || None) })
}

/// Does an entry as a whole.
///
/// # Safety
///
/// It was pushed, and no device has it.
pub(super) unsafe fn do_whole(sqe: &Sqe, guard: Option<Guard>) -> Done {
    // SAFETY: the caller's contract.
    unsafe { execute(sqe, guard, || None) }
}

/// Makes the destination of an entry durable, as far as the CPU's caches keep it from that.
///
/// # Safety
///
/// As for [`do_whole`].
pub(super) unsafe fn write_back(sqe: &Sqe, guard: Option<Guard>) -> Done {
    let flush = Sqe::flush(sqe.dst(), place(sqe.len()));
    // SAFETY: the caller's contract; a flush only reads.
    unsafe { execute(&flush, guard, || None) }
}

fn may_be_there(address: u64, len: u32, access: Access) -> bool {
    populate(address, len.into(), access) != Populated::Missing
}

/// An address, or a length, as the process counts it.
fn place(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
