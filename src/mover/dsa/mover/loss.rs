//! Loss: a device that does not answer.
//!
//! What a device has may be touched by it at any time, so no status is reported for it before the device is known to
//! be done. If it has something for longer than the time limit, its queue is given up: it is submitted to no more, and
//! the way to it ends, which has the kernel wait until the device is done with this process. Then the records say what
//! was done; what they do not say, the CPU does again, but for a copy over its own source, which cannot be done twice.
//! Where closing is no proof (see [`Portal::retire`]), what is out stays out: it never completes, its buffers are never
//! freed, and [`Dsa::lost`](crate::dsa::Dsa::lost) names it.
//!
//! A queue that is full for as long, with nothing of this driver's in it, is sent nothing more: what waits for it no
//! device has, so the CPU may do it.
//!
//! [`Portal::retire`]: crate::dsa::Portal::retire

use core::time::Duration;
use std::time::Instant;

use super::DsaMover;
use super::arrival::End;
use super::flight::{Flight, Kind, each};
use super::queue::QueueState;
use crate::mover::Completions;
use crate::mover::dsa::RecordStatus;

/// Polls that bring something, between two looks at the clock.
const POLLS_PER_LOOK: u32 = 256;
/// Looks at what is out in the length of the time limit, at the most.
const LOOKS_PER_LIMIT: u32 = 16;

/// The longest between two looks.
const SELDOM: Duration = Duration::from_secs(1);

/// When to look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    polls: u32,
    next: Option<Instant>,
}

impl DsaMover {
    /// Gives up devices that have not answered for too long. Looks at the clock only now and then, if there is
    /// something to do.
    pub(super) fn look_at_clock(&mut self, is_busy: bool) {
        self.watch.polls = self.watch.polls.wrapping_add(1);
        if self.under_way.is_empty() || (is_busy && !self.watch.polls.is_multiple_of(POLLS_PER_LOOK)) {
            return;
        }
        let now = Instant::now();
        if self.watch.next.is_none_or(|next| next <= now) {
            self.watch.next = Some(now + (self.policy.time_limit / LOOKS_PER_LIMIT).min(SELDOM));
            (0..self.lines.len()).for_each(|line| self.look_at_line(line, now));
        }
    }

    fn look_at_line(&mut self, at: usize, now: Instant) {
        let Self { lines, flights, under_way, queues, policy, .. } = self;
        let line = &mut lines[at];
        if !matches!(line.state, QueueState::Open | QueueState::Closed) {
            return;
        }
        let (mut is_overdue, mut is_out, mut waits) = (false, false, false);
        for number in under_way.iter() {
            let flight = &mut flights[*number];
            if flight.line == at {
                is_overdue |= flight.is_overdue(now, policy.time_limit);
                is_out |= flight.is_out();
                waits |= flight.waiting != 0;
            }
        }
        if is_overdue {
            let queue = &queues[line.queue];
            queue.give_up();
            let state = queue.state();
            self.hear(at, state);
        } else if waits && !is_out && line.is_full {
            let since = *line.full_since.get_or_insert(now);
            if now - since > policy.time_limit {
                queues[line.queue].close();
                line.state = QueueState::Closed;
            }
        } else {
            line.full_since = None;
        }
    }

    /// A queue is not what it was, for this driver or another one.
    pub(super) fn hear(&mut self, at: usize, state: QueueState) {
        self.lines[at].state = state;
        if state == QueueState::Lost {
            let on_it = self.under_way.iter().map(|flight| &self.flights[*flight]).filter(|flight| flight.line == at);
            self.queues[self.lines[at].queue].remember_lost(on_it.flat_map(Flight::user_data_out));
        }
    }

    /// Whether all flights that there are were lost.
    pub(super) fn is_all_lost(&self) -> bool {
        let is_lost = |flight: &usize| self.lines[self.flights[*flight].line].state == QueueState::Lost;
        self.free.is_empty() && self.under_way.iter().all(is_lost)
    }

    /// Does by the CPU what is on a line that takes nothing more and no device has, as far as this poll may; whether
    /// there was something.
    pub(super) fn do_by_cpu_on(&mut self, line: usize, done: &mut Completions<'_>) -> bool {
        let mut has_done = false;
        for at in 0..self.under_way.len() {
            let flight = self.under_way[at];
            if self.flights[flight].line == line {
                if self.lines[line].state == QueueState::GivenUp && self.flights[flight].is_out() {
                    self.recover(flight, done);
                }
                has_done |= self.do_flight_by_cpu(flight, done);
            }
        }
        has_done
    }

    fn do_flight_by_cpu(&mut self, flight: usize, done: &mut Completions<'_>) -> bool {
        let is_chain = self.flights[flight].kind == Kind::Chain;
        let mut has_done = false;
        while self.flights[flight].waiting != 0 && self.cpu_bytes > 0 && !(is_chain && self.flights[flight].is_out()) {
            has_done = true;
            let member = self.flights[flight].waiting.trailing_zeros() as usize;
            let end = match self.arena.descriptor(flight, member).operation() {
                Ok(piece) => self.finish_by_cpu(flight, member, &piece, done),
                Err(_) => Some(End::corrupted(RecordStatus::PENDING)),
            };
            // Without an end there is one more piece.
            if let Some(end) = end {
                self.flights[flight].waiting &= !(1 << member);
                self.end_alone_or_in_turn(flight, member, end, done);
            } else if self.flights[flight].job(member).is_none() {
                self.flights[flight].waiting &= !(1 << member);
            }
        }
        has_done
    }

    fn end_alone_or_in_turn(&mut self, flight: usize, member: usize, end: End, done: &mut Completions<'_>) {
        match self.flights[flight].kind {
            Kind::Chain => self.end_in_turn(flight, member, end, done),
            Kind::Batch | Kind::Singles => self.end(flight, member, end, done),
        }
    }

    /// Takes in what is left of a flight whose device touches nothing any more.
    fn recover(&mut self, flight: usize, done: &mut Completions<'_>) {
        while self.has_landed(flight) {
            self.take_in(flight, done);
        }
        let Flight { kind, wrapped, flying, .. } = self.flights[flight];
        (self.flights[flight].wrapped, self.flights[flight].flying) = (0, 0);
        for member in each(wrapped | flying) {
            // Of a chain, what is behind a failure has ended with it.
            let Some(job) = self.flights[flight].job(member) else { continue };
            let is_sequential = job.sqe().is_sequential();
            let end = match self.arena.record(flight, member).view() {
                // Its batch's record never came.
                Some(record) => self.judge(flight, member, &record, done),
                None if is_sequential => Some(End::corrupted(RecordStatus::PENDING)),
                None => None,
            };
            match end {
                Some(end) => self.end_alone_or_in_turn(flight, member, end, done),
                None if kind == Kind::Chain => {
                    // A fence, or the turn, has kept back what is behind it.
                    self.flights[flight].waiting |= (wrapped | flying) & (u32::MAX << member);
                    return;
                }
                None => self.flights[flight].waiting |= 1 << member,
            }
        }
    }
}

impl Drop for DsaMover {
    /// A queue drops its movers when all has completed. Should a device have something after all, the memory is left to
    /// it.
    fn drop(&mut self) {
        if self.is_out() {
            self.arena.leak();
        }
        for line in self.lines.iter().filter(|line| line.ended > 0) {
            self.queues[line.queue].tell(line.ended);
        }
    }
}
