//! Intake: from the lane into flights.
#![expect(unsafe_code, reason = "has the CPU execute entries, whose submitters vouched for their memory")]

use super::arena::MEMBERS;
use super::flight::{Flight, Kind};
use super::job::{Job, flags};
use super::on_cpu;
use super::{DsaMover, Line};
use crate::cqe::Status;
use crate::mover::dsa::{DsaOpcode, GenCap};
use crate::mover::{Completions, Held, Lane};
use crate::sqe::{Opcode, Sqe};

/// Longer operations go each by themselves, bytes: from here on a device is as fast with them as with batches
/// (dsa.md, section 6), and nothing small waits for them.
const LONGEST_TOGETHER: u64 = 32 << 10;

/// The flights that this poll fills: of small operations, and of long ones.
#[derive(Default)]
struct Filling {
    small: Option<usize>,
    long: Option<usize>,
}

impl DsaMover {
    /// Takes on what the lane gives; whether it gave something.
    pub(super) fn take_on(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> bool {
        let heeds_regions = !self.policy.page_cache && lane.has_regions();
        let mut filling = Filling::default();
        let mut has_claimed = false;
        while self.may_claim() {
            let Some(claimed) = lane.claim() else { break };
            has_claimed = true;
            let token = claimed.hold();
            let sqe = token.sqe();
            if sqe.len() == 0 && sqe.opcode() != Some(Opcode::Nop) {
                done.complete(token, Status::SUCCESS);
            } else if heeds_regions && lane.is_in_page_cache(sqe) {
                // After each fsync the kernel protects those pages anew, and a device would stop at every one.
                do_by_cpu(token, done);
            } else if sqe.next().is_some() && !heeds_regions && sqe.len() <= self.longest.into() {
                self.take_on_chain(token, lane, done);
            } else {
                self.take_on_one(token, &mut filling, done);
            }
        }
        has_claimed
    }

    /// Whether there is room for one more flight, or no device at all.
    fn may_claim(&self) -> bool {
        let nearest = self.nearest();
        let has_room = self.lines.iter().any(|line| line.is_open() && Some(line.distance) == nearest && !line.is_full);
        nearest.is_none() || (has_room && !self.free.is_empty())
    }

    /// The distance of the nearest device that is not given up.
    fn nearest(&self) -> Option<u32> {
        self.lines.iter().find(|line| line.is_open()).map(|line| line.distance)
    }

    fn take_on_one(&mut self, token: Held, filling: &mut Filling, done: &mut Completions<'_>) {
        let is_long = token.sqe().len() > LONGEST_TOGETHER;
        let before = if is_long { filling.long } else { filling.small };
        let fits = before.filter(|flight| self.suits(self.flights[*flight].line, token.sqe()));
        let Some(flight) = fits.or_else(|| {
            let line = self.line_for(token.sqe())?;
            let kind = if is_long || self.lines[line].most_together < 2 { Kind::Singles } else { Kind::Batch };
            self.begin(kind, line)
        }) else {
            return do_by_cpu(token, done);
        };
        self.board(flight, token);
        let Flight { kind, line, .. } = self.flights[flight];
        let most = if kind == Kind::Batch { self.lines[line].most_together } else { MEMBERS };
        let left = Some(flight).filter(|_| self.flights[flight].len() < most);
        *(if is_long { &mut filling.long } else { &mut filling.small }) = left;
    }

    /// Takes on a chain, as far as it can go in one batch: what comes behind that goes on when its last member ends.
    fn take_on_chain(&mut self, head: Held, lane: &mut Lane<'_>, done: &mut Completions<'_>) {
        let Some(line) = self.line_for(head.sqe()) else { return do_by_cpu(head, done) };
        let Some(flight) = self.begin(Kind::Chain, line) else { return do_by_cpu(head, done) };
        let most = self.lines[line].most_together;
        let mut last = head;
        loop {
            // Who is durable only after the CPU has seen to it cannot be followed within a batch.
            let may_be_followed = self.flights[flight].len() + 1 < most && !last.sqe().is_durable();
            let longest = u64::from(self.longest);
            let wanted = |next: &Sqe| next.len() <= longest && self.suits(line, next);
            let next = if may_be_followed { lane.claim_next(&mut last, wanted) } else { None };
            self.board(flight, last);
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

    /// Has a flight take an operation along.
    #[inline]
    fn board(&mut self, flight: usize, token: Held) {
        let flags = flags(token.sqe(), self.gen_cap(self.flights[flight].line));
        let mut job = Job::new(token);
        let piece = job.next_piece(self.longest);
        let member = self.flights[flight].add(job);
        // SAFETY: the member is new, and the flight has not departed.
        unsafe { self.arena.write(flight, member, &piece, flags) };
    }

    /// The line on which an operation goes: of those that do it, among the nearest, the one that has least to do.
    fn line_for(&self, sqe: &Sqe) -> Option<usize> {
        let nearest = self.nearest()?;
        let near = (0..self.lines.len()).filter(|line| self.lines[*line].distance == nearest);
        near.filter(|line| self.suits(*line, sqe)).min_by_key(|line| {
            let Line { is_full, flights, .. } = self.lines[*line];
            (is_full, flights)
        })
    }

    /// Whether the device of a line does this.
    #[inline]
    fn suits(&self, line: usize, sqe: &Sqe) -> bool {
        let (line, gen_cap) = (&self.lines[line], self.gen_cap(line));
        let does_overlap = || gen_cap.contains(GenCap::OVERLAPPING_MOVE) || !sqe.is_sequential();
        line.is_open() && line.does(opcode_for(sqe)) && does_overlap()
    }
}

/// The opcode with which a device does this.
#[inline]
fn opcode_for(sqe: &Sqe) -> DsaOpcode {
    match sqe.opcode() {
        _ if sqe.len() == 0 => DsaOpcode::NOP,
        Some(Opcode::Memcpy | Opcode::Memmove) => DsaOpcode::MEMMOVE,
        Some(Opcode::Memset) => DsaOpcode::FILL,
        Some(Opcode::Flush) => DsaOpcode::CFLUSH,
        Some(Opcode::Nop) | None => DsaOpcode::NOP,
    }
}

/// Has the CPU do all of it, now.
fn do_by_cpu(token: Held, done: &mut Completions<'_>) {
    // SAFETY: the entry was pushed, and no device has it.
    let end = unsafe { on_cpu::do_whole(token.sqe()) };
    done.fell_back(1);
    done.complete_after(end.stores, token, end.status, end.value());
}
