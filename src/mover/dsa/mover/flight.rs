//! Flights: operations that depart to a device together, and what of each has come back.

use core::time::Duration;
use std::time::Instant;

use super::arena::MEMBERS;
use super::job::Job;
use crate::mover::Held;

/// How the members of a flight go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Together, in a batch.
    Batch,
    /// Each by itself, at once.
    Singles,
    /// One after the other: in a batch with fences, or each when the one before has ended.
    Chain,
}

/// Members, and how far they are; sets of them are bits.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) kind: Kind,
    /// The line on which it goes.
    pub(super) line: usize,
    jobs: [Option<Job>; MEMBERS],
    count: usize,
    /// Members that are to be submitted.
    pub(super) waiting: u32,
    /// Members that were submitted by themselves.
    pub(super) flying: u32,
    /// Members that were submitted in a batch.
    pub(super) wrapped: u32,
    /// Members that a device has had.
    begun: u32,
    /// Members that are to be cancelled.
    cancelling: u32,
    /// Members of which no look at the clock knows yet that they are out.
    unseen: u32,
    /// When each of the others was seen to be out first.
    since: [Instant; MEMBERS],
    /// Follows the last member of a chain, as cancelled: somebody did that before its turn.
    pub(super) cancelled: Option<Held>,
}

const _: () = assert!(MEMBERS == u32::BITS as usize);

impl Flight {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            kind: Kind::Singles,
            line: 0,
            jobs: [const { None }; MEMBERS],
            count: 0,
            waiting: 0,
            flying: 0,
            wrapped: 0,
            begun: 0,
            cancelling: 0,
            unseen: 0,
            since: [now; MEMBERS],
            cancelled: None,
        }
    }

    /// Makes it ready for others.
    pub(super) fn begin(&mut self, kind: Kind, line: usize) {
        (self.kind, self.line, self.count) = (kind, line, 0);
        (self.begun, self.cancelling, self.unseen) = (0, 0, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds a member, and says which it is.
    #[inline]
    pub(super) fn add(&mut self, job: Job) -> (usize, &mut Job) {
        let member = self.count;
        self.waiting |= 1 << member;
        self.count += 1;
        (member, self.jobs[member].insert(job))
    }

    #[inline]
    pub(super) fn job(&mut self, member: usize) -> Option<&mut Job> {
        self.jobs[member].as_mut()
    }

    /// The job of a member that has ended.
    #[inline]
    pub(super) fn take(&mut self, member: usize) -> Option<Job> {
        self.jobs[member].take()
    }

    /// The job of a member, if it is one that ends now.
    #[inline]
    pub(super) fn take_if(&mut self, member: usize, ends: impl FnOnce(&Job) -> bool) -> Option<Job> {
        if self.jobs[member].as_ref().is_some_and(ends) { self.jobs[member].take() } else { None }
    }

    /// All members that have not ended.
    pub(super) fn left(&self) -> u32 {
        self.waiting | self.flying | self.wrapped
    }

    /// Whether a device has something of it.
    pub(super) fn is_out(&self) -> bool {
        self.flying | self.wrapped != 0
    }

    /// These members have departed.
    pub(super) fn depart(&mut self, members: u32, are_wrapped: bool) {
        *(if are_wrapped { &mut self.wrapped } else { &mut self.flying }) |= members;
        self.waiting &= !members;
        self.unseen |= members;
        self.begun |= members;
    }

    /// Marks those with this user data that no device has had and that others do not wait for; whether there are some.
    pub(super) fn cancel(&mut self, user_data: u64) -> bool {
        if self.kind == Kind::Chain {
            return false;
        }
        let is_it = |member: &usize| self.jobs[*member].as_ref().is_some_and(|job| job.sqe().data() == user_data);
        let marked = each(self.waiting & !self.begun).filter(is_it).fold(0, |set, member| set | 1 << member);
        self.cancelling |= marked;
        marked != 0
    }

    /// Takes out those that are to be cancelled.
    pub(super) fn take_cancelled(&mut self) -> impl Iterator<Item = Job> {
        let cancelled = core::mem::take(&mut self.cancelling) & self.waiting & !self.begun;
        self.waiting &= !cancelled;
        each(cancelled).filter_map(|member| self.jobs[member].take())
    }

    /// Notes that it is `now`; whether a member has been out for longer than this.
    pub(super) fn is_overdue(&mut self, now: Instant, limit: Duration) -> bool {
        let out = self.flying | self.wrapped;
        each(out & self.unseen).for_each(|member| self.since[member] = now);
        self.unseen &= !out;
        each(out).any(|member| now - self.since[member] > limit)
    }

    /// The user data of what is out.
    pub(super) fn user_data_out(&self) -> impl Iterator<Item = u64> {
        each(self.flying | self.wrapped).filter_map(|member| Some(self.jobs[member].as_ref()?.sqe().data()))
    }

    /// The first run of members in this set: where it begins, and how long it is.
    pub(super) fn run(set: u32) -> Option<(usize, usize)> {
        let first = set.trailing_zeros();
        (set != 0).then(|| (first as usize, (set >> first).trailing_ones() as usize))
    }
}

/// So many members from `first` on.
pub(super) fn members(first: usize, count: usize) -> u32 {
    let ones = if count >= MEMBERS { u32::MAX } else { (1 << count) - 1 };
    ones << first
}

/// The members of a set, in order.
pub(super) fn each(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let member = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (member < u32::BITS).then_some(member as usize)
    })
}
