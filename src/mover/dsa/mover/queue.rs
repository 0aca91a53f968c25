//! Work queues as the drivers of one mover share them, and as each of them sees them.

use std::sync::{Mutex, TryLockError};
use std::time::Instant;

use crate::mover::dsa::{Allowance, DsaOpcode, GenCap, OperationSet, Portal};
use crate::os::lock;
use crate::sqe::{Opcode, Sqe};

/// A work queue that is open.
#[derive(Debug)]
pub(in crate::mover::dsa) struct Queue {
    way: Mutex<Way>,
    pub(in crate::mover::dsa) allowance: Allowance,
    pub(super) numa_node: Option<u32>,
}

/// How a work queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueState {
    /// It is used.
    Open,
    /// It is sent nothing more: the kernel has refused a descriptor, or it was full for longer than the time limit with
    /// nothing of the mover's in it. What it has ends as ever.
    Closed,
    /// Its device did not answer in time. It is not used any more, and touches nothing.
    GivenUp,
    /// Its device did not answer in time, and nobody knows what it still touches: what it had never completes. The drop
    /// of the queue pair waits for that, as it does for all that is in flight, and so for ever; its
    /// [`shutdown`](crate::queue::CompletionQueue::shutdown) has a time limit. See
    /// [`Dsa::lost`](crate::dsa::Dsa::lost).
    Lost,
}

/// The way to the device.
#[derive(Debug)]
pub(super) struct Way {
    /// None, once the device was given up.
    pub(super) portal: Option<Box<dyn Portal>>,
    pub(super) state: QueueState,
    /// The user data of what a lost device has.
    lost: Vec<u64>,
}

impl Queue {
    pub(in crate::mover::dsa) fn new(portal: Box<dyn Portal>, allowance: Allowance, numa_node: Option<u32>) -> Self {
        let way = Way { portal: Some(portal), state: QueueState::Open, lost: Vec::new() };
        Self { way: Mutex::new(way), allowance, numa_node }
    }

    /// What `visit` makes of the way, unless another driver is on it just now.
    pub(super) fn visit<T>(&self, visit: impl FnOnce(&mut Way) -> T) -> Option<T> {
        match self.way.try_lock() {
            Ok(mut way) => Some(visit(&mut way)),
            Err(TryLockError::Poisoned(poisoned)) => Some(visit(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Tells the portal how many descriptors have ended, even if it must wait for another driver: nobody may come back
    /// to it otherwise.
    pub(super) fn tell(&self, ended: usize) {
        if let Some(portal) = &mut lock(&self.way).portal {
            portal.completed(ended);
        }
    }

    /// How it is doing.
    pub(in crate::mover::dsa) fn state(&self) -> QueueState {
        lock(&self.way).state
    }

    /// The user data of what never completes.
    pub(in crate::mover::dsa) fn lost(&self) -> Vec<u64> {
        lock(&self.way).lost.clone()
    }

    /// Sends it nothing more, for all drivers.
    pub(super) fn close(&self) {
        let mut way = lock(&self.way);
        if way.state == QueueState::Open {
            way.state = QueueState::Closed;
        }
    }

    /// Gives the device up, for all drivers.
    pub(super) fn give_up(&self) {
        let mut way = lock(&self.way);
        if let Some(portal) = way.portal.take() {
            way.state = if portal.retire() { QueueState::GivenUp } else { QueueState::Lost };
        }
    }

    /// Remembers what a driver has lost with the device.
    pub(super) fn remember_lost(&self, user_data: impl Iterator<Item = u64>) {
        lock(&self.way).lost.extend(user_data);
    }
}

/// A work queue as one driver sees it.
#[derive(Debug)]
pub(super) struct Line {
    /// Which of the queues it is.
    pub(super) queue: usize,
    /// How far its device is: less is nearer.
    pub(super) distance: u32,
    /// What the device does, as far as is known by now.
    operations: OperationSet,
    /// The entries that it can be sent, by opcode, as bits.
    opcodes: u32,
    pub(super) gen_cap: GenCap,
    /// The most members of a batch; 1 if none get through.
    pub(super) most_together: usize,
    /// Flights of this driver that are under way on it.
    pub(super) flights: usize,
    /// Descriptors that have ended, which the portal was not told of.
    pub(super) ended: usize,
    /// It had no room when it was asked last.
    pub(super) is_full: bool,
    /// Since when it has had no room, with nothing of this driver's in it.
    pub(super) full_since: Option<Instant>,
    pub(super) state: QueueState,
}

impl Line {
    pub(super) fn new(index: usize, queue: &Queue, distance: u32, members: usize) -> Self {
        let most = usize::try_from(queue.allowance.max_batch).unwrap_or(1).clamp(1, members);
        let passes = queue.visit(|way| way.portal.as_ref().is_some_and(|portal| portal.passes_batch()));
        let has_batches = queue.allowance.allows_batch() && passes != Some(false);
        Self {
            queue: index,
            distance,
            operations: queue.allowance.operations,
            opcodes: opcodes(queue.allowance.operations),
            gen_cap: queue.allowance.gen_cap,
            most_together: if has_batches { most } else { 1 },
            flights: 0,
            ended: 0,
            is_full: false,
            full_since: None,
            state: QueueState::Open,
        }
    }

    /// Whether it takes this entry, and the device does it.
    #[inline]
    pub(super) fn suits(&self, sqe: &Sqe) -> bool {
        let opcode = if sqe.len() == 0 { Opcode::Nop as u64 } else { sqe.head() & 0x1f };
        self.opcodes >> opcode & 1 != 0
            && self.is_open()
            && (self.gen_cap.contains(GenCap::OVERLAPPING_MOVE) || !sqe.is_sequential())
    }

    /// The device has refused this operation, and will do so again.
    pub(super) fn refuses(&mut self, opcode: DsaOpcode) {
        self.operations = self.operations.without(opcode);
        self.opcodes = opcodes(self.operations);
        if opcode == DsaOpcode::BATCH {
            self.most_together = 1;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == QueueState::Open
    }
}

/// The opcodes of entries for which a device has an operation, as bits.
fn opcodes(operations: OperationSet) -> u32 {
    let does = |opcode: &Opcode| operations.contains(opcode_for(*opcode));
    Opcode::ALL.iter().filter(|opcode| does(opcode)).fold(0, |set, opcode| set | 1 << *opcode as u8)
}

/// The opcode with which a device does this.
fn opcode_for(opcode: Opcode) -> DsaOpcode {
    match opcode {
        Opcode::Nop => DsaOpcode::NOP,
        Opcode::Memcpy | Opcode::Memmove => DsaOpcode::MEMMOVE,
        Opcode::Memset => DsaOpcode::FILL,
        Opcode::Flush => DsaOpcode::CFLUSH,
    }
}
