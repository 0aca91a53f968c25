//! The way in and the way out of a queue: the credits and the gate that let operations in, the completion ring and the
//! reaper's bell that let them out.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use memring_ring::{Counter, Credits, Doorbell, Gate, Producer, Splits, Wake};

use super::in_use::InUse;
use super::sequel::{Ended, Telling};
use crate::cqe::{Cqe, Status};
use crate::memory::region::{RegionId, Regions};
use crate::os::{EventFd, Futex};
use crate::sqe::Sqe;

/// What to call, in place of making the reaper's descriptor readable.
pub(crate) struct Hook(pub(crate) Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What lets operations in and out, and counts them.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// One for each entry: taken by a push, given back when the completion was reaped or skipped.
    pub(crate) credits: Credits,
    /// Where submissions are counted, until the reaper closes it.
    pub(crate) intake: Gate,
    completions: Producer,
    splits: Splits<{ Sqe::WORDS }>,
    pub(crate) in_use: InUse,
    pub(crate) regions: Arc<Regions>,
    bell: Doorbell,
    fd: EventFd,
    hook: Option<Hook>,
    abandoned: Counter,
    /// Of the abandoned ones, those that ended all the same.
    recovered: Counter,
    futex_wakes: Counter,
    eventfd_writes: Counter,
    /// Fsyncs that durable flushes have cost.
    pub(crate) fsyncs: Counter,
}

impl Outlet {
    pub(crate) fn new(entries: usize, completions: Producer, hook: Option<Hook>, fd: EventFd) -> Self {
        Self {
            credits: Credits::new(entries as u64),
            intake: Gate::default(),
            completions,
            splits: Splits::new(entries),
            in_use: InUse::new(),
            regions: Arc::default(),
            bell: Doorbell::default(),
            fd,
            hook,
            abandoned: Counter::new(),
            recovered: Counter::new(),
            futex_wakes: Counter::new(),
            eventfd_writes: Counter::new(),
            fsyncs: Counter::new(),
        }
    }

    /// Publishes completions, and counts `silent` operations that end without one of their own; then wakes the reaper
    /// if it sleeps and that is what it waits for. Whether a barrier's time has come: the caller opens it then.
    #[inline]
    #[must_use]
    pub(super) fn post(&self, cqes: &[Cqe], silent: u64) -> bool {
        if silent == 0 {
            self.completions.push_batch(cqes);
        } else {
            // First: whoever knows of their end, by a completion that stands for them or by the count, has room.
            self.credits.give_back(silent);
            self.completions.push_batch(cqes);
            self.completions.skip(silent);
        }
        let is_worth_a_wake = |how, target| {
            // A reaper that blocks must also hear that what it waits for cannot come any more.
            self.completions.pushed_relaxed() >= target || (how == Wake::Blocked && self.may_come_no_more(target))
        };
        self.ring(is_worth_a_wake, |target| self.completions.ended() >= target)
    }

    /// Tells one operation's end at once, as [`post`](Outlet::post). It is counted already.
    #[must_use]
    pub(crate) fn tell(&self, ended: Ended) -> bool {
        match ended.telling(self) {
            Telling::Alone(cqe) | Telling::Together(cqe) => self.post(&[cqe], 0),
            Telling::Silent => self.post(&[], 1),
        }
    }

    /// An entry's memory is not in use any more.
    #[inline]
    pub(crate) fn leave(&self, sqe: &Sqe) {
        self.in_use.leave(sqe);
        if let Some(region) = RegionId::of(sqe.region()) {
            self.regions.leave(region);
        }
    }

    /// Wakes the reaper, if it sleeps, whatever it waits for: there is something for it to do.
    pub(crate) fn call_reaper(&self) {
        // The watcher's announcement is left to who made an end: nobody here would act on it.
        self.ring(|_, _| true, |_| false);
    }

    #[inline]
    fn ring(&self, is_worth_a_wake: impl FnOnce(Wake, u64) -> bool, is_reached: impl FnOnce(u64) -> bool) -> bool {
        let rung = self.bell.ring_with(&Futex, is_worth_a_wake, is_reached);
        match rung.wake {
            None => {}
            Some(Wake::Blocked) => self.futex_wakes.add(1),
            Some(Wake::Armed) => self.signal(),
        }
        rung.watcher
    }

    /// Calls the hook, or makes the reaper's descriptor readable: the answer to an armed announcement that was taken.
    pub(crate) fn signal(&self) {
        if let Some(Hook(hook)) = &self.hook {
            // It is foreign code, and a driver goes on whatever becomes of it. What a payload's drop does is unknown.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(hook)) {
                Box::leak(payload);
            }
            return;
        }
        // Counted first: whoever is woken by the write finds it counted.
        self.eventfd_writes.add(1);
        self.fd.signal();
    }

    /// Notes operations that never complete, since their memory may be in use for ever.
    pub(crate) fn abandon(&self, count: u64) {
        self.abandoned.add(count);
        self.call_reaper();
    }

    /// Operations that were submitted and have not ended: the memory of all others is not touched any more. For a
    /// moment they may be more than there are credits.
    pub(crate) fn in_flight(&self) -> u64 {
        // The ends first: they never overtake what was submitted, so the difference cannot wrap.
        let ended = self.completions.ended();
        self.intake.passed() - ended
    }

    /// How many completions there can be in all of what was submitted so far: those that never complete, and those that
    /// did without one, are not among them.
    pub(crate) fn most_to_come(&self) -> u64 {
        let without = self.completions.skipped() + self.abandoned();
        self.intake.passed().saturating_sub(without)
    }

    /// Whether a reaper that waits for so many completions had better look again. Of those that wait for an abandoned
    /// one it knows more.
    fn may_come_no_more(&self, target: u64) -> bool {
        self.abandoned() > 0 || self.most_to_come() < target
    }

    /// Takes one of them back: it is about to end, since another instance of its mover knew of it.
    pub(crate) fn recover(&self) {
        self.recovered.add(1);
    }

    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.get().saturating_sub(self.recovered.get())
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

/// Operations that are done in parts.
impl Outlet {
    /// Cuts a part of `bytes` off an entry that is longer: the part and the rest. None: there is no room to split it.
    pub(crate) fn cut(&self, sqe: Sqe, bytes: u64) -> Option<(Sqe, Sqe)> {
        let record = match sqe.record() {
            Some(record) => record,
            None => self.splits.begin(sqe, sqe.dst().addr() as u64, sqe.len())?,
        };
        Some(sqe.cut(record, bytes))
    }

    /// Whether a part of the same operation has failed already, so that no other need begin.
    pub(crate) fn is_lost(&self, rest: &Sqe) -> bool {
        rest.record().is_some_and(|record| self.splits.is_troubled(record))
    }

    /// Ends an entry. None: it was a part, and others are not done yet. Whatever it stored is fenced already.
    pub(crate) fn join(&self, sqe: Sqe, status: Status, value: u32) -> Option<Ended> {
        let Some(record) = sqe.record() else { return Some(Ended { sqe, status, value, uncounted: 0 }) };
        if !status.is_success() {
            let offset = if status == Status::FAULT { u64::from(value) } else { 0 };
            self.splits.blame(
                record,
                sqe.dst().addr() as u64 + offset,
                u8::try_from(status.to_u16()).unwrap_or(u8::MAX),
            );
        }
        let (whole, worst) = self.splits.finish::<Sqe>(record, sqe.len())?;
        let Some((offset, status)) = worst else {
            return Some(Ended { sqe: whole, status: Status::SUCCESS, value: 0, uncounted: 0 });
        };
        let status = Status::from_u16(u16::from(status));
        let value = if status == Status::FAULT { u32::try_from(offset).unwrap_or(u32::MAX) } else { 0 };
        Some(Ended { sqe: whole, status, value, uncounted: 0 })
    }
}
