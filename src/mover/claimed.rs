//! The token of an operation that a mover has taken on.

use std::sync::Arc;

use super::account::Account;
use crate::cqe::{Cqe, Status};
use crate::sqe::Sqe;

/// One operation, taken from a lane: to be completed exactly once, by [`Completions::complete`](super::Completions::complete).
///
/// A token that is dropped completes its operation as [`JOB_CORRUPTED`](Status::JOB_CORRUPTED), so a mover that forgets
/// an operation by mistake loses nothing. The exception is a drop by a panic in a mover that is not
/// [quiescent on panic](super::Capabilities::quiescent_on_panic): its memory may still be in use, so nothing is said.
#[derive(Debug)]
pub struct Claimed<'a> {
    sqe: Sqe,
    home: Home<'a>,
}

/// The account that the operation was claimed on.
#[derive(Debug)]
enum Home<'a> {
    Borrowed(&'a Arc<Account>),
    Owned(Arc<Account>),
    /// Completed, or handed on: the drop has nothing left to do.
    Gone,
}

impl<'a> Claimed<'a> {
    #[inline]
    pub(super) fn new(sqe: Sqe, account: &'a Arc<Account>) -> Self {
        Self { sqe, home: Home::Borrowed(account) }
    }

    /// What to do.
    #[must_use]
    #[inline]
    pub fn sqe(&self) -> &Sqe {
        &self.sqe
    }

    /// The token, to be kept beyond this poll: for a mover whose operations end later.
    #[must_use]
    pub fn keep(mut self) -> Claimed<'static> {
        let home = match core::mem::replace(&mut self.home, Home::Gone) {
            Home::Borrowed(account) => Home::Owned(Arc::clone(account)),
            Home::Owned(account) => Home::Owned(account),
            Home::Gone => Home::Gone,
        };
        Claimed { sqe: self.sqe, home }
    }

    /// Turns the token into its operation's completion.
    #[inline]
    pub(super) fn into_cqe(mut self, status: Status, value: u32) -> Cqe {
        let mover = match core::mem::replace(&mut self.home, Home::Gone) {
            Home::Borrowed(account) => account.mover,
            Home::Owned(account) => account.mover,
            Home::Gone => self.sqe.mover(),
        };
        Cqe::new(self.sqe.data(), status, mover).with_value(value)
    }
}

impl Drop for Claimed<'_> {
    #[inline]
    fn drop(&mut self) {
        match &self.home {
            Home::Gone => {}
            Home::Borrowed(account) => account.token_dropped(&self.sqe),
            Home::Owned(account) => account.token_dropped(&self.sqe),
        }
    }
}
