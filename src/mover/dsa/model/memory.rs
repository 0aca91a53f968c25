//! The memory of a model: where the addresses in descriptors lead.
//!
//! A device reads and writes by raw addresses. So does a model with [`ProcessMemory`], and then who lets it run vouches
//! for every address, as for a push. A test puts a [`Memory`] of its own in its place: a map of what may be accessed,
//! which answers for the rest that the page is missing.
//!
//! The rest of the model is safe code. It gets at memory only by a [`Vouched`], which exists only while somebody who
//! vouched has the model run; and a `Vouched` asks whether memory is mapped before it touches it.
#![expect(unsafe_code, reason = "accesses memory by the addresses in descriptors")]

use core::ptr::{copy_nonoverlapping, with_exposed_provenance, with_exposed_provenance_mut};

use crate::memory::{can_flush, flush};
use crate::mover::dsa::{CompletionRecord, RecordFields, RecordView};
pub use crate::os::Access;

/// Where addresses lead.
///
/// # Examples
///
/// ```
/// use memring::dsa::model::{Access, Memory, Model, Reply, Settings};
/// use memring::dsa::{Descriptor, Flags, Mode, Operation, Preset, RecordView, WorkQueueCapabilities};
///
/// /// A page at address 0x1000, and nothing else.
/// struct Page([u8; 4096]);
///
/// impl Page {
///     fn at(&mut self, address: u64, len: usize) -> &mut [u8] {
///         &mut self.0[address as usize - 0x1000..][..len]
///     }
/// }
///
/// impl Memory for Page {
///     fn is_mapped(&mut self, address: u64, _len: usize, _access: Access) -> bool {
///         address / 4096 == 1
///     }
///     unsafe fn read(&mut self, address: u64, into: &mut [u8]) {
///         into.copy_from_slice(self.at(address, into.len()));
///     }
///     unsafe fn write(&mut self, address: u64, from: &[u8]) {
///         self.at(address, from.len()).copy_from_slice(from);
///     }
///     unsafe fn write_record(&mut self, address: u64, record: &RecordView) {
///         self.at(address, 32).copy_from_slice(&record.to_bytes());
///     }
///     unsafe fn flush(&mut self, _address: u64, _len: usize) {}
/// }
///
/// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 16);
/// let device = Preset::V1Early.capabilities();
/// let mut device = Model::with_memory(device, queue, Settings::default(), Page([0; 4096]));
/// let fill = Operation::Fill { pattern: 7, pattern_high: 0, dst: 0x1ff0, len: 100 };
/// assert_eq!(device.submit(&Descriptor::new(&fill, Flags::RECORD, 0x1000).to_bytes()), Reply::Accepted);
/// // SAFETY: this memory demands nothing.
/// assert!(unsafe { device.step() });
/// // It stopped at the next page, which it was to write.
/// assert_eq!((device.memory().0[0], device.memory().0[4]), (0x83, 16));
/// ```
pub trait Memory {
    /// The unit in which memory is mapped or not, bytes: a power of two. No access crosses a boundary of it.
    const PAGE_BYTES: u64 = 4096;

    /// Whether these bytes, which are in one page, can be accessed in this way. If not, the descriptor that named them
    /// ends with a page fault.
    fn is_mapped(&mut self, address: u64, len: usize, access: Access) -> bool;

    /// Reads so many bytes.
    ///
    /// # Safety
    ///
    /// The bytes are [mapped](Self::is_mapped) for this, belong to the descriptor, and are not written meanwhile.
    unsafe fn read(&mut self, address: u64, into: &mut [u8]);

    /// Writes these bytes.
    ///
    /// # Safety
    ///
    /// The bytes are [mapped](Self::is_mapped) for this, belong to the descriptor, and nobody else accesses them
    /// meanwhile.
    unsafe fn write(&mut self, address: u64, from: &[u8]);

    /// Writes a completion record: its status last, with release, as
    /// [`CompletionRecord::write`](crate::dsa::CompletionRecord::write). The address is a multiple of 32.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write), but that others may wait for the status with atomic loads.
    unsafe fn write_record(&mut self, address: u64, record: &RecordView);

    /// Writes the cache lines of these bytes back. What cannot does nothing.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read).
    unsafe fn flush(&mut self, address: u64, len: usize);
}

/// The memory of this process. Nothing is checked but that an address is not null or close to it: any other that is
/// not mapped ends the process by a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory;

/// Below this nothing is mapped, so that null pointers are found; bytes.
const LOWEST: u64 = 4096;

impl Memory for ProcessMemory {
    const PAGE_BYTES: u64 = 1 << 63;

    fn is_mapped(&mut self, address: u64, len: usize, _: Access) -> bool {
        let end = usize::try_from(address).ok().and_then(|start| start.checked_add(len));
        address >= LOWEST && end.is_some_and(|end| end <= isize::MAX.unsigned_abs())
    }

    unsafe fn read(&mut self, address: u64, into: &mut [u8]) {
        let from = with_exposed_provenance::<u8>(place(address));
        // SAFETY: the caller vouches that so many bytes from there on can be read and that nobody writes them; the
        // destination is ours alone, so they do not overlap.
        unsafe { copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }

    unsafe fn write(&mut self, address: u64, from: &[u8]) {
        let to = with_exposed_provenance_mut::<u8>(place(address));
        // SAFETY: the caller vouches that so many bytes from there on can be written and that nobody else accesses
        // them; the source is a buffer of the model, so they do not overlap.
        unsafe { copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    #[inline]
    unsafe fn write_record(&mut self, address: u64, record: &RecordView) {
        let at = with_exposed_provenance::<RecordFields>(place(address));
        // SAFETY: it is aligned, and the caller vouches that it is there and that others access it by atomic loads
        // only, as this does by atomic stores.
        unsafe { &*at }.write(record);
    }

    unsafe fn flush(&mut self, address: u64, len: usize) {
        if can_flush() {
            // SAFETY: the caller vouches that these bytes can be read, and the CPU has the instruction.
            unsafe { flush(with_exposed_provenance::<u8>(place(address)), len) }
        }
    }
}

/// The address as the process counts it. What does not fit is not mapped, and so never comes here.
fn place(address: u64) -> usize {
    usize::try_from(address).unwrap_or(0)
}

/// Memory, in the hands of code that may access what descriptors name.
#[derive(Debug)]
pub(super) struct Vouched<'a, M>(&'a mut M);

impl<'a, M: Memory> Vouched<'a, M> {
    /// # Safety
    ///
    /// While this exists, only addresses that are named by descriptors which were submitted are given to it, and
    /// somebody vouches for those as [`Model::step`](super::Model::step) demands.
    pub(super) unsafe fn new(memory: &'a mut M) -> Self {
        Self(memory)
    }

    /// Whether these bytes, in one page, can be accessed.
    pub(super) fn is_mapped(&mut self, address: u64, len: usize, access: Access) -> bool {
        address.checked_add(len as u64).is_some() && self.0.is_mapped(address, len, access)
    }

    /// Reads bytes of one page, if they are mapped.
    #[must_use]
    pub(super) fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        let is_mapped = self.is_mapped(address, into.len(), Access::Read);
        if is_mapped {
            // SAFETY: they are mapped, and vouched for by who made this.
            unsafe { self.0.read(address, into) };
        }
        is_mapped
    }

    /// Writes bytes of one page, if they are mapped.
    #[must_use]
    pub(super) fn write(&mut self, address: u64, from: &[u8]) -> bool {
        let is_mapped = self.is_mapped(address, from.len(), Access::Write);
        if is_mapped {
            // SAFETY: they are mapped, and vouched for by who made this.
            unsafe { self.0.write(address, from) };
        }
        is_mapped
    }

    /// Writes a record, if its memory is mapped. The address is a multiple of 32, so it is in one page.
    #[must_use]
    pub(super) fn write_record(&mut self, address: u64, record: &RecordView) -> bool {
        let is_mapped = self.is_mapped(address, CompletionRecord::BYTES, Access::Write);
        if is_mapped {
            // SAFETY: it is mapped, and vouched for by who made this.
            unsafe { self.0.write_record(address, record) };
        }
        is_mapped
    }

    /// Writes cache lines of one page back, if they are mapped.
    #[must_use]
    pub(super) fn flush(&mut self, address: u64, len: usize) -> bool {
        let is_mapped = self.is_mapped(address, len, Access::Read);
        if is_mapped {
            // SAFETY: they are mapped, and vouched for by who made this.
            unsafe { self.0.flush(address, len) };
        }
        is_mapped
    }
}
