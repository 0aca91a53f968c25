//! A DSA device in software, stricter than one of silicon: what works with it has no excuse there.
//!
//! It takes the same 64 bytes and writes the same records. Where the specification leaves a device free, it does what a
//! program likes least, as far as its [`Settings`] say. What the specification forbids a program, it refuses, with the
//! status that a device has for that.
//!
//! ```text
//!                    ┌────────────── Model ───────────────────────────────────────────────────┐
//!  64 bytes ─submit─▶│ work queue ──step──▶ validation ──▶ walk through memory ──▶ its record │
//!     ◀── Accepted,  │                          │ refused                            ▲        │
//!         Retry, or  │                          └────────────────────────────────────┘        │
//!         Dropped    └────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `portal` | [`ModelPortal`]: a model in the place of a device, for whoever submits by a [`Portal`](super::Portal) |
//! | `settings` | what it does with its freedom, and which faults it makes up |
//! | `queue` | what a portal answers, and which descriptor is next |
//! | `memory` | where addresses lead: this process, or a map of a test's |
//! | `run` | who drives it vouches for the addresses |
//! | `validation` | what is refused, with which status |
//! | `execution`, `copy`, `compare`, `delta`, `visit`, `batch` | what the operations do, and what their records say |
//! | `walk` | regions in pieces, from either end, up to a page that is missing |
//! | `null` | a device that does nothing |
//!
//! It has no thread: [`submit`](Model::submit) only accepts, and [`step`](Model::step) executes. So a test decides what
//! is under way when.
//!
//! # Freedom
//!
//! | a device may | here | field of [`Settings`] |
//! |---|---|---|
//! | run the members of a batch in any order, up to a fence | as they came, reversed, any | `members` |
//! | end descriptors in any order, but for a DRAIN | as they came, reversed, any | `completions` |
//! | find a page missing that was touched just now | in any operand, after any byte | `faults` |
//! | find a page of a batch's list missing | at any member | `list_faults` |
//! | tell the page of a fault and not the address | always | |
//! | have a page refused by the system, though it blocks on faults | at each fault | |
//! | copy from either end where regions do not overlap | from the start, any | `turns_copies` |
//! | leave anything in a record where nothing is defined | `0xa5`, another byte | `unused_byte` |
//! | name an offset before the difference (COMPVAL) | exact, up to 63 bytes before | `blurs_offsets` |
//! | end a delta record that is nearly full | exact, by lines of 64 bytes | `ends_deltas_early` |
//! | find no room in a shared queue, which others use too | never, at times | `retries` |
//! | fail | never, at times | `breakdowns` |
//!
//! The same seed, descriptors and steps give the same run. [`Settings::hostile`] has all of it at its worst, but for
//! failures.
//!
//! In what a device is not free: the status is written last, nothing is written to the record of an abandoned member,
//! a full success says zero bytes completed where its operation counts them, and memory that no descriptor names is
//! not touched.
//!
//! # What is not modelled
//!
//! - The operations on data integrity fields (T10 DIF, DIX) and those between address spaces: refused with
//!   [`BAD_OPCODE`](super::RecordStatus::BAD_OPCODE) even if the capabilities list them, as by a device without them.
//!   Likewise those that revision 3.0 of the specification adds.
//! - Two descriptors at the same time. One runs to its end before the next begins, so a program whose descriptors
//!   overlap in memory sees one of the two orders, and never a mixture.
//! - Time, and what is fast: traffic classes (all count as configured), priorities, read buffers, where data is cached.
//! - Interrupts, which Linux gives no user, and the event log, by which the kernel writes a record whose page was
//!   missing: here such a descriptor is only [counted](Errors).
//! - The bit of a record that says that a fault's address is masked (GENCAP bit 12): what it covers was not found out.
//!   Addresses are masked, and it is never set.
//! - The order of refusals. What it answers to a descriptor that breaks more than one rule is its own choice: the
//!   specification has none.

mod batch;
mod compare;
mod copy;
mod delta;
mod execution;
mod memory;
mod null;
mod portal;
mod queue;
mod run;
mod settings;
mod validation;
mod visit;
mod walk;

pub use memory::{Access, Memory, ProcessMemory};
pub use portal::ModelPortal;
use queue::Queue;
pub use queue::{Errors, Instruction, Reply};
use settings::Dice;
pub use settings::{Chance, Faults, Order, Settings};

use super::{Allowance, Descriptor, DeviceCapabilities, Mode, WorkQueueCapabilities};

/// A device with one work queue.
///
/// # Examples
///
/// ```
/// use memring::dsa::model::{Model, Reply, Settings};
/// use memring::dsa::{Descriptor, Flags, Mode, Operation, Preset, WorkQueueCapabilities};
///
/// let queue = WorkQueueCapabilities::new(Mode::Shared, 1);
/// let mut device = Model::new(Preset::V1Production.capabilities(), queue, Settings::default());
/// let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0).to_bytes();
/// assert_eq!(device.submit(&nop), Reply::Accepted);
/// // It is full until somebody lets it run.
/// assert_eq!(device.submit(&nop), Reply::Retry);
/// ```
#[derive(Debug)]
pub struct Model<M = ProcessMemory> {
    queue: Queue,
    device: Device,
    memory: M,
    scratch: Scratch,
}

/// What executes.
#[derive(Debug)]
struct Device {
    may: Allowance,
    settings: Settings,
    dice: Dice,
    errors: Errors,
}

/// Where data lies between its regions, and descriptors between their list and their turn.
#[derive(Debug)]
struct Scratch {
    bytes: Box<[u8]>,
    members: Vec<Descriptor>,
}

impl Scratch {
    /// The most that is worked on at once, bytes: what stays in the first-level cache with its regions.
    const BYTES: usize = 4 << 10;
    /// The longest batch of devices that were seen.
    const USUAL_BATCH: usize = 1024;

    /// Executing allocates nothing, but for batches longer than devices have them.
    fn new(max_batch: u32) -> Self {
        let members = usize::try_from(max_batch).unwrap_or(usize::MAX).min(Self::USUAL_BATCH);
        Self { bytes: vec![0; 2 * Self::BYTES].into_boxed_slice(), members: Vec::with_capacity(members) }
    }

    /// So many bytes, which are at most `BYTES`.
    fn one(&mut self, len: usize) -> &mut [u8] {
        self.both(len).0
    }

    /// Twice so many.
    fn both(&mut self, len: usize) -> (&mut [u8], &mut [u8]) {
        let len = len.min(Self::BYTES);
        let (one, two) = self.bytes.split_at_mut(Self::BYTES);
        (one.split_at_mut(len).0, two.split_at_mut(len).0)
    }
}

impl Model {
    /// A device that does what descriptors say to the memory of this process.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 128);
    /// let device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.occupancy(), 0);
    /// ```
    #[must_use]
    pub fn new(device: DeviceCapabilities, queue: WorkQueueCapabilities, settings: Settings) -> Self {
        Self::with_memory(device, queue, settings, ProcessMemory)
    }
}

impl<M: Memory> Model<M> {
    /// A device whose addresses lead somewhere else.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, ProcessMemory, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 128);
    /// let device = Preset::V2Full.capabilities();
    /// let model = Model::with_memory(device, queue, Settings::default(), ProcessMemory);
    /// assert_eq!(model.memory(), &ProcessMemory);
    /// ```
    #[must_use]
    pub fn with_memory(
        device: DeviceCapabilities,
        queue: WorkQueueCapabilities,
        settings: Settings,
        memory: M,
    ) -> Self {
        let dice = Dice::new(settings.seed);
        let device = Device { may: device.through(&queue), settings, dice, errors: Errors::default() };
        let scratch = Scratch::new(device.may.max_batch);
        Self { queue: Queue::new(queue), device, memory, scratch }
    }

    /// Submits a descriptor by the instruction that is right for the queue. Touches no memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, Reply, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 1);
    /// let mut device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.submit(&[0; 64]), Reply::Accepted);
    /// assert_eq!(device.submit(&[0; 64]), Reply::Dropped);
    /// assert_eq!(device.errors().dropped, 1);
    /// ```
    pub fn submit(&mut self, bytes: &[u8; Descriptor::BYTES]) -> Reply {
        self.accept(&Descriptor::from_bytes(bytes))
    }

    fn accept(&mut self, descriptor: &Descriptor) -> Reply {
        let instruction = match self.queue.mode() {
            Mode::Dedicated => Instruction::Movdir64b,
            Mode::Shared => Instruction::Enqcmd,
        };
        self.queue.accept(instruction, descriptor, &mut self.device)
    }

    /// Submits a descriptor by either instruction.
    ///
    /// By the wrong one nothing is ever accepted. ENQCMD wants the first 32 bits to be zero, where the CPU puts the
    /// address space: a CPU raises an exception otherwise, and here the descriptor is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Instruction, Model, Reply, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 1);
    /// let mut device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.submit_by(Instruction::Movdir64b, &[0; 64]), Reply::Dropped);
    /// assert_eq!(device.submit_by(Instruction::Enqcmd, &[0; 64]), Reply::Accepted);
    /// ```
    pub fn submit_by(&mut self, instruction: Instruction, bytes: &[u8; Descriptor::BYTES]) -> Reply {
        self.queue.accept(instruction, &Descriptor::from_bytes(bytes), &mut self.device)
    }

    /// What may be submitted to it.
    pub(super) fn allowance(&self) -> Allowance {
        self.device.may
    }

    /// How many descriptors were accepted and have not ended. A batch counts once.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, Reply, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 8);
    /// let mut device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.submit(&[0; 64]), Reply::Accepted);
    /// assert_eq!(device.occupancy(), 1);
    /// ```
    #[must_use]
    pub fn occupancy(&self) -> usize {
        self.queue.occupancy()
    }

    /// What went wrong without a record.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Errors, Model, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 8);
    /// let device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.errors(), Errors::default());
    /// ```
    #[must_use]
    pub fn errors(&self) -> Errors {
        self.device.errors
    }

    /// The queue goes away, as when an administrator disables it: from now on nothing is accepted. What was can still
    /// be executed.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, Reply, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 8);
    /// let mut device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// device.disable();
    /// assert_eq!(device.submit(&[0; 64]), Reply::Retry);
    /// ```
    pub fn disable(&mut self) {
        self.queue.disable();
    }

    /// The memory that its addresses lead to.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, ProcessMemory, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 8);
    /// let device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.memory(), &ProcessMemory);
    /// ```
    #[must_use]
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The same, to change it between two steps.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, ProcessMemory, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 8);
    /// let mut device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// *device.memory_mut() = ProcessMemory;
    /// ```
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }
}
