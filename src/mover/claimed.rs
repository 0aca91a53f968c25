//! The tokens of operations that a mover has taken on.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::account::Account;
use super::completions::Completions;
use crate::cqe::Status;
use crate::sqe::Sqe;

/// One operation, taken from a lane: to be completed exactly once, by
/// [`Completions::complete`](super::Completions::complete).
///
/// It lasts until the next claim; a mover whose operations end later [keeps](Claimed::keep) it.
///
/// A token that is dropped completes its operation as [`JOB_CORRUPTED`](Status::JOB_CORRUPTED), so a mover that forgets
/// an operation by mistake loses nothing. The exception is a drop by a panic in a mover that is not
/// [quiescent on panic](super::Capabilities::quiescent_on_panic): its memory may still be in use, so nothing is said.
#[derive(Debug)]
pub struct Claimed<'a> {
    sqe: &'a Sqe,
    account: &'a Arc<Account>,
}

/// A [`Claimed`] operation that outlives its poll, with the same duties.
#[derive(Debug)]
pub struct Kept {
    sqe: Sqe,
    /// None once it has ended.
    account: Option<Arc<Account>>,
}

impl<'a> Claimed<'a> {
    #[inline]
    pub(super) fn new(sqe: &'a Sqe, account: &'a Arc<Account>) -> Self {
        Self { sqe, account }
    }

    /// What to do. Its last word is the queue's own, so it cannot be pushed to another one as it is.
    #[must_use]
    #[inline]
    pub fn sqe(&self) -> &Sqe {
        self.sqe
    }

    /// The token, to be kept beyond the next claim and this poll.
    ///
    /// # Examples
    ///
    /// A mover whose device takes one poll to finish: it holds its tokens until then.
    ///
    /// ```
    /// use memring::mover::{Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress};
    /// use memring::{Opcode, Sqe, Status, queue::{Drive, QueuePair}};
    ///
    /// #[derive(Default)]
    /// struct Slow(Vec<Kept>);
    ///
    /// // SAFETY: touches no memory: it is given nops only.
    /// unsafe impl DataMover for Slow {
    ///     fn capabilities(&self) -> Capabilities {
    ///         Capabilities::new(&[Opcode::Nop])
    ///     }
    ///     fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
    ///         for token in self.0.drain(..) {
    ///             done.complete(token, Status::SUCCESS);
    ///         }
    ///         while let Some(token) = lane.claim().map(Claimed::keep) {
    ///             self.0.push(token);
    ///         }
    ///         if self.0.is_empty() { Progress::Idle } else { Progress::Waiting }
    ///     }
    /// }
    ///
    /// let pair = QueuePair::builder().mover("slow", Drive::Caller, Slow::default).build()?;
    /// let slow = pair.mover("slow").expect("it was just added");
    /// let (mut sq, mut cq) = pair.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop().on(slow)) }?;
    /// sq.submit();
    /// assert_eq!(cq.drain().count(), 0, "claimed, not done");
    /// assert_eq!(cq.drain().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keep(self) -> Kept {
        let claimed = ManuallyDrop::new(self);
        Kept { sqe: *claimed.sqe, account: Some(Arc::clone(claimed.account)) }
    }
}

impl Claimed<'_> {
    /// The token, to be kept by a mover that never parts from its driver.
    pub(super) fn hold(self) -> Held {
        Held(*ManuallyDrop::new(self).sqe)
    }
}

/// As [`Kept`], for a mover of memring's own: it may end nowhere but in a poll of the driver under which it was
/// claimed, and its drop says nothing, since a device may still be at work on it. It costs no reference count.
#[derive(Debug)]
pub(crate) struct Held(Sqe);

impl Held {
    /// What `next` is, whom the same driver took out of the chain.
    pub(super) fn of(next: Sqe) -> Self {
        Self(next)
    }

    pub(super) fn sqe(&self) -> &Sqe {
        &self.0
    }

    /// Whoever holds it goes on with its successor by itself.
    pub(super) fn forget_next(&mut self) {
        self.0 = self.0.without_next();
    }

    /// What fails or is cancelled with it takes along the rest of its chain.
    pub(super) fn cutting_off(self) -> Self {
        Self(self.0.cutting_off())
    }
}

impl Kept {
    /// What to do.
    #[must_use]
    pub fn sqe(&self) -> &Sqe {
        &self.sqe
    }
}

impl Drop for Claimed<'_> {
    #[inline]
    fn drop(&mut self) {
        self.account.token_dropped(self.sqe);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.token_dropped(&self.sqe);
        }
    }
}

/// A token of either kind, at its end. Sealed: the two kinds are all there are.
pub trait Token: sealed::Sealed {}

impl Token for Claimed<'_> {}
impl Token for Kept {}
impl Token for Held {}

pub(super) mod sealed {
    use super::{Completions, Status};

    pub trait Sealed {
        /// Ends what the token stands for, where it was claimed.
        fn end(self, status: Status, value: u32, here: &mut Completions<'_>);
    }
}

impl sealed::Sealed for Claimed<'_> {
    /// A claimed token lasts no longer than the poll it was claimed in, so it is always `here`.
    #[inline]
    fn end(self, status: Status, value: u32, here: &mut Completions<'_>) {
        let claimed = ManuallyDrop::new(self);
        here.end(claimed.sqe, status, value);
    }
}

impl sealed::Sealed for Held {
    #[inline]
    fn end(self, status: Status, value: u32, here: &mut Completions<'_>) {
        here.end(&self.0, status, value);
    }
}

impl sealed::Sealed for Kept {
    fn end(mut self, status: Status, value: u32, here: &mut Completions<'_>) {
        match self.account.take() {
            Some(account) if Arc::ptr_eq(&account, here.account) => here.end(&self.sqe, status, value),
            Some(account) => account.end_elsewhere(self.sqe, status, value),
            None => {}
        }
    }
}
