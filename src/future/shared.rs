//! What the handles of a ring and its operations share.

use core::mem::ManuallyDrop;
use core::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Poll, Waker};
use std::thread;

use memring_ring::slot::{Key, Registered};
use memring_ring::{Doorbell, Wake};

use super::builder::Plan;
use super::entrance::{Entrance, Orphan, is_submitting};
use super::failed::OpError;
use super::parker::Parker;
use super::places::Places;
use super::reaper::{Reaper, failure_of, is_at_work};
use super::turns::{Seen, Turns};
use crate::memory::region::{MappedFile, Region, RegisterError};
use crate::os::{EventFd, lock};
use crate::queue::{Arm, BuildError, QueuePair, Route, SubmissionQueue, is_driver_thread};

/// What handles and operations share: the last of them that goes closes the ring, and waits for what is in flight.
///
/// The hook and the reaper's thread do not share it: they hold the parts for a moment, and then nothing waits for them.
#[derive(Debug)]
pub(super) struct Shared(Arc<Parts>);

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
    turns: Turns,
    /// The thread that reaps, if the builder has asked for one.
    pub(super) thread: Option<Arc<Parker>>,
    /// Durable flushes complete by themselves, from the first region on.
    flushes: OnceLock<()>,
    /// Nothing will ever be there to reap again.
    has_ended: OnceLock<()>,
    /// For scopes, which submit by themselves: made once, and lent.
    pub(super) spares: Mutex<Vec<SubmissionQueue>>,
}

/// A reactor that sleeps on the ring's descriptor.
#[derive(Debug)]
struct Reactor {
    bell: Doorbell,
    /// It sleeps, or is on its way since it was told: what is left to be driven is its own to do. One that drives and
    /// does not sleep may never come again.
    sleeps: Mutex<bool>,
    /// How many completed operations it has been told of by `drive`.
    told: Mutex<u64>,
    /// How many have kept it from sleeping.
    heard: Mutex<u64>,
    fd: EventFd,
}

/// A place's operations have all ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended;

type Hook = Arc<OnceLock<Weak<Parts>>>;

impl Shared {
    /// Builds the queue pair, with a hook that reaps.
    pub(super) fn new(plan: Plan, builder: crate::queue::Builder) -> Result<Arc<Self>, BuildError> {
        let hook = Hook::default();
        // The queue's descriptor is the reactor's: what the kernel signals there reaches who sleeps on it.
        let fd = EventFd::new().map_err(BuildError::Os)?;
        let shared = fd.as_fd().try_clone_to_owned().map_err(BuildError::Os)?;
        let pair = {
            let hook = Arc::clone(&hook);
            builder.event_fd(shared).on_ready(move || on_ready(&hook)).build()?
        };
        let parts = Arc::new(Parts::new(pair, plan, fd));
        // Nothing was submitted yet, so nothing has called it.
        let _ = hook.set(Arc::downgrade(&parts));
        if let Some(parker) = &parts.thread {
            let (parker, parts) = (Arc::clone(parker), Arc::downgrade(&parts));
            let thread = thread::Builder::new().name("memring-reaper".to_owned());
            thread.spawn(move || reap_for_life(&parker, &parts)).map_err(BuildError::Os)?;
        }
        parts.reap();
        Ok(Arc::new(Self(parts)))
    }
}

/// The hook: whoever has published completions reaps them, or wakes the thread that does.
fn on_ready(hook: &OnceLock<Weak<Parts>>) {
    if is_submitting() {
        return;
    }
    let Some(parts) = hook.get().and_then(Weak::upgrade) else { return };
    match &parts.thread {
        None if is_driver_thread() => parts.reap_as_driver(),
        _ => parts.answer_call(),
    }
}

/// The life of a thread that reaps: until the ring has ended. The parts may be there for a moment longer.
fn reap_for_life(parker: &Arc<Parker>, parts: &Weak<Parts>) {
    loop {
        let seen = parker.wakes();
        let Some(parts) = parts.upgrade().filter(|parts| parts.has_ended.get().is_none()) else { return };
        let left = parts.reap_as_thread();
        drop(parts);
        parker.rest(seen, left);
    }
}

impl Deref for Shared {
    type Target = Parts;

    #[inline]
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.direct.is_forked() {
            return;
        }
        if is_at_work() {
            // This thread has operations in its hands and would wait for itself. If there is no other to be had, the
            // parts are leaked: what they own may be in use.
            let parts = ManuallyDrop::new(Arc::clone(&self.0));
            let waits = move || {
                let parts = ManuallyDrop::into_inner(parts);
                end(&parts);
            };
            let _detached = thread::Builder::new().name("memring-end".to_owned()).spawn(waits);
        } else {
            end(&self.0);
        }
    }
}

/// Ends a ring whose last handle is gone, and the thread that reaps.
fn end(parts: &Parts) {
    parts.end();
    let _ = parts.has_ended.set(());
    if let Some(thread) = &parts.thread {
        thread.unpark();
    }
}

impl Parts {
    fn new(pair: QueuePair, plan: Plan, fd: EventFd) -> Self {
        let route = pair.route().clone();
        let (sq, cq) = pair.split();
        let reactor = Reactor {
            bell: Doorbell::default(),
            sleeps: Mutex::new(false),
            told: Mutex::new(0),
            heard: Mutex::new(0),
            fd,
        };
        Self {
            reaper: Reaper::new(cq, plan),
            entrance: Entrance::new(sq.clone(), plan.entries),
            places: Places::new(plan.entries),
            direct: sq,
            route,
            plan,
            reactor,
            turns: Turns::default(),
            thread: plan.reaper_thread.then(Arc::default),
            flushes: OnceLock::new(),
            has_ended: OnceLock::new(),
            spares: Mutex::default(),
        }
    }

    /// Makes a region of a mapped file.
    pub(super) fn register(&self, mapped: MappedFile) -> Result<Region, RegisterError> {
        // First: from here on a thread may complete what nobody drives.
        let _ = self.flushes.set(());
        self.direct.register(mapped)
    }

    /// Answers a hook that was called on the thread of a submitter or a reaper.
    #[cold]
    pub(super) fn answer_call(&self) {
        if let Some(thread) = &self.thread {
            return thread.unpark();
        }
        if self.plan.has_threads || self.flushes.get().is_some() {
            self.reap();
        }
        if self.plan.is_caller_driven {
            // Whoever polls drives; others must hear that there is something to drive. Where nothing completes by
            // itself the queue need not be armed again before one of them looks.
            self.announce_work();
        }
    }

    /// Whether a place is complete, and how; else `waker` will be woken. `seen` is its future's, from poll to poll.
    #[inline]
    pub(super) fn poll(&self, key: Key, seen: &mut Seen, waker: &Waker) -> Poll<Option<OpError>> {
        if let Some(outcome) = self.places.outcome(key) {
            return Poll::Ready(failure_of(outcome));
        }
        if self.direct.is_forked() {
            return Poll::Ready(Some(OpError::Forked));
        }
        if self.plan.polls_help || self.polls_drive() {
            // Whoever has driven comes again, even if that has completed it: a task that awaits one after the other
            // would else go on and on, and keep its executor from all others. So does who finds another at it, and
            // whose turn it is not.
            let left = match self.turns.take(seen) {
                true if self.plan.polls_help => self.try_help(),
                true => self.try_drive(),
                false => None,
            };
            if left != Some(Arm::Armed) || self.places.outcome(key).is_some() {
                waker.wake_by_ref();
                return Poll::Pending;
            }
        }
        match self.places.register(key, waker.clone()) {
            Registered::Ready => return Poll::Ready(failure_of(self.places.outcome(key).unwrap_or(0))),
            Registered::Stored => self.fall_asleep(key, waker),
            Registered::Waking => waker.wake_by_ref(),
        }
        Poll::Pending
    }

    /// Whether it is for polls to drive what callers drive.
    fn polls_drive(&self) -> bool {
        self.plan.is_caller_driven && self.thread.is_none()
    }

    /// Has a future that has found nothing to drive woken if there is something later, and its own among it.
    #[inline]
    fn fall_asleep(&self, key: Key, waker: &Waker) {
        if self.polls_drive() && self.entrance.comes_late(key) {
            // First among the sleepers, then the look: who leaves something rouses them after that.
            self.entrance.fall_asleep(key, waker.clone());
            if self.arm_queue() != Arm::Armed {
                waker.wake_by_ref();
            }
        }
    }

    /// Whether nothing is in flight and nothing can come any more; else `waker` will be woken.
    pub(super) fn poll_shutdown(&self, waker: &Waker) -> bool {
        if self.direct.is_forked() {
            return true;
        }
        self.reaper.close(waker);
        self.reap();
        let mut is_over = self.is_over();
        if !is_over && self.polls_drive() {
            let left = self.try_drive();
            is_over = self.is_over();
            if !is_over && left != Some(Arm::Armed) {
                waker.wake_by_ref();
            }
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
        let (withdrawn, is_called) = self.entrance.withdraw(key);
        let is_last = withdrawn > 0 && self.places.count_down(key, withdrawn);
        if is_called {
            self.answer_call();
        }
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
        let is_worth_a_wake = |_, target| self.reaper.completed.done() >= target || arm != Arm::Armed;
        if bell.ring(is_worth_a_wake, |_| false).wake == Some(Wake::Armed) {
            fd.signal();
        }
    }

    /// Whether a reactor sleeps that was told, or will be, what there is to drive.
    pub(super) fn has_reactor(&self) -> bool {
        *lock(&self.reactor.sleeps)
    }

    fn note_reactor(&self, sleeps: bool) {
        *lock(&self.reactor.sleeps) = sleeps;
    }

    /// How many operations have completed since this was last asked.
    pub(super) fn news(&self) -> usize {
        self.note_reactor(false);
        let mut told = lock(&self.reactor.told);
        let mut heard = lock(&self.reactor.heard);
        let completed = self.reaper.completed.done();
        *heard = completed;
        usize::try_from(completed - std::mem::replace(&mut *told, completed)).unwrap_or(usize::MAX)
    }

    /// Announces that a reactor is about to sleep.
    pub(super) fn arm(&self) -> Arm {
        let bell = &self.reactor.bell;
        self.note_reactor(true);
        let mut heard = lock(&self.reactor.heard);
        bell.announce(Wake::Armed, *heard + 1);
        let left = self.arm_queue_for_reactor();
        let completed = self.reaper.completed.done();
        let arm = if completed > *heard { Arm::NotEmpty } else { left };
        // A failed retraction means that the announcement was taken: the wake is on its way, and it is this arm's.
        if arm == Arm::Armed || !bell.retract() {
            return Arm::Armed;
        }
        self.note_reactor(false);
        *heard = completed;
        arm
    }

    pub(super) fn clear_fd(&self) {
        self.reactor.fd.clear();
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.reactor.fd.as_fd()
    }
}
