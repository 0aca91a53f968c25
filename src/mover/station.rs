//! A mover's place in a queue: its lane, its sleeping drivers, what it can do. Shared by submitters and drivers.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Instant;

use memring_ring::{Counter, Credits, Lane, Roster, Wake};

use super::Capabilities;
use crate::os::{EventFd, Futex};
use crate::sqe::{MoverId, Sqe};

/// Where a mover's entries wait, and who waits for them.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) mover: MoverId,
    pub(crate) name: String,
    pub(crate) capabilities: Capabilities,
    pub(super) lane: Lane<{ Sqe::WORDS }>,
    roster: Roster,
    /// One for each driver thread; made when its mover first waits on it.
    fds: Box<[OnceLock<EventFd>]>,
    wakes: Counter,
    /// One for each driver thread whose mover has not broken down.
    sound_drivers: Credits,
}

impl Station {
    pub(crate) fn new(mover: MoverId, name: &str, capabilities: Capabilities, entries: usize, threads: usize) -> Self {
        Self {
            mover,
            name: name.to_owned(),
            capabilities,
            lane: Lane::new(entries),
            roster: Roster::new(threads),
            fds: (0..threads).map(|_| OnceLock::new()).collect(),
            wakes: Counter::new(),
            sound_drivers: Credits::new(threads as u64),
        }
    }

    /// Publishes entries, each of which holds a credit.
    #[inline]
    pub(crate) fn push_batch(&self, sqes: &[Sqe]) {
        self.lane.push_batch(sqes);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.lane.is_empty()
    }

    /// Wakes one sleeping driver, if one sleeps. Call it after publishing.
    #[inline]
    pub(crate) fn wake_one(&self) -> bool {
        let Some((member, how)) = self.roster.ring_with(&Futex) else { return false };
        if how == Wake::Armed
            && let Some(fd) = self.fds[member].get()
        {
            fd.signal();
        }
        self.wakes.add(1);
        true
    }

    /// Announces that a driver thread is about to sleep. It must look for work again before it does.
    pub(crate) fn announce(&self, member: usize) -> Bell<'_> {
        self.roster.announce(member, Wake::Blocked);
        Bell { station: self, member }
    }

    /// As [`announce`](Station::announce), for a driver that can take no work: nobody rings for it.
    pub(crate) fn step_aside(&self, member: usize) -> Bell<'_> {
        self.roster.step_aside(member);
        Bell { station: self, member }
    }

    /// Notes that a driver thread's mover broke down; whether another driver is left for what is to come.
    ///
    /// Of several that break down at once, one at least is told that it is the last.
    pub(crate) fn lose_driver(&self) -> bool {
        self.sound_drivers.take(1) && self.sound_drivers.available() > 0
    }

    /// System calls made to wake a driver.
    pub(crate) fn wakes(&self) -> u64 {
        self.wakes.get()
    }
}

/// What wakes a sleeping driver. Handed to [`DataMover::wait`](super::DataMover::wait).
#[derive(Debug)]
pub struct Bell<'a> {
    station: &'a Station,
    member: usize,
}

impl Bell<'_> {
    /// Blocks until the bell rings or the deadline passes, or returns early for no reason.
    pub fn sleep(&self, deadline: Option<Instant>) {
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if timeout != Some(Duration::ZERO) {
            self.station.roster.sleep(self.member, &Futex, timeout);
        }
    }

    /// Whether the bell has rung: for a mover that spins.
    #[must_use]
    pub fn is_rung(&self) -> bool {
        !self.station.roster.is_announced(self.member)
    }

    /// A descriptor that becomes readable when the bell rings: for a mover that waits in the kernel.
    ///
    /// It stays readable until it is read; a mover that waits edge-triggered need not read it.
    ///
    /// # Errors
    ///
    /// The first call for a driver makes an eventfd, which the kernel may refuse.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        let slot = &self.station.fds[self.member];
        let fd = match slot.get() {
            Some(fd) => fd,
            None => {
                let made = EventFd::new()?;
                slot.get_or_init(|| made)
            }
        };
        if !self.station.roster.arm(self.member) {
            fd.signal(); // It has rung already.
        }
        Ok(fd.as_fd())
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.station.roster.retract(self.member);
    }
}
