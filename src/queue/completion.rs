//! The completion queue: reaping, waiting, arming, and driving what no thread drives.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::drain::Drain;
use super::drive::Driver;
use super::reaper::Inner;
use super::stats::Stats;
use super::{Reaping, WaitError};
use crate::cqe::Cqe;
use crate::mover::Budget;
use crate::os::abort_over_memory_in_use;

/// What [`CompletionQueue::arm`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only Armed promises a wake"]
pub enum Arm {
    /// Nothing waits: the next completion makes the descriptor readable, once.
    Armed,
    /// Completions wait already, or work that this thread must drive: drain instead of sleeping.
    NotEmpty,
    /// A mover that this thread drives has operations under way, and nobody signals their end: drain again soon.
    MustPoll,
}

/// The reaping half of a queue pair: one owner, who may move it between threads.
///
/// Dropping it closes the queue and waits until nothing is in flight; completions not reaped are discarded.
/// Forgetting it leaves the workers running and the memory allocated; nothing else happens.
///
/// See [`SubmissionQueue`](super::SubmissionQueue) for an example of both halves.
#[derive(Debug)]
pub struct CompletionQueue {
    /// Leaked in a forked child: it must touch nothing there.
    inner: ManuallyDrop<Inner>,
}

impl CompletionQueue {
    pub(super) fn new(core: Arc<Core>, reaping: Reaping) -> Self {
        let Reaping { consumer, drivers, helper, threads, poll_budget, spin } = reaping;
        let budget = Budget::strict(poll_budget, core.entries as u64);
        let portion = (core.entries as u64 / 4).clamp(1, 64);
        let inner = Inner { core, consumer, owed: 0, portion, drivers, first_driver: 0, helper, threads, budget, spin };
        Self { inner: ManuallyDrop::new(inner) }
    }

    /// Drives once what this thread drives, within the poll budget, and yields the completions there are now.
    ///
    /// At most as many as the queue has entries; what is not taken stays. Makes no system call with CPU movers.
    /// In a forked child it yields nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push_batch(&[Sqe::nop().user_data(3); 2]) }?;
    /// sq.submit();
    /// for cqe in cq.drain() {
    ///     assert_eq!(cqe.user_data(), 3);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&mut self) -> Drain<'_> {
        let inner = &mut *self.inner;
        if !inner.core.birth.is_foreign() {
            let mut budget = inner.budget;
            inner.settle();
            inner.drive(&mut budget);
        }
        self.completions()
    }

    /// Yields the completions there are now, and drives nothing: for who reaps where he must not copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.completions().count(), 0, "nobody has driven it");
    /// assert_eq!(cq.drain().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn completions(&mut self) -> Drain<'_> {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            inner.consumer.forget_seen();
        } else {
            inner.settle();
            inner.consumer.ready(inner.core.entries);
        }
        Drain { inner }
    }

    /// How many bytes a [`drain`](CompletionQueue::drain) may move from now on; what the builder's
    /// [`poll_budget`](super::Builder::poll_budget) says until then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::queue::QueuePair;
    /// let (_sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// cq.set_poll_budget(64 << 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_poll_budget(&mut self, bytes: usize) {
        let entries = self.inner.core.entries as u64;
        self.inner.budget = Budget::strict((bytes as u64).max(1), entries);
    }

    /// Waits until `min` completions are ready or the timeout passes, and returns how many are ready; none are taken.
    ///
    /// While it waits it helps to execute what the workers have not begun. It returns early when fewer than `min`
    /// operations are outstanding, since it would wait for nobody knows what. `None` waits without limit. Since it
    /// helps, it may return late by one operation, however long that is; `drain` alone never helps the workers.
    ///
    /// # Errors
    ///
    /// [`WaitError::Forked`] in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use memring::queue::QueuePair;
    /// let (_sq, mut cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(cq.wait(1, Some(Duration::from_secs(60)))?, 0, "nothing is outstanding");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&mut self, min: usize, timeout: Option<Duration>) -> Result<usize, WaitError> {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return Err(WaitError::Forked);
        }
        inner.settle();
        Ok(inner.wait(min, timeout))
    }

    /// Asks for one wake, through [`as_fd`](AsFd::as_fd), at the next completion.
    ///
    /// Call it before sleeping in a reactor, and sleep only if the answer is [`Arm::Armed`]. After the wake, drain and
    /// arm again. While nobody is armed, completions cost no system call.
    /// In caller-driven mode a submission by another thread counts as an event too. Operations that end without a
    /// completion ([`SKIP_SUCCESS`](crate::SqeFlags::SKIP_SUCCESS)) wake nobody, though their credits return.
    /// In a forked child the answer is [`Arm::MustPoll`], and nothing will come.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{Arm, QueuePair};
    /// let (_sq, mut cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(cq.arm(), Arm::Armed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm(&mut self) -> Arm {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return Arm::MustPoll;
        }
        inner.settle();
        inner.hear_signals();
        if inner.has_something() {
            return Arm::NotEmpty;
        }
        if !self.is_signalled() {
            return Arm::MustPoll;
        }
        let inner = &mut *self.inner;
        inner.announce_armed();
        inner.hear_signals();
        // A failed retraction means that the announcement was taken: the wake is on its way, and it is this arm's.
        if inner.has_something() && inner.core.outlet.bell().retract() {
            return Arm::NotEmpty;
        }
        Arm::Armed
    }

    /// As [`arm`](CompletionQueue::arm), for who has others drive: what this thread would have to drive does not keep
    /// it from arming. Armed, or completions wait already: false.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert!(cq.arm_for_completions() && cq.has_work());
    /// cq.drain();
    /// assert!(!cq.arm_for_completions() && !cq.has_work(), "its completion was not taken");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "unarmed, nobody calls"]
    pub fn arm_for_completions(&mut self) -> bool {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return true;
        }
        inner.settle();
        if inner.consumer.ready(1) > 0 {
            return false;
        }
        inner.announce_armed();
        inner.hear_signals();
        // As in `arm`: a failed retraction means that the wake is on its way.
        inner.consumer.ready(1) == 0 || !inner.core.outlet.bell().retract()
    }

    /// Whether there is something that only a [`drain`](CompletionQueue::drain) or a `wait` does.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.inner.drivers.iter().any(Driver::has_work)
    }

    /// Whether a mover that this thread drives has something under way: nobody else looks whether it has ended. (An
    /// io_uring without a thread makes the descriptor readable then, and no hook hears of it.)
    #[must_use]
    pub fn must_poll(&self) -> bool {
        self.inner.drivers.iter().any(Driver::is_waiting)
    }

    /// Whether the descriptor becomes readable when something that this thread's movers have under way ends, whatever
    /// that is: then who sleeps on it need not poll.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        !self.inner.drivers.iter().any(Driver::must_be_polled)
    }

    /// Makes the descriptor unreadable again: for level-triggered loops, after a wake. Edge-triggered ones need not.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// assert_eq!(cq.arm(), memring::queue::Arm::Armed);
    /// // ... epoll says that the descriptor is readable:
    /// cq.clear();
    /// # drop(sq);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&mut self) {
        if !self.inner.core.birth.is_foreign() {
            self.inner.core.outlet.fd().clear();
        }
    }

    /// How many completions could be drained now, of at most as many as the queue has entries: a look, which drives
    /// nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.ready(), 0, "nobody has driven it yet");
    /// cq.drain();
    /// assert_eq!(cq.ready(), 1, "the drain did, and its completion was not taken");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ready(&mut self) -> usize {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() { 0 } else { inner.consumer.ready(inner.core.entries) }
    }

    /// How many operations never complete, since their mover broke down and may touch their memory for ever. Dropping
    /// the queue aborts the process if there are any.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::queue::QueuePair;
    /// let (_sq, cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(cq.abandoned(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> u64 {
        self.inner.core.outlet.abandoned()
    }

    /// How many operations were submitted and have not ended. Completions that wait to be reaped are not counted, and
    /// the last of them may be visible a moment later than this says: to reap all, count what was reaped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.in_flight(), 1);
    /// assert_eq!(cq.drain().count(), 1);
    /// assert_eq!(cq.in_flight(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.inner.core.outlet.in_flight()
    }

    /// How many completions can still come, those that wait to be reaped included.
    ///
    /// Operations that never complete, because their mover broke down, are not among them, nor are those that wait for
    /// one; so if this is 0 and [`in_flight`](CompletionQueue::in_flight) is not, nothing will change any more.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.inner.outstanding()
    }

    /// Closes the intake: pushes are refused as [`Closed`](super::PushError::Closed) from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// let (sq, mut cq) = QueuePair::builder().build()?.split();
    /// cq.close();
    /// assert!(sq.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&mut self) {
        if !self.inner.core.birth.is_foreign() {
            self.inner.core.outlet.intake.close();
        }
    }

    /// Closes the intake and waits until nothing is in flight, or the timeout passes; returns how many still are.
    ///
    /// It waits as [`wait`](CompletionQueue::wait) does. Completions stay and can be drained afterwards; pushes are
    /// refused as [`Closed`](super::PushError::Closed) from now on. Called again, it waits again.
    ///
    /// # Errors
    ///
    /// [`WaitError::Forked`] in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.shutdown(None)?, 0);
    /// assert_eq!(cq.drain().count(), 1);
    /// // SAFETY: as above.
    /// assert!(unsafe { sq.push(Sqe::nop()) }.is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&mut self, timeout: Option<Duration>) -> Result<u64, WaitError> {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return Err(WaitError::Forked);
        }
        inner.core.outlet.intake.close();
        inner.settle();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let outstanding = inner.outstanding();
            inner.wait(outstanding, deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
            // What ended without a completion meanwhile, or a mover that broke down, has made fewer outstanding: the
            // rest is still waited for.
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if inner.outstanding() == outstanding || is_late {
                return Ok(inner.core.outlet.in_flight());
            }
        }
    }

    /// Cancels the operations with this user data that have not begun, and returns how many: each of them completes, as
    /// [`CANCELLED`](crate::Status::CANCELLED).
    ///
    /// What has begun, or was taken by a worker together with what it does now (up to 32 entries), runs to its end, a
    /// large copy of which a part was done too; a mover of your own is [asked](crate::mover::DataMover::cancel) to give
    /// it up. Entries that wait for others (members of chains, and what a barrier holds back) are cancelled as well,
    /// and their completions come when it would have been their turn. Staged entries are not found, nor are those of a
    /// submit that is under way in another thread. It looks at all that waits in the queue's lanes.
    ///
    /// What a thread of yours drives is counted if its mover could give it up; what a mover of yours does on threads is
    /// not, since it answers later, by its completion.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, Status, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push_batch(&[Sqe::nop().user_data(1), Sqe::nop().user_data(2)]) }?;
    /// sq.submit();
    /// assert_eq!(cq.cancel(2), 1);
    /// assert_eq!(cq.cancel(2), 0, "it is cancelled already");
    /// for cqe in cq.drain() {
    ///     assert_eq!(cqe.status(), if cqe.user_data() == 2 { Status::CANCELLED } else { Status::SUCCESS });
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&mut self, user_data: u64) -> usize {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return 0;
        }
        usize::try_from(inner.cancel(user_data)).unwrap_or(usize::MAX)
    }

    /// What the queue has done so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// assert_eq!(cq.stats().reaper_wakes, 0);
    /// # drop((sq, cq.drain()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }
}

impl AsFd for CompletionQueue {
    /// The descriptor that [`arm`](CompletionQueue::arm) makes readable: an eventfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.core.outlet.fd().as_fd()
    }
}

impl AsRawFd for CompletionQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return;
        }
        inner.core.outlet.intake.close();
        loop {
            while inner.consumer.pop::<Cqe>().is_some() {}
            if inner.outstanding() == 0 {
                break;
            }
            inner.wait(1, None);
        }
        if inner.core.outlet.in_flight() > 0 {
            abort_over_memory_in_use(inner.core.outlet.in_flight());
        }
        inner.dismiss();
        drop_inner(&mut self.inner);
    }
}

#[expect(unsafe_code, reason = "ends a ManuallyDrop that exists for the sake of forked children")]
fn drop_inner(inner: &mut ManuallyDrop<Inner>) {
    // SAFETY: called once, at the end of the owner's drop, which does not use it again.
    unsafe { ManuallyDrop::drop(inner) }
}
