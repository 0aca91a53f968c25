//! What the handles of a ring and its operations share.
#![expect(unsafe_code, reason = "hands on the contract of a push")]

use core::mem::ManuallyDrop;
use core::ops::Deref;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::thread;

use memring_ring::slot::{Key, Registered};
use memring_ring::{Doorbell, Wake};

use super::builder::Plan;
use super::entrance::{Begun, Entrance, Orphan, Patience, is_submitting};
use super::failed::OpError;
use super::parker::Parker;
use super::places::Places;
use super::reaper::{Reaper, failure_of, is_reaping};
use crate::queue::{Arm, BuildError, QueuePair, Route, SubmissionQueue, is_driver_thread};
use crate::sqe::Sqe;

/// The shared part of a ring. The last handle or operation that goes drops it, and waits for what is in flight.
#[derive(Debug)]
pub(super) struct Shared(Option<Parts>);

/// In the order in which they are dropped: the queue goes first, and when it has gone nobody touches what is left
/// behind in the entrance.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) reaper: Reaper,
    pub(super) entrance: Entrance,
    pub(super) places: Places,
    /// For what needs no lock: what goes inline, and questions.
    pub(super) direct: SubmissionQueue,
    pub(super) route: Route,
    pub(super) plan: Plan,
    reactor: Reactor,
    /// The thread that reaps, if the builder has asked for one.
    thread: Option<Arc<Parker>>,
    /// For scopes, which submit by themselves: made once, and lent.
    pub(super) spares: Mutex<Vec<SubmissionQueue>>,
}

/// A reactor that sleeps on the ring's descriptor.
#[derive(Debug)]
struct Reactor {
    bell: Doorbell,
    /// How many completed operations it has heard of.
    heard: Mutex<u64>,
    /// The queue's own, which the queue itself leaves alone since it has a hook.
    fd: File,
}

/// A place's operations have all ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended;

type Hook = Arc<OnceLock<Weak<Shared>>>;

impl Shared {
    /// Builds the queue pair, with a hook that reaps.
    pub(super) fn new(plan: Plan, builder: crate::queue::Builder) -> Result<Arc<Self>, BuildError> {
        let hook = Hook::default();
        let pair = {
            let hook = Arc::clone(&hook);
            builder.on_ready(move || on_ready(&hook)).build()?
        };
        let shared = Arc::new(Self(Some(Parts::new(pair, plan)?)));
        // Nothing was submitted yet, so nothing has called it.
        let _ = hook.set(Arc::downgrade(&shared));
        if let Some(parker) = &shared.thread {
            let (parker, shared) = (Arc::clone(parker), Arc::downgrade(&shared));
            let thread = thread::Builder::new().name("memring-reaper".to_owned());
            thread.spawn(move || reap_for_life(&parker, &shared)).map_err(BuildError::Os)?;
        }
        shared.reap();
        Ok(shared)
    }
}

/// The hook: whoever has published completions reaps them, or wakes the thread that does.
fn on_ready(hook: &OnceLock<Weak<Shared>>) {
    if is_submitting() {
        return;
    }
    let Some(shared) = hook.get().and_then(Weak::upgrade) else { return };
    match &shared.thread {
        Some(thread) => thread.unpark(),
        None => _ = shared.reap(),
    }
}

/// The life of a thread that reaps: until the ring is gone.
fn reap_for_life(parker: &Arc<Parker>, shared: &Weak<Shared>) {
    loop {
        let seen = parker.wakes();
        let Some(shared) = shared.upgrade() else { return };
        let arm = shared.reap_as_thread();
        drop(shared);
        parker.rest(seen, arm);
    }
}

impl Deref for Shared {
    type Target = Parts;

    #[inline]
    fn deref(&self) -> &Parts {
        self.0.as_ref().expect("taken by the drop alone")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(parts) = self.0.take() else { return };
        if let Some(thread) = &parts.thread {
            thread.unpark();
        }
        if is_driver_thread() || is_reaping() {
            // This thread has operations in its hands and would wait for itself. If there is no other to be had, what
            // is left is leaked: its memory may be in use.
            let parts = ManuallyDrop::new(parts);
            let waits = move || drop(ManuallyDrop::into_inner(parts));
            let _detached = thread::Builder::new().name("memring-end".to_owned()).spawn(waits);
        }
    }
}

impl Parts {
    fn new(pair: QueuePair, plan: Plan) -> Result<Self, BuildError> {
        let route = pair.route().clone();
        let (sq, cq) = pair.split();
        let fd = cq.as_fd().try_clone_to_owned().map_err(BuildError::Os)?;
        let reactor = Reactor { bell: Doorbell::default(), heard: Mutex::new(0), fd: File::from(fd) };
        Ok(Self {
            reaper: Reaper::new(cq, plan),
            entrance: Entrance::new(sq.clone(), plan.entries),
            places: Places::new(plan.entries),
            direct: sq,
            route,
            plan,
            reactor,
            thread: plan.reaper_thread.then(Arc::default),
            spares: Mutex::default(),
        })
    }

    /// Begins all of the operations, in one place, or none. At least one.
    ///
    /// # Safety
    ///
    /// The push's contract holds for each entry until the place is complete.
    #[inline]
    pub(super) unsafe fn begin(&self, sqes: &mut [Sqe], patience: Patience) -> Result<Key, OpError> {
        // SAFETY: the caller vouches for it.
        let Begun { key, is_called } = unsafe { self.entrance.begin(&self.places, sqes, patience) }?;
        if is_called {
            self.answer_call();
        }
        Ok(key)
    }

    /// What a hook would have done that has come while this thread submitted.
    #[cold]
    pub(super) fn answer_call(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        } else if self.plan.is_caller_driven {
            // Whoever polls the operation drives. A reactor that sleeps must hear that there is something to drive.
            self.tell_reactor(Arm::NotEmpty);
            self.reaper.leave_to_heir(Arm::NotEmpty);
        } else {
            self.reap();
        }
    }

    /// Whether a place is complete, and how; else `waker` will be woken.
    #[inline]
    pub(super) fn poll(&self, key: Key, waker: &Waker) -> Poll<Option<OpError>> {
        if let Some(outcome) = self.places.outcome(key) {
            return Poll::Ready(failure_of(outcome));
        }
        if self.direct.is_forked() {
            return Poll::Ready(Some(OpError::Forked));
        }
        if self.plan.is_caller_driven && self.thread.is_none() {
            // Whoever has driven comes again, even if that has completed it: a task that awaits one after the other
            // would else go on and on, and keep its executor from all others.
            if self.reap() != Some(Arm::Armed) || self.places.outcome(key).is_some() {
                waker.wake_by_ref();
                return Poll::Pending;
            }
        }
        match self.places.register(key, waker.clone()) {
            Registered::Ready => return Poll::Ready(failure_of(self.places.outcome(key).unwrap_or(0))),
            Registered::Stored => {}
            Registered::Waking => waker.wake_by_ref(),
        }
        Poll::Pending
    }

    /// Whether nothing is in flight and nothing can come any more; else `waker` will be woken.
    pub(super) fn poll_shutdown(&self, waker: &Waker) -> bool {
        if self.direct.is_forked() {
            return true;
        }
        self.reaper.close(waker);
        let turn = self.reap();
        let is_over = self.is_over();
        if !is_over && self.plan.is_caller_driven && self.thread.is_none() && turn != Some(Arm::Armed) {
            waker.wake_by_ref();
        }
        is_over
    }

    /// Whether the ring is closed, and nothing is in flight nor waits.
    pub(super) fn is_over(&self) -> bool {
        self.direct.is_closed() && self.direct.in_flight() == 0 && !self.entrance.is_waited_for()
    }

    /// Gives a complete place back. Not in a forked child, where somebody may hold the lock for ever.
    #[inline]
    pub(super) fn finish(&self, key: Key) -> Option<Orphan> {
        if self.direct.is_forked() {
            return None;
        }
        self.places.close(key);
        self.entrance.give_back(key)
    }

    /// Walks away from a place. What its operations own goes to whoever sees their end; or stays the caller's, if that
    /// has come already: then it is said.
    #[must_use = "what was not left is still owned"]
    pub(super) fn abandon(&self, key: Key, owned: impl FnOnce() -> Orphan) -> Option<Ended> {
        if self.direct.is_forked() {
            return Some(Ended);
        }
        // What waits in line has no claim to run any more.
        let withdrawn = self.entrance.withdraw(key);
        let is_last = withdrawn > 0 && self.places.count_down(key, withdrawn);
        if is_last || self.places.outcome(key).is_some() {
            self.finish(key);
            return Some(Ended);
        }
        self.entrance.leave(key, owned());
        if self.places.abandon(key) {
            drop(self.finish(key));
        }
        None
    }

    /// Wakes a reactor that sleeps, if there is something for it.
    pub(super) fn tell_reactor(&self, arm: Arm) {
        let Reactor { bell, fd, .. } = &self.reactor;
        let is_worth_a_wake = |_, target| self.reaper.completed.get() >= target || arm != Arm::Armed;
        if bell.ring(is_worth_a_wake, |_| false).wake == Some(Wake::Armed) {
            // The only error is EAGAIN at a saturated counter: then it is readable already.
            let _ = (&*fd).write(&1_u64.to_ne_bytes());
        }
    }

    /// How many operations have completed since a reactor was last told.
    pub(super) fn news(&self) -> usize {
        let mut heard = self.reactor.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let completed = self.reaper.completed.get();
        usize::try_from(completed - std::mem::replace(&mut *heard, completed)).unwrap_or(usize::MAX)
    }

    /// Announces that a reactor is about to sleep.
    pub(super) fn arm(&self) -> Arm {
        let bell = &self.reactor.bell;
        let heard = *self.reactor.heard.lock().unwrap_or_else(PoisonError::into_inner);
        bell.announce(Wake::Armed, heard + 1);
        let arm = if self.reaper.completed.get() > heard { Arm::NotEmpty } else { self.arm_queue() };
        // A failed retraction means that the announcement was taken: the wake is on its way, and it is this arm's.
        if arm == Arm::Armed || !bell.retract() {
            return Arm::Armed;
        }
        self.news();
        arm
    }

    pub(super) fn clear_fd(&self) {
        // The only error is EAGAIN: then it was unreadable already.
        let _ = (&self.reactor.fd).read(&mut [0; 8]);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.reactor.fd.as_fd()
    }
}
