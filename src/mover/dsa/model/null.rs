//! The null device: every descriptor succeeds, and no memory is touched but for records and the lists of batches.
//!
//! It is what all else is measured against, so it does as little as can be: of a descriptor it reads the flags and the
//! address of the record, and nothing is looked at that could be wrong.

use super::memory::{Memory, Vouched};
use super::settings::Settings;
use crate::mover::dsa::{CompletionRecord, Descriptor, DsaOpcode, Flags, Operation, RecordStatus, RecordView};

/// So much of a descriptor is enough, bytes.
const HEADER: usize = 16;

/// Writes the records that a descriptor, or the members of a batch, want.
pub(super) fn pretend<M: Memory>(settings: &Settings, memory: &mut Vouched<M>, descriptor: &Descriptor) {
    let mut record = RecordView::filled(RecordStatus::SUCCESS, settings.unused_byte).with_bytes_completed(0);
    if descriptor.opcode() == DsaOpcode::BATCH
        && let Ok(Operation::Batch { list, count }) = descriptor.operation()
    {
        for number in 0..u64::from(count) {
            let mut header = [0; HEADER];
            if !memory.read(list.wrapping_add(number * Descriptor::BYTES as u64), &mut header) {
                break;
            }
            let [_, _, _, _, f0, f1, f2, _, address @ ..] = header;
            let flags = Flags::from_bits(u32::from_le_bytes([f0, f1, f2, 0]));
            deliver(memory, flags, u64::from_le_bytes(address), &record);
        }
        record = record.with_bytes_completed(count);
    }
    deliver(memory, descriptor.flags(), descriptor.record_address(), &record);
}

#[inline]
fn deliver<M: Memory>(memory: &mut Vouched<M>, flags: Flags, address: u64, record: &RecordView) {
    if flags.contains(Flags::RECORD) && address.is_multiple_of(CompletionRecord::BYTES as u64) {
        // Where no record can be, nobody is told.
        let _ = memory.write_record(address, record);
    }
}
