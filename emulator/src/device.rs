//! The device: a thread for each queue that a process uses, which has the model do what the queue took.
//!
//! It is a thread, and not the trap itself, so that a program meets what it meets with hardware: it goes on while its
//! descriptor waits or runs, polls a record that somebody else writes, finds queues full, and can be ahead of its
//! device or behind it. In the trap, every submission would be complete before its next instruction, and of a program's
//! waiting nothing would ever be tried. It also keeps the trap short, where little is allowed.
//!
//! The thread has all signals blocked that can be, so none of the program's handlers runs on it. It is started when the
//! queue is first mapped or written to, never in a signal handler.
#![expect(unsafe_code, reason = "drives the model")]

use std::collections::VecDeque;
use std::mem;
use std::process;
use std::thread;

use memring::dsa::model::{Chance, Faults, Instruction, Model, Order, Reply, Settings as ModelSettings};
use memring::dsa::{Descriptor, DsaOpcode, GenCap, Mode, Operation};
use memring_ring::Wake;

use crate::actions;
use crate::faults::Where;
use crate::futex::Futex;
use crate::layout;
use crate::memory::Reached;
use crate::queue::Queue;
use crate::settings::Settings;
use crate::trace;

/// How many descriptors it takes from the lane at once.
const BURST: usize = 16;

/// Starts the queue's thread, if it has none.
pub(crate) fn start(queue: &'static Queue) {
    if queue.has_thread() {
        return;
    }
    // The new thread inherits the mask. And who is to start it is not interrupted, by a handler that waits for it.
    let started = actions::undisturbed(|| {
        let builder = thread::Builder::new().name(queue.identity.name.clone());
        if queue.needs_thread() { builder.spawn(move || run(queue)).map(drop) } else { Ok(()) }
    });
    if let Err(error) = started {
        trace::tell(&format!("memring emulate: no thread for a device: {error}\n"));
        process::abort();
    }
}

/// A broken device is the end of the program: what waits for it would wait for ever.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        process::abort();
    }
}

fn run(queue: &'static Queue) {
    let _bomb = AbortOnPanic;
    Device::new(queue).run()
}

struct Device {
    queue: &'static Queue,
    model: Model<Reached>,
    /// What the model has, in the order in which it executes it; kept only where that is known and matters.
    under_way: VecDeque<Descriptor>,
    has_vanished: bool,
    unreported: u64,
}

impl Device {
    fn new(queue: &'static Queue) -> Self {
        let (identity, settings) = (&queue.identity, &queue.settings);
        let traced = settings.is_traced.then(|| identity.name.clone());
        let memory = Reached::new(queue.page, traced, settings);
        let freedom = freedom(settings);
        let model = Model::with_memory(identity.device, identity.capabilities, freedom, memory);
        Self { queue, model, under_way: VecDeque::new(), has_vanished: false, unreported: 0 }
    }

    fn run(mut self) -> ! {
        loop {
            self.take();
            if self.queue.page.is_disabled() && !mem::replace(&mut self.has_vanished, true) {
                self.queue.vanish();
            }
            if self.model.occupancy() == 0 {
                self.sleep();
                continue;
            }
            let next = self.under_way.pop_front();
            self.model.memory_mut().begin(next.as_ref());
            self.queue.credits.give_back(1);
            // SAFETY: whoever submits to a device vouches for what the descriptor names, as on hardware; and this
            // memory answers for what is not there.
            unsafe { self.model.step() };
            self.count_unreported();
            self.queue.ended();
        }
    }

    /// Gives the model what has come.
    fn take(&mut self) {
        let mut entries = [[0_u64; 8]; BURST];
        let (count, _) = self.queue.lane.pop(&mut entries, u64::MAX, |_| 1);
        for entry in entries.iter().take(count) {
            let mut bytes = [0; Descriptor::BYTES];
            bytes.as_chunks_mut::<8>().0.iter_mut().zip(entry).for_each(|(to, word)| *to = word.to_le_bytes());
            let descriptor = Descriptor::from_bytes(&bytes);
            self.tell(&descriptor);
            let by = match self.queue.identity.capabilities.mode {
                Mode::Dedicated => Instruction::Movdir64b,
                Mode::Shared => Instruction::Enqcmd,
            };
            // It has room for whatever has a credit.
            let reply = self.model.submit_by(by, &bytes);
            debug_assert_eq!(reply, Reply::Accepted);
            if self.queue.settings.broken.is_some() {
                self.under_way.push_back(descriptor);
            }
        }
    }

    fn tell(&self, descriptor: &Descriptor) {
        let count = |descriptor: &Descriptor| {
            self.queue.page.add(layout::OPCODES + usize::from(descriptor.opcode().to_u8()), 1);
        };
        count(descriptor);
        if let Some((list, members)) = self.batch(descriptor) {
            for number in 0..members {
                let mut bytes = [0; Descriptor::BYTES];
                let at = list.wrapping_add(u64::from(number) * Descriptor::BYTES as u64);
                if crate::process::read(at, &mut bytes) {
                    count(&Descriptor::from_bytes(&bytes));
                }
            }
        }
        if self.queue.settings.is_traced {
            trace::descriptor(&self.queue.identity.name, descriptor);
        }
    }

    /// The list and the count of a batch that the device does not refuse as a whole: members of others are never read.
    fn batch(&self, descriptor: &Descriptor) -> Option<(u64, u32)> {
        let Ok(Operation::Batch { list, count }) = descriptor.operation() else { return None };
        let may = self.queue.identity.device.through(&self.queue.identity.capabilities);
        let least = if may.gen_cap.contains(GenCap::BATCH_OF_ONE) { 1 } else { 2 };
        let is_right = may.operations.contains(DsaOpcode::BATCH)
            && (least..=may.max_batch).contains(&count)
            && list.is_multiple_of(Descriptor::BYTES as u64)
            && descriptor.reserved_flags().is_empty()
            && descriptor.reserved_byte().is_none();
        is_right.then_some((list, count))
    }

    fn count_unreported(&mut self) {
        let unreported = self.model.errors().unreported;
        self.queue.page.add(layout::UNREPORTED, unreported - self.unreported);
        self.unreported = unreported;
    }

    /// Sleeps until something has come.
    fn sleep(&self) {
        self.queue.bell.announce(Wake::Blocked, 0);
        if self.queue.lane.is_empty() {
            self.queue.bell.sleep(&Futex, None);
        }
        self.queue.bell.retract();
    }
}

/// What the model does with its freedom: nothing unusual, or with faults whatever a right program must bear.
fn freedom(settings: &Settings) -> ModelSettings {
    let mut freedom = ModelSettings::default();
    if let Some(seed) = settings.faults {
        freedom.seed = seed;
        freedom.turns_copies = true;
        if settings.fault_at == Where::Byte {
            freedom.faults = Faults::Random(Chance::one_in(3));
        }
        // What is wrong on purpose has to know what is next.
        if settings.broken.is_none() {
            freedom.members = Order::Random;
            freedom.completions = Order::Random;
        }
    }
    freedom
}
