//! What the reaper does with its half of a queue: drives, helps, waits, sleeps, cancels, and in the end dismisses.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memring_ring::{Consumer, Wake};

use super::core::Core;
use super::drive::{Driver, WAITING_POLL};
use super::route::OWN_LANES;
use crate::mover::{Budget, Progress};
use crate::os::Futex;

/// The reaper's half.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) consumer: Consumer,
    /// Completions reaped whose credits were not given back yet.
    pub(super) owed: u64,
    /// So many are given back together, so that a long drain does not starve a submitter.
    pub(super) portion: u64,
    /// What this thread drives whenever it reaps.
    pub(super) drivers: Vec<Driver>,
    /// Which of them is polled first.
    pub(super) first_driver: usize,
    /// The CPU mover of a queue with workers: driven only while waiting.
    pub(super) helper: Option<Driver>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) budget: Budget,
    pub(super) spin: Duration,
}

impl Inner {
    /// Gives back the credits of what was reaped.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.owed > 0 {
            self.core.outlet.credits.give_back(std::mem::take(&mut self.owed));
        }
    }

    /// Polls the drivers of this thread once; whether one of them got on.
    #[inline]
    pub(super) fn drive(&mut self, budget: &mut Budget) -> bool {
        let mut busy = false;
        // Another one is first each time, so that none spends every budget before the others are asked.
        self.first_driver = (self.first_driver + 1) % self.drivers.len().max(1);
        let (later, first) = self.drivers.split_at_mut(self.first_driver);
        for driver in first.iter_mut().chain(later) {
            if budget.is_spent() {
                break;
            }
            busy |= driver.poll(budget) == Progress::Busy;
        }
        busy
    }

    /// As [`drive`](Inner::drive), one chunk each, and the workers' lane too.
    pub(super) fn help(&mut self) -> bool {
        let mut busy = false;
        for driver in self.drivers.iter_mut().chain(&mut self.helper) {
            busy |= driver.poll(&mut Budget::CHUNK.clone()) == Progress::Busy;
        }
        busy
    }

    /// Looks in the order in which entries travel, so that none slips by: held, parked, in a lane, taken by a driver.
    pub(super) fn cancel(&mut self, user_data: u64) -> u64 {
        let chains = &self.core.chains;
        let mut cancelled = chains.cancel_waiting(user_data);
        for station in &self.core.stations {
            cancelled += station.withdraw(user_data, |sqe| chains.cancel(sqe));
        }
        for driver in self.drivers.iter_mut().chain(&mut self.helper) {
            cancelled += driver.cancel(user_data, |sqe| chains.cancel(sqe));
        }
        // Our own movers have nothing to give up.
        for station in self.core.stations.iter().skip(OWN_LANES).filter(|station| !station.is_caller_driven) {
            station.ask_to_cancel(user_data);
        }
        cancelled
    }

    /// Operations that were submitted and not reaped, except those that never complete or did without a completion.
    pub(super) fn outstanding(&self) -> usize {
        let gone = self.consumer.popped() + self.core.stuck();
        usize::try_from(self.core.outlet.most_to_come().saturating_sub(gone)).unwrap_or(usize::MAX)
    }

    /// Whether a reaper should not sleep: completions, or work that no thread will do.
    pub(super) fn has_something(&mut self) -> bool {
        self.consumer.ready(1) > 0 || self.drivers.iter().any(Driver::has_work)
    }

    pub(super) fn announce_armed(&mut self) -> Option<Wake> {
        self.core.outlet.bell().announce(Wake::Armed, self.consumer.popped() + 1)
    }

    /// The last look of who arms: also at what has made the descriptor readable, which may have been cleared since.
    pub(super) fn hear_signals(&mut self) {
        self.drivers.iter_mut().for_each(Driver::hear_signals);
    }

    pub(super) fn wait(&mut self, min: usize, timeout: Option<Duration>) -> usize {
        // A timeout beyond the clock's range is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut idle_since = None;
        let mut was_armed = false;
        while self.consumer.ready(min) < min && self.outstanding() >= min {
            let helped = self.help();
            if helped {
                idle_since = None;
                if deadline.is_none() {
                    continue;
                }
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            if helped {
                continue;
            }
            if now.duration_since(*idle_since.get_or_insert(now)) < self.spin {
                std::hint::spin_loop();
                continue;
            }
            was_armed |= self.sleep(min, deadline.map(|deadline| deadline - now));
        }
        // What the helper has taken on would wait for the next wait.
        self.helper.iter_mut().for_each(Driver::hand_over);
        if was_armed {
            self.arm_again();
        }
        self.consumer.ready(self.core.entries)
    }

    /// Restores the armed state that a sleep has replaced. What came in between is signalled now.
    pub(super) fn arm_again(&mut self) {
        self.announce_armed();
        if self.has_something() && self.core.outlet.bell().retract() {
            self.core.outlet.signal();
        }
    }

    /// Sleeps until `min` completions are ready or there is something to do; whether that replaced an armed state.
    pub(super) fn sleep(&mut self, min: usize, timeout: Option<Duration>) -> bool {
        let target = self.consumer.popped() + min as u64;
        let before = self.core.outlet.bell().announce(Wake::Blocked, target);
        let worthless = self.consumer.ready(min) >= min
            || self.outstanding() < min
            || self.drivers.iter().chain(&self.helper).any(Driver::has_work);
        if !worthless {
            // Nobody else looks at what this thread's movers have under way.
            let look_again = self.drivers.iter().any(Driver::is_waiting).then_some(WAITING_POLL);
            let timeout = [timeout, look_again].into_iter().flatten().min();
            self.core.outlet.bell().sleep(&Futex, timeout);
        }
        self.core.outlet.bell().retract();
        before == Some(Wake::Armed)
    }

    /// Ends the driver threads. Nothing is in flight.
    pub(super) fn dismiss(&mut self) {
        self.core.service.close();
        self.core.stations.iter().for_each(|station| station.rouse_all());
        let me = thread::current().id();
        for thread in self.threads.drain(..).chain(self.core.flusher.end()) {
            // A thread that is itself the last owner cannot wait for its own end: it is detached.
            if thread.thread().id() != me {
                // A driver catches its mover's panics; there is nothing to hear from a join.
                let _ = thread.join();
            }
        }
    }
}
