//! The synchronous mover: an operation is done by whoever starts it, before `op_start` returns.
//!
//! It needs no resources, so it never runs out of them. Who ends the mover waits until nobody is inside an operation.
#![expect(unsafe_code, reason = "executes entries, for whose memory the operations' makers vouch")]

use std::sync::{Mutex, PoisonError, RwLock};

use super::future::{BuiltIn, State};
use super::mover::{Mover, NotStarted};
use super::notifier::Notifier;
use super::operation::{Operation, OperationResult, OperationType};
use super::supported;
use crate::queue::{BuildError, CompletionQueue, QueuePair, SubmissionQueue};
use crate::sqe::{INLINE, OpFlags};

#[derive(Debug)]
pub(super) struct Synchronous {
    sq: SubmissionQueue,
    /// Kept, since the queue is closed without it; nothing comes here.
    _cq: Mutex<CompletionQueue>,
    can: OpFlags,
    /// Read while an operation is done, and written to end.
    is_ended: RwLock<bool>,
}

impl Synchronous {
    pub(super) fn new() -> Result<Self, BuildError> {
        let pair = QueuePair::builder().entries(1).workers(0).build()?;
        let can = supported(pair.route(), INLINE);
        let (sq, cq) = pair.split();
        Ok(Self { sq, _cq: Mutex::new(cq), can, is_ended: RwLock::new(false) })
    }

    pub(super) fn end(&self) {
        // In a forked child somebody may be inside for ever.
        if !self.sq.is_forked() {
            *self.is_ended.write().unwrap_or_else(PoisonError::into_inner) = true;
        }
    }
}

// SAFETY: an operation is done inside `op_start`, as its entry says.
unsafe impl Mover for Synchronous {
    type Data = OperationResult;

    fn capabilities(&self) -> OpFlags {
        self.can
    }

    fn op_new(&self, _: OperationType) -> Option<OperationResult> {
        Some(OperationResult::JobCorrupted)
    }

    unsafe fn op_start(
        &self,
        result: &mut OperationResult,
        operation: &Operation,
        _: &mut Notifier<'_>,
    ) -> Result<(), NotStarted> {
        if self.sq.is_forked() {
            return Ok(());
        }
        let is_ended = self.is_ended.read().unwrap_or_else(PoisonError::into_inner);
        if !*is_ended {
            // SAFETY: the caller vouches for it.
            let executed = unsafe { self.sq.execute(operation.sqe()) };
            *result = executed.map_or(OperationResult::JobCorrupted, |cqe| OperationResult::of(cqe.status()));
        }
        Ok(())
    }

    fn op_check(&self, _: &mut OperationResult, _: &Operation, _: &mut Notifier<'_>) -> State {
        State::Complete
    }

    fn op_delete(&self, result: OperationResult, _: &Operation) -> OperationResult {
        result
    }
}

impl BuiltIn for Synchronous {
    fn leave(&self, _: OperationResult) {}
}
