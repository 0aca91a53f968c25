//! What every portal asks of descriptors before it lets them through, and how many it may let through.

use crate::mover::dsa::{Descriptor, DsaOpcode, Mode, WorkQueueCapabilities};
use crate::os::Birth;

use super::Stopped;

/// The alignment of completion records, bytes.
const RECORD_ALIGNMENT: u64 = 32;

/// The terms of one portal.
#[derive(Debug)]
pub(in crate::mover::dsa) struct Terms {
    birth: Birth,
    /// A dedicated queue's entries that nobody has taken.
    credits: Option<u32>,
    /// All of a dedicated queue's entries.
    size: u32,
    pub(in crate::mover::dsa) passes_batch: bool,
}

impl Terms {
    pub(in crate::mover::dsa) fn new(queue: &WorkQueueCapabilities, passes_batch: bool) -> Self {
        let credits = (queue.mode == Mode::Dedicated).then_some(queue.size);
        Self { birth: Birth::now(), credits, size: queue.size, passes_batch }
    }

    pub(in crate::mover::dsa) fn is_foreign(&self) -> bool {
        self.birth.is_foreign()
    }

    /// How many of these may go, and what stops the next.
    pub(in crate::mover::dsa) fn admit(&self, descriptors: &[Descriptor]) -> (usize, Option<Stopped>) {
        if self.is_foreign() {
            return (0, (!descriptors.is_empty()).then_some(Stopped::Forked));
        }
        let room = descriptors.len().min(self.room());
        let objection = |(at, descriptor)| self.objection(descriptor).map(|stopped| (at, Some(stopped)));
        let objected = descriptors[..room].iter().enumerate().find_map(objection);
        objected.unwrap_or((room, (room < descriptors.len()).then_some(Stopped::Busy)))
    }

    /// What the kernel or the device would object to, each in its own way.
    fn objection(&self, descriptor: &Descriptor) -> Option<Stopped> {
        if descriptor.opcode() == DsaOpcode::BATCH && !self.passes_batch {
            Some(Stopped::Batch)
        } else if !descriptor.record_address().is_multiple_of(RECORD_ALIGNMENT) {
            Some(Stopped::RecordAddress)
        } else if descriptor.pasid_and_privilege() != 0 {
            Some(Stopped::Privileged)
        } else {
            None
        }
    }

    /// Admitted descriptors were accepted.
    pub(in crate::mover::dsa) fn accepted(&mut self, count: usize) {
        // No more were admitted than there were credits.
        self.credits = self.credits.map(|credits| credits - u32::try_from(count).unwrap_or(credits));
    }

    /// Who says more than is true loses descriptors, and no memory.
    pub(in crate::mover::dsa) fn completed(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.credits = self.credits.map(|credits| credits.saturating_add(count).min(self.size));
    }

    pub(in crate::mover::dsa) fn room(&self) -> usize {
        self.credits.map_or(usize::MAX, |credits| usize::try_from(credits).unwrap_or(usize::MAX))
    }
}
