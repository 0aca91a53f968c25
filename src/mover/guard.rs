//! The fault guard: operations whose memory may be missing end with a fault instead of the process.
//!
//! Where the two halves meet that must not know each other: the routines that stop at a missing page
//! (`memory/guarded.rs`) and the signal handler that brings them there (`os/fault.rs`). Having a [`Guard`] is the
//! proof that the handler is installed.
#![expect(unsafe_code, reason = "executes entries, whose submitters vouched for their memory")]

pub(crate) use arch::Guard;

use crate::cqe::Status;
use crate::memory::Stores;

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) status: Status,
    /// Of a fault: how many bytes into the operation it was.
    pub(super) offset: u64,
    /// To be [fenced](Stores::fence) before the completion is posted.
    pub(crate) stores: Stores,
}

impl Done {
    /// What the completion carries.
    #[inline]
    pub(crate) fn value(&self) -> u32 {
        u32::try_from(self.offset).unwrap_or(u32::MAX)
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::Done;
    use crate::cqe::Status;
    use crate::error::BuildError;
    use crate::memory::{Stores, guarded};
    use crate::os::fault;
    use crate::sqe::{OpFlags, Opcode, Sqe};

    /// The handler is installed.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Guard(());

    impl Guard {
        /// Installs the handler, if this process has not done so yet.
        pub(crate) fn install() -> Result<Self, BuildError> {
            fault::install(guarded::code()).map_err(BuildError::Os)?;
            Ok(Self(()))
        }

        /// Readies a thread of the queue's own: it may have inherited a mask that holds faults back, which kills.
        pub(crate) fn admit(self) {
            fault::unblock();
        }

        /// Executes one entry, as far as its pages are there.
        ///
        /// # Safety
        ///
        /// That of [`execute`](crate::mover::execute), except that pages may be missing.
        // Not inlined: the path of queues without a guard stays as small as it was.
        #[inline(never)]
        pub(in crate::mover) unsafe fn execute(self, sqe: &Sqe) -> Done {
            let end = |status, offset, stores| Done { status, offset, stores };
            let Ok(len) = usize::try_from(sqe.len()) else { return end(Status::INVALID, 0, Stores::Plain) };
            let Some(opcode) = sqe.opcode() else { return end(Status::UNSUPPORTED, 0, Stores::Plain) };
            let past_cache = sqe.op_flags().contains(OpFlags::NO_CACHE_HINT);
            let ended = match opcode {
                Opcode::Nop => guarded::Ended { fault: None, stores: Stores::Plain },
                // SAFETY: the caller's contract; the push has refused regions that overlap; the handler is installed.
                Opcode::Memcpy => unsafe { guarded::memcpy(sqe.dst(), sqe.src(), len, past_cache) },
                // SAFETY: the caller's contract; the handler is installed.
                Opcode::Memmove => unsafe { guarded::memmove(sqe.dst(), sqe.src(), len, past_cache) },
                // SAFETY: as above.
                Opcode::Memset => unsafe { guarded::memset(sqe.dst(), sqe.pattern(), len, past_cache) },
                // SAFETY: as above.
                Opcode::Flush => unsafe { guarded::flush(sqe.dst(), len) },
            };
            match ended.fault {
                None => end(Status::SUCCESS, 0, ended.stores),
                Some(offset) => end(Status::FAULT, offset as u64, ended.stores),
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    use super::Done;
    use crate::error::BuildError;
    use crate::sqe::Sqe;

    /// There is none.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Guard {}

    impl Guard {
        pub(crate) fn install() -> Result<Self, BuildError> {
            Err(BuildError::FaultGuard)
        }

        pub(crate) fn admit(self) {
            match self {}
        }

        /// # Safety
        ///
        /// Cannot be called.
        pub(in crate::mover) unsafe fn execute(self, _sqe: &Sqe) -> Done {
            match self {}
        }
    }
}
