//! The way out of all movers of a queue: the completion ring and the reaper's bell.

use std::io;

use memring_ring::{Counter, Doorbell, Producer, Wake};

use crate::cqe::Cqe;
use crate::os::{EventFd, Futex};

/// Where completions go, and who is woken by them.
#[derive(Debug)]
pub(crate) struct Outlet {
    completions: Producer,
    bell: Doorbell,
    fd: EventFd,
    abandoned: Counter,
    futex_wakes: Counter,
    eventfd_writes: Counter,
}

impl Outlet {
    pub(crate) fn new(completions: Producer) -> io::Result<Self> {
        Ok(Self {
            completions,
            bell: Doorbell::default(),
            fd: EventFd::new()?,
            abandoned: Counter::new(),
            futex_wakes: Counter::new(),
            eventfd_writes: Counter::new(),
        })
    }

    /// Publishes completions, then wakes the reaper if it sleeps and they are what it waits for.
    #[inline]
    pub(crate) fn post(&self, cqes: &[Cqe]) {
        self.completions.push_batch(cqes);
        self.ring(|| self.completions.pushed_relaxed());
    }

    /// Wakes the reaper, if it sleeps, whatever it waits for: there is something for it to do.
    pub(crate) fn call_reaper(&self) {
        self.ring(|| u64::MAX);
    }

    #[inline]
    fn ring(&self, progress: impl FnOnce() -> u64) {
        match self.bell.ring_with(&Futex, progress) {
            None => {}
            Some(Wake::Blocked) => self.futex_wakes.add(1),
            Some(Wake::Armed) => self.signal(),
        }
    }

    /// Makes the reaper's descriptor readable: the answer to an armed announcement that was taken.
    pub(crate) fn signal(&self) {
        // Counted first: whoever is woken by the write finds it counted.
        self.eventfd_writes.add(1);
        self.fd.signal();
    }

    /// Notes operations that never complete, since their memory may be in use for ever.
    pub(crate) fn abandon(&self, count: u64) {
        self.abandoned.add(count);
        self.call_reaper();
    }

    /// Operations that ended so far: their memory is not touched any more.
    pub(crate) fn ended(&self) -> u64 {
        self.completions.pushed()
    }

    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.get()
    }

    pub(crate) fn bell(&self) -> &Doorbell {
        &self.bell
    }

    pub(crate) fn fd(&self) -> &EventFd {
        &self.fd
    }

    /// Futex wakes and eventfd writes that the reaper's sleep has cost.
    pub(crate) fn wakes(&self) -> (u64, u64) {
        (self.futex_wakes.get(), self.eventfd_writes.get())
    }
}
