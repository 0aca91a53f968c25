//! The CPU mover: operations done by whichever thread drives it, at once.

#![expect(unsafe_code, reason = "executes entries, whose submitters vouched for their memory")]

use super::{Capabilities, Completions, DataMover, Lane, Progress};
use crate::cqe::Status;
use crate::memory;
use crate::sqe::{OpFlags, Opcode, Sqe};

/// Copies, moves, sets and writes back with the CPU that calls it.
#[derive(Debug)]
pub(crate) struct CpuMover;

impl CpuMover {
    /// What this machine's CPU can do.
    pub(crate) fn capabilities() -> Capabilities {
        const ALWAYS: &[Opcode] = &[Opcode::Nop, Opcode::Memcpy, Opcode::Memmove, Opcode::Memset];
        let opcodes = if memory::can_flush() { &Opcode::ALL } else { ALWAYS };
        Capabilities::new(opcodes).flags(OpFlags::NO_CACHE_HINT).quiescent_on_panic()
    }
}

// SAFETY: `execute` touches what the entry names and nothing else, and has returned before the token is completed.
// No token outlives its poll.
unsafe impl DataMover for CpuMover {
    fn capabilities(&self) -> Capabilities {
        Self::capabilities()
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(claimed) = lane.claim() {
            // SAFETY: entries in a lane were pushed, and the push's contract vouches for their memory.
            let status = unsafe { execute(claimed.sqe()) };
            done.complete(claimed, status);
            progress = Progress::Busy;
        }
        progress
    }
}

/// Executes one entry on the calling thread.
///
/// # Safety
///
/// The regions that the entry names are valid and unaliased, as the push's contract says.
#[inline]
pub(crate) unsafe fn execute(sqe: &Sqe) -> Status {
    let Ok(len) = usize::try_from(sqe.len()) else { return Status::INVALID };
    match sqe.opcode() {
        Some(Opcode::Nop) => {}
        // SAFETY: the caller's contract; the push has refused regions that overlap.
        Some(Opcode::Memcpy) => unsafe { memory::memcpy(sqe.dst(), sqe.src(), len) },
        // SAFETY: the caller's contract.
        Some(Opcode::Memmove) => unsafe { memory::memmove(sqe.dst(), sqe.src(), len) },
        // SAFETY: the caller's contract.
        Some(Opcode::Memset) => unsafe { memory::memset(sqe.dst(), sqe.pattern(), len) },
        // SAFETY: the caller's contract.
        Some(Opcode::Flush) => unsafe { memory::flush(sqe.dst(), len) },
        None => return Status::UNSUPPORTED,
    }
    Status::SUCCESS
}
