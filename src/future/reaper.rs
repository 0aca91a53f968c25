//! The reaper: a role, not a thread. Whoever has it drains the completion queue and completes what is awaited.
//!
//! ```text
//!   look:    drain the queue ; complete places, and take their wakers ; feed the line ; arm
//!   serve:   look ; release the role ; wake ; again, if somebody has called or more was there than it can carry
//! ```
//!
//! With driver threads, a driver that has published completions calls the hook of the armed queue, and reaps. Without
//! them whoever polls an operation, or blocks, takes a turn, which drives what the queue leaves to its reaper. Wakers
//! are foreign code: they may poll, submit, drop the last ring, or panic, so they are woken when the role is free.
//!
//! Three things keep a completion from being left behind: a call is never lost (P12), the queue is armed before the
//! role is free, and who finds no armed queue calls the role.

use core::future::poll_fn;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::time::{Duration, Instant};

use memring_ring::slot::{Completed, Key};
use memring_ring::{Counter, Role};

use super::builder::Plan;
use super::failed::{BlockError, OpError};
use super::parker::Parker;
use super::shared::Parts;
use crate::cqe::Status;
use crate::queue::{Arm, CompletionQueue, is_driver_thread};

/// So many wakers are carried out of one look: whoever has the role is not to keep it for long.
const MOST_CARRIED: usize = 32;

/// The role, and what belongs to it.
#[derive(Debug)]
pub(super) struct Reaper {
    role: Role,
    /// Locked by who has the role, and by nobody else.
    cq: Mutex<CompletionQueue>,
    /// Operations that are to be cancelled, if that is possible.
    cancels: Mutex<Vec<Key>>,
    /// Threads that block and would have the role, if its holder left work to do.
    heirs: Mutex<Vec<Arc<Parker>>>,
    /// Those who want the ring closed, and wait for its end.
    closers: Mutex<Closers>,
    /// Scopes that wait: they must hear of it if a mover breaks down over their memory.
    scopes: Mutex<Vec<Waker>>,
    /// Operations completed so far.
    pub(super) completed: Counter,
}

#[derive(Debug, Default)]
struct Closers {
    are_there: bool,
    wakers: Vec<Waker>,
}

/// What one look brings, for when the role is free.
#[derive(Default)]
struct Ends {
    wakers: Carried<Waker>,
    /// Places whose owner has walked away.
    abandoned: Carried<Key>,
}

/// A few things, without allocating; more of them only when many operations end otherwise than by a completion.
struct Carried<T> {
    few: [Option<T>; MOST_CARRIED],
    count: usize,
    more: Vec<T>,
}

impl<T> Default for Carried<T> {
    fn default() -> Self {
        Self { few: [const { None }; MOST_CARRIED], count: 0, more: Vec::new() }
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
        let few = self.count.min(MOST_CARRIED);
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
    fn settle(&mut self, parts: &Parts) {
        for key in self.abandoned.take() {
            parts.places.close(key);
            let orphan = parts.entrance.give_back(key);
            contain(|| drop(orphan));
        }
        for waker in self.wakers.take() {
            contain(|| waker.wake());
        }
    }
}

/// Runs foreign code, whose panics end here.
fn contain(foreign: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(foreign)) {
        // What a payload's drop does is unknown.
        Box::leak(payload);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mover broke down while it may still touch memory that a scope has borrowed.
#[cold]
fn abort_over_borrowed_memory() -> ! {
    eprintln!("memring: a mover panicked over operations of a scope and may still touch their memory; aborting");
    std::process::abort()
}

thread_local! {
    /// This thread has a ring's role, and may be in a mover's code.
    static REAPS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has a ring's role, and is in its queue's code.
pub(super) fn is_reaping() -> bool {
    REAPS.get()
}

/// What an outcome says of the first failure; 0: there was none.
pub(super) const fn outcome_of(status: Status, value: u32) -> u64 {
    ((status.to_u16() as u64) << 32) | value as u64
}

/// What a place's outcome says.
#[expect(clippy::cast_possible_truncation, reason = "parts of a word")]
pub(super) const fn failure_of(outcome: u64) -> Option<OpError> {
    match Status::from_u16((outcome >> 32) as u16) {
        Status::SUCCESS => None,
        Status::SHUT_DOWN => Some(OpError::ShutDown),
        Status::UNSUPPORTED => Some(OpError::Unsupported),
        status => Some(OpError::Mover(status, outcome as u32)),
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
            scopes: Mutex::new(Vec::with_capacity(16)),
            completed: Counter::new(),
        }
    }

    /// Has the queue closed at the next look, and `waker` woken when nothing is in flight any more.
    pub(super) fn close(&self, waker: &Waker) {
        let mut closers = lock(&self.closers);
        closers.are_there = true;
        if !closers.wakers.iter().any(|other| other.will_wake(waker)) {
            closers.wakers.push(waker.clone());
        }
    }

    /// Lets somebody who blocks go on with what a turn has left to do.
    pub(super) fn leave_to_heir(&self, arm: Arm) {
        if arm != Arm::Armed {
            self.call_heir();
        }
    }

    /// Runs `f` on the queue, if the role is free; it must not call foreign code.
    fn with_queue<R>(&self, f: impl FnOnce(&mut CompletionQueue) -> R) -> R {
        let mut cq = match self.cq.try_lock() {
            Ok(cq) => cq,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("only who has the role locks the queue"),
        };
        let before = REAPS.replace(true);
        let result = f(&mut cq);
        REAPS.set(before);
        result
    }

    /// Takes an heir's name out.
    fn call_heir(&self) {
        let heir = lock(&self.heirs).pop();
        if let Some(heir) = heir {
            heir.unpark();
        }
    }
}

impl Parts {
    /// Reaps, or has whoever is reaping look again. None: somebody else is at it.
    pub(super) fn reap(&self) -> Option<Arm> {
        self.reap_within(self.plan.poll_budget)
    }

    /// As [`reap`](Parts::reap), and drives at most `budget` bytes of what the queue leaves to its reaper.
    pub(super) fn reap_within(&self, budget: usize) -> Option<Arm> {
        if !self.reaper.role.call() {
            return None;
        }
        let arm = self.serve(budget);
        self.reaper.leave_to_heir(arm);
        Some(arm)
    }

    /// As [`reap`](Parts::reap), for a thread that does nothing else: it helps, and its answer is when to come again.
    pub(super) fn reap_as_thread(&self) -> Arm {
        match self.reaper.role.call() {
            true if self.plan.is_caller_driven => self.help_and_serve(),
            true => self.serve(self.plan.poll_budget),
            false => Arm::Armed,
        }
    }

    /// What a reactor must know before it sleeps. Who reaps at the same time will tell it by its bell.
    pub(super) fn arm_queue(&self) -> Arm {
        if !self.reaper.role.call() {
            return Arm::Armed;
        }
        let (arm, is_more) = self.reaper.with_queue(|cq| (cq.arm(), cq.ready() > 0));
        // Completions are not left behind: they may be somebody else's.
        if self.release() || is_more { self.reap_within(1).unwrap_or(Arm::Armed) } else { arm }
    }

    /// Gives the role up. True: somebody has called, and it is for the caller to see that he is heard.
    fn release(&self) -> bool {
        let mut is_called = false;
        while !self.reaper.role.release() {
            is_called = true;
        }
        is_called
    }

    /// Does the reaper's work, with the role, and gives it up. Says what the last look left.
    fn serve(&self, budget: usize) -> Arm {
        loop {
            let mut ends = Ends::default();
            let (arm, more) = self.look(&mut ends, budget);
            let again = self.release() || more;
            self.tell_reactor(arm);
            ends.settle(self);
            if !again || !self.reaper.role.call() {
                return arm;
            }
        }
    }

    /// As [`serve`](Parts::serve), after helping a little. While there is something to help with, something is left.
    fn help_and_serve(&self) -> Arm {
        // In a forked child it is an error, and the look finds nothing.
        let gets_on = self.reaper.with_queue(|cq| cq.wait(1, Some(self.plan.spin)).is_ok_and(|ready| ready > 0));
        let arm = self.serve(self.plan.poll_budget);
        if gets_on { Arm::NotEmpty } else { arm }
    }

    /// One look, with the role. What it leaves, and whether that is more than it could carry.
    fn look(&self, ends: &mut Ends, budget: usize) -> (Arm, bool) {
        self.reaper.with_queue(|cq| {
            if self.plan.is_caller_driven {
                cq.set_poll_budget(budget);
            }
            self.cancel_asked(cq, ends);
            self.drain(cq, ends);
            self.entrance.feed(|key, error| self.complete(key, 1, outcome_of(error.status(), 0), ends));
            self.close_if_asked(cq, ends);
            if cq.abandoned() > 0 {
                lock(&self.reaper.scopes).iter().for_each(|scope| ends.wakers.add(scope.clone()));
            }
            let arm = cq.arm();
            (arm, arm == Arm::NotEmpty && cq.ready() > 0)
        })
    }

    #[inline]
    fn drain(&self, cq: &mut CompletionQueue, ends: &mut Ends) {
        // Neighbours of one place are counted down together.
        let (mut of, mut count, mut all) = (0, 0, 0);
        for cqe in cq.drain() {
            let operations = u64::from(cqe.count());
            all += operations;
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
        if all > 0 {
            self.reaper.completed.add(all);
        }
    }

    /// Notes the end of operations of one place: of a batch, the first failure is kept.
    #[inline]
    fn complete(&self, key: Key, count: u64, failure: u64, ends: &mut Ends) {
        let note = |before| if before == 0 { failure } else { before };
        ends.add(key, self.places.complete(key, count, note));
    }

    /// Cancels what was asked to be, as far as it has not begun.
    fn cancel_asked(&self, cq: &mut CompletionQueue, ends: &mut Ends) {
        while !ends.is_full() {
            let Some(key) = lock(&self.reaper.cancels).pop() else { return };
            let withdrawn = self.entrance.withdraw(key);
            if withdrawn > 0 {
                self.complete(key, withdrawn, outcome_of(Status::CANCELLED, 0), ends);
            }
            cq.cancel(key.to_word());
        }
    }

    /// Closes the queue if that is wanted, and wakes who waits for its end.
    fn close_if_asked(&self, cq: &mut CompletionQueue, ends: &mut Ends) {
        let mut closers = lock(&self.reaper.closers);
        if !closers.are_there {
            return;
        }
        if !self.direct.is_closed() {
            // In a forked child it is an error, and nothing ends.
            let _ = cq.shutdown(Some(Duration::ZERO));
            drop(closers);
            self.entrance.feed(|key, error| self.complete(key, 1, outcome_of(error.status(), 0), ends));
            closers = lock(&self.reaper.closers);
        }
        if self.is_over() {
            closers.wakers.drain(..).for_each(|waker| ends.wakers.add(waker));
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

    /// Whether this thread may block for what drivers do.
    pub(super) fn may_block(&self) -> Result<(), BlockError> {
        if self.direct.is_forked() {
            return Err(BlockError::Forked);
        }
        if is_driver_thread() || is_reaping() { Err(BlockError::WouldDeadlock) } else { Ok(()) }
    }

    /// Helps and sleeps until this thread's parker has been woken more than `seen` times.
    pub(super) fn block(&self, parker: &Arc<Parker>, seen: u64) {
        while parker.wakes() == seen {
            match self.take_turn(parker) {
                Some(arm) => parker.rest(seen, arm),
                None => {
                    parker.sleep(seen, None);
                    self.strike(parker);
                }
            }
        }
        // There may be work left that only a reaper does, and somebody who waits for it.
        self.reaper.call_heir();
    }

    /// Reaps and helps. None: somebody else has the role, and this thread is among his heirs.
    fn take_turn(&self, parker: &Arc<Parker>) -> Option<Arm> {
        if !self.take_soon() {
            // First among the heirs, then the call: the holder looks for heirs after he has given the role up, and a
            // call that he does not hear finds it free.
            lock(&self.reaper.heirs).push(Arc::clone(parker));
            if !self.reaper.role.call() {
                return None;
            }
            self.strike(parker);
        }
        Some(self.help_and_serve())
    }

    /// Waits on behalf of a scope, which must return only when its operations have ended: if they never will, since
    /// their mover broke down and may touch their memory for ever, the process ends.
    pub(super) fn wait_for_scope(&self, key: Key) -> Option<OpError> {
        let mut own = None;
        let failure = self.wait_for(poll_fn(|context| {
            own.get_or_insert_with(|| {
                lock(&self.reaper.scopes).push(context.waker().clone());
            });
            let end = self.poll(key, context.waker());
            if end.is_pending() && self.direct.abandoned() > 0 {
                match self.is_stuck() {
                    // The last look may have completed it.
                    Some(true) if self.places.outcome(key).is_none() => abort_over_borrowed_memory(),
                    Some(false) => {}
                    Some(true) | None => context.waker().wake_by_ref(),
                }
            }
            end
        }));
        let mut scopes = lock(&self.reaper.scopes);
        let (_, own) = Parker::of_this_thread();
        if let Some(at) = scopes.iter().position(|scope| scope.will_wake(&own)) {
            scopes.swap_remove(at);
        }
        failure
    }

    /// Whether all that is in flight was abandoned by a broken mover. None: somebody else has the role.
    fn is_stuck(&self) -> Option<bool> {
        if !self.reaper.role.call() {
            return None;
        }
        let nothing_else = self.reaper.with_queue(|cq| cq.ready() == 0 && cq.in_flight() == cq.abandoned())
            && !self.entrance.is_waited_for();
        if self.release() {
            self.reap();
            return None;
        }
        Some(nothing_else)
    }

    /// Takes the role, if it is free soon: a driver that reaps what it has completed has it for a moment.
    fn take_soon(&self) -> bool {
        let begin = Instant::now();
        while !self.reaper.role.try_take() {
            if begin.elapsed() >= self.plan.spin {
                return false;
            }
            std::hint::spin_loop();
        }
        true
    }

    /// Takes this thread out of the list of heirs.
    fn strike(&self, parker: &Arc<Parker>) {
        let mut heirs = lock(&self.reaper.heirs);
        heirs.retain(|heir| !Arc::ptr_eq(heir, parker));
    }
}
