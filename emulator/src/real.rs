//! What our functions stand in the way of: the C library's functions, by the second names that it has for them, and
//! system calls where it has none.
//!
//! So nothing need be looked up at run time, and all of it is as async-signal-safe as it is in the C library.
#![expect(unsafe_code, reason = "declares functions of the C library, and makes system calls")]

use std::ptr;

use libc::{c_char, c_int, c_long, c_uint, c_void, off_t, sigset_t, size_t, ssize_t};

// They are points where a thread may be cancelled, which unwinds its stack.
unsafe extern "C-unwind" {
    fn __open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int;
    fn __close(fd: c_int) -> c_int;
    fn __write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t;
}

unsafe extern "C" {
    fn __sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int;
}

/// The numbers of the C library's own signals, which nobody blocks.
const OF_THE_LIBRARY: [c_int; 2] = [32, 33];

/// open(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn open(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    if folder == libc::AT_FDCWD {
        // SAFETY: the caller's contract.
        return unsafe { __open(path, flags, mode) };
    }
    // SAFETY: the caller's contract.
    to_int(unsafe { libc::syscall(libc::SYS_openat, folder, path, flags, mode) })
}

/// close(2). Whoever closes a number that is not open gets an error.
pub(crate) fn close(fd: c_int) -> c_int {
    // SAFETY: it takes a number; whose it is, the caller answers for.
    unsafe { __close(fd) }
}

/// write(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the caller's contract.
    unsafe { __write(fd, bytes, len) }
}

/// Writes a text to stderr, as far as it takes it.
pub(crate) fn to_stderr(text: &[u8]) {
    // SAFETY: the bytes are borrowed for as long.
    unsafe { __write(2, text.as_ptr().cast(), text.len()) };
}

/// mmap(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn mmap(
    address: *mut c_void,
    len: size_t,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the caller's contract.
    let mapped = unsafe { libc::syscall(libc::SYS_mmap, address, len, prot, flags, fd, offset) };
    ptr::with_exposed_provenance_mut(mapped.cast_unsigned().try_into().unwrap_or(usize::MAX))
}

/// munmap(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn munmap(address: *mut c_void, len: size_t) -> c_int {
    // SAFETY: the caller's contract.
    to_int(unsafe { libc::syscall(libc::SYS_munmap, address, len) })
}

/// sigaction(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { __sigaction(signal, new, old) }
}

/// pthread_sigmask(3): an error is the result, and errno stays.
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn sigmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
    // What the kernel knows of a set.
    const BYTES: size_t = 8;
    // SAFETY: it is null or a set, by the caller's contract.
    let set = unsafe { set.as_ref() }.copied().map(|mut set| {
        if how != libc::SIG_UNBLOCK {
            for signal in OF_THE_LIBRARY {
                forget(&mut set, signal);
            }
        }
        set
    });
    let set = set.as_ref().map_or(ptr::null(), ptr::from_ref);
    let errno = errno();
    // SAFETY: both are null or sets, which are longer than what the kernel reads and writes.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, set, old, BYTES) };
    let failure = if result == 0 { 0 } else { self::errno() };
    set_errno(errno);
    failure
}

/// Takes a signal out of a set, also one that is the C library's own.
pub(crate) fn forget(set: &mut sigset_t, signal: c_int) {
    let words: *mut u64 = ptr::from_mut(set).cast();
    let bit = 1_u64 << (signal - 1);
    // SAFETY: a set begins with a word of 64 bits for the signals 1 to 64.
    let word = unsafe { &mut *words };
    *word &= !bit;
}

/// Where the thread's errno is.
fn place_of_errno() -> *mut c_int {
    // SAFETY: it takes nothing; every thread has one.
    unsafe { libc::__errno_location() }
}

/// The thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: it is this thread's, and lives as long.
    unsafe { *place_of_errno() }
}

/// Sets it.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: as above, and nobody else's.
    unsafe { *place_of_errno() = errno };
}

/// A result of the C library that says what went wrong.
pub(crate) fn failed(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}

fn to_int(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}
