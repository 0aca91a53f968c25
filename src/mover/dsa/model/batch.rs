//! Batches: members run in any order between two fences, and a fence stops what follows a failure.
//!
//! ```text
//!  until the list ends:
//!      fetch members up to the next fence, the end, or a page of the list that is missing
//!      the first has a fence, and a member before did not end with SUCCESS?  ──▶ abandon it and all after it
//!      run them in the order of the settings
//!      the page was missing?                                                ──▶ stop, with BATCH_PAGE_FAULT
//! ```
//!
//! Abandoned members get no record. The batch's record says how many members were processed, in any case: those are the
//! first ones, since only members between two fences change places. A member that has ended with
//! [`SUCCESS_PREDICATE`](RecordStatus::SUCCESS_PREDICATE) counts as one that failed.
//!
//! Source: SPEC chapters 3 and 8.

use super::execution::{Executor, complete};
use super::memory::Memory;
use super::walk::{Operand, Stop};
use crate::mover::dsa::{Descriptor, Flags, GenCap, RecordStatus, RecordView};

impl<M: Memory> Executor<'_, '_, M> {
    pub(super) fn batch(&mut self, list: u64, count: u32) -> RecordView {
        let mut members = core::mem::take(&mut self.scratch.members);
        let mut has_failed = self.flags.contains(Flags::BATCH_ERROR);
        let mut done = 0;
        let mut fault = None;
        while fault.is_none() && done < count {
            members.clear();
            fault = self.fetch(list, done..count, &mut members).err();
            if has_failed && members.first().is_some_and(has_fence) {
                fault = None;
                break;
            }
            done += u32::try_from(members.len()).unwrap_or(u32::MAX);
            has_failed |= self.run(&mut members);
        }
        self.scratch.members = members;
        let record = match fault {
            Some(stop) => self.stopped(RecordStatus::BATCH_PAGE_FAULT, stop, done),
            None if has_failed => self.record(RecordStatus::BATCH_FAILED).with_bytes_completed(done),
            None => self.record(RecordStatus::SUCCESS).with_bytes_completed(done),
        };
        // What a batch that goes on where this one stopped must be told.
        let tells = self.device.may.gen_cap.contains(GenCap::BATCH_CONTINUATION);
        if tells { record.with_result(has_failed.into()) } else { record }
    }

    /// Fetches the first of these members, and those behind it that have no fence, up to a page that is missing.
    fn fetch(&mut self, list: u64, numbers: core::ops::Range<u32>, members: &mut Vec<Descriptor>) -> Result<(), Stop> {
        for number in numbers {
            let mut bytes = [0; Descriptor::BYTES];
            let operand = Operand::reads(1, list.wrapping_add(u64::from(number) * Descriptor::BYTES as u64));
            let is_planned = self.device.dice.says(self.device.settings.list_faults);
            if is_planned || !self.memory.read(operand.address, &mut bytes) {
                return Err(operand.stop(0));
            }
            let member = Descriptor::from_bytes(&bytes);
            if !members.is_empty() && has_fence(&member) {
                break;
            }
            members.push(member);
        }
        Ok(())
    }

    /// Runs members, and says whether one failed.
    fn run(&mut self, members: &mut [Descriptor]) -> bool {
        self.device.dice.arrange(self.device.settings.members, members);
        let mut has_failed = false;
        for member in members {
            has_failed |= complete(self.device, self.memory, self.scratch, member, true) != RecordStatus::SUCCESS;
        }
        has_failed
    }
}

fn has_fence(member: &Descriptor) -> bool {
    member.flags().contains(Flags::FENCE)
}
