//! A mover's place in a queue: its lane, its sleeping drivers, what it can do. Shared by submitters and drivers.

use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use memring_ring::{Counter, Credits, Lane, Roster, Wake};

use super::Capabilities;
use super::outlet::Outlet;
use crate::os::{EventFd, Futex, lock};
use crate::sqe::{MoverId, Sqe};

/// Where a mover's entries wait, and who waits for them.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) mover: MoverId,
    pub(crate) name: String,
    pub(crate) capabilities: Capabilities,
    /// Whether the reaper drives it, and no thread.
    pub(crate) is_caller_driven: bool,
    pub(super) lane: Lane<{ Sqe::WORDS }>,
    roster: Roster,
    /// One for each driver thread; made when its mover first waits on it.
    fds: Box<[OnceLock<EventFd>]>,
    wakes: Counter,
    /// Cancels that the driver threads have to pass on to their movers.
    asked: Asked,
    /// One for each driver thread whose mover has not broken down.
    sound_drivers: Credits,
}

impl Station {
    pub(crate) fn new(mover: MoverId, name: &str, capabilities: Capabilities, entries: usize, threads: usize) -> Self {
        Self {
            mover,
            name: name.to_owned(),
            capabilities,
            is_caller_driven: threads == 0,
            lane: Lane::new(entries),
            roster: Roster::new(threads),
            fds: (0..threads).map(|_| OnceLock::new()).collect(),
            wakes: Counter::new(),
            asked: Asked::new(entries),
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
        self.finish_wake(member, how);
        true
    }

    /// Has whoever drives it hear of what was published, if he sleeps: one of its threads, or the reaper.
    #[inline]
    pub(crate) fn ring(&self, outlet: &Outlet) {
        if self.is_caller_driven {
            outlet.call_reaper();
        } else {
            self.wake_one();
        }
    }

    /// Finishes a wake: an armed driver waits for its descriptor.
    fn finish_wake(&self, member: usize, how: Wake) {
        match (how, self.fds[member].get()) {
            (Wake::Armed, None) => return,
            (Wake::Armed, Some(fd)) => fd.signal(),
            (Wake::Blocked, _) => {}
        }
        self.wakes.add(1);
    }

    /// Takes out what has this user data and has not begun, and gives each to `end`; returns how many.
    ///
    /// Whether an entry has begun is decided as between two drivers, by who claims it. What was claimed here and is not
    /// wanted goes back to the end of the lane, with the credit it holds. Entries of a submit that is under way in
    /// another thread may be missed.
    pub(crate) fn withdraw(&self, user_data: u64, mut end: impl FnMut(Sqe)) -> u64 {
        const TOGETHER: usize = 32;
        let (mut withdrawn, mut kept, mut chunk) = (0, 0, [Sqe::nop(); TOGETHER]);
        let all = self.lane.reserved();
        while self.lane.claimed() < all {
            let (taken, _) = self.lane.pop(&mut chunk, u64::MAX, |_| 1);
            if taken == 0 {
                break;
            }
            let mut others = 0;
            for at in 0..taken {
                let sqe = chunk[at];
                if sqe.data() == user_data && sqe.record().is_none() {
                    withdrawn += 1;
                    end(sqe);
                } else {
                    chunk[others] = sqe;
                    others += 1;
                }
            }
            self.push_batch(&chunk[..others]);
            kept += others;
        }
        // Whoever publishes rings: a look at the lane in place of it might come before its own publication.
        if kept > 0 {
            self.wake_one();
        }
        withdrawn
    }

    /// Asks the movers of all driver threads to give up what has this user data.
    pub(crate) fn ask_to_cancel(&self, user_data: u64) {
        self.asked.add(user_data);
        self.rouse_all();
    }

    /// Wakes every driver that sleeps, whether it could take work or not.
    pub(crate) fn rouse_all(&self) {
        for member in 0..self.roster.members() {
            if let Some(how) = self.roster.rouse(member, &Futex) {
                self.finish_wake(member, how);
            }
        }
    }

    /// What a driver that has heard `heard` cancels must pass on to its mover; counts them as heard.
    #[inline]
    pub(crate) fn asked_to_cancel(&self, heard: &mut u64, cancel: impl FnMut(u64)) {
        if self.is_asked_more(*heard) {
            self.asked.hear(heard, cancel);
        }
    }

    /// Whether there were more cancels than these.
    #[inline]
    pub(crate) fn is_asked_more(&self, heard: u64) -> bool {
        self.asked.count.get() != heard
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

/// The last cancels, for drivers to hear of when they come to it. To ask is not to get: what comes in faster than a
/// driver listens is forgotten.
#[derive(Debug)]
struct Asked {
    count: Counter,
    last: Mutex<VecDeque<u64>>,
}

impl Asked {
    fn new(most: usize) -> Self {
        Self { count: Counter::new(), last: Mutex::new(VecDeque::with_capacity(most)) }
    }

    fn add(&self, user_data: u64) {
        let mut last = lock(&self.last);
        if last.len() == last.capacity() {
            last.pop_front();
        }
        last.push_back(user_data);
        self.count.add(1);
    }

    #[cold]
    fn hear(&self, heard: &mut u64, mut cancel: impl FnMut(u64)) {
        loop {
            let user_data = {
                let last = lock(&self.last);
                let behind = self.count.get() - *heard;
                let Ok(behind @ 1..) = usize::try_from(behind) else { return };
                let behind = behind.min(last.len());
                *heard = self.count.get() - behind as u64 + 1;
                last[last.len() - behind]
            };
            // Not under the lock: it is a mover's code.
            cancel(user_data);
        }
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
