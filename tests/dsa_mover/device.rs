//! A device in software that takes down what it is given, and works when it is let.
#![expect(unsafe_code, reason = "implements the unsafe portal")]

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memring::dsa::model::{ModelPortal, Settings};
use memring::dsa::{
    Attachment, Descriptor, DeviceCapabilities, DsaOpcode, Flags, Mode, Operation, Portal, Preset, Submitted,
    WorkQueueCapabilities,
};

/// What went to the queue at once: a descriptor by itself, or a batch.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Single(Descriptor),
    Batch(Vec<Descriptor>),
}

impl Entry {
    pub(crate) fn members(&self) -> &[Descriptor] {
        match self {
            Self::Single(descriptor) => std::slice::from_ref(descriptor),
            Self::Batch(members) => members,
        }
    }
}

/// How a device is made, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) device: DeviceCapabilities,
    pub(crate) queue: WorkQueueCapabilities,
    pub(crate) settings: Settings,
    /// What the mover is told that the device can do, if not the truth.
    pub(crate) told: Option<DeviceCapabilities>,
    pub(crate) passes_batch: bool,
    pub(crate) numa_node: Option<u32>,
    /// Whether giving it up is a proof that it touches nothing.
    pub(crate) can_be_retired: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            device: Preset::V2Full.capabilities(),
            queue: WorkQueueCapabilities::new(Mode::Shared, 128),
            settings: Settings::default(),
            told: None,
            passes_batch: true,
            numa_node: None,
            can_be_retired: true,
        }
    }
}

impl Plan {
    /// With these settings changed.
    pub(crate) fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) fn preset(preset: Preset) -> Self {
        Self { device: preset.capabilities(), ..Self::default() }
    }

    pub(crate) fn without(mut self, opcode: DsaOpcode) -> Self {
        self.device.op_cap = self.device.op_cap.without(opcode);
        self
    }
}

/// What a test sees of a device, and does to it.
#[derive(Clone, Debug)]
pub(crate) struct Device(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    taken_down: Vec<Entry>,
    /// It does nothing.
    is_held: bool,
    /// A page that nobody can access any more when it has worked.
    spoils: Option<usize>,
    /// Calls of `submit`.
    calls: usize,
}

impl Device {
    /// A device, and what the mover needs of it.
    pub(crate) fn new(plan: &Plan) -> (Self, Attachment) {
        let device = Self(Arc::default());
        let mut model = ModelPortal::new(plan.device, plan.queue, plan.settings);
        if !plan.passes_batch {
            model = model.without_batch();
        }
        let allowance = plan.told.unwrap_or(plan.device).through(&plan.queue);
        let portal = Watched { device: device.clone(), model, can_be_retired: plan.can_be_retired };
        (device, Attachment { portal: Box::new(portal), allowance, numa_node: plan.numa_node })
    }

    /// Lets it work, or not.
    pub(crate) fn let_run(&self, runs: bool) {
        self.state().is_held = !runs;
    }

    /// Has the page there be gone when it has worked.
    pub(crate) fn spoil(&self, page: *mut u8) {
        self.state().spoils = Some(page.addr());
    }

    /// What was submitted since the last look.
    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.state().taken_down)
    }

    /// Calls of `submit` so far.
    pub(crate) fn calls(&self) -> usize {
        self.state().calls
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Watched {
    device: Device,
    model: ModelPortal,
    can_be_retired: bool,
}

// SAFETY: the model keeps the rules, and this changes nothing of what it is given.
unsafe impl Portal for Watched {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        // SAFETY: the caller's contract.
        let submitted = unsafe { self.model.submit(descriptors) };
        let mut state = self.device.state();
        state.calls += 1;
        for descriptor in &descriptors[..submitted.accepted] {
            state.taken_down.push(match descriptor.operation() {
                // SAFETY: so many descriptors are there until the batch has ended, which it has not.
                Ok(Operation::Batch { list, count }) => Entry::Batch(unsafe { members(list, count) }.to_vec()),
                _ => Entry::Single(*descriptor),
            });
        }
        submitted
    }

    fn attend(&mut self) {
        if self.device.state().is_held {
            return;
        }
        self.model.attend();
        if let Some(page) = self.device.state().spoils.filter(|_| self.model.occupancy() == 0) {
            let page = std::ptr::with_exposed_provenance_mut(page);
            // SAFETY: whoever asked for it touches the page no more.
            assert_eq!(unsafe { libc::mprotect(page, 4096, libc::PROT_NONE) }, 0);
        }
    }

    fn completed(&mut self, count: usize) {
        self.model.completed(count);
    }

    fn room(&self) -> usize {
        self.model.room()
    }

    fn passes_batch(&self) -> bool {
        self.model.passes_batch()
    }

    fn retire(self: Box<Self>) -> bool {
        // What it has goes undone: a device that was only slow would do it first.
        let Self { model, can_be_retired, .. } = *self;
        let _undone = ManuallyDrop::new(model);
        can_be_retired
    }
}

/// The list of a batch.
///
/// # Safety
///
/// It is there, and stays as it is while it is borrowed.
unsafe fn members<'a>(list: u64, count: u32) -> &'a [Descriptor] {
    let list = std::ptr::with_exposed_provenance(usize::try_from(list).unwrap());
    // SAFETY: the caller's contract.
    unsafe { std::slice::from_raw_parts(list, count as usize) }
}

/// Whether a descriptor has this flag.
pub(crate) fn has(descriptor: &Descriptor, flag: Flags) -> bool {
    descriptor.flags().contains(flag)
}
