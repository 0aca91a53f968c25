//! Loss: a device that does not answer.
//!
//! What a device has may be touched by it at any time, so no status is reported for it before the device is known to
//! be done. If the flight that has been out the longest is out longer than the time limit, its queue is given up: it is
//! submitted to no more, and the way to it ends, which has the kernel wait until the device is done with this process.
//! Then the records say what was done; what they do not say, the CPU does again, but for a copy over its own source,
//! which cannot be done twice. Where closing is no proof (see [`Portal::retire`]), what is out stays out: it never
//! completes, its buffers are never freed, and [`Dsa::queues`](crate::dsa::Dsa::queues) says so.
//!
//! A queue that has nothing of this driver's and takes nothing for as long is given up, too: a shared one says that it
//! is full when it is not there any more.
//!
//! [`Portal::retire`]: crate::dsa::Portal::retire

use std::time::Instant;

use super::DsaMover;
use super::arrival::End;
use super::flight::{Flight, Kind, each};
use super::queue::{Line, LineState, Way};
use crate::mover::Completions;
use crate::mover::dsa::RecordStatus;

/// Polls that bring something, between two looks at the clock.
const POLLS_PER_LOOK: u32 = 256;

/// Since when the same flight has been out the longest, and since when a line with nothing out takes nothing.
#[derive(Debug, Default)]
pub(super) struct Watch {
    oldest: Option<(u64, Instant)>,
    full: Option<(usize, Instant)>,
    polls: u32,
}

impl DsaMover {
    /// Gives up a device that has not answered for too long. Looks at the clock only now and then, if there is
    /// something to do.
    pub(super) fn look_at_clock(&mut self, is_busy: bool) {
        self.watch.polls = self.watch.polls.wrapping_add(1);
        if is_busy && !self.watch.polls.is_multiple_of(POLLS_PER_LOOK) {
            return;
        }
        self.look_at_full_lines();
        let out = self.under_way.iter().map(|flight| &self.flights[*flight]);
        let out = out.filter(|flight| flight.is_out() && self.lines[flight.line].state != LineState::GivenUp);
        let Some(&Flight { number, line, .. }) = out.min_by_key(|flight| flight.number) else {
            self.watch.oldest = None;
            return;
        };
        let now = Instant::now();
        match self.watch.oldest {
            Some((oldest, since)) if oldest == number => {
                if now - since > self.policy.time_limit {
                    self.queues[self.lines[line].queue].give_up();
                    self.watch.oldest = None;
                    self.hear_of_loss(line);
                }
            }
            _ => self.watch.oldest = Some((number, now)),
        }
    }

    /// Gives up a queue that has taken nothing for too long, though it has nothing.
    fn look_at_full_lines(&mut self) {
        let has_nothing = |line: usize| !self.flights.iter().any(|flight| flight.line == line && flight.is_out());
        let takes_nothing = |line: &usize| {
            let Line { is_full, flights, .. } = self.lines[*line];
            is_full && flights > 0 && self.lines[*line].is_open() && has_nothing(*line)
        };
        let Some(line) = (0..self.lines.len()).find(takes_nothing) else {
            self.watch.full = None;
            return;
        };
        let now = Instant::now();
        match self.watch.full {
            Some((full, since)) if full == line => {
                if now - since > self.policy.time_limit {
                    self.queues[self.lines[line].queue].give_up();
                    self.watch.full = None;
                    self.hear_of_loss(line);
                }
            }
            _ => self.watch.full = Some((line, now)),
        }
    }

    /// A queue was given up, by this driver or another one.
    pub(super) fn hear_of_loss(&mut self, line: usize) {
        let queue = &self.queues[self.lines[line].queue];
        let is_drained = queue.visit(|way| matches!(way, Way::Drained)) == Some(true);
        self.lines[line].state = LineState::GivenUp;
        if !is_drained {
            return;
        }
        for flight in &self.under_way {
            let flight = &mut self.flights[*flight];
            flight.is_stranded |= flight.line == line && flight.is_out();
        }
    }

    /// Does by the CPU what waits on a line that takes nothing more.
    pub(super) fn do_waiting_by_cpu(&mut self, line: usize, done: &mut Completions<'_>) {
        for at in 0..self.under_way.len() {
            let flight = self.under_way[at];
            if self.flights[flight].line == line {
                if core::mem::take(&mut self.flights[flight].is_stranded) {
                    self.recover(flight, done);
                }
                self.do_flight_by_cpu(flight, done);
            }
        }
    }

    fn do_flight_by_cpu(&mut self, flight: usize, done: &mut Completions<'_>) {
        let is_chain = self.flights[flight].kind == Kind::Chain;
        while self.flights[flight].waiting != 0 && !(is_chain && self.flights[flight].is_out()) {
            let member = self.flights[flight].waiting.trailing_zeros() as usize;
            self.flights[flight].waiting &= !(1 << member);
            let end = loop {
                let piece = self.arena.descriptor(flight, member).operation();
                let Ok(piece) = piece else { break End::corrupted(RecordStatus::PENDING) };
                if let Some(end) = self.finish_by_cpu(flight, member, &piece, done) {
                    break end;
                }
            };
            self.end_alone_or_in_turn(flight, member, end, done);
        }
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
            let has_ended = !self.arena.record(flight, member).status().is_pending();
            let is_sequential = self.flights[flight].job(member).is_some_and(|job| job.sqe().is_sequential());
            if has_ended {
                // Its batch was not done.
                self.flights[flight].flying = 1 << member;
                self.take_in(flight, done);
                self.flights[flight].flying = 0;
            } else if is_sequential {
                self.end_alone_or_in_turn(flight, member, End::corrupted(RecordStatus::PENDING), done);
            } else {
                self.flights[flight].waiting |= 1 << member;
            }
            // Of a chain, what is behind one that has not ended well has not begun.
            if kind == Kind::Chain && (!has_ended || self.flights[flight].waiting != 0) {
                let behind = (wrapped | flying) & (u32::MAX << member << 1);
                let is_left = self.flights[flight].waiting != 0;
                self.flights[flight].waiting |= if is_left { behind } else { 0 };
                break;
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
    }
}
