//! Arrival: what the records of a flight mean for its members.
//!
//! | class of the status | member |
//! |---|---|
//! | success | ends, or goes on with its next piece |
//! | partial | goes on behind the page, by the policy |
//! | programming: refused before it began | the CPU does the piece; an opcode that is not known is not tried again |
//! | anything else | ends with [`JOB_CORRUPTED`](Status::JOB_CORRUPTED), the status its value |
//! | none, since its batch never came to it | goes again |
//!
//! The record of a batch is waited for, and then those of its members are read: an abandoned one has none.
#![expect(unsafe_code, reason = "writes descriptors that no device has, and has the CPU finish entries")]

use super::flight::{Flight, Kind, each};
use super::job::Job;
use super::{DsaMover, OnFault, on_cpu};
use crate::cqe::Status;
use crate::memory::Stores;
use crate::mover::dsa::operations::Direction;
use crate::mover::dsa::{Descriptor, DsaOpcode, Operation, RecordStatus, RecordView, StatusClass};
use crate::mover::{Completions, Done};
use crate::os::{Access, Populated, populate};
use crate::sqe::Sqe;

/// How often in a row an operation may stop without a byte of progress, or a member of a batch not be come to, before
/// the CPU does it.
const MOST_TRIES: u32 = 8;

/// How a member has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    status: Status,
    value: u32,
    stores: Stores,
}

impl End {
    const SUCCESS: Self = Self { status: Status::SUCCESS, value: 0, stores: Stores::Plain };

    pub(super) const fn corrupted(status: RecordStatus) -> Self {
        Self { status: Status::JOB_CORRUPTED, value: status.to_u8() as u32, stores: Stores::Plain }
    }

    const fn fault(offset: u32) -> Self {
        Self { status: Status::FAULT, value: offset, stores: Stores::Plain }
    }
}

impl DsaMover {
    /// Takes in what has come back; whether something has.
    pub(super) fn reap(&mut self, done: &mut Completions<'_>) -> bool {
        let (mut has_reaped, mut at) = (false, 0);
        while let Some(&flight) = self.under_way.get(at) {
            has_reaped |= self.take_in(flight, done);
            self.flights[flight].take_cancelled().for_each(|job| done.complete(job.token, Status::CANCELLED));
            if self.flights[flight].left() == 0 {
                self.under_way.remove(at);
                self.free.push(flight);
                self.lines[self.flights[flight].line].flights -= 1;
            } else {
                at += 1;
            }
        }
        has_reaped
    }

    /// Whether something of a flight has come back.
    pub(super) fn has_landed(&self, flight: usize) -> bool {
        let Flight { wrapped, flying, .. } = self.flights[flight];
        let is_back = |member| !self.arena.record(flight, member).status().is_pending();
        (wrapped != 0 && !self.arena.batch_record(flight).status().is_pending()) || each(flying).any(is_back)
    }

    /// Takes in what has come back of a flight.
    pub(super) fn take_in(&mut self, flight: usize, done: &mut Completions<'_>) -> bool {
        let Flight { kind, wrapped, flying, line, .. } = self.flights[flight];
        if wrapped != 0 {
            let Some(batch) = self.arena.batch_record(flight).view() else { return false };
            self.flights[flight].wrapped = 0;
            self.lines[line].ended += 1;
            match kind {
                Kind::Chain => self.take_in_chain(flight, wrapped, Some(&batch), done),
                Kind::Batch | Kind::Singles => self.take_in_batch(flight, wrapped, &batch, done),
            }
            return true;
        }
        let left = if kind == Kind::Chain { flying } else { self.end_plain(flight, flying, done) };
        self.flights[flight].flying = left;
        let mut landed = (flying & !left).count_ones() as usize;
        for member in each(left) {
            let Some(record) = self.arena.record(flight, member).view() else { continue };
            landed += 1;
            self.flights[flight].flying &= !(1 << member);
            match kind {
                Kind::Chain => self.take_in_chain(flight, 1 << member, None, done),
                Kind::Batch | Kind::Singles => self.take_in_member(flight, member, &record, done),
            }
        }
        self.lines[line].ended += landed;
        landed > 0
    }

    fn take_in_batch(&mut self, flight: usize, wrapped: u32, batch: &RecordView, done: &mut Completions<'_>) {
        // What is to go again goes by itself.
        self.flights[flight].kind = Kind::Singles;
        let first = wrapped.trailing_zeros() as usize;
        let wrapped = self.end_plain(flight, wrapped, done);
        if wrapped == 0 {
            return;
        }
        self.note_refusal(flight, batch, done);
        for member in each(wrapped) {
            match self.arena.record(flight, member).view() {
                Some(record) => self.take_in_member(flight, member, &record, done),
                None if was_not_come_to(member - first, batch) => {
                    self.flights[flight].waiting |= 1 << member;
                }
                None => self.end(flight, member, End::corrupted(batch.status()), done),
            }
        }
    }

    /// Ends those members that succeeded and have no more to do, which is what most do; the others are left.
    #[inline]
    fn end_plain(&mut self, flight: usize, back: u32, done: &mut Completions<'_>) -> u32 {
        let Self { flights, arena, .. } = self;
        each(back).fold(back, |left, member| {
            if arena.record(flight, member).status() != RecordStatus::SUCCESS {
                return left;
            }
            let Some(job) = flights[flight].take_if(member, Job::is_last_piece) else { return left };
            done.complete(job.token, Status::SUCCESS);
            left & !(1 << member)
        })
    }

    /// A batch that was refused as a whole is none that the device knows.
    fn note_refusal(&mut self, flight: usize, batch: &RecordView, done: &mut Completions<'_>) {
        if batch.status().class() == StatusClass::Programming {
            self.lines[self.flights[flight].line].refuses(DsaOpcode::BATCH);
            done.fell_back(1);
        }
    }

    #[inline]
    fn take_in_member(&mut self, flight: usize, member: usize, record: &RecordView, done: &mut Completions<'_>) {
        match self.judge(flight, member, record, done) {
            Some(end) => self.end(flight, member, end, done),
            None => self.flights[flight].waiting |= 1 << member,
        }
    }

    /// Takes in members of a chain, in order: those behind the first that has not succeeded have not begun.
    fn take_in_chain(&mut self, flight: usize, back: u32, batch: Option<&RecordView>, done: &mut Completions<'_>) {
        if let Some(batch) = batch {
            self.note_refusal(flight, batch, done);
        }
        let first = back.trailing_zeros() as usize;
        for member in each(back) {
            let end = match (self.arena.record(flight, member).view(), batch) {
                (Some(record), _) => self.judge(flight, member, &record, done),
                (None, Some(batch)) if was_not_come_to(member - first, batch) => self.once_more(flight, member, done),
                (None, batch) => Some(End::corrupted(batch.map_or(RecordStatus::PENDING, RecordView::status))),
            };
            match end {
                Some(end) => {
                    self.end_in_turn(flight, member, end, done);
                    if !end.status.is_success() {
                        return;
                    }
                }
                None => {
                    self.flights[flight].waiting |= back & (u32::MAX << member);
                    return;
                }
            }
        }
    }

    /// A member that its batch never came to goes again; if that happens again and again, the CPU does it.
    fn once_more(&mut self, flight: usize, member: usize, done: &mut Completions<'_>) -> Option<End> {
        let job = self.flights[flight].job(member)?;
        job.tries += 1;
        if job.tries <= MOST_TRIES {
            return None;
        }
        let piece = self.arena.descriptor(flight, member).operation().ok()?;
        self.finish_by_cpu(flight, member, &piece, done)
    }

    /// Ends a member of a chain, and what must not follow it.
    pub(super) fn end_in_turn(&mut self, flight: usize, member: usize, end: End, done: &mut Completions<'_>) {
        self.end(flight, member, end, done);
        let is_last = member + 1 == self.flights[flight].len();
        if end.status.is_success() && !is_last {
            return;
        }
        for behind in member + 1..self.flights[flight].len() {
            if let Some(job) = self.flights[flight].take(behind) {
                done.complete(job.token.cutting_off(), Status::CANCELLED);
            }
        }
        self.flights[flight].waiting = 0;
        if let Some(cancelled) = self.flights[flight].cancelled.take() {
            let cancelled = if end.status.is_success() { cancelled } else { cancelled.cutting_off() };
            done.complete(cancelled, Status::CANCELLED);
        }
    }

    #[inline]
    pub(super) fn end(&mut self, flight: usize, member: usize, end: End, done: &mut Completions<'_>) {
        if let Some(job) = self.flights[flight].take(member) {
            done.complete_after(end.stores, job.token, end.status, end.value);
        }
    }

    /// What the record of a member means: its end, or nothing, if it is to be submitted once more.
    #[inline]
    pub(super) fn judge(
        &mut self,
        flight: usize,
        member: usize,
        record: &RecordView,
        done: &mut Completions<'_>,
    ) -> Option<End> {
        match record.status().class() {
            StatusClass::Success => self.go_on(flight, member, Stores::Plain, done),
            StatusClass::Partial => self.resume(flight, member, record, done),
            // That of its record's own page comes after the operation.
            StatusClass::Programming if record.status().code() != RecordStatus::RECORD_PAGE_FAULT => {
                let piece = self.arena.descriptor(flight, member).operation().ok()?;
                if record.status().code() == RecordStatus::BAD_OPCODE {
                    self.lines[self.flights[flight].line].refuses(piece.opcode());
                }
                self.finish_by_cpu(flight, member, &piece, done)
            }
            _ => Some(End::corrupted(record.status())),
        }
    }

    /// A piece is done: the next one, or the end.
    fn go_on(&mut self, flight: usize, member: usize, stores: Stores, done: &mut Completions<'_>) -> Option<End> {
        let longest = self.longest;
        let gen_cap = self.lines[self.flights[flight].line].gen_cap;
        let job = self.flights[flight].job(member)?;
        let sqe = *job.sqe();
        if job.has_more() {
            stores.fence();
            job.tries = 0;
            let piece = job.next_piece(longest);
            // SAFETY: its record is written, and so is that of its batch, if it was in one.
            unsafe { self.arena.write(flight, member, |record| job.descriptor(piece, gen_cap, record)) };
            return None;
        }
        if !job.must_be_written_back() {
            return Some(End { stores, ..End::SUCCESS });
        }
        stores.fence();
        let end = self.write_back(&sqe, done);
        Some(End { status: end.status, value: end.value(), stores: end.stores })
    }

    /// Has the CPU write back what is to be durable, when all of it is in place.
    pub(super) fn write_back(&mut self, sqe: &Sqe, done: &mut Completions<'_>) -> Done {
        done.fell_back(1);
        self.cpu_bytes = self.cpu_bytes.saturating_sub(sqe.len());
        // SAFETY: the entry was pushed, and no device has it any more.
        unsafe { on_cpu::write_back(sqe, done.guard()) }
    }

    /// Has the CPU do a piece.
    pub(super) fn finish_by_cpu(
        &mut self,
        flight: usize,
        member: usize,
        piece: &Operation,
        done: &mut Completions<'_>,
    ) -> Option<End> {
        let job = self.flights[flight].job(member)?;
        job.read_back_by_device(false);
        let offset = job.offset_of(destination(piece));
        done.fell_back(1);
        self.cpu_bytes = self.cpu_bytes.saturating_sub(length(piece));
        // SAFETY: it is a piece of an entry that was pushed, and no device has it.
        match unsafe { on_cpu::do_piece(piece, done.guard()) } {
            Ok(by_cpu) if by_cpu.status.is_success() => self.go_on(flight, member, by_cpu.stores, done),
            Ok(by_cpu) => Some(End { value: offset.saturating_add(by_cpu.value()), ..End::fault(0) }),
            Err(on_cpu::Missing) => Some(End::fault(offset)),
        }
    }

    /// A device has stopped at a page.
    #[cold]
    fn resume(&mut self, flight: usize, member: usize, record: &RecordView, done: &mut Completions<'_>) -> Option<End> {
        let descriptor = self.arena.descriptor(flight, member);
        let before = descriptor.operation().ok()?;
        let Some((rest, flags)) = before.rest(descriptor.flags(), record) else {
            return Some(End::corrupted(record.status()));
        };
        let direction = match rest {
            Operation::Memmove { .. } => Direction::from_result(record.result()),
            _ => Direction::Forward,
        };
        let job = self.flights[flight].job(member)?;
        // Only a record of success says that what came before it was read back.
        job.read_back_by_device(false);
        job.tries = if record.bytes_completed() > 0 { 0 } else { job.tries + 1 };
        let (tries, dst) = (job.tries, destination(&rest));
        let missing = match direction {
            Direction::Forward => dst,
            Direction::Backward => dst + length(&rest).saturating_sub(1),
        };
        let fault = End::fault(job.offset_of(missing));
        match self.policy.on_fault {
            OnFault::Fail => Some(fault),
            OnFault::Resume if tries <= MOST_TRIES => match map(&rest, direction, record) {
                Populated::Missing => Some(fault),
                Populated::Unknown => self.finish_by_cpu(flight, member, &rest, done),
                Populated::Mapped => {
                    // SAFETY: its record is written, and so is that of its batch, if it was in one.
                    unsafe { self.arena.write(flight, member, |record| Descriptor::new(&rest, flags, record)) };
                    None
                }
            },
            OnFault::Resume | OnFault::Cpu => self.finish_by_cpu(flight, member, &rest, done),
        }
    }
}

/// Whether the record of a batch says that it did not come to this member.
fn was_not_come_to(member: usize, batch: &RecordView) -> bool {
    match batch.status().class() {
        StatusClass::Batch | StatusClass::Partial => member >= batch.descriptors_completed() as usize,
        StatusClass::Programming => true,
        _ => false,
    }
}

/// Where an operation writes, or writes back.
fn destination(operation: &Operation) -> u64 {
    match *operation {
        Operation::Memmove { dst, .. } | Operation::Fill { dst, .. } => dst,
        Operation::CacheFlush { address, .. } => address,
        _ => 0,
    }
}

fn length(operation: &Operation) -> u64 {
    match *operation {
        Operation::Memmove { len, .. } | Operation::Fill { len, .. } | Operation::CacheFlush { len, .. } => len.into(),
        _ => 0,
    }
}

/// Has the kernel map what a device needs to go on: the page at which it stopped, and with it what comes behind.
fn map(rest: &Operation, direction: Direction, record: &RecordView) -> Populated {
    let was_write = record.status().fault_was_write();
    let access = if was_write { Access::Write } else { Access::Read };
    let (start, len) = match *rest {
        Operation::Memmove { src, len, .. } if !was_write => (src, u64::from(len)),
        _ => (destination(rest), length(rest)),
    };
    let end = start.saturating_add(len);
    // The address may be that of the page, which may begin before the operation does.
    let stopped = record.fault().map_or(start, |fault| fault.address).clamp(start, end.saturating_sub(1));
    let (from, to) = match direction {
        Direction::Forward => (stopped, end),
        Direction::Backward => (start, stopped + 1),
    };
    match populate(from, to - from, access) {
        // Perhaps only a page further on: the device comes to that.
        Populated::Missing => populate(stopped, 1, access),
        mapped => mapped,
    }
}
