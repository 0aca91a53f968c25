//! Going on after a fault: a handler of SIGSEGV and SIGBUS for faults inside code that is prepared for them.
//!
//! ```text
//!  a fault inside the code ──────────▶ go on at the address in R9
//!  any other, and what is sent ──────▶ whoever handled it before ──nobody──▶ the default: death by this signal
//! ```
//!
//! The handler is installed once and stays for the life of the process: it cannot be known whether another, installed
//! later, still hands on to it. What it is not meant for must end as if it were not there; so it takes over its
//! predecessor's mask and flags, and a signal that somebody sent, which the kernel will not repeat, it repeats before
//! it leaves it to the default. It does only what signal-safety(7) allows.
//!
//! Sources: sigaction(2), signal-safety(7); the kernel's `force_sig_info_to_task` (a fault whose signal is ignored or
//! blocked kills).
#![expect(unsafe_code, reason = "signal handling has no safe wrapper in libc or std")]

use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use std::io;
use std::sync::OnceLock;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

/// By which the kernel tells of memory that is not there, and of a file's page that is not there.
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

type Handler = extern "C" fn(c_int);
type InformedHandler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// What the handler knows. Set before it is installed.
struct Known {
    code: Range<usize>,
    /// Who handled each of [`SIGNALS`] before.
    before: [libc::sigaction; SIGNALS.len()],
}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// Installs the handler for this code, the same each time; at most once in a process.
///
/// Whatever faults in the code must have set R9 to another address in it, at which it is right to go on.
pub(crate) fn install(code: Range<usize>) -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EINVAL);
    let once = || -> io::Result<()> {
        let before = [action(SIGNALS[0], None)?, action(SIGNALS[1], None)?];
        let known = KNOWN.get_or_init(|| Known { code, before });
        for (signal, mut new) in SIGNALS.into_iter().zip(known.before) {
            new.sa_sigaction = on_signal as *const () as libc::sighandler_t;
            // ONSTACK: a thread's own stack may be what overflowed.
            new.sa_flags = (new.sa_flags & !libc::SA_RESETHAND) | libc::SA_SIGINFO | libc::SA_ONSTACK;
            action(signal, Some(&new))?;
        }
        Ok(())
    };
    INSTALLED.get_or_init(|| once().map_err(errno)).map_err(io::Error::from_raw_os_error)
}

/// Lets faults reach the handler on this thread. The kernel kills a process for a fault whose signal is blocked.
pub(crate) fn unblock() {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` has room for a signal set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has no way to fail, and has filled it.
    let mut set = unsafe { set.assume_init() };
    for signal in SIGNALS {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    // SAFETY: the set outlives the call; nothing is asked back.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
}

/// The action of a signal before this call.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: `new` is null or an action whose handler is `on_signal`, with the signature that SA_SIGINFO asks for, or
    // libc's constant for the default; `before` has room for an action.
    let refused = unsafe { libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), before.as_mut_ptr()) } != 0;
    if refused {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled it.
    Ok(unsafe { before.assume_init() })
}

extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(known) = KNOWN.get() else { return };
    // SAFETY: with SA_SIGINFO the kernel passes a siginfo that lives until the handler returns.
    let code = unsafe { (*info).si_code };
    // Zero and less: sent by a process. BUS_MCEERR_AO: news of a broken page that this thread has not touched.
    let is_fault = code > 0 && (signal, code) != (libc::SIGBUS, libc::BUS_MCEERR_AO);
    // SAFETY: with SA_SIGINFO the kernel passes a context that lives until the handler returns, and which is nobody
    // else's meanwhile.
    let resumed = is_fault && unsafe { resume(&known.code, context.cast()) };
    if resumed {
        return;
    }
    for (of, before) in SIGNALS.into_iter().zip(&known.before) {
        if of == signal {
            hand_on(before, signal, is_fault, (info, context));
        }
    }
}

/// Makes the interrupted code go on at the address in R9, if it is code that says so.
///
/// # Safety
///
/// The context is valid for reads and writes.
unsafe fn resume(code: &Range<usize>, context: *mut ucontext_t) -> bool {
    // SAFETY: the caller's contract.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let [at, resume_at] = [libc::REG_RIP, libc::REG_R9].map(|register| registers[register as usize]);
    let inside = |address: i64| usize::try_from(address).is_ok_and(|address| code.contains(&address));
    // The third condition ends what would else go on for ever: a page of the code itself is missing.
    let prepared = inside(at) && inside(resume_at) && at != resume_at;
    if prepared {
        registers[libc::REG_RIP as usize] = resume_at;
    }
    prepared
}

/// Does with the signal what would have been done without this handler.
fn hand_on(before: &libc::sigaction, signal: c_int, is_fault: bool, (info, context): (*mut siginfo_t, *mut c_void)) {
    let reset = || {
        // It cannot fail for a signal that could be handled.
        let _ = action(signal, Some(&libc::sigaction { sa_sigaction: libc::SIG_DFL, sa_flags: 0, ..*before }));
    };
    match before.sa_sigaction {
        libc::SIG_IGN if !is_fault => return,
        // The kernel lets nobody ignore a fault. It is repeated when this returns, and then kills.
        libc::SIG_DFL | libc::SIG_IGN => reset(),
        _ => {
            let once = before.sa_flags & libc::SA_RESETHAND != 0;
            if once {
                reset();
            }
            call(before, signal, info, context);
            if once {
                return;
            }
        }
    }
    // Who sets the default and returns, as the standard library does, counts on the fault to be repeated.
    let dies = action(signal, None).is_ok_and(|now| now.sa_sigaction == libc::SIG_DFL);
    if dies && !is_fault {
        // SAFETY: raise takes an integer. The signal waits until the handler returns.
        unsafe { libc::raise(signal) };
    }
}

fn call(before: &libc::sigaction, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let field = &raw const before.sa_sigaction;
    if before.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: libc has this field as an integer; in C it is a pointer to a function, and without SA_SIGINFO to one
        // of this type. It is not one of the two constants.
        let handler = unsafe { field.cast::<Handler>().read() };
        handler(signal);
    } else {
        // SAFETY: as above, with SA_SIGINFO.
        let handler = unsafe { field.cast::<InformedHandler>().read() };
        handler(signal, info, context);
    }
}
