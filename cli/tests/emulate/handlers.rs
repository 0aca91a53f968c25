//! Signals: the trap's are the program's own, too.
#![expect(unsafe_code, reason = "installs handlers, and causes faults")]
#![expect(clippy::disallowed_types, reason = "what a signal handler knows")]

use std::arch::asm;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::outside::passes;
use super::portal::{map, succeeds};

static SEEN: AtomicI32 = AtomicI32::new(0);

/// Runs it in a child, and says by which signal that ended; 0, if by none.
pub(crate) fn signal_of(body: impl FnOnce()) -> c_int {
    // SAFETY: the child runs the body, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        for signal in [libc::SIGSEGV, libc::SIGILL] {
            // What std has installed would tell of an overflow of the stack.
            // SAFETY: it restores the default.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        body();
        // SAFETY: it ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: the child is ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }
}

fn ud2() {
    // SAFETY: it raises SIGILL, whose handler goes on behind it.
    unsafe { asm!("ud2") };
}

fn read_nothing() {
    // SAFETY: it raises SIGSEGV, whose handler goes on behind it.
    unsafe { asm!("mov al, byte ptr [rsi]", out("al") _, in("rsi") 0x123) };
}

/// Goes on behind the instruction, of which both here are two bytes long.
extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes both.
    let code = unsafe { (*info).si_code };
    assert!(code > 0);
    SEEN.store(signal, Ordering::SeqCst);
    // SAFETY: as above.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    registers[usize::try_from(libc::REG_RIP).unwrap()] += 2;
}

fn install(signal: c_int, flags: c_int) -> libc::sigaction {
    // SAFETY: all its fields are integers, or an optional function.
    let mut new: libc::sigaction = unsafe { zeroed() };
    new.sa_sigaction = on_fault as *const () as libc::sighandler_t;
    new.sa_flags = libc::SA_SIGINFO | flags;
    let mut old = new;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const new, &raw mut old) }, 0);
    old
}

fn seen() -> c_int {
    SEEN.swap(0, Ordering::SeqCst)
}

#[test]
fn of_the_program_are_reached() {
    passes(&[], "handlers::own_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn own_inside() {
    let portal = map();
    assert_eq!(signal_of(ud2), libc::SIGILL);
    assert_eq!(signal_of(read_nothing), libc::SIGSEGV);
    for signal in [libc::SIGILL, libc::SIGSEGV] {
        install(signal, 0);
        // What was installed is what the program is told.
        assert_eq!(install(signal, 0).sa_sigaction, on_fault as *const () as libc::sighandler_t);
        // The trap is still there.
        succeeds(portal);
        assert_eq!(seen(), 0);
        if signal == libc::SIGILL {
            ud2()
        } else {
            read_nothing()
        }
        assert_eq!(seen(), signal);
        succeeds(portal);
    }
    // Once only, if it says so.
    install(libc::SIGILL, libc::SA_RESETHAND);
    ud2();
    assert_eq!(seen(), libc::SIGILL);
    assert_eq!(signal_of(ud2), libc::SIGILL);
    succeeds(portal);
    // SAFETY: it ignores a signal.
    unsafe { libc::signal(libc::SIGILL, libc::SIG_IGN) };
    // One that was sent is ignored, a fault cannot be.
    // SAFETY: it sends a signal that is ignored.
    assert_eq!(unsafe { libc::raise(libc::SIGILL) }, 0);
    succeeds(portal);
}

static PORTAL: AtomicU64 = AtomicU64::new(0);

/// Submits, and goes on behind the instruction.
extern "C" fn on_fault_submits(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    succeeds(PORTAL.load(Ordering::SeqCst));
    on_fault(signal, info, context);
}

#[test]
fn may_submit() {
    passes(&[], "handlers::submits_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn submits_inside() {
    PORTAL.store(map(), Ordering::SeqCst);
    // SAFETY: all its fields are integers, or an optional function.
    let mut new: libc::sigaction = unsafe { zeroed() };
    new.sa_sigaction = on_fault_submits as *const () as libc::sighandler_t;
    new.sa_flags = libc::SA_SIGINFO;
    // SAFETY: it writes to our set.
    unsafe { libc::sigfillset(&raw mut new.sa_mask) };
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    assert_eq!(unsafe { libc::sigaction(libc::SIGSEGV, &raw const new, ptr::null_mut()) }, 0);
    read_nothing();
    assert_eq!(seen(), libc::SIGSEGV);
}

/// Threads that have all signals blocked are common.
#[test]
fn are_blocked_and_the_trap_works() {
    passes(&[], "handlers::blocked_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn blocked_inside() {
    let portal = map();
    thread::spawn(move || {
        // SAFETY: a set is plain integers.
        let mut all: libc::sigset_t = unsafe { zeroed() };
        // SAFETY: it writes to our set.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: it reads our set.
        assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut()) }, 0);
        succeeds(portal);
    })
    .join()
    .unwrap();
}

/// A child that is forked while another thread is inside sigaction has handlers, too.
#[test]
fn are_changed_while_others_fork() {
    passes(&[], "handlers::forks_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn forks_inside() {
    const CHILDREN: usize = 1500;
    let is_over = AtomicI32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while is_over.load(Ordering::SeqCst) == 0 {
                told(libc::SIGSEGV);
            }
        });
        for _ in 0..CHILDREN {
            // SAFETY: the child asks, and leaves by `_exit`.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child == 0 {
                told(libc::SIGSEGV);
                // SAFETY: it ends the child.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: the child is ours.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            if status != 0 {
                is_over.store(1, Ordering::SeqCst);
            }
            assert_eq!(status, 0);
        }
        is_over.store(1, Ordering::SeqCst);
    });
}

/// What is installed.
fn told(signal: c_int) -> libc::sigaction {
    // SAFETY: all its fields are integers, or an optional function.
    let mut action: libc::sigaction = unsafe { zeroed() };
    // SAFETY: it writes to ours.
    assert_eq!(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) }, 0);
    action
}
