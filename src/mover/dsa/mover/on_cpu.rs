//! What the device cannot do, or has not done: by the CPU.
#![expect(unsafe_code, reason = "executes entries, whose submitters vouched for their memory")]

use core::ptr::{with_exposed_provenance as source, with_exposed_provenance_mut as destination};

use crate::mover::dsa::Operation;
use crate::mover::{Done, execute};
use crate::os::{Access, Populated, populate};
use crate::sqe::Sqe;

/// Memory of an operation that is not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing;

/// Does a piece of an entry. If the kernel knows that some of its memory is missing, it does not touch it.
///
/// # Safety
///
/// The piece is one of an entry that was pushed, and no device has it.
pub(super) unsafe fn do_piece(piece: &Operation) -> Result<Done, Missing> {
    let (entry, is_there) = match *piece {
        Operation::Memmove { src, dst, len } => {
            let is_there = may_be_there(src, len, Access::Read) && may_be_there(dst, len, Access::Write);
            (Sqe::memmove(destination(place(dst)), source(place(src)), place(len.into())), is_there)
        }
        Operation::Fill { pattern, dst, len, .. } => {
            let [byte, ..] = pattern.to_le_bytes();
            let is_there = may_be_there(dst, len, Access::Write);
            (Sqe::memset(destination(place(dst)), byte, place(len.into())), is_there)
        }
        Operation::CacheFlush { address, len } => {
            let is_there = may_be_there(address, len, Access::Read);
            (Sqe::flush(source(place(address)), place(len.into())), is_there)
        }
        _ => (Sqe::nop(), true),
    };
    if !is_there {
        return Err(Missing);
    }
    // SAFETY: the caller's contract.
    Ok(unsafe { execute(&entry, None, || None) })
}

/// Does an entry as a whole.
///
/// # Safety
///
/// It was pushed, and no device has it.
pub(super) unsafe fn do_whole(sqe: &Sqe) -> Done {
    // SAFETY: the caller's contract.
    unsafe { execute(sqe, None, || None) }
}

/// Makes the destination of an entry durable, as far as the CPU's caches keep it from that.
///
/// # Safety
///
/// As for [`do_whole`].
pub(super) unsafe fn write_back(sqe: &Sqe) {
    let flush = Sqe::flush(sqe.dst(), place(sqe.len()));
    // SAFETY: the caller's contract; a flush only reads.
    unsafe { execute(&flush, None, || None) };
}

fn may_be_there(address: u64, len: u32, access: Access) -> bool {
    populate(address, len.into(), access) != Populated::Missing
}

/// An address, or a length, as the process counts it.
fn place(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
