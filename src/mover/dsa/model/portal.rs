//! The portal to a model: what submits to a device submits to it, unmodified.
//!
//! It asks of descriptors what the portals to hardware ask, and says what they say. What it was given is executed when
//! somebody [attends](Portal::attend) to it, on that thread: so many descriptors in a turn, a batch with all its
//! members counting as one. Whoever looks for completions and does not attend waits for ever.
//!
//! | queue | when it is full |
//! |---|---|
//! | dedicated | nothing is given to the model: the portal counts |
//! | shared | the model says so; asked again, 32 times as the portal to hardware does, then [`Busy`](Stopped::Busy) |
//!
//! **End.** A drop executes what is left, as the kernel has a device drain when its file is closed. In a child that was
//! forked it does nothing, and neither does anything else here: what the parent submitted is the parent's to execute.
#![expect(unsafe_code, reason = "implements the submission, and has the model do what it was told")]

use super::{Errors, Model, Reply, Settings};
use crate::mover::dsa::portal::Terms;
use crate::mover::dsa::{Allowance, Descriptor, DeviceCapabilities, Portal, Stopped, Submitted, WorkQueueCapabilities};

/// How often a shared queue is asked before it counts as full.
const ATTEMPTS: u32 = 32;
/// How many descriptors a turn executes if nobody says otherwise.
const TURN: usize = 8;

/// A model's portal. It has the model to itself, and executes what it is given.
///
/// # Examples
///
/// ```
/// use memring::dsa::model::{ModelPortal, Settings};
/// use memring::dsa::{
///     CompletionRecord, Descriptor, Flags, Mode, Operation, Portal, Preset, WorkQueueCapabilities,
/// };
///
/// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 16);
/// let mut portal = ModelPortal::new(Preset::V1Early.capabilities(), queue, Settings::default());
/// let mut dst = [0_u8; 32];
/// let record = CompletionRecord::new();
/// let fill = Operation::Fill { pattern: 0x0101_0101_0101_0101, pattern_high: 0, dst: &raw mut dst as u64, len: 32 };
/// let descriptor = Descriptor::new(&fill, Flags::RECORD, &raw const record as u64);
/// // SAFETY: the destination and the record outlive the descriptor, and nobody else uses them.
/// assert_eq!(unsafe { portal.submit(&[descriptor]) }.accepted, 1);
/// while record.status().is_pending() {
///     portal.attend();
/// }
/// portal.completed(1);
/// assert!(record.status().is_success());
/// assert_eq!(dst, [1; 32]);
/// ```
#[derive(Debug)]
pub struct ModelPortal {
    model: Model,
    terms: Terms,
    turn: usize,
}

impl ModelPortal {
    /// The portal to a new device with one queue of this configuration, which works on the memory of this process. It
    /// passes batches, and executes 8 descriptors in a turn.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{ModelPortal, Settings};
    /// use memring::dsa::{Mode, Portal, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 16);
    /// let portal = ModelPortal::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(portal.room(), 16);
    /// ```
    #[must_use]
    pub fn new(device: DeviceCapabilities, queue: WorkQueueCapabilities, settings: Settings) -> Self {
        Self { model: Model::new(device, queue, settings), terms: Terms::new(&queue, true), turn: TURN }
    }

    /// Executes so many descriptors in a turn; one, if that is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{ModelPortal, Settings};
    /// use memring::dsa::{Descriptor, Flags, Mode, Operation, Portal, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// let mut portal = ModelPortal::new(Preset::V2Full.capabilities(), queue, Settings::default()).with_turn(1);
    /// let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0);
    /// // SAFETY: they name no memory.
    /// assert_eq!(unsafe { portal.submit(&[nop, nop]) }.accepted, 2);
    /// portal.attend();
    /// assert_eq!(portal.occupancy(), 1);
    /// ```
    #[must_use]
    pub fn with_turn(mut self, descriptors: usize) -> Self {
        self.turn = descriptors.max(1);
        self
    }

    /// Lets no BATCH through, as the kernel does for devices of the first version.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{ModelPortal, Settings};
    /// use memring::dsa::{Mode, Portal, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// let portal = ModelPortal::new(Preset::V2Full.capabilities(), queue, Settings::default()).without_batch();
    /// assert!(!portal.passes_batch());
    /// ```
    #[must_use]
    pub fn without_batch(mut self) -> Self {
        self.terms.passes_batch = false;
        self
    }

    /// How many descriptors were accepted and have not ended: [`Model::occupancy`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{ModelPortal, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// let portal = ModelPortal::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(portal.occupancy(), 0);
    /// ```
    #[must_use]
    pub fn occupancy(&self) -> usize {
        self.model.occupancy()
    }

    /// What went wrong without a record: [`Model::errors`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{ModelPortal, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// let portal = ModelPortal::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(portal.errors().dropped, 0);
    /// ```
    #[must_use]
    pub fn errors(&self) -> Errors {
        self.model.errors()
    }

    /// The queue goes away: [`Model::disable`]. A shared one is busy from now on, and what a dedicated one is sent
    /// vanishes.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{ModelPortal, Settings};
    /// use memring::dsa::{Descriptor, Flags, Mode, Operation, Portal, Preset, Stopped, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// let mut portal = ModelPortal::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// portal.disable();
    /// let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0);
    /// // SAFETY: it names no memory.
    /// assert_eq!(unsafe { portal.submit(&[nop]) }.stopped, Some(Stopped::Busy));
    /// ```
    pub fn disable(&mut self) {
        self.model.disable();
    }

    /// Executes so many of what the model holds, in the process whose memory they name.
    /// What may be submitted to it.
    pub(in crate::mover::dsa) fn allowance(&self) -> Allowance {
        self.model.allowance()
    }

    fn execute(&mut self, descriptors: usize) {
        if !self.terms.is_foreign() {
            // SAFETY: all that the model holds came by `submit`, whose callers vouch for it until it has ended.
            unsafe { self.model.run(descriptors) };
        }
    }
}

// SAFETY: the model keeps the rules of a device, and is done with all of it when it was drained.
unsafe impl Portal for ModelPortal {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let (admitted, stopped) = self.terms.admit(descriptors);
        // What is dropped counts as accepted: nobody is told.
        let mut is_refused = |descriptor| (0..ATTEMPTS).all(|_| self.model.accept(descriptor) == Reply::Retry);
        let refused = descriptors[..admitted].iter().position(&mut is_refused);
        let accepted = refused.unwrap_or(admitted);
        self.terms.accepted(accepted);
        Submitted { accepted, stopped: refused.map(|_| Stopped::Busy).or(stopped) }
    }

    fn attend(&mut self) {
        self.execute(self.turn);
    }

    fn completed(&mut self, count: usize) {
        self.terms.completed(count);
    }

    fn room(&self) -> usize {
        self.terms.room()
    }

    fn passes_batch(&self) -> bool {
        self.terms.passes_batch
    }

    /// The drop does all that is left, here and now.
    fn retire(self: Box<Self>) -> bool {
        !self.terms.is_foreign()
    }
}

impl Drop for ModelPortal {
    fn drop(&mut self) {
        self.execute(usize::MAX);
    }
}
