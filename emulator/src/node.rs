//! The queue's file, as the driver of Linux answers for it.
//!
//! | call | here |
//! |---|---|
//! | open | EBUSY if another has the dedicated queue; ENXIO when it was taken away |
//! | mmap | EACCES to write, if it was opened to be read; EINVAL beyond a page; EPERM in a child that inherited the |
//! | | file, or with `no-mmap` |
//! | write | descriptor by descriptor; a short count if it stops, or, if at the first, one of these: |
//! | | EFAULT; EPERM in a child; EAGAIN for a shared queue that stays full; EINVAL for a BATCH on version 1, or a |
//! | | record's address that is no multiple of 32 |
//! | fork | no child has the mapping |
//! | close, munmap | the last one waits until the device is done |
//!
//! A file is known by its device and inode numbers, so it may come by any path. That a dedicated queue is taken is a
//! lock (flock) on its file: it lasts as long as somebody has that open file, in whichever process. A mapping has it,
//! too.
//!
//! Whose an open file is, is written on it (F_SETOWN), as the driver keeps it with the file. What comes by a way that
//! is not interposed is opened, as far as the driver is concerned, when it is first mapped or written to.
//!
//! Source: Linux `drivers/dma/idxd/cdev.c`.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libc::c_int;
use memring::dsa::{CompletionRecord, Descriptor, DsaOpcode, Mode, VERSION_1};

use crate::emulation::{self, Emulation, current};
use crate::queue::Queue;
use crate::{actions, device, layout, process, real};

/// Whose an open file is.
enum Whose {
    /// This process has opened it.
    Ours,
    /// Another one has.
    Anothers,
    /// It was opened by a way that is not interposed, as fopen, and not used yet.
    Nobodys,
}

/// Whose an open file is, by the owner and the signal that `mark` has given it: these belong to the open file, whatever
/// its numbers are, and in whichever process.
fn whose(fd: c_int) -> Whose {
    // SAFETY: it takes numbers.
    let owner = unsafe { libc::fcntl(fd, libc::F_GETOWN) };
    // SAFETY: it takes numbers.
    let signal = unsafe { libc::fcntl(fd, F_GETSIG) };
    match owner {
        _ if owner == this_process() => Whose::Ours,
        // That is also said of an owner that has ended.
        0 if signal == 0 => Whose::Nobodys,
        _ => Whose::Anothers,
    }
}

const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;

/// Makes an open file this process's. The file never sends the signal.
fn mark(fd: c_int) {
    // SAFETY: it takes numbers.
    unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGIO) };
    // SAFETY: it takes numbers.
    unsafe { libc::fcntl(fd, libc::F_SETOWN, this_process()) };
}

fn this_process() -> c_int {
    c_int::try_from(std::process::id()).unwrap_or(0)
}

/// The numbers of the file at a path.
pub(crate) fn numbers(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The queue that this is the file of, and what it is part of, for use in this process.
pub(crate) fn queue_of(fd: c_int) -> Option<(&'static Emulation, &'static Queue)> {
    let emulation = current()?;
    let number = number_of(emulation, fd)?;
    let emulation = emulation::renewed(emulation);
    Some((emulation, emulation.queues.get(number)?))
}

/// Which of the queues it is that this is the file of. Async-signal-safe.
fn number_of(emulation: &Emulation, fd: c_int) -> Option<usize> {
    if emulation.queues.is_empty() || fd < 0 {
        return None;
    }
    let node = real::identity(fd)?;
    emulation.queues.iter().position(|queue| queue.identity.node == node)
}

/// Whether a file of this name may be a queue's.
pub(crate) fn may_be_queue(path: &CStr) -> bool {
    [&b"/dev/dsa/"[..], b"/dev/char/"].iter().any(|folder| path.to_bytes().starts_with(folder))
}

/// What becomes of a file that was just opened: the same, or an error.
pub(crate) fn opened(fd: c_int) -> c_int {
    let Some((_, queue)) = queue_of(fd) else { return fd };
    if let Err(errno) = claim(queue, fd) {
        real::close(fd);
        return real::failed(errno);
    }
    fd
}

/// Does what the driver does when a file is opened: an error number, if that is refused.
fn claim(queue: &Queue, fd: c_int) -> Result<(), c_int> {
    if queue.page.is_disabled() {
        return Err(libc::ENXIO);
    }
    let is_dedicated = queue.identity.capabilities.mode == Mode::Dedicated;
    // SAFETY: it takes numbers.
    if is_dedicated && unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(libc::EBUSY);
    }
    queue.page.add(layout::OPENED, 1);
    mark(fd);
    Ok(())
}

/// Whether this process may use the file: an error number, if not.
fn may_be_used(queue: &Queue, fd: c_int) -> Result<(), c_int> {
    match whose(fd) {
        Whose::Ours => Ok(()),
        Whose::Anothers => Err(libc::EPERM),
        Whose::Nobodys => claim(queue, fd),
    }
}

/// Closes a file.
pub(crate) fn close(fd: c_int) -> c_int {
    // What a child inherits is the parent's to wait for.
    if let Some(emulation) = current().filter(|emulation| !emulation.is_inherited())
        && let Some(queue) = number_of(emulation, fd).and_then(|number| emulation.queues.get(number))
        && !emulation.is_mapped(queue)
    {
        queue.wait_until_idle();
    }
    real::close(fd)
}

/// For what a file was opened: O_RDONLY, O_WRONLY or O_RDWR.
fn access_of(fd: c_int) -> c_int {
    // SAFETY: it takes numbers.
    unsafe { libc::fcntl(fd, libc::F_GETFL) & libc::O_ACCMODE }
}

/// What stands in the way of mapping a queue's portal: an error number.
pub(crate) fn may_be_mapped(queue: &Queue, fd: c_int, len: usize, (prot, flags): (c_int, c_int)) -> Result<(), c_int> {
    // The kernel would look at what was asked for, and it is asked for less.
    let is_shared = flags & libc::MAP_TYPE != libc::MAP_PRIVATE;
    if is_shared && prot & libc::PROT_WRITE != 0 && access_of(fd) == libc::O_RDONLY {
        return Err(libc::EACCES);
    }
    if len > 4096 {
        return Err(libc::EINVAL);
    }
    if queue.settings.refuses_mmap {
        return Err(libc::EPERM);
    }
    may_be_used(queue, fd)
}

/// A queue's portal was mapped.
pub(crate) fn mapped(emulation: &'static Emulation, queue: &'static Queue, address: usize) {
    device::start(queue);
    emulation.mapped(address, queue);
}

/// Writes descriptors: how many bytes were taken, or an error number.
pub(crate) fn write(queue: &'static Queue, fd: c_int, address: u64, len: usize) -> Result<usize, c_int> {
    if access_of(fd) == libc::O_RDONLY {
        return Err(libc::EBADF);
    }
    may_be_used(queue, fd)?;
    device::start(queue);
    // A system call is over before a handler runs, which may submit to the same queue and wait for its own.
    actions::undisturbed(|| write_all(queue, address, len))
}

fn write_all(queue: &Queue, address: u64, len: usize) -> Result<usize, c_int> {
    let mut taken = 0;
    for at in (0..len / Descriptor::BYTES).map(|number| number * Descriptor::BYTES) {
        match write_one(queue, address.wrapping_add(at as u64)) {
            Ok(()) => taken += Descriptor::BYTES,
            Err(errno) if taken == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(taken)
}

fn write_one(queue: &Queue, address: u64) -> Result<(), c_int> {
    let mut bytes = [0; Descriptor::BYTES];
    if !process::read(address, &mut bytes) {
        return Err(libc::EFAULT);
    }
    let descriptor = Descriptor::from_bytes(&bytes);
    let is_batch = descriptor.opcode() == DsaOpcode::BATCH;
    let is_aligned = descriptor.record_address().is_multiple_of(CompletionRecord::BYTES as u64);
    if (is_batch && queue.identity.device.version == VERSION_1) || !is_aligned {
        return Err(libc::EINVAL);
    }
    if queue.offer_by_kernel(bytes) { Ok(()) } else { Err(libc::EAGAIN) }
}
