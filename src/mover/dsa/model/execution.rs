//! Execution: from a descriptor to its record.
//!
//! ```text
//!  record misaligned, privilege ──▶ counted: nothing can be told
//!  refused (validation.rs)      ──▶ record
//!  BATCH                        ──▶ batch.rs
//!  else: plan a fault, or none; walk through the regions ──▶ record
//! ```
//!
//! A record says no bytes completed after a full success, and only what its operation defines: everything else in it is
//! the unused byte of the settings.
//!
//! What the operations do is written in `operations/`; here it is done in pieces, and what one piece leaves for the
//! next is what a record leaves for whoever submits the rest: a rotated pattern, a sum.

use super::memory::{Access, Memory, Vouched};
use super::settings::Faults;
use super::validation::{self, Refusal};
use super::walk::{Operand, Stop};
use super::{Device, Scratch};
use crate::mover::dsa::{CompletionRecord, Descriptor, FaultInfo, Flags, GenCap, Operation, RecordStatus, RecordView};

/// The bit of the first word that says privileged.
const PRIVILEGED: u32 = 1 << 31;
/// What a fault's address is told of: its page, bytes.
const FAULT_PAGE: u64 = 4096;

/// A device that executes a descriptor, with the memory it has for that.
#[derive(Debug)]
pub(super) struct Executor<'a, 'm, M> {
    pub(super) device: &'a mut Device,
    pub(super) memory: &'a mut Vouched<'m, M>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) flags: Flags,
    /// The fault that was made up for it.
    plan: Option<Plan>,
}

/// A fault that was made up: this operand's page is missing from this offset on.
#[derive(Clone, Copy, Debug)]
struct Plan {
    operand: u8,
    offset: u64,
}

/// Executes a descriptor, writes its record, and says how it ended.
pub(super) fn complete<M: Memory>(
    device: &mut Device,
    memory: &mut Vouched<M>,
    scratch: &mut Scratch,
    descriptor: &Descriptor,
    is_member: bool,
) -> RecordStatus {
    let flags = descriptor.flags();
    let has_record = flags.contains(Flags::RECORD_ADDRESS_VALID);
    if has_record && !descriptor.record_address().is_multiple_of(CompletionRecord::BYTES as u64) {
        return device.errors.unreported(RecordStatus::MISALIGNED_RECORD);
    }
    // Those of members are ignored: they are their batch's.
    if !is_member && descriptor.pasid_and_privilege() & PRIVILEGED != 0 {
        return device.errors.unreported(RecordStatus::BAD_PRIVILEGE);
    }
    let mut executor = Executor { device, memory, scratch, flags, plan: None };
    let record = match validation::check(descriptor, &executor.device.may, is_member) {
        Err(Refusal { status, flags }) if status == RecordStatus::INVALID_FLAGS => {
            executor.record(status).with_invalid_flags(flags)
        }
        Err(Refusal { status, .. }) => executor.record(status),
        Ok(Operation::Batch { list, count }) => executor.batch(list, count),
        Ok(operation) => executor.execute(&operation),
    };
    executor.deliver(descriptor.record_address(), &record)
}

impl<M: Memory> Executor<'_, '_, M> {
    /// Writes the record, if the descriptor wants it written with this status.
    fn deliver(&mut self, address: u64, record: &RecordView) -> RecordStatus {
        let status = record.status();
        let is_quiet = status.is_success() || status == RecordStatus::BATCH_FAILED;
        let is_wanted = self.flags.contains(Flags::REQUEST_COMPLETION_RECORD) || !is_quiet;
        if !self.flags.contains(Flags::RECORD_ADDRESS_VALID) {
            return if is_quiet { status } else { self.device.errors.unreported(status) };
        }
        if is_wanted && !self.memory.write_record(address, record) {
            return self.device.errors.unreported(RecordStatus::RECORD_PAGE_FAULT.at_write());
        }
        status
    }

    fn execute(&mut self, operation: &Operation) -> RecordView {
        let operands = operands(operation, self.flags);
        self.plan = self.plan(operation, &operands);
        let writes = operands.iter().flatten().any(|operand| operand.access == Access::Write);
        match self.device.breakdown(writes) {
            Some(RecordStatus::WRITE_ERROR) => {
                // It has written some of it, or all.
                self.perform(operation);
                self.record(RecordStatus::WRITE_ERROR)
            }
            Some(RecordStatus::TRANSLATION_ERROR) => {
                let address = operands.iter().flatten().next().map_or(0, |operand| operand.address);
                self.record(RecordStatus::TRANSLATION_ERROR).with_fault_address(page_of(address))
            }
            Some(status) => self.record(status),
            None => self.perform(operation),
        }
    }

    fn perform(&mut self, operation: &Operation) -> RecordView {
        let record = match *operation {
            Operation::Memmove { src, dst, len } => self.memmove(src, dst, len),
            Operation::Dualcast { src, dst_1, dst_2, len } => self.dualcast(src, [dst_1, dst_2], len),
            Operation::Fill { pattern, pattern_high, dst, len } => self.fill([pattern, pattern_high], dst, len),
            Operation::Compare { src_1, src_2, len, expected } => self.compare(src_1, src_2, len, expected),
            Operation::CompareValue { src, pattern, len, expected } => self.compare_value(src, pattern, len, expected),
            Operation::CreateDelta { .. } => self.create_delta(operation),
            Operation::ApplyDelta { record, dst, len, record_len } => self.apply_delta(record, dst, len, record_len),
            Operation::Crc { src, len, seed, seed_address } => self.sum(src, None, len, seed, seed_address),
            Operation::CopyCrc { src, dst, len, seed, seed_address } => {
                self.sum(src, Some(dst), len, seed, seed_address)
            }
            Operation::CacheFlush { address, len } => self.flush(address, len),
            Operation::TranslationFetch { address, len, stride } => self.translate(address, len, stride),
            Operation::Drain { readback_1, readback_2 } => self.drain(readback_1, readback_2),
            // A no-op, whose record has a status and nothing else; the others do not come here.
            _ => self.unused(RecordStatus::SUCCESS),
        };
        if record.status().is_success() {
            self.read_back(operation);
        }
        record
    }

    /// Makes up a fault for this operation, or none.
    fn plan(&mut self, operation: &Operation, operands: &[Option<Operand>; 3]) -> Option<Plan> {
        match self.device.settings.faults {
            Faults::None => None,
            Faults::At { operand, offset } => Some(Plan { operand, offset: offset.into() }),
            Faults::Random(chance) => {
                if !self.device.dice.says(chance) {
                    return None;
                }
                let count = operands.iter().flatten().count();
                let operand = operands.iter().flatten().nth(self.device.dice.below(count))?.number;
                let offset = self.device.dice.below(faultable(operation, operand));
                Some(Plan { operand, offset: offset as u64 })
            }
        }
    }

    /// No fault is made up from here on.
    pub(super) fn forget_plan(&mut self) {
        self.plan = None;
    }

    /// Where a fault of this operand is made up, if one is.
    pub(super) fn planned(&self, operand: u8) -> Option<u64> {
        self.plan.filter(|plan| plan.operand == operand).map(|plan| plan.offset)
    }

    /// Whether a made-up fault of this operand comes within so many bytes.
    pub(super) fn is_planned(&self, operand: u8, within: u64) -> bool {
        self.planned(operand).is_some_and(|offset| offset < within)
    }

    /// A record with this status, and nothing else.
    pub(super) fn unused(&self, status: RecordStatus) -> RecordView {
        RecordView::filled(status, self.device.settings.unused_byte)
    }

    /// A record with this status: no bytes completed, all else unused.
    pub(super) fn record(&self, status: RecordStatus) -> RecordView {
        self.unused(status).with_bytes_completed(0)
    }

    /// How an operation ended that may or may not have found what its descriptor expects.
    pub(super) fn found(&self, is_expected: bool) -> RecordView {
        let is_right = is_expected || !self.flags.contains(Flags::CHECK_RESULT);
        self.record(if is_right { RecordStatus::SUCCESS } else { RecordStatus::SUCCESS_PREDICATE })
    }

    /// A record of what stopped with this status. The lower bits of the address are masked, as they may be.
    pub(super) fn stopped(&self, status: RecordStatus, stop: Stop, done: u32) -> RecordView {
        let status = if stop.access == Access::Write { status.at_write() } else { status };
        let record = self.record(status).with_bytes_completed(done).with_fault_address(page_of(stop.address));
        if self.device.may.gen_cap.contains(GenCap::FAULT_INFO) {
            record.with_fault_info(FaultInfo { is_masked: false, operand: stop.operand })
        } else {
            record
        }
    }

    /// The same for an operand's missing page. One that blocks on faults has waited, and the system has refused.
    pub(super) fn faulted(&self, stop: Stop, done: u32) -> RecordView {
        let blocks = self.flags.contains(Flags::BLOCK_ON_FAULT);
        let status = if blocks { RecordStatus::PAGE_FAULT_REFUSED } else { RecordStatus::PAGE_FAULT };
        self.stopped(status, stop, done)
    }
}

impl Device {
    /// Which hardware error the next operation ends with, if with one.
    fn breakdown(&mut self, writes: bool) -> Option<RecordStatus> {
        let is_broken = self.dice.says(self.settings.breakdowns);
        is_broken.then(|| match self.dice.below(3) {
            0 => RecordStatus::TRANSLATION_ERROR,
            1 if writes => RecordStatus::WRITE_ERROR,
            _ => RecordStatus::HARDWARE_ERROR,
        })
    }
}

fn page_of(address: u64) -> u64 {
    address & !(FAULT_PAGE - 1)
}

/// The operands of an operation, in the order of their numbers.
pub(super) fn operands(operation: &Operation, flags: Flags) -> [Option<Operand>; 3] {
    let reads = |number, address| Some(Operand::reads(number, address));
    let writes = |number, address| Some(Operand::writes(number, address));
    let reads_if = |flag, number, address| flags.contains(flag).then_some(Operand::reads(number, address));
    match *operation {
        Operation::Memmove { src, dst, .. } => [reads(1, src), writes(3, dst), None],
        Operation::Fill { dst, .. } => [writes(3, dst), None, None],
        Operation::Compare { src_1, src_2, .. } => [reads(1, src_1), reads(2, src_2), None],
        Operation::CompareValue { src, .. } => [reads(1, src), None, None],
        Operation::CreateDelta { src_1, src_2, record, .. } => [reads(1, src_1), reads(2, src_2), writes(3, record)],
        Operation::ApplyDelta { record, dst, .. } => [reads(1, record), writes(3, dst), None],
        Operation::Dualcast { src, dst_1, dst_2, .. } => [reads(1, src), writes(3, dst_1), writes(4, dst_2)],
        Operation::TranslationFetch { address, .. } => [reads(1, address), None, None],
        Operation::Crc { src, seed_address, .. } => [reads(1, src), reads_if(Flags::READ_SEED, 2, seed_address), None],
        Operation::CopyCrc { src, dst, seed_address, .. } => {
            [reads(1, src), reads_if(Flags::READ_SEED, 2, seed_address), writes(3, dst)]
        }
        Operation::CacheFlush { address, .. } => [reads(3, address), None, None],
        Operation::Drain { readback_1, readback_2 } => {
            [reads_if(Flags::READBACK_1_VALID, 1, readback_1), reads_if(Flags::READBACK_2_VALID, 2, readback_2), None]
        }
        _ => [None; 3],
    }
}

/// How many offsets there are in an operand at which it can fault.
fn faultable(operation: &Operation, operand: u8) -> usize {
    let len = match *operation {
        Operation::CreateDelta { max_record_len, .. } if operand == 3 => max_record_len,
        Operation::ApplyDelta { record_len, .. } => record_len,
        // A seed.
        Operation::Crc { .. } | Operation::CopyCrc { .. } if operand == 2 => 1,
        _ => validation::length(operation).unwrap_or(1),
    };
    usize::try_from(len).unwrap_or(1)
}
