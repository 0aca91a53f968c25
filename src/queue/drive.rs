//! Drives: who polls a mover, and when it sleeps.
//!
//! A [`Driver`] is one instance of a mover with its chunk and its account. A thread runs it ([`Driver::run`]), or the
//! reaper polls it inside `drain` and `wait`; the mover cannot tell.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use crate::mover::{Account, Broken, Budget, Chunk, Completions, DataMover, Gathered, Lane, Progress, Station};
use crate::sqe::Sqe;

/// How often a driver looks again at a mover that has operations under way and does not wait for them by itself.
pub(super) const WAITING_POLL: Duration = Duration::from_micros(100);
/// Looks at the lane between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 16;

thread_local! {
    static IS_DRIVER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is a driver thread of a queue: one that must not wait for what drivers do.
///
/// # Examples
///
/// ```
/// assert!(!memring::queue::is_driver_thread());
/// ```
#[must_use]
pub fn is_driver_thread() -> bool {
    // While a thread ends its variables may be gone; then it drives nothing any more.
    IS_DRIVER.try_with(Cell::get).unwrap_or(false)
}

/// One instance of a mover, and what belongs to whoever polls it.
#[derive(Debug)]
pub(crate) struct Driver {
    mover: Box<dyn DataMover>,
    station: Arc<Station>,
    account: Arc<Account>,
    chunk: Chunk,
    gathered: Box<Gathered>,
    /// Cancels that the mover was told of.
    heard: u64,
    /// The mover has left entries where they are: it can take no more until something under way ends.
    full: bool,
    broken: bool,
    /// The last poll began with successors: if others wait in the lane, it is their turn.
    has_followed: bool,
    /// The mover has something under way whose end will be signalled, and not handed all of it over yet.
    is_unsettled: bool,
}

impl Driver {
    pub(crate) fn new(mover: Box<dyn DataMover>, station: Arc<Station>, account: Arc<Account>) -> Self {
        let (chunk, gathered) = (Chunk::new(), Box::new(Gathered::new()));
        Self {
            mover,
            station,
            account,
            chunk,
            gathered,
            heard: 0,
            full: false,
            broken: false,
            has_followed: false,
            is_unsettled: false,
        }
    }

    /// Lets the mover do at most what the budget allows, and posts its completions.
    #[inline]
    pub(crate) fn poll(&mut self, budget: &mut Budget) -> Progress {
        if self.station.capabilities.is_asynchronous() {
            let mut own = budget.asynchronous();
            let progress = self.poll_within(&mut own);
            budget.charge(own);
            return progress;
        }
        self.poll_within(budget)
    }

    #[inline]
    fn poll_within(&mut self, budget: &mut Budget) -> Progress {
        let mut lane = Lane::new(&self.station, &self.account, &mut self.chunk, budget);
        self.has_followed = self.gathered.has_successors() && (!self.has_followed || self.station.is_empty());
        if self.has_followed {
            lane.take_successors(&mut self.gathered);
        }
        let mut done = Completions::new(&self.account, &mut self.gathered);
        let mover = &mut self.mover;
        let polled = catch_unwind(AssertUnwindSafe(|| mover.poll(&mut lane, &mut done)));
        if self.chunk.settle_rest(&self.station, &mut done) {
            self.station.wake_one();
        }
        drop(done);
        let progress = polled.unwrap_or_else(|payload| self.break_down(payload));
        self.is_unsettled = progress == Progress::Busy && self.station.capabilities.wakes_reaper() && self.is_waiting();
        self.full = progress == Progress::Waiting && !self.chunk.is_exhausted() && self.is_waiting();
        progress
    }

    /// Whether there is something that this driver could take.
    pub(crate) fn has_work(&self) -> bool {
        self.is_unsettled || (!self.full && (self.has_own_work() || !self.station.is_empty()))
    }

    /// Gives back to the lane what this driver has taken and not handed to its mover: it will not come to it soon.
    pub(crate) fn hand_over(&mut self) {
        if self.has_own_work() {
            self.put_back();
            self.station.wake_one();
        }
    }

    /// As [`hand_over`](Driver::hand_over), but for the wake.
    fn put_back(&mut self) {
        let waiting = self.chunk.take_all();
        self.account.settle(waiting.len() as u64);
        self.station.push_batch(waiting);
        let mut successors = [Sqe::nop(); Gathered::ROOM];
        let count = self.gathered.take_successors(&mut successors);
        self.station.push_batch(&successors[..count]);
    }

    /// Whether it has taken entries on that no other driver can do.
    fn has_own_work(&self) -> bool {
        !self.chunk.is_empty() || self.gathered.has_successors()
    }

    /// Ends what has this user data and has not begun, of what this driver has taken, and asks the mover to give up
    /// what has; returns how many.
    pub(crate) fn cancel(&mut self, user_data: u64, mut end: impl FnMut(Sqe)) -> u64 {
        let mut cancelled = 0;
        while let Some(sqe) = self.chunk.withdraw(user_data) {
            self.account.settle(1);
            end(sqe);
            cancelled += 1;
        }
        while let Some(sqe) = self.gathered.withdraw_successor(user_data) {
            end(sqe);
            cancelled += 1;
        }
        cancelled + u64::from(self.ask_mover_to_cancel(user_data))
    }

    fn ask_mover_to_cancel(&mut self, user_data: u64) -> bool {
        let mover = &mut self.mover;
        catch_unwind(AssertUnwindSafe(|| mover.cancel(user_data))).unwrap_or_else(|payload| {
            self.break_down(payload);
            false
        })
    }

    /// Passes on to the mover what the reaper has asked to cancel.
    ///
    /// Not more than that: who asked is gone and has counted, and what this thread has taken may have been submitted
    /// after it.
    #[inline]
    fn hear_cancels(&mut self) {
        if self.station.is_asked_more(self.heard) {
            let (station, mut heard) = (Arc::clone(&self.station), self.heard);
            station.asked_to_cancel(&mut heard, |user_data| _ = self.ask_mover_to_cancel(user_data));
            self.heard = heard;
        }
    }

    /// Whether claimed operations are under way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.account.held(self.chunk.len() as u64) > 0
    }

    /// Takes note of what has ended under way and was signalled, if its mover signals: the signal may be gone.
    pub(crate) fn hear_signals(&mut self) {
        if self.station.capabilities.wakes_reaper() && self.is_waiting() {
            self.poll(&mut Budget::strict(0, 0));
        }
    }

    /// Whether claimed operations are under way whose end nobody signals to the reaper.
    pub(crate) fn must_be_polled(&self) -> bool {
        self.is_waiting() && !self.station.capabilities.wakes_reaper()
    }

    /// Puts a mover that answers for the broken one in its place.
    #[cold]
    fn break_down(&mut self, payload: Box<dyn Any + Send>) -> Progress {
        // Its drop may panic in turn, and would end this thread.
        Box::leak(payload);
        self.broken = true;
        let broken = std::mem::replace(&mut self.mover, Box::new(Broken));
        if self.station.capabilities.is_quiescent_on_panic() {
            // Its tokens complete as they are dropped. A second panic, in its drop, changes nothing.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(broken))) {
                Box::leak(payload);
            }
        } else {
            // What it works on may still be in use: neither it nor the memory of its operations may be freed.
            Box::leak(broken);
            self.account.abandon_held(self.chunk.len() as u64);
        }
        Progress::Busy
    }

    /// The life of a driver thread: poll, spin a little, sleep until the bell rings, until the service closes.
    pub(crate) fn run(mut self, member: usize, core: &Core, spin: Duration) {
        IS_DRIVER.set(true);
        let mut was_broken = false;
        while !core.service.is_closed() {
            self.hear_cancels();
            match self.poll(&mut Budget::CHUNK.clone()) {
                Progress::Busy => {}
                Progress::Waiting => self.sleep(member, core, self.look_again()),
                Progress::Idle if self.spin(core, spin) => {}
                Progress::Idle => self.sleep(member, core, None),
            }
            if self.broken && !was_broken {
                was_broken = true;
                if self.station.lose_driver() {
                    return self.leave();
                }
            }
        }
    }

    /// Ends the work of a broken mover's driver, where others are left to go on.
    fn leave(mut self) {
        self.put_back();
        // Also if it had taken nothing: who rang this driver for what is in the lane has told nobody else.
        self.station.wake_one();
    }

    /// When to poll again a mover that has operations under way, unless it knows by itself.
    fn look_again(&self) -> Option<Instant> {
        (!self.station.capabilities.signals_by_itself()).then(|| Instant::now() + WAITING_POLL)
    }

    /// Looks for work for a while; whether some came, or the service closed.
    fn spin(&self, core: &Core, limit: Duration) -> bool {
        let begin = Instant::now();
        loop {
            for _ in 0..SPINS_PER_CLOCK {
                if self.has_work() || core.service.is_closed() || self.station.is_asked_more(self.heard) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if begin.elapsed() >= limit {
                return false;
            }
        }
    }

    fn sleep(&mut self, member: usize, core: &Core, deadline: Option<Instant>) {
        let own = self.has_own_work();
        let bell = if self.full { self.station.step_aside(member) } else { self.station.announce(member) };
        // The second look, between the announcement and the sleep.
        let nothing_to_take = self.full || (!own && self.station.is_empty());
        if nothing_to_take && !core.service.is_closed() && !self.station.is_asked_more(self.heard) {
            let mover = &mut self.mover;
            let waited = catch_unwind(AssertUnwindSafe(|| mover.wait(&bell, deadline)));
            drop(bell);
            if let Err(payload) = waited {
                self.break_down(payload);
            }
        }
    }
}
