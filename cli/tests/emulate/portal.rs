//! Inside: the queue, its file and its portal, without memring's own portals in between.
#![expect(unsafe_code, reason = "maps, and executes the instructions that are trapped")]

use std::arch::asm;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::ptr;

use memring::dsa::{
    CompletionRecord, Descriptor, Flags, Operation, RecordStatus, RecordView, Roots, WorkQueue, discover,
};

/// The one queue that there is.
pub(crate) fn queue() -> WorkQueue {
    let found = discover(&Roots::from_env());
    assert!(found.unusable.is_empty(), "{:?}", found.unusable);
    assert_eq!(found.usable.len(), 1);
    found.usable.into_iter().next().unwrap()
}

pub(crate) fn open() -> File {
    try_open().unwrap()
}

pub(crate) fn try_open() -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/dsa/wq0.0")
}

/// Maps so many bytes of the file, as programs do.
pub(crate) fn try_map(file: &File, len: usize) -> std::io::Result<u64> {
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_WRITE, flags, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(mapped.expose_provenance() as u64)
    }
}

pub(crate) fn map() -> u64 {
    try_map(&open(), 4096).unwrap()
}

pub(crate) fn unmap(portal: u64) {
    try_unmap(portal, 4096).unwrap();
}

pub(crate) fn try_unmap(portal: u64, len: usize) -> std::io::Result<()> {
    // SAFETY: it was mapped by `map`, and nobody uses it any more.
    let result = unsafe { libc::munmap(ptr::with_exposed_provenance_mut(usize::try_from(portal).unwrap()), len) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// True: accepted.
pub(crate) fn enqcmd(portal: u64, descriptor: *const Descriptor) -> bool {
    let refused: u8;
    // SAFETY: the instruction is trapped; what goes wrong is a signal, as a test may want it.
    unsafe {
        asm!("enqcmd rax, [rdx]", "setz {refused}", in("rax") portal, in("rdx") descriptor,
             refused = out(reg_byte) refused, options(nostack));
    }
    refused == 0
}

pub(crate) fn movdir64b(portal: u64, descriptor: *const Descriptor) {
    // SAFETY: as above.
    unsafe { asm!("movdir64b rax, [rdx]", in("rax") portal, in("rdx") descriptor, options(nostack)) };
}

pub(crate) fn record() -> &'static CompletionRecord {
    Box::leak(Box::new(CompletionRecord::new()))
}

pub(crate) fn with_record(operation: &Operation, record: &CompletionRecord) -> Descriptor {
    Descriptor::new(operation, Flags::RECORD, ptr::from_ref(record).expose_provenance() as u64)
}

/// Waits for the record, as a program does that polls.
pub(crate) fn wait(record: &CompletionRecord) -> RecordView {
    loop {
        if let Some(view) = record.view() {
            return view;
        }
        std::hint::spin_loop();
    }
}

/// Submits by ENQCMD until it is taken, and waits.
pub(crate) fn done(portal: u64, operation: &Operation) -> RecordView {
    let record = record();
    let descriptor = with_record(operation, record);
    while !enqcmd(portal, &raw const descriptor) {}
    wait(record)
}

pub(crate) fn succeeds(portal: u64) {
    assert_eq!(done(portal, &Operation::Nop).status(), RecordStatus::SUCCESS);
}
