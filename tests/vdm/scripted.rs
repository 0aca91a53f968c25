//! A four-verb mover that does as the test says, and writes down how it is called.
#![expect(unsafe_code, reason = "implements the unsafe mover contract")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use memring::OpFlags;
use memring::vdm::{Mover, NotStarted, Notifier, Operation, OperationResult, OperationType, State};

/// A call of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    New(OperationType),
    Start,
    Check,
    Delete,
    /// The mover was dropped.
    Gone,
}

/// What the test says, and what was called.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) calls: Vec<Call>,
    /// So many creations are refused.
    pub(crate) lacking: usize,
    /// So many starts are refused.
    pub(crate) busy: usize,
    /// So many checks of each operation find it running.
    pub(crate) checks: usize,
    /// What the operations come to; JobCorrupted by default, which no mover says by chance.
    pub(crate) result: Option<OperationResult>,
    pub(crate) can: OpFlags,
    /// Keeps the wakers that it is offered; else it uses none.
    pub(crate) wakes: bool,
    pub(crate) wakers: Vec<Waker>,
    /// The next check panics.
    pub(crate) panics: bool,
}

/// The test's hand on a mover.
#[derive(Clone, Default)]
pub(crate) struct Hand(Arc<Mutex<Script>>);

impl Hand {
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was called since the last time.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.script().calls)
    }

    /// The mover that this hand leads.
    pub(crate) fn mover(&self) -> Scripted {
        Scripted(self.clone())
    }
}

/// The mover.
pub(crate) struct Scripted(Hand);

// SAFETY: it writes the destination of a set when it is checked for the last time, before it answers; nothing else.
unsafe impl Mover for Scripted {
    /// How many more checks find it running.
    type Data = usize;

    fn capabilities(&self) -> OpFlags {
        self.0.script().can
    }

    fn op_new(&self, operation_type: OperationType) -> Option<usize> {
        let mut script = self.0.script();
        script.calls.push(Call::New(operation_type));
        let is_lacking = script.lacking > 0;
        script.lacking = script.lacking.saturating_sub(1);
        (!is_lacking).then_some(script.checks)
    }

    unsafe fn op_start(&self, _: &mut usize, _: &Operation, _: &mut Notifier<'_>) -> Result<(), NotStarted> {
        let mut script = self.0.script();
        script.calls.push(Call::Start);
        let is_busy = script.busy > 0;
        script.busy = script.busy.saturating_sub(1);
        if is_busy { Err(NotStarted) } else { Ok(()) }
    }

    fn op_check(&self, checks: &mut usize, operation: &Operation, notifier: &mut Notifier<'_>) -> State {
        let mut script = self.0.script();
        script.calls.push(Call::Check);
        assert!(!std::mem::take(&mut script.panics), "as the script says");
        if *checks > 0 {
            *checks -= 1;
            if script.wakes {
                script.wakers.extend(notifier.use_waker().cloned());
            }
            return State::Running;
        }
        if operation.operation_type() == OperationType::Memset {
            // SAFETY: it has started, and is not complete yet.
            unsafe { operation.dst().write_bytes(operation.value(), operation.len()) };
        }
        State::Complete
    }

    fn op_delete(&self, _: usize, _: &Operation) -> OperationResult {
        let mut script = self.0.script();
        script.calls.push(Call::Delete);
        script.result.unwrap_or(OperationResult::JobCorrupted)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.script().calls.push(Call::Gone);
    }
}
