//! A memory of pages that are there or not, at addresses that are nobody's, and a device that has it.
#![expect(unsafe_code, reason = "implements a memory whose accesses a model vouches for, and has a model run")]

use memring::dsa::model::{Access, Memory, Model, Reply, Settings};
use memring::dsa::{
    Descriptor, DeviceCapabilities, Flags, GenCap, Mode, Operation, Preset, RecordView, WorkQueueCapabilities,
};

/// Where the memory begins.
pub(crate) const BASE: u64 = 0x7f00_0010_0000;
pub(crate) const PAGE: usize = 4096;
const PAGES: usize = 10;
/// What the bytes are that nobody wrote.
const NOBODYS: u8 = 0xee;
/// Where the test's records are: the last page.
pub(crate) const RECORD: u64 = at(9 * PAGE);

/// The address at this offset.
pub(crate) const fn at(offset: usize) -> u64 {
    BASE + offset as u64
}

/// The pages.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) bytes: Vec<u8>,
    can_be_read: [bool; PAGES],
    can_be_written: [bool; PAGES],
    /// How many records were written.
    pub(crate) records: usize,
    pub(crate) flushed: usize,
}

impl Map {
    pub(crate) fn new() -> Self {
        let bytes = vec![NOBODYS; PAGES * PAGE];
        Self { bytes, can_be_read: [true; PAGES], can_be_written: [true; PAGES], records: 0, flushed: 0 }
    }

    fn offset(address: u64, len: usize) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(BASE)?).ok()?;
        (offset.checked_add(len)? <= PAGES * PAGE).then_some(offset)
    }

    pub(crate) fn slice(&self, address: u64, len: usize) -> &[u8] {
        let offset = Self::offset(address, len).expect("the test knows its memory");
        &self.bytes[offset..offset + len]
    }

    pub(crate) fn slice_mut(&mut self, address: u64, len: usize) -> &mut [u8] {
        let offset = Self::offset(address, len).expect("the test knows its memory");
        &mut self.bytes[offset..offset + len]
    }

    /// Two regions that do not overlap.
    pub(crate) fn two(&mut self, src: u64, dst: u64, len: usize) -> (Vec<u8>, &mut [u8]) {
        (self.slice(src, len).to_vec(), self.slice_mut(dst, len))
    }

    /// Takes the page away, for reading too or only for writing.
    pub(crate) fn unmap(&mut self, page: usize, access: Access) {
        self.can_be_written[page] = false;
        self.can_be_read[page] &= access == Access::Write;
    }

    /// What a program does at a fault: it touches the page, in the way that is missing.
    pub(crate) fn touch(&mut self, address: u64, is_write: bool) {
        let page = Self::offset(address, 1).expect("the fault is in the memory") / PAGE;
        self.can_be_read[page] = true;
        self.can_be_written[page] |= is_write;
    }

    /// The record, if it was written. The bytes after it never are.
    pub(crate) fn record(&self, address: u64) -> Option<RecordView> {
        let bytes: &[u8; 32] = self.slice(address, 32).try_into().expect("a record has 32 bytes");
        (bytes[0] != 0).then(|| RecordView::from_bytes(bytes))
    }

    pub(crate) fn clear(&mut self, address: u64) {
        self.slice_mut(address, 1)[0] = 0;
    }
}

impl Memory for Map {
    fn is_mapped(&mut self, address: u64, len: usize, access: Access) -> bool {
        let Some(offset) = Self::offset(address, len) else { return false };
        let (first, last) = (offset / PAGE, (offset + len.max(1) - 1) / PAGE);
        assert_eq!(first, last, "an access crosses pages");
        if access == Access::Write { self.can_be_written[first] } else { self.can_be_read[first] }
    }

    unsafe fn read(&mut self, address: u64, into: &mut [u8]) {
        assert!(self.is_mapped(address, into.len(), Access::Read), "a read of what is not there");
        into.copy_from_slice(self.slice(address, into.len()));
    }

    unsafe fn write(&mut self, address: u64, from: &[u8]) {
        assert!(self.is_mapped(address, from.len(), Access::Write), "a write to what is not there");
        self.slice_mut(address, from.len()).copy_from_slice(from);
    }

    unsafe fn write_record(&mut self, address: u64, record: &RecordView) {
        assert!(address.is_multiple_of(32), "a record that is not aligned");
        self.records += 1;
        // SAFETY: this memory demands nothing.
        unsafe { self.write(address, &record.to_bytes()) };
    }

    unsafe fn flush(&mut self, address: u64, len: usize) {
        assert!(self.is_mapped(address, len, Access::Read), "a flush of what is not there");
        self.flushed += len;
    }
}

/// A model on such a memory.
pub(crate) type Device = Model<Map>;

/// All of the newest device, and a batch of one.
pub(crate) fn everything() -> DeviceCapabilities {
    let mut device = Preset::V2Full.capabilities();
    device.gen_cap = device.gen_cap.with(GenCap::BATCH_OF_ONE).with(GenCap::DURABLE_WRITE);
    device
}

/// A queue with all that a queue can have.
pub(crate) fn queue(mode: Mode) -> WorkQueueCapabilities {
    let mut queue = WorkQueueCapabilities::new(mode, 8);
    queue.blocks_on_fault = true;
    queue
}

pub(crate) fn device(settings: Settings) -> Device {
    Model::with_memory(everything(), queue(Mode::Dedicated), settings, Map::new())
}

/// Has it execute all that it accepted.
pub(crate) fn drain(device: &mut Device) -> usize {
    // SAFETY: its memory demands nothing.
    unsafe { device.drain() }
}

/// Has it execute one.
pub(crate) fn step(device: &mut Device) -> bool {
    // SAFETY: its memory demands nothing.
    unsafe { device.step() }
}

/// Submits a descriptor whose record is `RECORD`, executes it, and reads what the record says, if anything.
pub(crate) fn run(device: &mut Device, descriptor: &Descriptor) -> Option<RecordView> {
    device.memory_mut().clear(RECORD);
    while device.submit(&descriptor.to_bytes()) == Reply::Retry {}
    assert_eq!(drain(device), 1);
    device.memory().record(RECORD)
}

/// The same of an operation, which must have a record.
pub(crate) fn perform(device: &mut Device, operation: &Operation, flags: Flags) -> RecordView {
    run(device, &Descriptor::new(operation, flags | Flags::RECORD, RECORD)).expect("it has a record")
}
