//! A process that is not allowed io_uring, as under the filters of container runtimes.
#![expect(unsafe_code, reason = "prctl and seccomp have no safe wrapper")]

use std::io;

/// The three system calls. Their numbers are the same on all architectures.
const URING: [libc::c_long; 3] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// `AUDIT_ARCH_X86_64` or `AUDIT_ARCH_AARCH64` of include/uapi/linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Where `struct seccomp_data` has the number of the call, and the architecture.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// For the rest of this process and what it starts, io_uring fails with this error. For a process of its own
/// (`subprocess.rs`): there is no way back.
pub(crate) fn forbid_io_uring(errno: i32) -> io::Result<()> {
    let errno = u32::try_from(errno).expect("errors are positive") & libc::SECCOMP_RET_DATA;
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let give = |action| statement(libc::BPF_RET | libc::BPF_K, action);
    let mut program = vec![load(ARCH), jump_if_equal(ARCHITECTURE, 1, 0), give(libc::SECCOMP_RET_ALLOW), load(NUMBER)];
    for (number, left) in URING.into_iter().zip((0..3).rev()) {
        // Over the calls that are left and the permission, to the refusal.
        program.push(jump_if_equal(u32::try_from(number).expect("it is small"), left + 1, 0));
    }
    program.extend([give(libc::SECCOMP_RET_ALLOW), give(libc::SECCOMP_RET_ERRNO | errno)]);
    let len = u16::try_from(program.len()).expect("it is short");
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: it takes numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: the kernel reads the program, which lives until it returns.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The error of `io_uring_setup` without parameters: EFAULT where it is allowed.
pub(crate) fn setup_errno() -> Option<i32> {
    // SAFETY: the kernel is given no address to use.
    let result = unsafe { libc::syscall(URING[0], 1, 0) };
    if result < 0 { io::Error::last_os_error().raw_os_error() } else { None }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).expect("codes are small"), jt: 0, jf: 0, k }
}

fn jump_if_equal(k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { jt, jf, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k) }
}
