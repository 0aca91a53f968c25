//! The CPU mover: operations done by whichever thread drives it, at once.

#![expect(unsafe_code, reason = "executes entries, whose submitters vouched for their memory")]

use super::guard::{Done, Guard};
use super::{Capabilities, Completions, DataMover, Lane, Progress};
use crate::cqe::Status;
use crate::memory::{self, Ahead, Stores};
use crate::sqe::{OpFlags, Opcode, Sqe};

/// Operations of twice this length and more are done in parts of about this length, bytes: long enough that a part
/// costs nothing, short enough that what waits behind one does not wait long (about 25 us at 10 GB/s).
const PART_BYTES: u64 = 256 << 10;

/// Copies, moves, sets and writes back with the CPU that calls it.
#[derive(Debug)]
pub(crate) struct CpuMover {
    /// With it, a page that is missing ends the operation.
    pub(crate) guard: Option<Guard>,
}

impl CpuMover {
    /// What this machine's CPU can do.
    pub(crate) fn capabilities() -> Capabilities {
        const ALWAYS: &[Opcode] = &[Opcode::Nop, Opcode::Memcpy, Opcode::Memmove, Opcode::Memset];
        let opcodes = if memory::can_flush() { &Opcode::ALL } else { ALWAYS };
        let can = Capabilities::new(opcodes).flags(OpFlags::NO_CACHE_HINT).in_parts(PART_BYTES);
        can.claim_together(32).quiescent_on_panic()
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
        while let Some((claimed, later)) = lane.claim_ahead() {
            // SAFETY: entries in a lane were pushed, and the push's contract vouches for their memory.
            let end = unsafe { execute(claimed.sqe(), self.guard, || later.peek()) };
            done.complete_after(end.stores, claimed, end.status, end.value());
            progress = Progress::Busy;
        }
        progress
    }
}

/// Executes one entry on the calling thread. Its stores must be fenced before its completion is posted.
///
/// # Safety
///
/// The regions that the entry names are valid and unaliased, as the push's contract says; with a guard, what is there
/// of them. Nothing is asked of the next entry.
// Inlined, so that the answer stays in registers and the choice costs one test.
#[inline(always)]
pub(crate) unsafe fn execute<'a>(sqe: &Sqe, guard: Option<Guard>, next: impl FnOnce() -> Option<&'a Sqe>) -> Done {
    if let Some(guard) = guard {
        // SAFETY: the caller's contract.
        return unsafe { guard.execute(sqe) };
    }
    // SAFETY: the caller's contract.
    let (status, stores) = unsafe { execute_unguarded(sqe, next) };
    Done { status, offset: 0, stores }
}

/// # Safety
///
/// That of [`execute`].
#[inline]
unsafe fn execute_unguarded<'a>(sqe: &Sqe, next: impl FnOnce() -> Option<&'a Sqe>) -> (Status, Stores) {
    let Ok(len) = usize::try_from(sqe.len()) else { return (Status::INVALID, Stores::Plain) };
    let Some(opcode) = sqe.opcode() else { return (Status::UNSUPPORTED, Stores::Plain) };
    if sqe.op_flags().contains(OpFlags::NO_CACHE_HINT) {
        // SAFETY: the caller's contract.
        return (Status::SUCCESS, unsafe { execute_past_cache(opcode, sqe, len, next()) });
    }
    // SAFETY: the caller's contract.
    unsafe { execute_cached(opcode, sqe, len) };
    (Status::SUCCESS, Stores::Plain)
}

/// # Safety
///
/// That of [`execute`], whose entry, opcode and length these are.
#[inline]
unsafe fn execute_cached(opcode: Opcode, sqe: &Sqe, len: usize) {
    match opcode {
        Opcode::Nop => {}
        // SAFETY: the caller's contract; the push has refused regions that overlap.
        Opcode::Memcpy => unsafe { memory::memcpy(sqe.dst(), sqe.src(), len) },
        // SAFETY: the caller's contract.
        Opcode::Memmove => unsafe { memory::memmove(sqe.dst(), sqe.src(), len) },
        // SAFETY: the caller's contract.
        Opcode::Memset => unsafe { memory::memset(sqe.dst(), sqe.pattern(), len) },
        // SAFETY: the caller's contract.
        Opcode::Flush => unsafe { memory::flush(sqe.dst(), len) },
    }
}

/// # Safety
///
/// That of [`execute`], whose entry, opcode and length these are.
// Not inlined: its registers would be saved for every operation.
#[inline(never)]
unsafe fn execute_past_cache(opcode: Opcode, sqe: &Sqe, len: usize, next: Option<&Sqe>) -> Stores {
    let next = next.filter(|next| matches!(next.opcode(), Some(Opcode::Memcpy | Opcode::Memmove)));
    let next = next.map(|next| Ahead { dst: next.dst(), src: next.src() });
    let apart = sqe.dst().addr().abs_diff(sqe.src().addr()) >= len;
    match opcode {
        // SAFETY: the caller's contract; the push has refused a memcpy whose regions overlap.
        Opcode::Memcpy => unsafe { memory::stream_copy(sqe.dst(), sqe.src(), len, next) },
        // SAFETY: the caller's contract; the regions do not overlap.
        Opcode::Memmove if apart => unsafe { memory::stream_copy(sqe.dst(), sqe.src(), len, next) },
        // SAFETY: the caller's contract.
        Opcode::Memset => unsafe { memory::stream_set(sqe.dst(), sqe.pattern(), len) },
        Opcode::Nop | Opcode::Memmove | Opcode::Flush => {
            // SAFETY: the caller's contract.
            unsafe { execute_cached(opcode, sqe, len) };
            Stores::Plain
        }
    }
}
