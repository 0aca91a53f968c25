//! Departure: from flights to portals.
#![expect(unsafe_code, reason = "submits descriptors, for whose memory the entries' submitters vouched")]

use core::{mem, slice};

use super::arena::Arena;
use super::flight::{Flight, Kind, members};
use super::queue::{Line, QueueState};
use super::{DsaMover, DsaOpcode};
use crate::mover::Completions;
use crate::mover::dsa::{Descriptor, Portal, Stopped};

impl DsaMover {
    /// Submits what waits, as far as there is room; what is on a line that takes nothing more, the CPU does.
    /// Whether the CPU did something.
    pub(super) fn depart(&mut self, done: &mut Completions<'_>) -> bool {
        let mut has_done = false;
        for line in 0..self.lines.len() {
            self.depart_on(line);
            if !self.lines[line].is_open() && self.lines[line].flights > 0 {
                has_done |= self.do_by_cpu_on(line, done);
            }
        }
        has_done
    }

    fn depart_on(&mut self, at: usize) {
        let Self { lines, flights, arena, under_way, queues, .. } = self;
        let line = &mut lines[at];
        if line.flights == 0 {
            line.is_full = false;
            // Whoever is idle may not come back.
            if line.ended > 0 {
                queues[line.queue].tell(mem::take(&mut line.ended));
            }
            return;
        }
        let visited = queues[line.queue].visit(|way| {
            // That it was given up is heard of when it is asked for what has ended.
            let Some(portal) = &mut way.portal else { return };
            portal.completed(mem::take(&mut line.ended));
            line.is_full = false;
            for number in under_way.iter() {
                let flight = &mut flights[*number];
                if flight.line == at && flight.waiting != 0 {
                    Departing { portal: &mut **portal, line, arena, number: *number }.go(flight);
                }
                if line.is_full || !line.is_open() {
                    break;
                }
            }
            if way.state == QueueState::Open {
                way.state = line.state;
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
            flight.depart(members(first, count), true);
        }
    }

    fn go_singly(&mut self, flight: &mut Flight, first: usize, count: usize) {
        let Self { portal, line, arena, .. } = self;
        let accepted = submit(&mut **portal, line, arena.list(self.number, first, count));
        flight.depart(members(first, accepted), false);
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
        None if submitted.accepted == descriptors.len() => {}
        None | Some(Stopped::Busy) => line.is_full = true,
        Some(Stopped::Batch) => line.refuses(DsaOpcode::BATCH),
        Some(_) => line.state = QueueState::Closed,
    }
    submitted.accepted
}
