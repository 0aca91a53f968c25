//! Running: a model has no thread of its own. Who drives it says when it executes what it accepted, and vouches for it.
#![expect(unsafe_code, reason = "lets the model access what descriptors name")]

use super::Model;
use super::execution::complete;
use super::memory::{Memory, Vouched};
use super::null::pretend;

impl<M: Memory> Model<M> {
    /// Executes one of the descriptors that were accepted, a batch with all its members, writes the records that it
    /// wants, and takes it out of the queue. Says whether there was one.
    ///
    /// # Safety
    ///
    /// Of each descriptor that the queue holds, and of each in the list of a batch, as for
    /// [`Portal::submit`](crate::dsa::Portal::submit): the memory that it reads stays as it is, and the memory that it
    /// writes is accessed by nobody else, until it has ended. The list of a batch and the records are such memory too,
    /// but for the records' first bytes, which others may load as [`CompletionRecord`](crate::dsa::CompletionRecord)
    /// does.
    ///
    /// With [`ProcessMemory`](super::ProcessMemory) all of it is mapped, and its provenance is exposed, as `as u64` and
    /// `expose_provenance` do. Another [`Memory`] may demand less.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, Reply, Settings};
    /// use memring::dsa::{CompletionRecord, Descriptor, Flags, Mode, Operation, Preset, WorkQueueCapabilities};
    ///
    /// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 16);
    /// let mut device = Model::new(Preset::V1Early.capabilities(), queue, Settings::default());
    /// let (src, mut dst) = (*b"streaming", [0; 9]);
    /// let record = CompletionRecord::new();
    /// let (from, to, at) = (&raw const src as u64, &raw mut dst as u64, &raw const record as u64);
    /// let copy = Operation::Memmove { src: from, dst: to, len: 9 };
    /// assert_eq!(device.submit(&Descriptor::new(&copy, Flags::RECORD, at).to_bytes()), Reply::Accepted);
    /// // SAFETY: the regions and the record outlive the descriptor, and nobody else uses them.
    /// assert!(unsafe { device.step() });
    /// assert!(record.status().is_success());
    /// assert_eq!(&dst, b"streaming");
    /// ```
    pub unsafe fn step(&mut self) -> bool {
        // SAFETY: the caller vouches for what the descriptors name that the queue holds; nothing else is given to it.
        let mut memory = unsafe { Vouched::new(&mut self.memory) };
        if self.device.settings.is_null {
            if let Some(descriptor) = self.queue.first() {
                pretend(&self.device.settings, &mut memory, descriptor);
            }
            return self.queue.end_first();
        }
        let Some(descriptor) = self.queue.take(self.device.settings.completions, &mut self.device.dice) else {
            return false;
        };
        complete(&mut self.device, &mut memory, &mut self.scratch, &descriptor, false);
        true
    }

    /// Executes up to so many, and says how many it were.
    ///
    /// # Safety
    ///
    /// As for [`step`](Self::step).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, Reply, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 4);
    /// let mut device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.submit(&[0; 64]), Reply::Accepted);
    /// assert_eq!(device.submit(&[0; 64]), Reply::Accepted);
    /// // SAFETY: a no-op without a record names no memory.
    /// assert_eq!(unsafe { device.run(1) }, 1);
    /// assert_eq!(device.occupancy(), 1);
    /// ```
    pub unsafe fn run(&mut self, most: usize) -> usize {
        // SAFETY: the caller vouches for it.
        (0..most).take_while(|_| unsafe { self.step() }).count()
    }

    /// Executes all of them, and says how many it were.
    ///
    /// # Safety
    ///
    /// As for [`step`](Self::step).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Model, Reply, Settings};
    /// use memring::dsa::{Mode, Preset, WorkQueueCapabilities};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 4);
    /// let mut device = Model::new(Preset::V2Full.capabilities(), queue, Settings::default());
    /// assert_eq!(device.submit(&[0; 64]), Reply::Accepted);
    /// // SAFETY: a no-op without a record names no memory.
    /// assert_eq!(unsafe { device.drain() }, 1);
    /// ```
    pub unsafe fn drain(&mut self) -> usize {
        // SAFETY: the caller vouches for it.
        unsafe { self.run(usize::MAX) }
    }
}
