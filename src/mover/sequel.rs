//! What the end of an operation leads to: its completion, or none, and what waits for it.
//!
//! A mover completes a token and knows no more. Most entries are *ordinary*: their end is a completion. Of the others
//! the end is told here in one order, whoever comes to it: the parts of an operation are joined, the completion is
//! posted, skipped or shared, and the next member of a chain goes on ([`Sequel`], which the queue implements).

use core::fmt;

use super::guard::Guard;
use super::outlet::Outlet;
use super::tally::Tally;
use crate::cqe::{Cqe, Status};
use crate::sqe::{Sqe, SqeFlags};

/// An operation that has ended, whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) sqe: Sqe,
    pub(crate) status: Status,
    pub(crate) value: u32,
    /// Bytes that are not in the books yet.
    pub(crate) uncounted: u64,
}

/// How an operation's end is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Telling {
    /// By a completion of its own.
    Alone(Cqe),
    /// By a completion that it may share with others like it.
    Together(Cqe),
    /// Not at all.
    Silent,
}

impl Ended {
    /// Whether only the bytes are in place of an operation that is to be durable.
    pub(crate) fn is_half_way(&self) -> bool {
        self.status.is_success() && self.sqe.needs_flush()
    }

    /// Nothing but cancelled.
    pub(crate) const fn cancelled(sqe: Sqe) -> Self {
        Self { sqe, status: Status::CANCELLED, value: 0, uncounted: 0 }
    }

    /// How its end is told: failures always by a completion of their own. Its memory is not in use any more.
    pub(super) fn telling(&self, outlet: &Outlet) -> Telling {
        outlet.leave(&self.sqe);
        let (flags, cqe) = (self.sqe.sqe_flags(), Cqe::new(self.sqe.data(), self.status, self.sqe.mover()));
        if !self.status.is_success() {
            Telling::Alone(cqe.with_value(self.value))
        } else if flags.contains(SqeFlags::SKIP_SUCCESS) {
            Telling::Silent
        } else if flags.contains(SqeFlags::COALESCE) {
            Telling::Together(cqe.standing_for(1))
        } else {
            Telling::Alone(cqe.with_value(self.value))
        }
    }
}

/// What the queue does when an operation has ended that others wait for.
pub(crate) trait Sequel: fmt::Debug + Send + Sync {
    /// Goes on with the chain of `ended`, a member with a successor: what is cancelled, and what goes inline, ends here
    /// and is reported; the first that needs a lane is given back. None: the chain has ended, or a flush goes on with
    /// it.
    fn follow(&self, ended: Ended, report: &mut dyn FnMut(Ended)) -> Option<Sqe>;

    /// Takes the successor of this entry out before its time, if it is `wanted`: by whoever executes this entry, and
    /// will see to it that the successor begins after it, or not at all.
    fn take_next(&self, sqe: &Sqe, wanted: &dyn Fn(&Sqe) -> bool) -> Option<Sqe>;

    /// The queue's fault guard, if it has one.
    fn guard(&self) -> Option<Guard>;

    /// Sends an entry, which others may have held back, to where it is executed.
    fn send(&self, sqe: Sqe);

    /// Has a durable operation whose bytes are in place go on as the flush of them.
    fn make_durable(&self, sqe: Sqe);

    /// Lets in what a barrier holds back, if all before it has ended.
    fn open_barrier(&self);

    /// Where the operations of a mover are counted that end otherwise than under one of its drivers.
    fn tally(&self, sqe: &Sqe) -> &Tally;
}
