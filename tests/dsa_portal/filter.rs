//! A kernel that refuses one kind of system call, as it refuses to map unsafe devices.
#![expect(unsafe_code, reason = "prctl and seccomp have no safe wrapper")]

use std::io;

/// `AUDIT_ARCH_X86_64` of include/uapi/linux/audit.h.
const ARCHITECTURE: u32 = 0xc000_003e;
/// Where `struct seccomp_data` has the number of the call, the architecture, and the third argument's lower half.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const THIRD: u32 = 32;

/// For the rest of this process, this call fails with this error if its third argument is this one. There is no way
/// back: for a child.
pub(crate) fn refuse(call: libc::c_long, third: libc::c_int, errno: libc::c_int) {
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let give = |action| statement(libc::BPF_RET | libc::BPF_K, action);
    let mut program = [
        load(ARCH),
        unless_equal(ARCHITECTURE, 5),
        load(NUMBER),
        unless_equal(u32::try_from(call).unwrap(), 3),
        load(THIRD),
        unless_equal(third.cast_unsigned(), 1),
        give(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: it takes numbers.
    let privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the kernel reads the program, which lives until it returns.
    let filter = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    assert_eq!((privileges, filter), (0, 0), "{}", io::Error::last_os_error());
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k }
}

/// Skips so many statements if the loaded word is another.
fn unless_equal(k: u32, skipped: u8) -> libc::sock_filter {
    libc::sock_filter { jf: skipped, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k) }
}
