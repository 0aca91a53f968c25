//! The arena: descriptors that a device reads and records that it writes, at places that do not move.
//!
//! All of it is made once, for as long as the mover lives, and was written to then, so that its pages are mapped.
#![expect(unsafe_code, reason = "hands out memory that a device reads")]

use core::cell::UnsafeCell;
use core::slice;
use std::sync::Arc;

use crate::mover::dsa::{CompletionRecord, Descriptor, Flags, Operation};

/// The most members of a flight.
pub(super) const MEMBERS: usize = 32;

/// The memory of one flight.
#[repr(C, align(64))]
struct Place {
    /// Written by the arena's owner, and only while no device reads it.
    list: [UnsafeCell<Descriptor>; MEMBERS],
    records: [CompletionRecord; MEMBERS],
    batch_record: CompletionRecord,
}

/// The memory of all flights of one mover.
///
/// Devices keep addresses of it, so it is behind an [`Arc`], which may move without what it holds, and is never
/// borrowed mutably as a whole.
pub(super) struct Arena(Arc<[Place]>);

// SAFETY: the one owner writes the lists, through `&mut`; all else is read, or atomic.
unsafe impl Send for Arena {}

impl Arena {
    pub(super) fn new(flights: usize) -> Self {
        const NOTHING: Descriptor = Descriptor::new(&Operation::Nop, Flags::NONE, 0);
        let place = || Place {
            list: [NOTHING; MEMBERS].map(UnsafeCell::new),
            records: [const { CompletionRecord::new() }; MEMBERS],
            batch_record: CompletionRecord::new(),
        };
        Self((0..flights).map(|_| place()).collect())
    }

    #[inline]
    pub(super) fn record(&self, flight: usize, member: usize) -> &CompletionRecord {
        &self.0[flight].records[member]
    }

    pub(super) fn batch_record(&self, flight: usize) -> &CompletionRecord {
        &self.0[flight].batch_record
    }

    pub(super) fn descriptor(&self, flight: usize, member: usize) -> Descriptor {
        // SAFETY: only the owner writes it, through `&mut`.
        unsafe { *self.0[flight].list[member].get() }
    }

    /// Gives a member this descriptor, made for the address of its record, which tells of it from now on.
    ///
    /// # Safety
    ///
    /// No device has this member, nor a list that it is in.
    #[inline]
    pub(super) unsafe fn write(&mut self, flight: usize, member: usize, descriptor: impl FnOnce(u64) -> Descriptor) {
        let place = &self.0[flight];
        let record = &place.records[member];
        record.clear();
        let descriptor = descriptor(address(record));
        // SAFETY: the caller says that no device reads it; no other thread of ours does.
        unsafe { place.list[member].get().write(descriptor) };
    }

    /// Has this member wait for those before it in its batch, or not.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write).
    pub(super) unsafe fn set_fence(&mut self, flight: usize, member: usize, waits: bool) {
        let descriptor = self.descriptor(flight, member);
        if waits == descriptor.flags().contains(Flags::FENCE) {
            return;
        }
        let flags =
            if waits { descriptor.flags().with(Flags::FENCE) } else { descriptor.flags().without(Flags::FENCE) };
        if let Ok(operation) = descriptor.operation() {
            // SAFETY: the caller's contract.
            unsafe { self.write(flight, member, |record| Descriptor::new(&operation, flags, record)) };
        }
    }

    /// The descriptors of so many members, one after the other.
    pub(super) fn list(&self, flight: usize, first: usize, count: usize) -> &[Descriptor] {
        let cells = &self.0[flight].list[first..first + count];
        // SAFETY: the cells are as long and as aligned as what is in them, and nobody writes them while `self` is
        // borrowed.
        unsafe { slice::from_raw_parts(cells.as_ptr().cast(), count) }
    }

    /// A batch of so many members.
    pub(super) fn batch(&self, flight: usize, first: usize, count: usize) -> Descriptor {
        let place = &self.0[flight];
        place.batch_record.clear();
        let list = place.list[first..].as_ptr().expose_provenance() as u64;
        let count = u32::try_from(count).unwrap_or(0);
        Descriptor::new(&Operation::Batch { list, count }, Flags::RECORD, address(&place.batch_record))
    }

    /// Leaves the memory to a device that may still use it.
    pub(super) fn leak(&self) {
        let _raw = Arc::into_raw(Arc::clone(&self.0));
    }
}

fn address(record: &CompletionRecord) -> u64 {
    (&raw const *record).expose_provenance() as u64
}
