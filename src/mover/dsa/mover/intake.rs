//! Intake: from the lane into flights.
#![expect(unsafe_code, reason = "has the CPU execute entries, whose submitters vouched for their memory")]

use super::arena::MEMBERS;
use super::flight::Kind;
use super::job::Job;
use super::{DsaMover, Line};
use crate::cqe::Status;
use crate::mover::dsa::GenCap;
use crate::mover::{Completions, Held, Lane, execute};
use crate::sqe::{Opcode, Sqe};

/// Longer operations go each by themselves, bytes: from here on a device is as fast with them as with batches
/// (dsa.md, section 6), and nothing small waits for them.
const LONGEST_TOGETHER: u64 = 32 << 10;

/// The flights that this poll fills: of small operations, and of long ones.
#[derive(Default)]
struct Filling {
    small: Option<Open>,
    long: Option<Open>,
}

/// A flight that has room.
#[derive(Clone, Copy)]
struct Open {
    flight: usize,
    line: usize,
    room: usize,
}

impl DsaMover {
    /// Takes on what the lane gives; whether it gave something.
    pub(super) fn take_on(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> bool {
        let heeds_regions = !self.policy.page_cache && lane.has_regions();
        let nearest = self.nearest();
        let is_near = |line: &Line| line.is_open() && Some(line.distance) == nearest;
        let has_room = self.lines.iter().any(|line| is_near(line) && !line.is_full);
        let has_no_device = nearest.is_none() || self.is_all_lost();
        let mut filling = Filling::default();
        let mut has_claimed = false;
        // One of them may need a flight of its own; without a device, none does.
        while self.cpu_bytes > 0 && (has_no_device || (has_room && !self.free.is_empty())) {
            let Some(claimed) = lane.claim() else { break };
            has_claimed = true;
            let sqe = claimed.sqe();
            if sqe.len() == 0 && sqe.opcode() != Some(Opcode::Nop) {
                done.complete(claimed, Status::SUCCESS);
                continue;
            }
            let token = claimed.hold();
            if heeds_regions && lane.is_in_page_cache(token.sqe()) {
                // After each fsync the kernel protects those pages anew, and a device would stop at every one.
                self.do_by_cpu(token, done);
            } else if token.sqe().next().is_some() && token.sqe().len() <= self.longest.into() {
                self.take_on_chain(token, lane, heeds_regions, done);
            } else {
                self.take_on_one(token, &mut filling, done);
            }
        }
        has_claimed
    }

    /// The distance of the nearest device that is not given up.
    fn nearest(&self) -> Option<u32> {
        self.lines.iter().find(|line| line.is_open()).map(|line| line.distance)
    }

    #[inline]
    fn take_on_one(&mut self, token: Held, filling: &mut Filling, done: &mut Completions<'_>) {
        let is_long = token.sqe().len() > LONGEST_TOGETHER;
        let place = if is_long { &mut filling.long } else { &mut filling.small };
        let open = place.filter(|open| open.room > 0 && self.lines[open.line].suits(token.sqe()));
        let Some(open) = open.or_else(|| self.open_for(token.sqe(), is_long)) else {
            return self.do_by_cpu(token, done);
        };
        self.board(open.flight, open.line, token);
        *place = Some(Open { room: open.room - 1, ..open });
    }

    /// Begins a flight for an entry, and for others like it. None: no device does it.
    #[cold]
    fn open_for(&mut self, sqe: &Sqe, is_long: bool) -> Option<Open> {
        let line = self.line_for(sqe)?;
        let most = self.lines[line].most_together;
        let (kind, room) = if is_long || most < 2 { (Kind::Singles, MEMBERS) } else { (Kind::Batch, most) };
        let flight = self.begin(kind, line)?;
        Some(Open { flight, line, room })
    }

    /// Takes on a chain, as far as it can go in one batch: what comes behind that goes on when its last member ends.
    fn take_on_chain(&mut self, head: Held, lane: &mut Lane<'_>, heeds_regions: bool, done: &mut Completions<'_>) {
        let begun = self.line_for(head.sqe()).and_then(|line| Some((line, self.begin(Kind::Chain, line)?)));
        let Some((line, flight)) = begun else { return self.do_by_cpu(head, done) };
        let most = self.lines[line].most_together;
        let mut last = head;
        loop {
            // Who is durable only after the CPU has seen to it cannot be followed within a batch.
            let may_be_followed = self.flights[flight].len() + 1 < most && !last.sqe().is_durable();
            let longest = u64::from(self.longest);
            let wanted = |next: &Sqe| next.len() <= longest && self.lines[line].suits(next);
            let next = if may_be_followed { lane.claim_next(&mut last, heeds_regions, wanted) } else { None };
            self.board(flight, line, last);
            match next {
                Some(next) if next.sqe().is_cancelled() => {
                    self.flights[flight].cancelled = Some(next);
                    break;
                }
                Some(next) => last = next,
                None => break,
            }
        }
    }

    /// Begins a flight, if there is one free.
    fn begin(&mut self, kind: Kind, line: usize) -> Option<usize> {
        let flight = self.free.pop()?;
        self.flights[flight].begin(kind, line);
        self.under_way.push(flight);
        self.lines[line].flights += 1;
        Some(flight)
    }

    /// Has a flight, which goes on this line, take an operation along.
    #[inline]
    fn board(&mut self, flight: usize, line: usize, token: Held) {
        let gen_cap = self.lines[line].gen_cap;
        let (member, job) = self.flights[flight].add(Job::new(token));
        job.read_back_by_device(gen_cap.contains(GenCap::DESTINATION_READBACK));
        let piece = job.next_piece(self.longest);
        // SAFETY: the member is new, and the flight has not departed.
        unsafe { self.arena.write(flight, member, |record| job.descriptor(piece, gen_cap, record)) };
    }

    /// The line on which an operation goes: of those that do it, among the nearest, the one that has least to do.
    fn line_for(&self, sqe: &Sqe) -> Option<usize> {
        let nearest = self.nearest()?;
        let near = (0..self.lines.len()).filter(|line| self.lines[*line].distance == nearest);
        near.filter(|line| self.lines[*line].suits(sqe)).min_by_key(|line| {
            let Line { is_full, flights, .. } = self.lines[*line];
            (is_full, flights)
        })
    }

    /// Has the CPU do all of it, now.
    fn do_by_cpu(&mut self, token: Held, done: &mut Completions<'_>) {
        let sqe = token.sqe();
        self.cpu_bytes = self.cpu_bytes.saturating_sub(sqe.len());
        done.fell_back(1);
        // SAFETY: the entry was pushed, and no device has it.
        let mut end = unsafe { execute(sqe, done.guard(), || None) };
        if end.status.is_success() && sqe.is_durable() {
            end.stores.fence();
            end = self.write_back(sqe, done);
        }
        done.complete_after(end.stores, token, end.status, end.value());
    }
}
