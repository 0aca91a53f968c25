//! What a signal may do to a command: end it, with nothing left behind, one line and exit code 1.
//!
//! Somebody asks, by SIGINT, SIGTERM, SIGHUP or SIGQUIT. The process ends on the spot, in the handler, since the
//! threads that work may be in the middle of anything. So the handler does only what signal-safety(7) allows: it reads
//! what was laid out for it before, and calls `unlinkat`, `write` and `_exit`. It runs on the main thread alone: all
//! others start while requests are [held](hold).
//!
//! ```text
//!  install ── hold ── remove_at_end ── release ── working ── hold ── publish ── Held::done
//!     └── a signal from here on ends the command ────────────┘ not here        └─ as if never installed
//! ```
//!
//! A page that is missing, of a source that shrinks or a disk that fails, is no signal here: the queue has memring's
//! fault guard, and the copy ends with an error like any other.
#![expect(unsafe_code, reason = "signal handling has no safe interface in std")]

use std::ffi::{CString, OsStr};
use std::io::{self, IsTerminal};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;

use libc::c_int;

/// By which somebody asks the command to end.
const REQUESTS: [c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// Back to the margin and clear the line: a progress bar stands there.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// A name to remove, in the folder of this descriptor. Both outlive the command.
struct Leftover {
    folder: RawFd,
    name: CString,
}

// A command makes one file, so each of these is set once at most. Reading a `OnceLock` is one atomic load.
static LEFTOVER: OnceLock<Leftover> = OnceLock::new();
/// Whether stderr is a terminal.
static ON_TERMINAL: OnceLock<bool> = OnceLock::new();
/// Whose the requests are, if not the command's own.
static CHILD: OnceLock<libc::pid_t> = OnceLock::new();
/// What is said of the end.
static LAST_WORDS: OnceLock<String> = OnceLock::new();

/// From now on a signal ends the command of this name in an orderly way.
pub(crate) fn install(command: &str) {
    // Before the handler, which reads them.
    ON_TERMINAL.get_or_init(|| io::stderr().is_terminal());
    LAST_WORDS.get_or_init(|| format!("memring: {command}: interrupted; nothing was left behind\n"));
    // Over the limit of file sizes the system shall answer with an error, not with a signal.
    set(libc::SIGXFSZ, libc::SIG_IGN);
    for signal in REQUESTS {
        // Who ignores it, as nohup and a shell's background jobs do, shall not be asked.
        if action(signal, None).sa_sigaction != libc::SIG_IGN {
            set(signal, on_request as *const () as libc::sighandler_t);
        }
    }
}

/// From now on requests to end are the child's: what the terminal sends to both is left to it, and the rest is passed
/// on to the child that [`pass_on_to`] names.
pub(crate) fn leave_to_child() {
    for signal in REQUESTS {
        if action(signal, None).sa_sigaction != libc::SIG_IGN {
            set(signal, on_request_to_child as *const () as libc::sighandler_t);
        }
    }
}

/// This child is the one.
pub(crate) fn pass_on_to(child: u32) {
    // Set once: a command has one child.
    let _ = CHILD.set(libc::pid_t::try_from(child).unwrap_or(0));
}

/// While this lives, requests to end wait: on this thread, and on threads that it starts, for good.
#[derive(Debug)]
#[must_use = "the signals are held only while this lives"]
pub(crate) struct Held(libc::sigset_t);

pub(crate) fn hold() -> Held {
    let mut before = MaybeUninit::uninit();
    // SAFETY: both point at signal sets: one that `requests` made, one that has room for the call to fill.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &requests(), before.as_mut_ptr()) };
    // SAFETY: the call above can fail only for an unknown first argument, so it has filled the set.
    Held(unsafe { before.assume_init() })
}

impl Held {
    /// What the command makes is in place: requests that came while it was put there came too late, and later ones end
    /// the process as they end any other.
    pub(crate) fn done(self) {
        for signal in REQUESTS {
            if action(signal, None).sa_sigaction != libc::SIG_IGN {
                // Ignoring a signal also forgets one that waits.
                set(signal, libc::SIG_IGN);
                set(signal, libc::SIG_DFL);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set is the one that `hold` was given; nothing is asked back.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// A signal shall remove this name, in the folder of this descriptor, which stays open as long as the command runs.
pub(crate) fn remove_at_end(folder: RawFd, name: &OsStr) {
    if let Ok(name) = CString::new(name.as_bytes()) {
        // Set once: see LEFTOVER.
        let _ = LEFTOVER.set(Leftover { folder, name });
    }
}

fn requests() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` has room for a signal set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has no way to fail, and has filled it.
    let mut set = unsafe { set.assume_init() };
    for signal in REQUESTS {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}

/// Sets the action of a signal, to the handler of this file or one of libc's two constants.
fn set(signal: c_int, handler: libc::sighandler_t) {
    // Begins with the present one, since some platforms have fields of their own.
    let mut new = action(signal, None);
    new.sa_sigaction = handler;
    // All requests wait while one is handled.
    new.sa_mask = requests();
    new.sa_flags = libc::SA_RESTART;
    action(signal, Some(&new));
}

/// The action of a signal before this call.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> libc::sigaction {
    let mut before = MaybeUninit::uninit();
    // SAFETY: `new` is null or an action whose handler is one of this file, with the signature that is asked for
    // without SA_SIGINFO, or libc's constant, for which no signature matters; `before` has room for one.
    unsafe { libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), before.as_mut_ptr()) };
    // SAFETY: the call can fail only for signals that do not exist or cannot be handled, so it has filled it.
    unsafe { before.assume_init() }
}

/// Passes on what comes to the command alone.
extern "C" fn on_request_to_child(signal: c_int) {
    let is_from_terminal = signal == libc::SIGINT || signal == libc::SIGQUIT;
    if let Some(child) = CHILD.get().filter(|child| **child > 0 && !is_from_terminal) {
        // SAFETY: it takes numbers. The child was not waited for yet, or the command is about to end.
        unsafe { libc::kill(*child, signal) };
    }
}

/// Removes what would be left behind, says so, ends the process.
extern "C" fn on_request(_: c_int) {
    if let Some(leftover) = LEFTOVER.get() {
        // SAFETY: the name is a C string that lives in a static; the descriptor outlives the command.
        unsafe { libc::unlinkat(leftover.folder, leftover.name.as_ptr(), 0) };
    }
    if ON_TERMINAL.get() == Some(&true) {
        write(CLEAR_LINE);
    }
    write(LAST_WORDS.get().map_or(&[], String::as_bytes));
    // SAFETY: _exit takes an integer and does not return; nothing of ours needs to be dropped.
    unsafe { libc::_exit(1) }
}

fn write(bytes: &[u8]) {
    // SAFETY: the slice is valid for its length. If nobody takes the bytes, the exit code still tells.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}
