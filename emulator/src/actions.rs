//! The program's own handlers of SIGILL and SIGSEGV, whose places are taken.
//!
//! What the program installs for the two is kept here, and told when it asks. A signal that is not the emulator's goes
//! there as the kernel would have sent it: with the signals blocked that the program wants blocked, once only if it
//! said so, and to the default if there is no handler.
//!
//! The two themselves are never blocked, as a thread that has one of them blocked is killed where it should be trapped.
//! While the program's handler runs, and after it has left by longjmp, other signals are blocked in their place: as
//! with the signals themselves, the kernel keeps them for each thread, and whatever restores a mask restores them. A
//! fault that meets its own is the end of the program, as ever.
//!
//! The trap is installed with what of the program's flags the kernel must know: on which stack a handler runs, and
//! whether what it interrupted goes on. So a trap runs where the program's handler would run.
#![expect(unsafe_code, reason = "calls signal handlers")]

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_void, sigaction as Action, siginfo_t, sigset_t, ucontext_t};

use crate::{real, trace, trap};

/// A handler, as SA_SIGINFO has it. It may throw an exception, or end its thread: both go through the frames of the
/// trap, which hold nothing that would have to be dropped.
type Handler = extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void);

/// The signals that are taken.
pub(crate) const TAKEN: [c_int; 2] = [libc::SIGILL, libc::SIGSEGV];

/// What is blocked in their place: the signals with the least priority, which hardly anybody uses.
const MARKS: [c_int; 2] = [63, 64];

/// What the program wants done at each of them.
static WANTED: [Place; 2] = [const { Place::new() }; 2];

/// An action behind a lock. Whoever holds the lock has all signals blocked, so no handler can find it held by the very
/// thread that it interrupted.
struct Place {
    is_held: AtomicBool,
    action: UnsafeCell<Option<Action>>,
}

// SAFETY: the action is accessed by who holds the lock only.
unsafe impl Sync for Place {}

impl Place {
    const fn new() -> Self {
        Self { is_held: AtomicBool::new(false), action: UnsafeCell::new(None) }
    }

    fn of(signal: c_int) -> Option<&'static Self> {
        TAKEN.iter().position(|taken| *taken == signal).and_then(|at| WANTED.get(at))
    }

    fn with<R>(&self, access: impl FnOnce(&mut Action) -> R) -> R {
        undisturbed(|| {
            self.hold();
            // SAFETY: this thread holds the lock.
            let action = unsafe { &mut *self.action.get() };
            let result = access(action.get_or_insert_with(nothing));
            self.let_go();
            result
        })
    }

    /// Takes the lock. All signals are blocked.
    fn hold(&self) {
        // Ordering: Acquire, partner: the Release of who held it before.
        while self.is_held.swap(true, Ordering::Acquire) {
            spin_loop();
        }
    }

    fn let_go(&self) {
        self.is_held.store(false, Ordering::Release); // Ordering: Release, partner: the Acquire above.
    }
}

/// The mask that a thread had before it began to fork: who holds all the places may access it.
struct Forker(UnsafeCell<Option<sigset_t>>);

// SAFETY: it is accessed by who holds all the places only.
unsafe impl Sync for Forker {}

static FORKER: Forker = Forker(UnsafeCell::new(None));

/// Before a fork: nobody is inside a place while it happens, or the child would find it held for ever.
pub(crate) fn hold_all() {
    let before = block_all();
    WANTED.iter().for_each(Place::hold);
    // SAFETY: this thread holds all the places.
    unsafe { *FORKER.0.get() = Some(before) };
}

/// After it, in the parent and in the child.
pub(crate) fn let_go_of_all() {
    // SAFETY: this thread holds all the places.
    let before = unsafe { &mut *FORKER.0.get() }.take();
    WANTED.iter().for_each(Place::let_go);
    if let Some(before) = before {
        set_mask(&before);
    }
}

/// The default action.
pub(crate) fn nothing() -> Action {
    // SAFETY: all its fields are integers, or an optional function; zeros say the default.
    unsafe { mem::zeroed() }
}

/// Does something that no handler may find half done: all signals are blocked meanwhile.
pub(crate) fn undisturbed<R>(body: impl FnOnce() -> R) -> R {
    let before = block_all();
    let result = body();
    set_mask(&before);
    result
}

fn block_all() -> sigset_t {
    let (all, mut before) = (real::every_signal(), nothing().sa_mask);
    // What the C library keeps for itself stays as it is: blocked in the trap, and only there.
    // SAFETY: both sets are ours.
    unsafe { real::sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) };
    before
}

fn set_mask(mask: &sigset_t) {
    // SAFETY: it reads our set.
    unsafe { real::sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// What sigaction(2) does for a signal that is taken; nothing for others.
pub(crate) fn exchange(signal: c_int, new: Option<Action>) -> Option<Action> {
    let place = Place::of(signal)?;
    Some(place.with(|action| {
        let Some(new) = new else { return *action };
        install(signal, new.sa_flags);
        mem::replace(action, new)
    }))
}

/// Installs the trap, and gives what was there before.
fn install(signal: c_int, flags: c_int) -> Action {
    let (mut action, mut before) = (nothing(), nothing());
    action.sa_sigaction = trap::on_signal as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | flags & (libc::SA_ONSTACK | libc::SA_RESTART);
    // Also those that the C library keeps for itself: a thread that is cancelled anywhere is so before an instruction
    // or after it.
    action.sa_mask = real::every_signal();
    // SAFETY: the trap has the signature that SA_SIGINFO asks for, and does only what is async-signal-safe.
    unsafe { real::sigaction(signal, &raw const action, &raw mut before) };
    before
}

/// Takes the signals out of a set: a thread that has one of them blocked is killed where it should be trapped.
pub(crate) fn unblocked(mut set: sigset_t) -> sigset_t {
    TAKEN.iter().for_each(|signal| real::forget(&mut set, *signal));
    set
}

/// The same with their marks in their places.
fn marked(set: sigset_t) -> sigset_t {
    unblocked(with_marks(set))
}

/// A set, with the marks of those in it that are taken.
pub(crate) fn with_marks(mut set: sigset_t) -> sigset_t {
    for (signal, mark) in TAKEN.into_iter().zip(MARKS) {
        if has(&set, signal) {
            // SAFETY: it writes to our set.
            unsafe { libc::sigaddset(&raw mut set, mark) };
        }
    }
    set
}

fn mark_of(signal: c_int) -> c_int {
    if signal == libc::SIGILL { MARKS[0] } else { MARKS[1] }
}

fn has(set: &sigset_t, signal: c_int) -> bool {
    // SAFETY: it reads the set.
    unsafe { libc::sigismember(set, signal) == 1 }
}

/// Installs the trap for both signals; what was installed before is the program's from now on.
pub(crate) fn take() {
    for signal in TAKEN {
        let before = install(signal, 0);
        exchange(signal, Some(before));
    }
    // A parent may have left them blocked.
    let mut taken = nothing().sa_mask;
    for signal in TAKEN {
        // SAFETY: it writes to our set.
        unsafe { libc::sigaddset(&raw mut taken, signal) };
    }
    // SAFETY: it reads our set.
    unsafe { real::sigmask(libc::SIG_UNBLOCK, &raw const taken, ptr::null_mut()) };
}

/// Does what the program wants done at a signal.
///
/// # Safety
///
/// It is called by a handler of this signal, or of one that stands for it, with what the kernel gave that handler; the
/// information may be another.
pub(crate) unsafe fn deliver(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(place) = Place::of(signal) else { return };
    let action = place.with(|action| {
        let wanted = *action;
        if wanted.sa_flags & libc::SA_RESETHAND != 0 {
            *action = nothing();
        }
        wanted
    });
    // SAFETY: the kernel's, or the trap's own.
    let is_a_fault = unsafe { (*info).si_code } > 0;
    // SAFETY: the context is nobody else's until the handler returns.
    let mask_before = unsafe { (*context.cast::<ucontext_t>()).uc_sigmask };
    if is_a_fault && has(&mask_before, mark_of(signal)) {
        // SAFETY: the information is the caller's.
        return unsafe { die(signal, info) };
    }
    match action.sa_sigaction {
        libc::SIG_IGN if !is_a_fault => {}
        // SAFETY: as above.
        libc::SIG_DFL | libc::SIG_IGN => unsafe { die(signal, info) },
        handler => {
            let mut mask = mask_before;
            real::remember_all(&mut mask, &action.sa_mask);
            if action.sa_flags & libc::SA_NODEFER == 0 {
                // SAFETY: the set is ours.
                unsafe { libc::sigaddset(&raw mut mask, signal) };
            }
            let mask = marked(mask);
            set_mask(&mask);
            // SAFETY: the program has said that this is a handler of this signal; with SA_SIGINFO it takes all three,
            // and without, what is more than it takes stands in registers that it does not look at.
            let handler = unsafe { ptr::from_ref(&handler).cast::<Handler>().read() };
            handler(signal, info, context);
        }
    }
}

/// Has the default happen when the handler returns, with what is known of the signal: whoever looks at what is left of
/// the program finds which address it was.
///
/// # Safety
///
/// The information is readable.
unsafe fn die(signal: c_int, info: *const siginfo_t) {
    trace::end();
    let default = nothing();
    // SAFETY: it reads our action.
    unsafe { real::sigaction(signal, &raw const default, ptr::null_mut()) };
    // It stays pending while the signal is blocked, which is until the handler returns.
    // SAFETY: the caller's contract.
    if !unsafe { real::send_to_self(signal, info) } {
        // SAFETY: it takes numbers.
        unsafe { libc::raise(signal) };
    }
}
