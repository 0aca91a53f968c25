//! What a signal may do to a copy: end it, with nothing left behind, one line and exit code 1.
//!
//! Two kinds arrive. *Somebody asks*: SIGINT, SIGTERM, SIGHUP, SIGQUIT. *A page is not there*: SIGBUS, when the source
//! shrinks under its mapping or a disk fails; the thread that touched the page cannot go on. Both end the process on
//! the spot, in the handler, since the threads that copy may be in the middle of anything. So a handler does only what
//! signal-safety(7) allows: it reads what was laid out for it before, and calls `unlinkat`, `fstat`, `write` and
//! `_exit`.
//!
//! ```text
//!  install ── hold ── remove_at_end ── release ── watch ── copying ── hold ── publish ── Held::done
//!     └── a signal from here on ends the command ──────────────────────┘ not here        └─ as if never installed
//! ```
//!
//! A SIGBUS is ours only if the kernel raised it for an address in one of the two mappings. Any other one goes where it
//! would have gone without us: a fault to whoever handled it before (the standard library's report of a stack
//! overflow), one sent by a process to its default, death.
#![expect(
    unsafe_code,
    reason = "signal handling has no safe interface in std, and a handler reads what the kernel hands it"
)]
#![expect(clippy::disallowed_types, reason = "an atomic is all that a handler can share with the program")]

use std::ffi::CString;
use std::io::{self, IsTerminal};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_void, siginfo_t};
use memmap2::MmapRaw;

use crate::source::Source;

/// By which somebody asks the command to end.
const REQUESTS: [c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// Back to the margin and clear the line: a progress bar stands there.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// A name to remove, in the folder of this descriptor. Both outlive the copy.
struct Leftover {
    folder: RawFd,
    name: CString,
}

/// The two mappings, and what to say when a page of one is not there.
struct Watched {
    source: Range<usize>,
    destination: Range<usize>,
    descriptor: RawFd,
    len: u64,
    shrank: Vec<u8>,
    unreadable: Vec<u8>,
    unwritable: Vec<u8>,
}

// A command copies once, so each of these is set once at most. Reading a `OnceLock` is one atomic load.
static LEFTOVER: OnceLock<Leftover> = OnceLock::new();
static WATCHED: OnceLock<Watched> = OnceLock::new();
/// Who handled SIGBUS before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
/// Whether the mappings of [`WATCHED`] are there; their addresses may be somebody else's afterwards.
static WATCHING: AtomicBool = AtomicBool::new(false);
/// Whether a thread is ending the process. One line is enough.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Whether stderr is a terminal.
static ON_TERMINAL: AtomicBool = AtomicBool::new(false);

/// From now on a signal ends the command in an orderly way.
pub(crate) fn install() {
    // Ordering: Relaxed, since the handler that reads it is installed later, and threads that may run it start later
    // still.
    ON_TERMINAL.store(io::stderr().is_terminal(), Ordering::Relaxed);
    // Over the limit of file sizes the system shall answer with an error, not with a signal.
    set(libc::SIGXFSZ, libc::SIG_IGN);
    for signal in REQUESTS {
        // Who ignores it, as nohup and a shell's background jobs do, shall not be asked.
        if action(signal, None).sa_sigaction != libc::SIG_IGN {
            set(signal, on_request as *const () as libc::sighandler_t);
        }
    }
    let before = action(libc::SIGBUS, None);
    if BEFORE.set(before).is_ok() {
        set(libc::SIGBUS, on_bus as *const () as libc::sighandler_t);
    }
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
    /// The copy is in place: requests that came while it was put there came too late, and later ones end the process as
    /// they end any other.
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
pub(crate) fn remove_at_end(folder: RawFd, name: &str) {
    if let Ok(name) = CString::new(name) {
        // Set once: see LEFTOVER.
        let _ = LEFTOVER.set(Leftover { folder, name });
    }
}

/// While this lives, a page that is missing in one of the mappings ends the command in an orderly way.
#[derive(Debug)]
#[must_use = "the mappings are watched only while this lives"]
pub(crate) struct Watch<'a>(#[expect(dead_code, reason = "keeps the mappings in place")] [&'a MmapRaw; 2]);

pub(crate) fn watch<'a>(source: &Source, from: &'a MmapRaw, destination: &Path, to: &'a MmapRaw) -> Watch<'a> {
    let line = |text: String| format!("memring: cp: {text}\n").into_bytes();
    let range = |map: &MmapRaw| map.as_ptr().addr()..map.as_ptr().addr() + map.len();
    let watched = Watched {
        source: range(from),
        destination: range(to),
        descriptor: source.descriptor(),
        len: source.len() as u64,
        shrank: line(format!("{:?} shrank while it was copied", source.path())),
        unreadable: line(format!("cannot read {:?}: Input/output error", source.path())),
        unwritable: line(format!("cannot write {destination:?}: the disk is full or failing")),
    };
    // Set once: see WATCHED.
    let _ = WATCHED.set(watched);
    // Ordering: Release, so that a handler that sees this sees WATCHED set; pairs with the load in `line_for`. The
    // threads that touch the mappings have it by the queue's own ordering anyway.
    WATCHING.store(true, Ordering::Release);
    Watch([from, to])
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // Ordering: Relaxed, since no thread touches the mappings any more.
        WATCHING.store(false, Ordering::Relaxed);
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

/// Sets the action of a signal, to one of the handlers of this file or of libc's two constants.
fn set(signal: c_int, handler: libc::sighandler_t) {
    // Begins with the present one, since some platforms have fields of their own.
    let mut new = action(signal, None);
    new.sa_sigaction = handler;
    // All requests wait while one is handled.
    new.sa_mask = requests();
    // ONSTACK: a thread's own stack may be what overflowed.
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    action(signal, Some(&new));
}

/// The action of a signal before this call.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> libc::sigaction {
    let mut before = MaybeUninit::uninit();
    // SAFETY: `new` is null or an action whose handler is one of this file's, with the signature that SA_SIGINFO asks
    // for, or libc's constant, for which no signature matters; `before` has room for one.
    unsafe { libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), before.as_mut_ptr()) };
    // SAFETY: the call can fail only for signals that do not exist or cannot be handled, so it has filled it.
    unsafe { before.assume_init() }
}

extern "C" fn on_request(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    end(b"memring: cp: interrupted; nothing was left behind\n");
}

extern "C" fn on_bus(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, which lives until the handler returns.
    let info = unsafe { &*info };
    if info.si_code == libc::BUS_ADRERR {
        // SAFETY: for BUS_ADRERR the kernel has set the address.
        let address = unsafe { info.si_addr() }.addr();
        if let Some(line) = line_for(address) {
            end(line);
        }
    }
    // Not ours. A fault is repeated when this returns and then meets its former handler; one that was sent is not, so
    // it is sent again. The standard library would take that for a fault that will be repeated, so it gets the default.
    if info.si_code > 0
        && let Some(before) = BEFORE.get()
    {
        // SAFETY: the action is the one that sigaction gave us at `install`; nothing is asked back.
        unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
    } else {
        set(signal, libc::SIG_DFL);
        // SAFETY: raise takes an integer; the signal waits until this handler returns.
        unsafe { libc::raise(signal) };
    }
}

/// What to say if the page at this address is missing, if it is one of ours.
fn line_for(address: usize) -> Option<&'static [u8]> {
    // Ordering: Acquire pairs with the Release in `watch`.
    let watched = WATCHED.get().filter(|_| WATCHING.load(Ordering::Acquire))?;
    if watched.destination.contains(&address) {
        return Some(&watched.unwritable);
    }
    if !watched.source.contains(&address) {
        return None;
    }
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the descriptor stays open while the mapping is watched, and `stat` has room.
    if unsafe { libc::fstat(watched.descriptor, stat.as_mut_ptr()) } != 0 {
        return Some(&watched.unreadable);
    }
    // SAFETY: fstat succeeded, so it has filled it.
    let size = unsafe { stat.assume_init() }.st_size;
    let shrank = u64::try_from(size).is_ok_and(|size| size < watched.len);
    Some(if shrank { &watched.shrank } else { &watched.unreadable })
}

/// Removes what would be left behind, says the line, ends the process.
fn end(line: &[u8]) -> ! {
    // Ordering: Relaxed, since only one of the swaps can find false; nothing else hangs on it.
    if ENDING.swap(true, Ordering::Relaxed) {
        loop {
            // SAFETY: pause takes nothing and is async-signal-safe. The thread that came first ends the process.
            unsafe { libc::pause() };
        }
    }
    if let Some(leftover) = LEFTOVER.get() {
        // SAFETY: the name is a C string that lives in a static; the descriptor outlives the command.
        unsafe { libc::unlinkat(leftover.folder, leftover.name.as_ptr(), 0) };
    }
    if ON_TERMINAL.load(Ordering::Relaxed) {
        write(CLEAR_LINE);
    }
    write(line);
    // SAFETY: _exit takes an integer and does not return; nothing of ours needs to be dropped.
    unsafe { libc::_exit(1) }
}

fn write(bytes: &[u8]) {
    // SAFETY: the slice is valid for its length. If nobody takes the bytes, the exit code still tells.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}
