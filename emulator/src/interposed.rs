//! The functions of the C library that this library stands in front of, but for those of [signals](crate::signals).
//!
//! Each looks whether the emulation is concerned, and passes on all else as it came. Where there is no emulation, all
//! of them do nothing but that.
//!
//! A thread may be cancelled in open, close and write: these unwind, and hold nothing then that would have to be
//! dropped.
#![expect(unsafe_code, reason = "functions with the names of C's, called by C")]

use std::ffi::CStr;

use libc::{c_char, c_int, c_uint, c_void, off_t, size_t, ssize_t};

use crate::emulation::{self, current};
use crate::real::Mapping;
use crate::{actions, node, process, real, trace};

macro_rules! opens {
    ($($name:ident($($folder:ident)?; $($mode:ident)?);)*) => {
        $(
            /// Opens a file. The last argument may not be there: then what its register holds is not looked at.
            ///
            /// # Safety
            ///
            /// As in C.
            #[unsafe(no_mangle)]
            pub unsafe extern "C-unwind" fn $name(
                $($folder: c_int,)?
                path: *const c_char,
                flags: c_int
                $(, $mode: c_uint)?
            ) -> c_int {
                let folder = libc::AT_FDCWD;
                $(let folder = { let _ = folder; $folder };)?
                let mode = 0;
                $(let mode = { let _ = mode; $mode };)?
                // SAFETY: the caller's contract.
                let fd = unsafe { real::open(folder, path, flags, mode) };
                if fd < 0 || flags & libc::O_PATH != 0 {
                    return fd;
                }
                // SAFETY: a file of this name was opened.
                if current().is_none() && node::may_be_queue(unsafe { CStr::from_ptr(path) }) {
                    crate::load();
                }
                node::opened(fd)
            }
        )*
    };
}

opens! {
    open(; mode);
    open64(; mode);
    __open_2(;);
    __open64_2(;);
    openat(at; mode);
    openat64(at; mode);
    __openat_2(at;);
    __openat64_2(at;);
}

/// Closes a file.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn close(fd: c_int) -> c_int {
    node::close(fd)
}

/// Writes to a file, or submits to a queue.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t {
    let Some((_, queue)) = node::queue_of(fd) else {
        // SAFETY: the caller's contract.
        return unsafe { real::write(fd, bytes, len) };
    };
    match node::write(queue, fd, bytes.expose_provenance() as u64, len) {
        Ok(taken) => taken.cast_signed(),
        Err(errno) => real::failed(errno) as ssize_t,
    }
}

macro_rules! maps {
    ($($name:ident)*) => {
        $(
            /// Maps memory, or a portal.
            ///
            /// # Safety
            ///
            /// As in C.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name(
                address: *mut c_void,
                len: size_t,
                prot: c_int,
                flags: c_int,
                fd: c_int,
                offset: off_t,
            ) -> *mut c_void {
                // SAFETY: the caller's contract.
                unsafe { map(Mapping { address, len, prot, flags, fd, offset }) }
            }
        )*
    };
}

maps! { mmap mmap64 }

unsafe fn map(wanted: Mapping) -> *mut c_void {
    let Mapping { address, len, flags, .. } = wanted;
    let Some(emulation) = current().filter(|_| flags & libc::MAP_FIXED != 0) else {
        // SAFETY: the caller's contract.
        return unsafe { map_anew(wanted) };
    };
    // What was there is unmapped.
    emulation.take_out(address.addr(), len);
    // SAFETY: the caller's contract.
    let mapped = unsafe { map_anew(wanted) };
    emulation.settle(address.addr(), len, |at| if mapped == libc::MAP_FAILED { at } else { 0 });
    mapped
}

unsafe fn map_anew(wanted: Mapping) -> *mut c_void {
    let Mapping { len, prot, flags, fd, .. } = wanted;
    let found = if flags & libc::MAP_ANONYMOUS == 0 { node::queue_of(fd) } else { None };
    let Some((emulation, queue)) = found else {
        // SAFETY: the caller's contract.
        return unsafe { real::mmap(wanted) };
    };
    if let Err(errno) = node::may_be_mapped(queue, fd, len, (prot, flags)) {
        real::set_errno(errno);
        return libc::MAP_FAILED;
    }
    // No access is let through, so that on a CPU that knows the instructions they are trapped too.
    let hidden = Mapping { prot: libc::PROT_NONE, flags: flags & !libc::MAP_POPULATE, ..wanted };
    // SAFETY: the caller's contract, with fewer rights.
    let mapped = unsafe { real::mmap(hidden) };
    if mapped == libc::MAP_FAILED {
        return mapped;
    }
    process::keep_from_children(mapped.expose_provenance() as u64, process::PAGE);
    node::mapped(emulation, queue, mapped.expose_provenance());
    mapped
}

/// Unmaps memory, and portals.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munmap(address: *mut c_void, len: size_t) -> c_int {
    let Some(emulation) = current() else {
        // SAFETY: the caller's contract.
        return unsafe { real::munmap(address, len) };
    };
    emulation.take_out(address.addr(), len);
    // SAFETY: the caller's contract.
    let result = unsafe { real::munmap(address, len) };
    emulation.settle(address.addr(), len, |at| if result == 0 { 0 } else { at });
    result
}

/// Moves memory to other addresses, and portals, which cannot grow. The last argument may not be there: then what its
/// register holds is not looked at.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_len: size_t,
    new_len: size_t,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    let Some(emulation) = current() else {
        // SAFETY: the caller's contract.
        return unsafe { real::mremap(old, old_len, new_len, flags, new) };
    };
    if emulation.has_portals(old.addr(), old_len.max(1)) && new_len > old_len {
        real::set_errno(if old_len == 0 { libc::EINVAL } else { libc::EFAULT });
        return libc::MAP_FAILED;
    }
    let is_fixed = flags & libc::MREMAP_FIXED != 0;
    if is_fixed {
        emulation.take_out(new.addr(), new_len);
    }
    emulation.take_out(old.addr(), old_len);
    // SAFETY: the caller's contract.
    let moved = unsafe { real::mremap(old, old_len, new_len, flags, new) };
    let is_moved = moved != libc::MAP_FAILED;
    emulation.settle(old.addr(), old_len, |at| match at - old.addr() {
        _ if !is_moved => at,
        offset if offset < new_len => moved.addr() + offset,
        _ => 0,
    });
    if is_fixed {
        emulation.settle(new.addr(), new_len, |at| if is_moved { 0 } else { at });
    }
    moved
}

macro_rules! ends {
    ($($name:ident)*) => {
        $(
            /// Ends the process on the spot.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name(status: c_int) -> ! {
                trace::end();
                real::exit(status)
            }
        )*
    };
}

ends! { _exit _Exit }

/// What comes before a fork.
pub(crate) extern "C" fn forks() {
    actions::hold_all();
}

/// What follows a fork, in the parent.
pub(crate) extern "C" fn has_forked() {
    actions::let_go_of_all();
}

/// What follows a fork, in the child.
pub(crate) extern "C" fn forked() {
    emulation::forked();
    // Handlers may run from here on.
    actions::let_go_of_all();
}
