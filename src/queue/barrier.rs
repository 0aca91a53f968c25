//! Barriers: entries with DRAIN begin when all before them has ended, and all after them begins when they have.
//!
//! ```text
//!   gate open                  nothing is held: a submit goes the short way, past all of this
//!   DRAIN is submitted         the gate is held: from now on every submit comes here, and its entries wait in the hold
//!     front is no barrier      it is let in
//!     front is a barrier       it waits until all that is in flight is in the hold, and is let in alone
//!     the barrier runs         what is behind it waits until, again, all that is in flight is in the hold
//!   the hold is empty          the gate is released
//! ```
//!
//! One condition serves both sides of a barrier: *in flight = held*. Submissions are counted at the gate, ends in the
//! completion ring, so whoever makes an end that somebody watches for
//! ([`Doorbell::watch`](memring_ring::Doorbell::watch)) opens the barrier. Whoever does not drain pays nothing: the
//! gate's bit is looked at with its count, and the watcher's with the sleeper's.
//!
//! The hold is behind a lock: only submits to a held gate, and whoever opens it, take it, and nothing is executed under
//! it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::stage::Stage;
use crate::mover::Outlet;
use crate::os::lock;
use crate::sqe::{Sqe, SqeFlags};

/// What the gate of a queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not held.
    Released,
    /// Held, and no barrier runs.
    Flowing,
    /// Held, and a barrier runs.
    Running,
}

/// Entries that were submitted and are held back, in order.
#[derive(Debug)]
struct Hold {
    phase: Phase,
    /// Heads of chains, and entries by themselves. It has room for all credits.
    queue: VecDeque<Sqe>,
    /// With the members that are parked behind the heads.
    operations: u64,
}

impl Hold {
    fn pop(&mut self) -> Option<Sqe> {
        let sqe = self.queue.pop_front()?;
        self.operations -= sqe.operations();
        Some(sqe)
    }
}

/// What became of a stage that came to a held gate, or brings a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Its entries are submitted.
    Admitted,
    /// The gate is not held any more: it may go the short way.
    NotHeld,
    /// The queue is closed.
    Closed,
}

/// The barriers of a queue, and what they hold back.
#[derive(Debug)]
pub(super) struct Barrier {
    outlet: Arc<Outlet>,
    hold: Mutex<Hold>,
}

impl Barrier {
    pub(super) fn new(entries: usize, outlet: Arc<Outlet>) -> Self {
        let hold = Hold { phase: Phase::Released, queue: VecDeque::with_capacity(entries), operations: 0 };
        Self { outlet, hold: Mutex::new(hold) }
    }

    /// Submits a stage behind what is held, after `fold` has left only heads in it. Whatever the answer, the caller
    /// then lets in what [may go on](Barrier::next_let_in).
    pub(super) fn admit(&self, stage: &mut Stage, fold: impl FnOnce(&mut Stage)) -> Admission {
        let mut hold = lock(&self.hold);
        if hold.phase == Phase::Released {
            if !stage.has(SqeFlags::DRAIN) {
                return Admission::NotHeld;
            }
            self.outlet.intake.hold();
            hold.phase = Phase::Flowing;
        }
        let operations = stage.len() as u64;
        if !self.outlet.intake.pass_held(operations) {
            return Admission::Closed;
        }
        fold(stage);
        hold.queue.extend(stage.sqes());
        hold.operations += operations;
        Admission::Admitted
    }

    /// Marks what is held under this user data: it ends as cancelled when its turn comes. Returns how many.
    pub(super) fn cancel(&self, user_data: u64) -> u64 {
        let mut hold = lock(&self.hold);
        let held = hold.queue.iter_mut().filter(|sqe| sqe.data() == user_data && !sqe.is_cancelled());
        held.map(|sqe| *sqe = sqe.cancelled()).count() as u64
    }

    /// How many entries are held, without the members of chains behind them.
    pub(super) fn held(&self) -> u64 {
        lock(&self.hold).queue.len() as u64
    }

    /// The next entry that may go on, if there is one; else sees to it that somebody looks when there is.
    pub(super) fn next_let_in(&self) -> Option<Sqe> {
        let mut hold = lock(&self.hold);
        loop {
            match hold.phase {
                Phase::Released => return None,
                Phase::Flowing => match hold.queue.front() {
                    None => {
                        hold.phase = Phase::Released;
                        self.outlet.intake.release();
                        return None;
                    }
                    Some(sqe) if !sqe.sqe_flags().contains(SqeFlags::DRAIN) => return hold.pop(),
                    Some(_) => {
                        self.is_all_else_ended(&hold).then_some(())?;
                        hold.phase = Phase::Running;
                        return hold.pop();
                    }
                },
                Phase::Running => {
                    self.is_all_else_ended(&hold).then_some(())?;
                    hold.phase = Phase::Flowing;
                }
            }
        }
    }

    /// Whether all that is in flight is held. If not, whoever makes it so will open the barrier.
    fn is_all_else_ended(&self, hold: &Hold) -> bool {
        let outlet = &self.outlet;
        // Under the lock nobody passes the gate, so this is the number of ends that is needed.
        outlet.bell().watch(outlet.intake.passed() - hold.operations);
        // If the announcement is gone, somebody comes.
        outlet.in_flight() == hold.operations && outlet.bell().unwatch()
    }
}
