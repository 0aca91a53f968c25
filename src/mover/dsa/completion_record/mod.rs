//! Completion records: 32 bytes of memory that a device writes when a descriptor has ended, the status last.
//!
//! | bytes | field | of |
//! |---|---|---|
//! | 0 | [status](RecordStatus) | all |
//! | 1 | result, or DIF status | comparisons, deltas, MEMMOVE, BATCH, DIF |
//! | 2 | fault info | devices that have GENCAP bit 12 |
//! | 3 | unused | |
//! | 4-7 | bytes completed; descriptors completed | all; BATCH |
//! | 8-15 | fault address | page faults |
//! | 16-18 | invalid flags | [`INVALID_FLAGS`](RecordStatus::INVALID_FLAGS) |
//! | 16-19 | delta record length, CRC | CR_DELTA, CRCGEN, COPY_CRC |
//! | 16-23 | CRC of 64 bits | the latter |
//! | 16-23 | tags of the source | DIF_CHECK, DIF_STRP, DIF_UPDT |
//! | 24-31 | tags of the destination | DIF_INS, DIF_UPDT, DIX_GEN |
//!
//! What is not listed for an operation may hold anything. Nothing is read before the status was seen, with acquire:
//! [`CompletionRecord`] hands out its status or a [`RecordView`], which is a copy that was taken after it.
//!
//! A device writes this memory beside the CPU, as another thread would. So each field is an atomic of its own size, and
//! a record is only ever shared; who plays the device [writes](CompletionRecord::write) through the same fields. This
//! file is one of the few outside of `ring/` that hold atomics: loom has no device.
//!
//! Source: SPEC chapters 5 and 8; UAPI `struct dsa_completion_record`.
#![expect(clippy::disallowed_types, reason = "the device writes these words, and no loom model of ours has a device")]

mod status;
mod view;

use core::fmt;
use core::mem::offset_of;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

pub use status::{RecordStatus, StatusClass};
pub use view::{Fault, FaultInfo, RecordView};

/// A completion record where the device writes it.
///
/// A device needs 32 bytes, aligned to 32. It has a cache line to itself: instructions that wait for a store watch a
/// line, and neighbours in it would wake them.
///
/// # Examples
///
/// ```
/// use memring::dsa::{CompletionRecord, RecordStatus, RecordView};
///
/// let record = CompletionRecord::new();
/// assert!(record.view().is_none());
/// // What a device does:
/// record.write(&RecordView::new(RecordStatus::SUCCESS_PREDICATE).with_result(1).with_bytes_completed(512));
/// // What its user does:
/// let view = record.view().expect("it is written");
/// assert_eq!((view.result(), view.bytes_completed()), (1, 512));
/// ```
#[repr(C, align(64))]
pub struct CompletionRecord {
    fields: Fields,
    /// The rest of the line.
    rest: [u64; 4],
}

/// What the device writes. Records of other programs may have a line for two.
#[repr(C, align(32))]
pub(in crate::mover::dsa) struct Fields {
    status: AtomicU8,
    result: AtomicU8,
    fault_info: AtomicU8,
    unused: AtomicU8,
    bytes_completed: AtomicU32,
    fault_address: AtomicU64,
    at_16: AtomicU64,
    at_24: AtomicU64,
}

const _: () = {
    assert!(size_of::<CompletionRecord>() == 64 && align_of::<CompletionRecord>() == 64);
    assert!(offset_of!(CompletionRecord, fields) == 0);
    assert!(offset_of!(CompletionRecord, rest) == CompletionRecord::BYTES);
    assert!(size_of::<Fields>() == CompletionRecord::BYTES && align_of::<Fields>() == CompletionRecord::BYTES);
    assert!(offset_of!(Fields, status) == 0 && offset_of!(Fields, result) == 1);
    assert!(offset_of!(Fields, fault_info) == 2);
    assert!(offset_of!(Fields, bytes_completed) == 4);
    assert!(offset_of!(Fields, fault_address) == 8);
    assert!(offset_of!(Fields, at_16) == 16 && offset_of!(Fields, at_24) == 24);
};

impl CompletionRecord {
    /// The size of what a device writes, and its alignment, bytes.
    pub const BYTES: usize = 32;

    /// A record that nothing was written to.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(memring::dsa::CompletionRecord::new().status().is_pending());
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        let fields = Fields {
            status: AtomicU8::new(0),
            result: AtomicU8::new(0),
            fault_info: AtomicU8::new(0),
            unused: AtomicU8::new(0),
            bytes_completed: AtomicU32::new(0),
            fault_address: AtomicU64::new(0),
            at_16: AtomicU64::new(0),
            at_24: AtomicU64::new(0),
        };
        Self { fields, rest: [0; 4] }
    }

    /// The status: pending until the device has written all the rest.
    ///
    /// Memory ordering: acquire. What the device wrote before, here and to the destination, is seen by who sees that
    /// the status is not pending.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{CompletionRecord, RecordStatus};
    /// assert_eq!(CompletionRecord::new().status(), RecordStatus::PENDING);
    /// ```
    #[must_use]
    #[inline]
    pub fn status(&self) -> RecordStatus {
        // Ordering: Acquire, of the device's last write, or of `write`.
        RecordStatus::from_u8(self.fields.status.load(Ordering::Acquire))
    }

    /// A copy of the record, if the device has written it. Memory ordering: as [`status`](Self::status).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{CompletionRecord, RecordStatus, RecordView};
    /// let record = CompletionRecord::new();
    /// record.write(&RecordView::new(RecordStatus::SUCCESS));
    /// assert_eq!(record.view().map(|view| view.status()), Some(RecordStatus::SUCCESS));
    /// ```
    #[must_use]
    pub fn view(&self) -> Option<RecordView> {
        let (status, fields) = (self.status(), &self.fields);
        // Ordering: Relaxed, since the status was acquired, and nobody writes after it until the record is cleared.
        let view = || RecordView {
            status,
            result: fields.result.load(Ordering::Relaxed),
            fault_info: fields.fault_info.load(Ordering::Relaxed),
            unused: fields.unused.load(Ordering::Relaxed),
            bytes_completed: u32::from_le(fields.bytes_completed.load(Ordering::Relaxed)),
            fault_address: u64::from_le(fields.fault_address.load(Ordering::Relaxed)),
            at_16: u64::from_le(fields.at_16.load(Ordering::Relaxed)),
            at_24: u64::from_le(fields.at_24.load(Ordering::Relaxed)),
        };
        (!status.is_pending()).then(view)
    }

    /// Makes it pending again, before its address goes to a device once more; never while a device has it.
    ///
    /// Memory ordering: release, after all that was read of it. That the device sees it is the submission's affair.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{CompletionRecord, RecordStatus, RecordView};
    /// let record = CompletionRecord::new();
    /// record.write(&RecordView::new(RecordStatus::SUCCESS));
    /// record.clear();
    /// assert!(record.view().is_none());
    /// ```
    #[inline]
    pub fn clear(&self) {
        // Ordering: Release, so that reads of the fields stay before it; the submission makes it known to the device.
        self.fields.status.store(0, Ordering::Release);
    }

    /// Writes it as a device does: the status last.
    ///
    /// Memory ordering: release. Who sees the status sees all that this thread wrote before.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{CompletionRecord, RecordStatus, RecordView};
    /// let record = CompletionRecord::new();
    /// record.write(&RecordView::new(RecordStatus::BAD_LENGTH));
    /// assert!(record.status().is_programming_error());
    /// ```
    #[inline]
    pub fn write(&self, view: &RecordView) {
        self.fields.write(view);
    }
}

impl Fields {
    /// As [`CompletionRecord::write`].
    #[inline]
    pub(in crate::mover::dsa) fn write(&self, view: &RecordView) {
        // Ordering: Relaxed, since the status publishes these.
        self.result.store(view.result, Ordering::Relaxed);
        self.fault_info.store(view.fault_info, Ordering::Relaxed);
        self.unused.store(view.unused, Ordering::Relaxed);
        self.bytes_completed.store(view.bytes_completed.to_le(), Ordering::Relaxed);
        self.fault_address.store(view.fault_address.to_le(), Ordering::Relaxed);
        self.at_16.store(view.at_16.to_le(), Ordering::Relaxed);
        self.at_24.store(view.at_24.to_le(), Ordering::Relaxed);
        // Ordering: Release, for the acquire in `status`.
        self.status.store(view.status.to_u8(), Ordering::Release);
    }
}

impl Default for CompletionRecord {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CompletionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.view() {
            Some(view) => view.fmt(f),
            None => f.write_str("CompletionRecord(PENDING)"),
        }
    }
}
