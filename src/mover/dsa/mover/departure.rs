//! Departure: from flights to portals.
#![expect(unsafe_code, reason = "submits descriptors, for whose memory the entries' submitters vouched")]

use core::slice;

use super::arena::Arena;
use super::flight::{Flight, Kind, members};
use super::queue::{Line, LineState, Way};
use super::{DsaMover, DsaOpcode};
use crate::mover::Completions;
use crate::mover::dsa::{Descriptor, Portal, Stopped};

impl DsaMover {
    /// Submits what waits, as far as there is room; what is on a line that takes nothing more, the CPU does.
    pub(super) fn depart(&mut self, done: &mut Completions<'_>) {
        for line in 0..self.lines.len() {
            self.depart_on(line);
            if !self.lines[line].is_open() && self.lines[line].flights > 0 {
                self.do_waiting_by_cpu(line, done);
            }
        }
    }

    fn depart_on(&mut self, at: usize) {
        let Self { lines, flights, arena, under_way, queues, departures, .. } = self;
        let line = &mut lines[at];
        if line.flights == 0 && line.ended == 0 {
            line.is_full = false;
            return;
        }
        let visited = queues[line.queue].visit(|way| {
            // Those that were given up are heard of when it is asked for what has ended.
            let Way::Open(portal) = way else { return };
            portal.completed(core::mem::take(&mut line.ended));
            line.is_full = false;
            for number in under_way.iter() {
                let flight = &mut flights[*number];
                if flight.line != at || flight.waiting == 0 {
                    continue;
                }
                *departures += 1;
                flight.number = *departures;
                Departing { portal: &mut **portal, line, arena, number: *number }.go(flight);
                if line.is_full || !line.is_open() {
                    break;
                }
            }
        });
        // Another driver has the portal: there is no room for us just now.
        line.is_full |= visited.is_none();
    }
}

/// A flight at its gate.
struct Departing<'a> {
    portal: &'a mut dyn Portal,
    line: &'a mut Line,
    arena: &'a mut Arena,
    number: usize,
}

impl Departing<'_> {
    /// Submits what waits of a flight, until something stops it.
    fn go(&mut self, flight: &mut Flight) {
        while self.line.is_open() && !self.line.is_full {
            let Some((first, run)) = Flight::run(flight.waiting) else { return };
            match flight.kind {
                Kind::Chain if flight.is_out() => return,
                Kind::Chain => self.go_in_turn(flight, first),
                Kind::Batch if (2..=self.line.most_together).contains(&run) => self.go_together(flight, first, run),
                Kind::Batch | Kind::Singles => self.go_singly(flight, first, run),
            }
        }
    }

    /// The next members of a chain: all that are left, if they can go together.
    fn go_in_turn(&mut self, flight: &mut Flight, first: usize) {
        // Those behind the first wait as well, whatever was in between has ended.
        let run = flight.len() - first;
        let is_together = (2..=self.line.most_together).contains(&run);
        for member in first..flight.len() {
            // SAFETY: nothing of a chain is out, so no device has its list.
            unsafe { self.arena.set_fence(self.number, member, is_together && member > first) };
        }
        if is_together { self.go_together(flight, first, run) } else { self.go_singly(flight, first, 1) }
    }

    fn go_together(&mut self, flight: &mut Flight, first: usize, count: usize) {
        let batch = self.arena.batch(self.number, first, count);
        if self.submit(slice::from_ref(&batch)) == 1 {
            flight.wrapped = members(first, count);
            flight.waiting &= !flight.wrapped;
        }
    }

    fn go_singly(&mut self, flight: &mut Flight, first: usize, count: usize) {
        let Self { portal, line, arena, .. } = self;
        let accepted = submit(&mut **portal, line, arena.list(self.number, first, count));
        let out = members(first, accepted);
        flight.flying |= out;
        flight.waiting &= !out;
    }

    fn submit(&mut self, descriptors: &[Descriptor]) -> usize {
        submit(self.portal, self.line, descriptors)
    }
}

/// Submits these, and notes what stopped it; how many were accepted.
fn submit(portal: &mut dyn Portal, line: &mut Line, descriptors: &[Descriptor]) -> usize {
    // SAFETY: the descriptors are pieces of entries whose submitters vouched for their memory until they complete; they
    // do that when their records were written. The list and the records are the arena's, and stay until then.
    let submitted = unsafe { portal.submit(descriptors) };
    match submitted.stopped {
        None => {}
        Some(Stopped::Busy) => line.is_full = true,
        Some(Stopped::Batch) => line.refuses(DsaOpcode::BATCH),
        Some(_) => line.state = LineState::Closed,
    }
    submitted.accepted
}
