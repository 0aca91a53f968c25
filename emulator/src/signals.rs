//! The C library's functions of signals that this library stands in front of: what is done at a signal, which are
//! blocked, and waiting for them.
//!
//! Two signals are the trap's (`actions.rs`); what is said of the others is passed on, but that no set blocks
//! the two.
#![expect(unsafe_code, reason = "functions with the names of C's, called by C")]

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_int, sigaction as Action, sighandler_t, sigset_t};

use crate::emulation::current;
use crate::{actions, real};

/// Says what is done at a signal.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    if current().is_none() {
        // SAFETY: the caller's contract.
        return unsafe { real::sigaction(signal, new, old) };
    }
    // SAFETY: it is null or an action, by the caller's contract.
    let mut wanted = unsafe { new.as_ref() }.copied();
    if actions::TAKEN.contains(&signal) {
        let before = actions::exchange(signal, wanted);
        // SAFETY: it is null or has room for an action, by the caller's contract.
        if let (Some(old), Some(before)) = (unsafe { old.as_mut() }, before) {
            *old = before;
        }
        return 0;
    }
    if let Some(wanted) = &mut wanted {
        wanted.sa_mask = actions::unblocked(wanted.sa_mask);
    }
    let wanted = wanted.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the caller's contract; the new action is a copy.
    unsafe { real::sigaction(signal, wanted, old) }
}

/// Says what is done at a signal, the old way; `flags` are those that the way has.
fn install(signal: c_int, handler: sighandler_t, flags: c_int) -> sighandler_t {
    let (mut new, mut old) = (actions::nothing(), actions::nothing());
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    // SAFETY: both actions are ours; whoever gives a handler vouches for it.
    let result = unsafe { sigaction(signal, &raw const new, &raw mut old) };
    if result == 0 { old.sa_sigaction } else { libc::SIG_ERR }
}

/// The signals whose handlers interrupt what they interrupt for good, a bit for each: what `siginterrupt` has said.
static INTERRUPTING: AtomicU64 = AtomicU64::new(0);

fn bit_of(signal: c_int) -> u64 {
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    bit.and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0)
}

fn bsd_flags(signal: c_int) -> c_int {
    // Ordering: Relaxed: it orders nothing else.
    if INTERRUPTING.load(Ordering::Relaxed) & bit_of(signal) == 0 { libc::SA_RESTART } else { 0 }
}

/// Says whether a handler of this signal interrupts system calls for good, now and whenever one is installed the old
/// way.
#[unsafe(no_mangle)]
pub extern "C" fn siginterrupt(signal: c_int, interrupts: c_int) -> c_int {
    let mut action = actions::nothing();
    // SAFETY: it writes to our action.
    if unsafe { sigaction(signal, ptr::null(), &raw mut action) } != 0 {
        return -1;
    }
    if interrupts != 0 {
        INTERRUPTING.fetch_or(bit_of(signal), Ordering::Relaxed); // Ordering: as above.
        action.sa_flags &= !libc::SA_RESTART;
    } else {
        INTERRUPTING.fetch_and(!bit_of(signal), Ordering::Relaxed); // Ordering: as above.
        action.sa_flags |= libc::SA_RESTART;
    }
    // SAFETY: it reads our action, which is what was installed but for a flag.
    unsafe { sigaction(signal, &raw const action, ptr::null_mut()) }
}

macro_rules! signals {
    ($($name:ident: $flags:expr;)*) => {
        $(
            /// Says what is done at a signal, the old way: as BSD did, for good, or as System V did, once.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name(signal: c_int, handler: sighandler_t) -> sighandler_t {
                let flags: fn(c_int) -> c_int = $flags;
                install(signal, handler, flags(signal))
            }
        )*
    };
}

signals! {
    signal: bsd_flags;
    bsd_signal: bsd_flags;
    ssignal: bsd_flags;
    sysv_signal: |_| libc::SA_RESETHAND | libc::SA_NODEFER;
    __sysv_signal: |_| libc::SA_RESETHAND | libc::SA_NODEFER;
}

macro_rules! masks {
    ($($name:ident: $failed:expr;)*) => {
        $(
            /// Says which signals are blocked.
            ///
            /// # Safety
            ///
            /// As in C.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
                // SAFETY: it is null or a set, by the caller's contract.
                let mut wanted = unsafe { set.as_ref() }.copied();
                if current().is_some() {
                    let is_to_block = how != libc::SIG_UNBLOCK;
                    wanted = wanted.map(if is_to_block { actions::unblocked } else { actions::with_marks });
                }
                let set = wanted.as_ref().map_or(ptr::null(), ptr::from_ref);
                // SAFETY: the caller's contract; the set is a copy.
                let errno = unsafe { real::sigmask(how, set, old) };
                $failed(errno)
            }
        )*
    };
}

masks! {
    pthread_sigmask: |errno| errno;
    sigprocmask: |errno| if errno == 0 { 0 } else { real::failed(errno) };
}

/// Waits for a signal, with others blocked.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sigsuspend(set: *const sigset_t) -> c_int {
    // SAFETY: it is null or a set, by the caller's contract.
    let mut wanted = unsafe { set.as_ref() }.copied();
    if current().is_some() {
        // A handler that runs meanwhile may submit.
        wanted = wanted.map(actions::unblocked);
    }
    let set = wanted.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the caller's contract; the set is a copy.
    unsafe { real::sigsuspend(set) }
}
