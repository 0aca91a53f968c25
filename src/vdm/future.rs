//! Operations as futures: the seed's `vdm_operation_future`.
//!
//! ```text
//!   op_new ─▶ Idle ──poll: op_start──▶ Running ──poll: op_check, op_delete──▶ Complete ──poll──▶ Complete
//!     │         └─ cannot start: stays Idle ─┘                                   ▲
//!     └── no resources: OUT_OF_MEMORY ───────────────────────────────────────────┘
//! ```
//!
//! A future holds what `op_new` gave it and two addresses; it borrows nothing. All movers go through [`Run`], which is
//! this picture.
#![expect(unsafe_code, reason = "starts operations, for whose memory their constructors' callers vouch")]

use core::fmt;
use core::mem::ManuallyDrop;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use super::mover::Mover;
use super::notifier::{Notifier, NotifierType};
use super::operation::{Operation, OperationOutput, OperationResult};
use super::plugged::Plugged;
use super::queued::Queued;
use super::synchronous::Synchronous;
pub use crate::future::State;

/// One operation from its creation to its end, whoever moves its bytes.
pub(super) struct Run<M: Mover> {
    operation: Operation,
    /// What `op_new` gave, until `op_delete` takes it.
    data: Option<M::Data>,
    state: State,
    result: OperationResult,
}

impl<M: Mover> Run<M> {
    /// An operation with its resources.
    ///
    /// # Safety
    ///
    /// The contract of [`Vdm::memcpy`](super::Vdm::memcpy) holds for it.
    pub(super) unsafe fn new(operation: Operation, data: M::Data) -> Self {
        Self { operation, data: Some(data), state: State::Idle, result: OperationResult::JobCorrupted }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Gets on, if that is possible now.
    pub(super) fn poll(&mut self, mover: &M, notifier: &mut Notifier<'_>) -> State {
        let Some(data) = &mut self.data else { return self.state };
        if self.state == State::Idle {
            if self.operation.is_refused(mover.capabilities()) {
                return self.refuse(mover);
            }
            // SAFETY: whoever made the operation vouches for its memory.
            if unsafe { mover.op_start(data, &self.operation, notifier) }.is_err() {
                return State::Idle;
            }
            self.state = State::Running;
        }
        if mover.op_check(data, &self.operation, notifier) == State::Complete
            && let Some(result) = self.delete(mover)
        {
            self.result = result;
        }
        self.state
    }

    /// Ends it, if it is idle, as one that makes no sense.
    #[cold]
    pub(super) fn refuse(&mut self, mover: &M) -> State {
        if self.state == State::Idle {
            self.delete(mover);
        }
        self.state
    }

    /// Ends it without its mover, and leaks what it holds: for forked children.
    #[cold]
    pub(super) fn give_up(&mut self) -> State {
        let _leaked = self.data.take().map(ManuallyDrop::new);
        self.state = State::Complete;
        self.state
    }

    /// Gives its resources back; what the mover says that it came to.
    fn delete(&mut self, mover: &M) -> Option<OperationResult> {
        self.state = State::Complete;
        self.data.take().map(|data| mover.op_delete(data, &self.operation))
    }

    /// What it came to, if it is complete.
    pub(super) fn output(&self) -> Option<OperationOutput> {
        (self.state == State::Complete).then(|| self.operation.output(self.result))
    }
}

/// A mover of memring's own, which can be told that nobody waits for an operation any more.
pub(super) trait BuiltIn: Mover {
    /// Whatever `data` holds is given back when the operation has ended.
    fn leave(&self, data: Self::Data);
}

/// A run that its future has to itself.
pub(super) struct Own<M: BuiltIn> {
    mover: Arc<M>,
    run: Run<M>,
}

impl<M: BuiltIn> Own<M> {
    pub(super) fn new(mover: Arc<M>, run: Run<M>) -> Self {
        Self { mover, run }
    }

    fn poll(&mut self, notifier: &mut Notifier<'_>) -> State {
        self.run.poll(&self.mover, notifier)
    }
}

impl<M: BuiltIn> Drop for Own<M> {
    fn drop(&mut self) {
        match self.run.state {
            State::Idle => _ = self.run.refuse(&self.mover),
            State::Running => self.run.data.take().into_iter().for_each(|data| self.mover.leave(data)),
            State::Complete => {}
        }
    }
}

/// Whose operation it is.
pub(super) enum Task {
    Synchronous(Own<Synchronous>),
    Queued(Own<Queued>),
    Plugged(Arc<dyn Plugged>),
    Complete(OperationOutput),
}

/// One operation, as a future: `struct vdm_operation_future`. Made by [`Vdm`](super::Vdm).
///
/// It is idle until it is first polled, by [`poll`](OperationFuture::poll) as in the seed, or by `.await` as any
/// [`Future`], whose output is the [`OperationOutput`]. It may be complete at once, as
/// [`OutOfMemory`](OperationResult::OutOfMemory). A complete one can be polled again, without effect: as a `Future` it
/// gives the same output again.
///
/// Dropped while it is idle, it gives its resources back, and nothing was done. Dropped while it runs, the operation
/// runs to its end, and its memory must stay: see [`Vdm::memcpy`](super::Vdm::memcpy). Forgetting it leaks what it
/// holds, and nothing else.
///
/// # Examples
///
/// ```
/// use memring::OpFlags;
/// use memring::vdm::{Notifier, OperationResult, State, Vdm};
/// let src = vec![7; 1 << 20];
/// let mut dst = vec![0; 1 << 20];
/// let vdm = Vdm::threads(1, 64)?;
/// // SAFETY: both outlive the operation, and nobody uses them until it is complete.
/// let mut copy = unsafe { vdm.memcpy(dst.as_mut_ptr(), src.as_ptr(), 1 << 20, OpFlags::NONE) };
/// assert_eq!(copy.state(), State::Idle);
/// while copy.poll(&mut Notifier::none()) != State::Complete {
///     std::hint::spin_loop();
/// }
/// assert_eq!(copy.output().map(|output| output.result), Some(OperationResult::Success));
/// assert_eq!(dst, src);
/// # Ok::<(), memring::BuildError>(())
/// ```
#[must_use = "an operation does nothing until it is polled"]
pub struct OperationFuture {
    task: Task,
    state: State,
}

impl OperationFuture {
    pub(super) fn new(task: Task) -> Self {
        let state = if matches!(task, Task::Complete(_)) { State::Complete } else { State::Idle };
        Self { task, state }
    }

    /// Starts the operation, or looks whether it is complete: the seed's `future_poll`. What the mover will do when it
    /// is worth while to poll again stands in the notifier, and what an earlier poll has asked for does not count any
    /// more.
    ///
    /// # Examples
    ///
    /// See [`OperationFuture`].
    pub fn poll(&mut self, notifier: &mut Notifier<'_>) -> State {
        notifier.clear();
        self.state = match &mut self.task {
            Task::Synchronous(own) => own.poll(notifier),
            Task::Queued(own) => own.poll(notifier),
            Task::Plugged(operation) => Arc::clone(operation).poll(notifier),
            Task::Complete(_) => State::Complete,
        };
        if self.state == State::Complete {
            notifier.clear();
            self.settle();
        }
        self.state
    }

    /// Keeps of a complete operation what it came to, and lets go of all else.
    fn settle(&mut self) {
        let output = match &self.task {
            Task::Synchronous(own) => own.run.output(),
            Task::Queued(own) => own.run.output(),
            Task::Plugged(operation) => operation.output(),
            Task::Complete(_) => None,
        };
        if let Some(output) = output {
            self.task = Task::Complete(output);
        }
    }

    /// How far it has come: the seed's `FUTURE_STATE`. It is seen to complete when it is polled.
    ///
    /// # Examples
    ///
    /// See [`OperationFuture`].
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What it came to, once it is complete: the seed's `FUTURE_OUTPUT`.
    ///
    /// # Examples
    ///
    /// See [`OperationOutput`].
    #[must_use]
    pub fn output(&self) -> Option<OperationOutput> {
        if let Task::Complete(output) = self.task { Some(output) } else { None }
    }
}

impl Future for OperationFuture {
    type Output = OperationOutput;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<OperationOutput> {
        let mut notifier = Notifier::waker(context.waker());
        OperationFuture::poll(&mut self, &mut notifier);
        if let Some(output) = self.output() {
            return Poll::Ready(output);
        }
        if notifier.used() != NotifierType::Waker {
            // It could not start, or its mover does not wake: as the seed's runtime does, poll again.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for OperationFuture {
    fn drop(&mut self) {
        if let Task::Plugged(operation) = &self.task {
            Arc::clone(operation).leave();
        }
    }
}

impl fmt::Debug for OperationFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationFuture").field("state", &self.state).field("output", &self.output()).finish()
    }
}
