//! Drives: who polls a mover, and when it sleeps.
//!
//! A [`Driver`] is one instance of a mover with its chunk and its account. A thread runs it ([`Driver::run`]), or the
//! reaper polls it inside `drain` and `wait`; the mover cannot tell.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use crate::mover::{Account, Broken, Budget, Chunk, Completions, DataMover, Gathered, Lane, Progress, Station};

/// How often a driver looks again at a mover that has operations under way and does not wait for them by itself.
pub(super) const WAITING_POLL: Duration = Duration::from_micros(100);
/// Looks at the lane between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 16;

/// One instance of a mover, and what belongs to whoever polls it.
#[derive(Debug)]
pub(crate) struct Driver {
    mover: Box<dyn DataMover>,
    station: Arc<Station>,
    account: Arc<Account>,
    chunk: Chunk,
    gathered: Box<Gathered>,
    waiting: bool,
}

impl Driver {
    pub(crate) fn new(mover: Box<dyn DataMover>, station: Arc<Station>, account: Arc<Account>) -> Self {
        let (chunk, gathered) = (Chunk::new(), Box::new(Gathered::new()));
        Self { mover, station, account, chunk, gathered, waiting: false }
    }

    /// Lets the mover do at most what the budget allows, and posts its completions.
    #[inline]
    pub(crate) fn poll(&mut self, budget: &mut Budget) -> Progress {
        let mut lane = Lane::new(&self.station, &self.account, &mut self.chunk, budget);
        let mut done = Completions::new(&self.account, &mut self.gathered);
        let mover = &mut self.mover;
        let polled = catch_unwind(AssertUnwindSafe(|| mover.poll(&mut lane, &mut done)));
        drop(done);
        let progress = polled.unwrap_or_else(|_| self.break_down());
        // A mover that was busy may hold what it has just claimed.
        self.waiting = progress != Progress::Idle;
        progress
    }

    /// Whether the lane holds something for this driver.
    pub(crate) fn has_work(&self) -> bool {
        !self.chunk.is_empty() || !self.station.is_empty()
    }

    /// Whether claimed operations may be under way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether claimed operations may be under way whose end nobody will announce.
    pub(crate) fn must_be_polled(&self) -> bool {
        self.waiting && !self.station.capabilities.signals()
    }

    /// Puts a mover that answers for the broken one in its place.
    #[cold]
    fn break_down(&mut self) -> Progress {
        let broken = std::mem::replace(&mut self.mover, Box::new(Broken));
        if self.station.capabilities.is_quiescent_on_panic() {
            // Its tokens complete as they are dropped. A second panic, in its drop, changes nothing.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
        } else {
            // What it works on may still be in use: neither it nor the memory of its operations may be freed.
            Box::leak(broken);
            self.account.abandon_held(self.chunk.len() as u64);
        }
        Progress::Busy
    }

    /// The life of a driver thread: poll, spin a little, sleep until the bell rings, until the service closes.
    pub(crate) fn run(mut self, member: usize, core: &Core, spin: Duration) {
        while !core.service.is_closed() {
            match self.poll(&mut Budget::CHUNK.clone()) {
                Progress::Busy => {}
                Progress::Waiting => self.sleep(member, core, Some(Instant::now() + WAITING_POLL)),
                Progress::Idle if self.spin(core, spin) => {}
                Progress::Idle => self.sleep(member, core, None),
            }
        }
    }

    /// Looks for work for a while; whether some came, or the service closed.
    fn spin(&self, core: &Core, limit: Duration) -> bool {
        let begin = Instant::now();
        loop {
            for _ in 0..SPINS_PER_CLOCK {
                if self.has_work() || core.service.is_closed() {
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
        let bell = self.station.announce(member);
        // The second look, between the announcement and the sleep: `has_work`, spelled out since the bell borrows.
        if self.chunk.is_empty() && self.station.is_empty() && !core.service.is_closed() {
            let mover = &mut self.mover;
            let waited = catch_unwind(AssertUnwindSafe(|| mover.wait(&bell, deadline)));
            drop(bell);
            if waited.is_err() {
                self.break_down();
            }
        }
    }
}
