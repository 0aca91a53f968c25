//! Mapping pages before somebody needs them, who cannot take a page fault: a device.
//!
//! madvise(2) with `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE` (Linux 5.14) does what touching the pages would do,
//! and answers with an error where touching would end the process. It changes no byte.
#![expect(unsafe_code, reason = "asks the kernel about addresses")]

use core::ffi::c_void;
use core::ptr;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

/// The page of the processors that have such devices, bytes. Where pages are longer, the kernel refuses to say.
const PAGE: u64 = 4096;

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// What became of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Populated {
    /// They are mapped, or were a moment ago.
    Mapped,
    /// One of them cannot be mapped so: nothing is there, or nothing that may be accessed in this way.
    Missing,
    /// The kernel does not say: it is an old one.
    Unknown,
}

/// Whether the kernel knows this advice. Of no bytes at all nothing else can be wrong.
fn is_known() -> bool {
    static IS_KNOWN: OnceLock<bool> = OnceLock::new();
    // SAFETY: it is about no bytes.
    *IS_KNOWN.get_or_init(|| unsafe { madvise(ptr::null_mut(), 0, Advice::LinuxPopulateWrite) }.is_ok())
}

/// Maps the pages of `len` bytes from `address` on, for this access.
pub(crate) fn populate(address: u64, len: u64, access: Access) -> Populated {
    let start = address & !(PAGE - 1);
    let bytes = address.checked_add(len.max(1)).map(|end| end - start);
    let (Ok(start), Some(Ok(bytes))) = (usize::try_from(start), bytes.map(usize::try_from)) else {
        return Populated::Missing;
    };
    let advice = match access {
        Access::Read => Advice::LinuxPopulateRead,
        Access::Write => Advice::LinuxPopulateWrite,
    };
    let start: *mut c_void = ptr::without_provenance_mut(start);
    loop {
        // SAFETY: this advice changes no byte and unmaps nothing, whatever is at the address.
        match unsafe { madvise(start, bytes, advice) } {
            Ok(()) => return Populated::Mapped,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) if is_known() => return Populated::Missing,
            Err(_) => return Populated::Unknown,
        }
    }
}
