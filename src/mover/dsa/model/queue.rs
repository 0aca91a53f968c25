//! The work queue of a model: what its portal answers, and which descriptor is next.
//!
//! | queue | MOVDIR64B | ENQCMD |
//! |---|---|---|
//! | dedicated, with room | accepted | retry |
//! | dedicated, full | dropped, and counted | retry |
//! | shared, below its threshold | dropped, and counted | accepted |
//! | shared, from its threshold on | dropped, and counted | retry |
//! | disabled | dropped, and counted | retry |
//!
//! Source: SPEC 3. The portal is the limited one, which is what Linux maps: so a shared queue's threshold counts.

use std::collections::VecDeque;

use super::settings::Order;
use super::{Device, Dice};
use crate::mover::dsa::{Descriptor, DsaOpcode, Mode, RecordStatus, WorkQueueCapabilities};

/// What a portal says to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "what was not accepted will never complete"]
pub enum Reply {
    /// It will be executed.
    Accepted,
    /// It will not; ENQCMD sets the zero flag.
    Retry,
    /// It is lost. MOVDIR64B says nothing of it.
    Dropped,
}

/// The instruction that brings a descriptor to a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// For dedicated queues.
    Movdir64b,
    /// For shared ones.
    Enqcmd,
}

/// What went wrong without a record that could say it: a device's error register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Errors {
    /// Descriptors that a portal dropped.
    pub dropped: u64,
    /// Descriptors that failed, and had no record to say it in.
    pub unreported: u64,
    /// What the last of all these was, where that has a status.
    pub last: Option<RecordStatus>,
}

impl Errors {
    fn dropped(&mut self, status: Option<RecordStatus>) -> Reply {
        self.dropped += 1;
        self.last = status;
        Reply::Dropped
    }

    pub(super) fn unreported(&mut self, status: RecordStatus) -> RecordStatus {
        self.unreported += 1;
        self.last = Some(status);
        status
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    mode: Mode,
    /// How many entries can be taken.
    entries: usize,
    is_enabled: bool,
    /// What was accepted, in this order.
    waiting: VecDeque<Descriptor>,
}

impl Queue {
    /// For so many entries there is room from the beginning. Devices that were seen have 128.
    const USUAL: usize = 1024;

    pub(super) fn new(queue: WorkQueueCapabilities) -> Self {
        let entries = match queue.mode {
            Mode::Dedicated => queue.size,
            Mode::Shared => queue.threshold.min(queue.size),
        };
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        let waiting = VecDeque::with_capacity(entries.min(Self::USUAL));
        Self { mode: queue.mode, entries, is_enabled: true, waiting }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn occupancy(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn disable(&mut self) {
        self.is_enabled = false;
    }

    /// What the portal answers.
    pub(super) fn accept(&mut self, by: Instruction, descriptor: &Descriptor, device: &mut Device) -> Reply {
        let is_full = self.waiting.len() >= self.entries;
        match (by, self.mode) {
            (Instruction::Movdir64b, Mode::Dedicated) if self.is_enabled && is_full => {
                return device.errors.dropped(Some(RecordStatus::QUEUE_OVERFLOW));
            }
            (Instruction::Movdir64b, Mode::Dedicated) if self.is_enabled => {}
            (Instruction::Movdir64b, _) => return device.errors.dropped(None),
            (Instruction::Enqcmd, _) if descriptor.pasid_and_privilege() != 0 => return device.errors.dropped(None),
            (Instruction::Enqcmd, Mode::Shared) if self.is_enabled && !is_full => {
                if device.dice.says(device.settings.retries) {
                    return Reply::Retry;
                }
            }
            (Instruction::Enqcmd, _) => return Reply::Retry,
        }
        self.waiting.push_back(*descriptor);
        Reply::Accepted
    }

    /// The descriptor that has waited longest.
    pub(super) fn first(&self) -> Option<&Descriptor> {
        self.waiting.front()
    }

    /// Takes it out. False: there was none.
    pub(super) fn end_first(&mut self) -> bool {
        self.waiting.pop_front().is_some()
    }

    /// Takes the descriptor out that is next: any, but a DRAIN only when all before it are gone.
    pub(super) fn take(&mut self, order: Order, dice: &mut Dice) -> Option<Descriptor> {
        if order == Order::InOrder {
            return self.waiting.pop_front();
        }
        let may_run = |(index, waiting): &(usize, &Descriptor)| *index == 0 || waiting.opcode() != DsaOpcode::DRAIN;
        let count = self.waiting.iter().enumerate().filter(may_run).count();
        let chosen = dice.pick(order, count);
        let (index, _) = self.waiting.iter().enumerate().filter(may_run).nth(chosen)?;
        self.waiting.remove(index)
    }
}
