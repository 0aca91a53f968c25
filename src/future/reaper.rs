//! The reaper: a role, not a thread. Whoever has it drains the completion queue and completes what is awaited.
//!
//! ```text
//!   look:    drain the queue ; complete places, and take their wakers ; feed the line ; arm
//!   serve:   look ; release the role ; wake ; again, if somebody has called or more was there than it can carry
//! ```
//!
//! With driver threads, a driver that has published completions calls the hook of the armed queue, and reaps. It drives
//! nothing meanwhile: what the queue leaves to its reaper is done by whoever polls an operation, blocks, or asks for it
//! ([`Ring::drive`](super::Ring::drive)), a budget at a time. Wakers are foreign code: they may poll, submit, drop the
//! last ring, or panic, so they are woken when the role is free.
//!
//! Three things keep a completion from being left behind: a call is never lost (P12), the queue is armed for
//! completions before the role is free, whatever work is left, and who has taken an announcement calls. Work that is
//! left is known to those who wait for it: a poll comes again, a thread that blocks goes on or is an heir, and a
//! reactor is told.

use core::mem::ManuallyDrop;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use memring_ring::slot::{Completed, Key};
use memring_ring::{Progress, Role};

use super::builder::Plan;
use super::failed::OpError;
use super::parker::Parker;
use super::shared::Parts;
use crate::cqe::Status;
use crate::os::lock;
use crate::queue::{Arm, CompletionQueue, is_driver_thread};

/// After so many wakers a look ends: whoever has the role is not to keep it for long.
const MOST_CARRIED: usize = 32;
/// A drain has one more place in its hands when it ends.
const ROOM: usize = MOST_CARRIED + 1;

/// The role, and what belongs to it.
#[derive(Debug)]
pub(super) struct Reaper {
    role: Role,
    /// Locked by who has the role, and by nobody else.
    cq: Mutex<CompletionQueue>,
    /// Operations that are to be cancelled, if that is possible.
    cancels: Mutex<Vec<Key>>,
    /// Threads that block and would have the role, if its holder left work to do.
    pub(super) heirs: Mutex<Vec<Arc<Parker>>>,
    /// Those who want the ring closed, and wait for its end.
    closers: Mutex<Closers>,
    /// Threads that must not go on before operations have ended: they hear of it if a mover breaks down.
    pub(super) guards: Mutex<Vec<Waker>>,
    /// Operations completed so far.
    pub(super) completed: Progress,
    /// Places whose owner had walked away that were found complete, and what was left in them is not freed yet.
    pub(super) unfreed: Mutex<u64>,
}

#[derive(Debug, Default)]
struct Closers {
    are_there: bool,
    wakers: Vec<Waker>,
}

/// What one look brings, for when the role is free.
#[derive(Default)]
pub(super) struct Ends {
    wakers: Carried<Waker>,
    /// Places whose owner has walked away.
    abandoned: Carried<Key>,
}

/// A few things, without allocating; more of them only when many operations end otherwise than by a completion.
struct Carried<T> {
    few: [Option<T>; ROOM],
    count: usize,
    more: Vec<T>,
}

impl<T> Default for Carried<T> {
    fn default() -> Self {
        Self { few: [const { None }; ROOM], count: 0, more: Vec::new() }
    }
}

impl<T> Carried<T> {
    #[inline]
    fn add(&mut self, one: T) {
        match self.few.get_mut(self.count) {
            Some(place) => *place = Some(one),
            None => self.more.push(one),
        }
        self.count += 1;
    }

    fn take(&mut self) -> impl Iterator<Item = T> {
        let few = self.count.min(ROOM);
        self.few[..few].iter_mut().filter_map(Option::take).chain(self.more.drain(..))
    }
}

impl Ends {
    /// It is time to let go of the role.
    fn is_full(&self) -> bool {
        self.wakers.count >= MOST_CARRIED || self.abandoned.count >= MOST_CARRIED
    }

    #[inline]
    fn add(&mut self, key: Key, (completed, waker): (Completed, Option<Waker>)) {
        if let Some(waker) = waker {
            self.wakers.add(waker);
        }
        if completed == Completed::Abandoned {
            self.abandoned.add(key);
        }
    }

    /// Wakes, and frees what was left behind. The role is not the caller's any more.
    pub(super) fn settle(&mut self, parts: &Parts) {
        let before = SETTLES.replace(true);
        for waker in self.wakers.take() {
            contain(|| waker.wake());
        }
        for key in self.abandoned.take() {
            parts.places.close(key);
            let orphan = parts.entrance.give_back(key);
            contain(|| drop(orphan));
            *lock(&parts.reaper.unfreed) -= 1;
        }
        SETTLES.set(before);
    }
}

/// Runs foreign code, whose panics end here.
fn contain(foreign: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(foreign)) {
        // What a payload's drop does is unknown.
        Box::leak(payload);
    }
}

thread_local! {
    /// This thread has a ring's role, and may be in a mover's code.
    static REAPS: Cell<bool> = const { Cell::new(false) };
    /// This thread wakes and frees what it has found as a reaper.
    static SETTLES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in the middle of a queue's work, which would wait for itself.
pub(super) fn is_in_a_queue() -> bool {
    is_driver_thread() || REAPS.get()
}

/// Whether this thread has in its hands what the end of a ring waits for: a queue, or what it has taken out of it.
pub(super) fn is_at_work() -> bool {
    is_in_a_queue() || SETTLES.get()
}

/// What an outcome says of the first failure; 0: there was none.
const fn outcome_of(status: Status, value: u32) -> u64 {
    ((status.to_u16() as u64) << 32) | value as u64
}

/// What a place's outcome says.
#[expect(clippy::cast_possible_truncation, reason = "parts of a word")]
pub(super) const fn failure_of(outcome: u64) -> Option<OpError> {
    OpError::of(Status::from_u16((outcome >> 32) as u16), outcome as u32)
}

/// The role, until it is given up: also if this thread unwinds.
pub(super) struct Held<'a>(&'a Reaper);

impl Held<'_> {
    /// Gives the role up. True: somebody has called, and it is for the caller to see that he is heard.
    pub(super) fn release(self) -> bool {
        let mut is_called = false;
        while !self.0.role.release() {
            is_called = true;
        }
        // It is free: the drop is for who unwinds.
        let _ = ManuallyDrop::new(self);
        is_called
    }

    /// The queue. No foreign code is called with it, but that of movers.
    pub(super) fn queue<R>(&self, f: impl FnOnce(&mut CompletionQueue) -> R) -> R {
        struct Restore(bool);
        impl Drop for Restore {
            fn drop(&mut self) {
                REAPS.set(self.0);
            }
        }
        let mut cq = match self.0.cq.try_lock() {
            Ok(cq) => cq,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("only who has the role locks the queue"),
        };
        let _restore = Restore(REAPS.replace(true));
        f(&mut cq)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        while !self.0.role.release() {}
    }
}

impl Reaper {
    pub(super) fn new(cq: CompletionQueue, plan: Plan) -> Self {
        Self {
            role: Role::default(),
            cq: Mutex::new(cq),
            cancels: Mutex::new(Vec::with_capacity(plan.entries.min(64))),
            heirs: Mutex::new(Vec::with_capacity(16)),
            closers: Mutex::default(),
            guards: Mutex::new(Vec::with_capacity(16)),
            completed: Progress::default(),
            unfreed: Mutex::new(0),
        }
    }

    /// Takes the role, or has its holder look again.
    pub(super) fn call(&self) -> Option<Held<'_>> {
        self.role.call().then(|| Held(self))
    }

    /// Takes the role, if it is free.
    pub(super) fn try_take(&self) -> Option<Held<'_>> {
        self.role.try_take().then(|| Held(self))
    }

    /// Has the queue closed at the next look, and `waker` woken when nothing is in flight any more.
    pub(super) fn close(&self, waker: &Waker) {
        // A waker is foreign code: it is cloned, and dropped, outside of the lock.
        let waker = waker.clone();
        let mut closers = lock(&self.closers);
        closers.are_there = true;
        if !closers.wakers.iter().any(|other| other.will_wake(&waker)) {
            closers.wakers.push(waker);
            return;
        }
        drop(closers);
    }

    /// Lets somebody who blocks have the role.
    fn call_heir(&self) -> bool {
        let heir = lock(&self.heirs).pop();
        if let Some(heir) = &heir {
            heir.unpark();
        }
        heir.is_some()
    }
}

/// Turns at the role. Each says what it has left to whoever drives: nothing (armed), work, or something to look after.
impl Parts {
    /// Reaps, or has whoever is reaping look again; drives nothing.
    pub(super) fn reap(&self) {
        if let Some(held) = self.reaper.call() {
            let left = self.serve(held, None);
            self.pass_on(left);
        }
    }

    /// As [`reap`](Parts::reap), on a driver's thread, which may have sent something to where only callers drive: if
    /// there is nobody to leave it to, who has come to wait for it is asleep, and it is done here.
    pub(super) fn reap_as_driver(&self) {
        let mut held = self.reaper.call();
        let mut budget = None;
        while let Some(role) = held {
            let left = self.serve(role, budget);
            if left == Arm::Armed || self.leave(left) {
                return;
            }
            if left == Arm::MustPoll {
                // It is not for a worker to wait for a disk, if somebody else can.
                if self.rouse() {
                    return;
                }
                thread::yield_now();
            }
            // Whoever has the role meanwhile has seen what there is to do.
            (held, budget) = (self.reaper.try_take(), Some(self.plan.poll_budget));
        }
    }

    /// Reaps, and drives at most `budget` bytes, or has whoever is reaping look again.
    pub(super) fn drive(&self, budget: usize) {
        if let Some(held) = self.reaper.call() {
            let left = self.serve(held, Some(budget));
            self.pass_on(left);
        }
    }

    /// Reaps, and drives a budget. None: somebody else is at it.
    pub(super) fn try_drive(&self) -> Option<Arm> {
        let left = self.serve(self.reaper.try_take()?, Some(self.plan.poll_budget));
        self.pass_on(left);
        Some(left)
    }

    /// As [`try_drive`](Parts::try_drive), and helps the workers: one chunk of what waits for them.
    pub(super) fn try_help(&self) -> Option<Arm> {
        let left = self.help(self.reaper.try_take()?, Duration::ZERO);
        self.pass_on(left);
        Some(left)
    }

    /// Reaps, and helps if there is nobody else to drive: for a thread that does nothing else.
    pub(super) fn reap_as_thread(&self) -> Arm {
        match self.reaper.call() {
            Some(held) if self.plan.is_caller_driven => self.help(held, self.plan.spin),
            Some(held) => self.serve(held, None),
            None => Arm::Armed,
        }
    }

    /// What there is to drive, for who is about to sleep. Who reaps at the same time will tell him.
    pub(super) fn arm_queue(&self) -> Arm {
        self.arm_queue_with(left_in)
    }

    /// As [`arm_queue`](Parts::arm_queue), for who sleeps on the descriptor: what the kernel signals there need not be
    /// polled for.
    pub(super) fn arm_queue_for_reactor(&self) -> Arm {
        self.arm_queue_with(|cq| match left_in(cq) {
            Arm::MustPoll if cq.is_signalled() => Arm::Armed,
            left => left,
        })
    }

    fn arm_queue_with(&self, left_in: impl FnOnce(&CompletionQueue) -> Arm) -> Arm {
        let Some(held) = self.reaper.call() else { return Arm::Armed };
        let (is_armed, left) = held.queue(|cq| (cq.arm_for_completions(), left_in(cq)));
        if held.release() || !is_armed {
            // Completions are not left behind: they may be somebody else's.
            self.reap();
        }
        left
    }

    /// Does the reaper's work, with the role, and gives it up. Drives in the first look only: others may call without
    /// end.
    fn serve<'a>(&'a self, mut held: Held<'a>, mut budget: Option<usize>) -> Arm {
        loop {
            let mut ends = Ends::default();
            let (left, is_more) = self.look(&held, &mut ends, budget.take());
            let again = held.release() || is_more;
            self.tell_reactor(left);
            ends.settle(self);
            if !again {
                return left;
            }
            match self.reaper.call() {
                Some(again) => held = again,
                None => return left,
            }
        }
    }

    /// Helps, or looks for something to help with for so long, and serves. While there is something, something is left.
    pub(super) fn help(&self, held: Held<'_>, spin: Duration) -> Arm {
        // In a forked child it is an error, and the look finds nothing.
        let begin = Instant::now();
        let gets_on = loop {
            let gets_on = held.queue(|cq| cq.wait(1, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0));
            if gets_on || begin.elapsed() >= spin {
                break gets_on;
            }
            // Whom this thread has woken may wait for its CPU.
            thread::yield_now();
        };
        let left = self.serve(held, None);
        if gets_on { Arm::NotEmpty } else { left }
    }

    /// One look, with the role. What it leaves to who drives, and whether there is more than it could carry.
    pub(super) fn look(&self, held: &Held<'_>, ends: &mut Ends, budget: Option<usize>) -> (Arm, bool) {
        held.queue(|cq| {
            self.cancel_asked(cq, ends);
            self.drain(cq, ends, budget);
            self.feed(ends);
            self.close_if_asked(cq, ends);
            self.warn_guards(cq, ends);
            let is_more = !cq.arm_for_completions() || !lock(&self.reaper.cancels).is_empty();
            (left_in(cq), is_more)
        })
    }

    #[inline]
    fn drain(&self, cq: &mut CompletionQueue, ends: &mut Ends, budget: Option<usize>) {
        let completions = match budget {
            Some(budget) => {
                cq.set_poll_budget(budget);
                cq.drain()
            }
            None => cq.completions(),
        };
        // Neighbours of one place are counted down together.
        let (mut of, mut count) = (0, 0);
        for cqe in completions {
            let operations = u64::from(cqe.count());
            if cqe.status().is_success() && cqe.user_data() == of {
                count += operations;
                continue;
            }
            if count > 0 {
                self.complete(Key::from_word(of), count, 0, ends);
            }
            (of, count) = (cqe.user_data(), operations);
            if !cqe.status().is_success() {
                self.complete(Key::from_word(of), count, outcome_of(cqe.status(), cqe.value()), ends);
                count = 0;
            }
            if ends.is_full() {
                break;
            }
        }
        if count > 0 {
            self.complete(Key::from_word(of), count, 0, ends);
        }
    }

    /// Notes the end of operations of one place: of a batch, the first failure is kept.
    #[inline]
    fn complete(&self, key: Key, count: u64, failure: u64, ends: &mut Ends) {
        let note = |before| if before == 0 { failure } else { before };
        let completed = self.places.complete(key, count, note);
        // Only now: a reactor that hears of it looks once, and then waits for the next one (P16).
        self.reaper.completed.advance(count);
        if completed.0 == Completed::Abandoned {
            *lock(&self.reaper.unfreed) += 1;
        }
        ends.add(key, completed);
    }

    fn feed(&self, ends: &mut Ends) {
        self.entrance.feed(|key, count, error| self.complete(key, count, outcome_of(error.status(), 0), ends));
    }

    /// Cancels what was asked to be, as far as it has not begun.
    fn cancel_asked(&self, cq: &mut CompletionQueue, ends: &mut Ends) {
        while !ends.is_full() {
            let Some(key) = lock(&self.reaper.cancels).pop() else { return };
            // What it calls for this look finds.
            let (withdrawn, _) = self.entrance.withdraw(key);
            if withdrawn > 0 {
                self.complete(key, withdrawn, outcome_of(Status::CANCELLED, 0), ends);
            }
            cq.cancel(key.to_word());
        }
    }

    /// Closes the queue if that is wanted, and wakes who waits for its end.
    fn close_if_asked(&self, cq: &mut CompletionQueue, ends: &mut Ends) {
        if !lock(&self.reaper.closers).are_there {
            return;
        }
        if !self.direct.is_closed() {
            cq.close();
            self.feed(ends);
        }
        if self.is_over() {
            lock(&self.reaper.closers).wakers.drain(..).for_each(|waker| ends.wakers.add(waker));
        }
    }

    /// Wakes those who must know that nothing will change any more, since a mover broke down.
    fn warn_guards(&self, cq: &CompletionQueue, ends: &mut Ends) {
        if cq.abandoned() > 0 && is_stuck(cq) {
            lock(&self.reaper.guards).iter().for_each(|guard| ends.wakers.add(guard.clone()));
        }
    }

    /// Asks for a place's operations to be cancelled.
    pub(super) fn cancel(&self, key: Key) {
        if self.direct.is_forked() {
            return;
        }
        lock(&self.reaper.cancels).push(key);
        self.reap();
    }

    /// Leaves what there is to do to those who wait for it and do not look by themselves; whether there is somebody.
    pub(super) fn leave(&self, left: Arm) -> bool {
        if left == Arm::Armed {
            return false;
        }
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
        let has_heir = self.reaper.call_heir();
        has_heir || self.thread.is_some() || self.has_reactor()
    }

    /// As [`leave`](Parts::leave), for who goes away: if there is nobody, all are roused that have found nothing to
    /// drive when they came, and wait for something that may be among it.
    pub(super) fn pass_on(&self, left: Arm) {
        if left != Arm::Armed && !self.leave(left) {
            self.rouse();
        }
    }

    /// Rouses those who have found nothing to drive; whether there was one.
    fn rouse(&self) -> bool {
        let mut ends = Ends::default();
        lock(&self.reaper.closers).wakers.drain(..).for_each(|waker| ends.wakers.add(waker));
        let mut is_heard = ends.wakers.count > 0;
        ends.settle(self);
        // Not more than there are now: who is roused may fall asleep again.
        let mut left = self.entrance.sleepers();
        while left > 0 {
            let mut ends = Ends::default();
            let roused = self.entrance.rouse(left.min(MOST_CARRIED), |waker| ends.wakers.add(waker));
            ends.settle(self);
            is_heard |= roused > 0;
            left = if roused == 0 { 0 } else { left - roused };
        }
        is_heard
    }

    /// There is something to drive that nobody has seen: tells all that may wait for it.
    pub(super) fn announce_work(&self) {
        self.tell_reactor(Arm::NotEmpty);
        self.pass_on(Arm::NotEmpty);
    }
}

/// What a queue leaves to who drives.
fn left_in(cq: &CompletionQueue) -> Arm {
    match cq.has_work() {
        true => Arm::NotEmpty,
        false if cq.must_poll() => Arm::MustPoll,
        false => Arm::Armed,
    }
}

/// Whether operations are in flight, and none of them will ever end.
pub(super) fn is_stuck(cq: &CompletionQueue) -> bool {
    cq.outstanding() == 0 && cq.in_flight() > 0
}
