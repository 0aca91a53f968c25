//! A kernel that refuses: system calls answered with an error of the test's choice, by a seccomp filter in the child.
//!
//! So the ways around missing features of kernels and file systems are tested on any machine, without privileges.
//! Source: seccomp(2); the program is classic BPF over `struct seccomp_data` (the number at offset 0, arguments from
//! 16).
#![expect(unsafe_code, reason = "prctl and pre_exec have no safe interface")]
#![expect(clippy::cast_possible_truncation, reason = "libc's constants of BPF are wider than its fields for them")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_long, sock_filter, sock_fprog};

/// A system call to be refused.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    call: c_long,
    /// Only if one of these bits is set in this argument.
    only: Option<(u32, u32)>,
    error: i32,
}

/// Every call of this number.
pub(crate) const fn refusal(call: c_long, error: i32) -> Refusal {
    Refusal { call, only: None, error }
}

/// Every call of this number that has one of these bits in this argument.
pub(crate) const fn refusal_of(call: c_long, argument: u32, bits: u32, error: i32) -> Refusal {
    Refusal { call, only: Some((argument, bits)), error }
}

/// `openat` of files without a name.
pub(crate) const NO_UNNAMED_FILES: Refusal =
    refusal_of(libc::SYS_openat, 2, (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32, libc::EOPNOTSUPP);

/// Makes the command run with these refusals.
pub(crate) fn refuse(command: &mut Command, refusals: &[Refusal]) {
    let mut program = Vec::new();
    for refusal in refusals {
        let test: &[sock_filter] = &match refusal.only {
            None => vec![],
            Some((argument, bits)) => vec![load(16 + 8 * argument), jump(libc::BPF_JSET, bits, 0, 1)],
        };
        let answer = libc::SECCOMP_RET_ERRNO | refusal.error as u32;
        program.push(load(0));
        program.push(jump(libc::BPF_JEQ, refusal.call as u32, 0, test.len() as u8 + 1));
        program.extend_from_slice(test);
        program.push(give(answer));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(move || install(&mut program)) };
}

/// Makes the command obey the permissions of files even if it runs as root: without the capabilities to pass over them,
/// which the exec then cannot give back.
pub(crate) fn obey_permissions(command: &mut Command) {
    const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
    const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
    let drop = || {
        for capability in [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH] {
            // SAFETY: this option takes integers. Who may not do it does not have the capability either.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(drop) };
}

/// Makes the command run with this limit of file sizes.
pub(crate) fn limit_file_size(command: &mut Command, bytes: u64) {
    limit(command, libc::RLIMIT_FSIZE, bytes, bytes);
}

/// Makes the command run with this limit of memory that it locks, which it may raise as far as that.
pub(crate) fn limit_locked_memory(command: &mut Command, bytes: u64, most: u64) {
    limit(command, libc::RLIMIT_MEMLOCK, bytes, most);
}

fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, bytes: u64, most: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: most };
    let set = move || {
        // SAFETY: the limit outlives the call.
        match unsafe { libc::setrlimit(resource, &limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(set) };
}

fn install(program: &mut [sock_filter]) -> io::Result<()> {
    let filter = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: this option takes integers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the filter points at a program of its length, which the kernel copies.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(how: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | how | libc::BPF_K) as u16, jt, jf, k }
}

fn give(answer: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }
}
