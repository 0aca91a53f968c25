//! Stopping the command at a place of the test's choice: its main thread is traced from one system call to the next.
//!
//! This is how a test changes a file, or sends a signal, *while it is copied*, without hoping to be quick enough. Only
//! the main thread is traced, and only until the test lets go of it. All calls must come from the thread that started
//! it. Source: ptrace(2), `PTRACE_TRACEME` and `PTRACE_SYSCALL`.
#![expect(unsafe_code, reason = "ptrace, waitpid, kill and pre_exec have no safe interface")]

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::ptr;

use libc::{c_int, c_long, c_uint, pid_t};

/// A command whose main thread stands still, or has ended.
pub(crate) struct Traced {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Traced {
    /// Starts the command and stops it before its first instruction. Signals have their default actions there, whatever
    /// the test itself ignores.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let trace_me = || {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
                // SAFETY: the default action is no function of ours.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            request(libc::PTRACE_TRACEME, 0)
        };
        // SAFETY: between fork and exec the closure makes system calls and allocates nothing.
        unsafe { command.pre_exec(trace_me) };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut traced = Self { child, ended: None };
        traced.wait();
        Ok(traced)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run to its next system call, or to the end of that; whether it still lives.
    pub(crate) fn step(&mut self) -> bool {
        if self.ended.is_none() {
            request(libc::PTRACE_SYSCALL, self.id()).expect("a stopped tracee takes requests");
            self.wait();
        }
        self.ended.is_none()
    }

    /// Lets it run until this holds at a system call; panics if it ends before.
    pub(crate) fn run_until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) {
            assert!(self.step(), "it ended early");
        }
    }

    /// Whether it has mapped its draft: a file, shared and writable, and none of io_uring's. Nothing has been copied
    /// then.
    pub(crate) fn has_mapped_its_draft(&self) -> bool {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap_or_default();
        maps.lines().any(|line| line.contains(" rw-s ") && !line.contains("[io_uring]"))
    }

    /// The system call that it stands at, at its beginning or its end, with the first argument.
    pub(crate) fn call(&self) -> Option<(c_long, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/syscall", self.pid())).ok()?;
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        Some((number, u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?))
    }

    /// What this descriptor of its leads to.
    pub(crate) fn file_of(&self, descriptor: u64) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/fd/{descriptor}", self.pid())).ok()
    }

    /// Has the kernel answer the call at whose beginning it stands as it answers one that it does not know.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn refuse_this_call(&self) {
        let at = libc::c_long::from(libc::ORIG_RAX) * 8;
        // SAFETY: this changes the number of the system call in the registers of a stopped tracee.
        let changed = unsafe { libc::ptrace(libc::PTRACE_POKEUSER, self.id(), at, -1_i64) };
        assert_eq!(changed, 0, "{}", io::Error::last_os_error());
    }

    pub(crate) fn signal(&self, signal: c_int) {
        if self.ended.is_none() {
            // SAFETY: kill takes integers; the child is ours and not waited for yet.
            unsafe { libc::kill(self.id(), signal) };
        }
    }

    /// Lets go of it, and waits for its end.
    pub(crate) fn release(mut self) -> Output {
        if self.ended.is_none() {
            // A kill may have been quicker.
            let _ = request(libc::PTRACE_DETACH, self.id());
        }
        let status = self.ended.unwrap_or_else(|| self.child.wait().expect("the child is ours"));
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.child.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("a pipe can be read");
        self.child.stderr.take().expect("a pipe").read_to_end(&mut stderr).expect("a pipe can be read");
        Output { status, stdout, stderr }
    }

    fn wait(&mut self) {
        let mut status = 0;
        // SAFETY: the status has room; the child is ours.
        let waited = unsafe { libc::waitpid(self.id(), &mut status, libc::__WALL) };
        assert_eq!(waited, self.id(), "{}", io::Error::last_os_error());
        if !libc::WIFSTOPPED(status) {
            self.ended = Some(ExitStatus::from_raw(status));
        }
    }

    fn id(&self) -> pid_t {
        self.child.id().cast_signed()
    }
}

fn request(what: c_uint, pid: pid_t) -> io::Result<()> {
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read and write no memory of ours.
    match unsafe { libc::ptrace(what, pid, none, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
