//! What our functions stand in the way of: the C library's functions, by the second names that it has for them, and
//! system calls where it has none.
//!
//! So nothing need be looked up at run time, and all of it is as async-signal-safe as it is in the C library.
#![expect(unsafe_code, reason = "declares functions of the C library, and makes system calls")]

use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_char, c_int, c_long, c_uint, c_void, off_t, sigset_t, size_t, ssize_t};

// They are points where a thread may be cancelled, which unwinds its stack.
unsafe extern "C-unwind" {
    fn __open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int;
    fn __close(fd: c_int) -> c_int;
    fn __write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t;
    fn __sigsuspend(set: *const sigset_t) -> c_int;
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

/// sigsuspend(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn sigsuspend(set: *const sigset_t) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { __sigsuspend(set) }
}

/// _exit(2).
pub(crate) fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: it takes a number, and does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

/// Stderr as it was when the library was loaded: the device and inode numbers of its file, which are zero if there was
/// none, and the number of a copy.
static STDERR: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Remembers what stderr is. With a copy it can be written to also when the program has closed it, or has put something
/// else there.
pub(crate) fn remember_stderr(with_copy: bool) {
    // So high that programs do not meet it, unless their limit is low.
    const HIGH: c_int = 1000;
    let Some((device, inode)) = identity(2) else { return };
    // SAFETY: it takes numbers; the copy is ours.
    let copy_from = |lowest: c_int| unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, lowest) };
    let copy = if with_copy { Some(copy_from(HIGH)).filter(|fd| *fd >= 0).unwrap_or_else(|| copy_from(64)) } else { 2 };
    for (word, value) in STDERR.iter().zip([device, inode, u64::try_from(copy).unwrap_or(2)]) {
        word.store(value, Ordering::Relaxed); // Ordering: Relaxed: there is one thread.
    }
}

/// Writes a text to stderr, as far as it takes it: to the file that it was when the library was loaded, and to none
/// that the program has put at a number since.
pub(crate) fn to_stderr(text: &[u8]) {
    // Ordering: Relaxed: they were stored before there was another thread.
    let [device, inode, copy] = [0, 1, 2].map(|at| STDERR.get(at).map_or(0, |word| word.load(Ordering::Relaxed)));
    let is_it = |fd: &c_int| identity(*fd) == Some((device, inode)) && inode != 0;
    if let Some(fd) = [c_int::try_from(copy).unwrap_or(2), 2].into_iter().find(is_it) {
        // Not by the C library: nobody is cancelled here.
        // SAFETY: the bytes are borrowed for as long.
        unsafe { libc::syscall(libc::SYS_write, fd, text.as_ptr(), text.len()) };
    }
}

/// The device and inode numbers of an open file. Errno stays.
pub(crate) fn identity(fd: c_int) -> Option<(u64, u64)> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    let errno = errno();
    // SAFETY: the kernel writes to our buffer.
    let found = unsafe { libc::fstat(fd, status.as_mut_ptr()) };
    set_errno(errno);
    if found != 0 {
        return None;
    }
    // SAFETY: it was written to.
    let status = unsafe { status.assume_init() };
    Some((status.st_dev, status.st_ino))
}

/// The arguments of mmap(2).
#[derive(Clone, Copy)]
pub(crate) struct Mapping {
    pub(crate) address: *mut c_void,
    pub(crate) len: size_t,
    pub(crate) prot: c_int,
    pub(crate) flags: c_int,
    pub(crate) fd: c_int,
    pub(crate) offset: off_t,
}

/// mmap(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn mmap(mapping: Mapping) -> *mut c_void {
    let Mapping { address, len, prot, flags, fd, offset } = mapping;
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

/// mremap(2).
///
/// # Safety
///
/// As in C.
pub(crate) unsafe fn mremap(
    old: *mut c_void,
    old_len: size_t,
    new_len: size_t,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's contract.
    let mapped = unsafe { libc::syscall(libc::SYS_mremap, old, old_len, new_len, flags, new) };
    ptr::with_exposed_provenance_mut(mapped.cast_unsigned().try_into().unwrap_or(usize::MAX))
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

/// Sends this thread a signal, as if it came from where this information says. False: the kernel lets nobody do so.
///
/// Source: rt_tgsigqueueinfo(2).
///
/// # Safety
///
/// The information is readable.
pub(crate) unsafe fn send_to_self(signal: c_int, info: *const libc::siginfo_t) -> bool {
    // SAFETY: it takes nothing.
    let thread = unsafe { libc::gettid() };
    // SAFETY: the caller's contract.
    unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, std::process::id(), thread, signal, info) == 0 }
}

/// Takes a signal out of a set, also one that is the C library's own.
pub(crate) fn forget(set: &mut sigset_t, signal: c_int) {
    *word_of(set) &= !(1_u64 << (signal - 1));
}

/// Puts what is in another set into a set, also what is the C library's own.
pub(crate) fn remember_all(set: &mut sigset_t, others: &sigset_t) {
    let mut others = *others;
    *word_of(set) |= *word_of(&mut others);
}

/// The set with all signals, also the C library's own.
pub(crate) fn every_signal() -> sigset_t {
    // SAFETY: a set is plain integers.
    let mut set: sigset_t = unsafe { mem::zeroed() };
    *word_of(&mut set) = u64::MAX;
    set
}

/// What the kernel knows of a set.
fn word_of(set: &mut sigset_t) -> &mut u64 {
    let words: *mut u64 = ptr::from_mut(set).cast();
    // SAFETY: a set begins with a word of 64 bits for the signals 1 to 64, and is borrowed as long.
    unsafe { &mut *words }
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
