//! Where the model's addresses lead: to the memory of this process, with a look at each record on its way.
#![expect(unsafe_code, reason = "implements `Memory`")]

use memring::dsa::model::{Access, Memory};
use memring::dsa::{Descriptor, DsaOpcode, Operation, RecordView};

use crate::faults::MissingPages;
use crate::layout;
use crate::page::Page;
use crate::process;
use crate::settings::{Broken, Settings};
use crate::trace;

/// Memory, and what is said of it.
#[derive(Debug)]
pub(crate) struct Reached {
    page: Page,
    can_populate: bool,
    /// Whose records are traced: the queue's name.
    traced: Option<String>,
    broken: Option<Broken>,
    missing: Option<MissingPages>,
    /// What is executed, if it is known.
    current: DsaOpcode,
}

impl Reached {
    pub(crate) fn new(page: Page, traced: Option<String>, settings: &Settings) -> Self {
        let missing = settings.faults.map(|seed| MissingPages::new(seed, settings.fault_at));
        let can_populate = process::can_populate();
        Self { page, can_populate, traced, broken: settings.broken, missing, current: DsaOpcode::NOP }
    }

    /// A descriptor is executed next; this one, if it is known.
    pub(crate) fn begin(&mut self, descriptor: Option<&Descriptor>) {
        if let Some(missing) = &mut self.missing {
            missing.begin();
        }
        let Some(descriptor) = descriptor else { return };
        self.current = descriptor.opcode();
        if let Ok(Operation::Batch { list, .. }) = descriptor.operation() {
            // One stands for all of them.
            let mut bytes = [0; Descriptor::BYTES];
            if process::read(list, &mut bytes) {
                self.current = Descriptor::from_bytes(&bytes).opcode();
            }
        }
    }

    fn writes_wrong(&self) -> bool {
        matches!(
            (self.broken, self.current),
            (Some(Broken::Fill), DsaOpcode::FILL)
                | (Some(Broken::Memmove), DsaOpcode::MEMMOVE)
                | (Some(Broken::Dualcast), DsaOpcode::DUALCAST)
        )
    }

    fn said(&self, record: &RecordView) -> RecordView {
        let missing = record.fault().and_then(|fault| self.missing.as_ref()?.exactly(fault.address));
        let record = missing.map_or(*record, |address| record.with_fault_address(address));
        match (self.broken, self.current) {
            (Some(Broken::Crc), DsaOpcode::CRCGEN | DsaOpcode::COPY_CRC) => record.with_crc32(!record.crc32()),
            (Some(Broken::Compare), DsaOpcode::COMPARE | DsaOpcode::COMPVAL) => record.with_result(record.result() ^ 1),
            _ => record,
        }
    }
}

impl Memory for Reached {
    const PAGE_BYTES: u64 = process::PAGE;

    fn is_mapped(&mut self, address: u64, len: usize, access: Access) -> bool {
        if self.missing.as_mut().is_some_and(|missing| missing.has(address, len, access)) {
            return false;
        }
        match access {
            _ if self.can_populate => process::populate(address, len.max(1), access == Access::Write),
            // An old kernel cannot be asked about writing without a write.
            _ => process::read(address, &mut [0]),
        }
    }

    unsafe fn read(&mut self, address: u64, into: &mut [u8]) {
        // What has gone meanwhile is as if it were zeros.
        let _ = process::read(address, into);
    }

    unsafe fn write(&mut self, address: u64, from: &[u8]) {
        if let (true, Some((first, rest))) = (self.writes_wrong(), from.split_first()) {
            // SAFETY: the caller vouches for it.
            let _ = unsafe { process::write(address, &[!first]) };
            // SAFETY: as above.
            let _ = unsafe { process::write(address.wrapping_add(1), rest) };
            return;
        }
        // SAFETY: the caller vouches for it. What has gone meanwhile is nobody's loss.
        let _ = unsafe { process::write(address, from) };
    }

    unsafe fn write_record(&mut self, address: u64, record: &RecordView) {
        let record = self.said(record);
        self.page.add(layout::RECORDS, 1);
        self.page.add(layout::STATUSES + usize::from(record.status().code().to_u8()), 1);
        if let Some(queue) = &self.traced {
            // Before it is there: who waits for it may end the process.
            trace::record(queue, address, &record);
        }
        let [status, rest @ ..] = record.to_bytes();
        // SAFETY: the caller vouches for it. The kernel stores the bytes before it returns, so the status comes last.
        let _ = unsafe { process::write(address.wrapping_add(1), &rest) };
        // SAFETY: as above.
        let _ = unsafe { process::write(address, &[status]) };
    }

    unsafe fn flush(&mut self, _address: u64, _len: usize) {
        // The lines are coherent; nobody can see a difference.
    }
}
