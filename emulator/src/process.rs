//! The memory of this process, by way of the kernel: what is not mapped is an answer there, and not a signal.
//!
//! A device meets whatever addresses a program gives it, and says that a page is missing; so does this.
//! Async-signal-safe.
//!
//! Source: process_vm_readv(2), madvise(2), mincore(2).
#![expect(unsafe_code, reason = "asks the kernel to copy, by address")]

use std::ptr;

use libc::{c_int, c_void, iovec};

/// What pages have, bytes.
pub(crate) const PAGE: u64 = 4096;

/// Copies so many bytes out of memory. False: they cannot all be read.
pub(crate) fn read(address: u64, into: &mut [u8]) -> bool {
    read_some(address, into) == into.len()
}

/// As above, as far as it goes: how many bytes were copied.
pub(crate) fn read_some(address: u64, into: &mut [u8]) -> usize {
    let local = iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = iovec { iov_base: ptr::without_provenance_mut(place(address)), iov_len: into.len() };
    // SAFETY: the kernel writes to our buffer only, and checks the other address itself.
    let copied = unsafe { libc::process_vm_readv(this(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(copied).unwrap_or(0)
}

/// Where the first page fault is of reading some bytes there, not more than a page, which cannot all be read.
pub(crate) fn unreadable(address: u64) -> u64 {
    if read(address, &mut [0]) { (address | (PAGE - 1)).wrapping_add(1) } else { address }
}

/// Whether there is a page at this address, whatever may be done with it.
pub(crate) fn is_mapped(address: u64) -> bool {
    let page = ptr::without_provenance_mut(place(address & !(PAGE - 1)));
    let mut is_resident = 0_u8;
    // SAFETY: the kernel writes a byte for the one page.
    unsafe { libc::mincore(page, place(PAGE), &raw mut is_resident) == 0 }
}

/// Copies bytes into memory. False: they cannot all be written.
///
/// # Safety
///
/// Nobody relies on what is there: who submitted the descriptor that names it has lent it.
pub(crate) unsafe fn write(address: u64, from: &[u8]) -> bool {
    let local = iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = iovec { iov_base: ptr::without_provenance_mut(place(address)), iov_len: from.len() };
    // SAFETY: the kernel reads our buffer; the other address was lent, and is checked by the kernel.
    let copied = unsafe { libc::process_vm_writev(this(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(copied) == Ok(from.len())
}

/// Has the kernel map the pages of these bytes, as an IOMMU does for a device. False: there are none, or they may not
/// be accessed so.
pub(crate) fn populate(address: u64, len: usize, to_write: bool) -> bool {
    let first = address & !(PAGE - 1);
    let Some(end) = address.checked_add(len as u64).filter(|end| *end <= u64::MAX - PAGE) else { return false };
    let advice = if to_write { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    advise(first, end.next_multiple_of(PAGE) - first, advice)
}

/// Whether the kernel knows that advice: 5.14 or newer.
pub(crate) fn can_populate() -> bool {
    let word = 0_u64;
    populate((&raw const word).addr() as u64, size_of::<u64>(), false)
}

/// Leaves these pages out of what a child gets.
pub(crate) fn keep_from_children(address: u64, len: u64) -> bool {
    advise(address, len, libc::MADV_DONTFORK)
}

fn advise(address: u64, len: u64, advice: c_int) -> bool {
    let start: *mut c_void = ptr::without_provenance_mut(place(address));
    // SAFETY: none of the advice that is given here changes a byte.
    unsafe { libc::madvise(start, place(len), advice) == 0 }
}

/// This process.
fn this() -> libc::pid_t {
    // SAFETY: it takes nothing, and cannot fail.
    unsafe { libc::getpid() }
}

fn place(address: u64) -> usize {
    usize::try_from(address).unwrap_or(usize::MAX)
}
