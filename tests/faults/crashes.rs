//! What is not a guarded operation: it ends, or is handled, as if there were no guard.
//!
//! Each role runs in a process of its own. It readies its signals, builds a queue with the guard, sees that it works,
//! and then does what the role is about.
#![expect(unsafe_code, reason = "handles and sends signals, and reads what must not be read")]

use std::hint::black_box;
use std::io::Write;
use std::mem::zeroed;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::OnceLock;
use std::{io, ptr, thread};

use libc::{SIGBUS, SIGSEGV, c_int, c_void, siginfo_t};
use memring::{INLINE, Sqe, Status};

use super::arena::{Arena, PAGE, Trouble};
use super::subprocess::{again, role, words};
use super::{Queue, QueuePair};

/// How a role's process must end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By itself.
    Lives,
    Exits(c_int),
    DiesOf(c_int),
}

type Role = (&'static str, fn(&Scene), End);

const HANDLED: c_int = 41;
const HANDLED_PLAINLY: c_int = 42;
const MISINFORMED: c_int = 43;

const ROLES: &[Role] = &[
    // The standard library's handler is there before.
    ("a fault", |scene| scene.crash(SIGSEGV), End::DiesOf(SIGSEGV)),
    ("a file cut short", |scene| scene.crash(SIGBUS), End::DiesOf(SIGBUS)),
    ("sent", |_| send(SIGSEGV), End::DiesOf(SIGSEGV)),
    ("sent from outside", |_| send_from_outside(), End::DiesOf(SIGSEGV)),
    ("sent, bus", |_| send(SIGBUS), End::DiesOf(SIGBUS)),
    ("stack overflow", |_| overflow(), End::DiesOf(libc::SIGABRT)),
    // The default.
    ("default, a fault", |scene| scene.crash(SIGSEGV), End::DiesOf(SIGSEGV)),
    ("default, a file cut short", |scene| scene.crash(SIGBUS), End::DiesOf(SIGBUS)),
    ("default, sent", |_| send(SIGSEGV), End::DiesOf(SIGSEGV)),
    ("default, news of a broken page", |_| send_news(), End::DiesOf(SIGBUS)),
    // Ignored: what is sent, but no fault.
    ("ignored, a fault", |scene| scene.crash(SIGSEGV), End::DiesOf(SIGSEGV)),
    ("ignored, sent", |_| send(SIGSEGV), End::Lives),
    // A handler of the user's.
    ("handler, a fault", |scene| scene.crash(SIGSEGV), End::Exits(HANDLED)),
    ("handler, a file cut short", |scene| scene.crash(SIGBUS), End::Exits(HANDLED)),
    ("handler, sent", |_| send(SIGSEGV), End::Exits(MISINFORMED)),
    ("plain handler, a fault", |scene| scene.crash(SIGSEGV), End::Exits(HANDLED_PLAINLY)),
    ("plain handler, sent", |_| send(SIGSEGV), End::Exits(HANDLED_PLAINLY)),
    ("mending handler", Scene::crash_and_go_on, End::Lives),
    ("returning handler, sent", |_| send(SIGSEGV), End::Lives),
    ("returning handler once, sent", |_| send(SIGSEGV), End::Lives),
    ("returning handler once, sent twice", |_| (0..2).for_each(|_| send(SIGSEGV)), End::DiesOf(SIGSEGV)),
    ("returning handler once, a fault", |scene| scene.crash(SIGSEGV), End::DiesOf(SIGSEGV)),
    // A handler that came later and hands on what it does not know: the guard works behind it.
    ("later handler", |_| come_later(), End::Lives),
    ("later handler, R9 by chance", crash_with_its_r9, End::DiesOf(SIGSEGV)),
    // Another queue, without the guard.
    ("another queue", copy_without_guard, End::DiesOf(SIGBUS)),
];

/// The first page can be accessed, the second cannot, the third has no file behind it.
struct Scene {
    arena: Arena,
}

/// What the handlers know.
static SCENE: OnceLock<[usize; 2]> = OnceLock::new();

impl Scene {
    fn new() -> Self {
        let mut arena = Arena::new(3);
        arena.take_away(&Trouble::NoAccess(1..2));
        arena.take_away(&Trouble::CutFrom(2));
        SCENE.set([1, 2].map(|page| arena.at(page * PAGE + 123).addr())).expect("one scene in a process");
        Self { arena }
    }

    /// Reads, in code of the user's, what raises this signal.
    fn crash(&self, signal: c_int) {
        let page = if signal == SIGSEGV { 1 } else { 2 };
        // SAFETY: none: it is wrong, and must end the process. It is volatile, so that it happens.
        black_box(unsafe { self.arena.at(page * PAGE + 123).read_volatile() });
    }

    /// The handler lets the read succeed, and is there again for the next, as is the guard.
    fn crash_and_go_on(&self) {
        for _ in 0..3 {
            self.crash(SIGSEGV);
            protect(libc::PROT_NONE);
            see_that_it_works(self);
        }
    }
}

/// The page of the scene that cannot be accessed.
fn protect(access: c_int) {
    let page = SCENE.get().map_or(0, |[address, _]| address & !(PAGE - 1));
    // SAFETY: the page belongs to the scene's arena.
    unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(page), PAGE, access) };
}

extern "C" fn handler(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a siginfo, which lives until the handler returns.
    let info = unsafe { &*info };
    // SAFETY: it is of a fault, or its bytes are somebody else's integers.
    let address = unsafe { info.si_addr() }.addr();
    let right = SCENE.get().is_some_and(|scene| scene[usize::from(signal == SIGBUS)] == address);
    // SAFETY: ends the process.
    unsafe { libc::_exit(if right { HANDLED } else { MISINFORMED }) }
}

extern "C" fn plain_handler(signal: c_int) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(if signal == SIGSEGV { HANDLED_PLAINLY } else { MISINFORMED }) }
}

extern "C" fn mending_handler(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    protect(libc::PROT_READ);
}

extern "C" fn returning_handler(_: c_int) {}

/// Readies the signals as the role's name begins.
fn ready(role: &str) {
    let (handler, flags) = match role.split(',').next().unwrap_or_default() {
        "default" => (libc::SIG_DFL, 0),
        "ignored" => (libc::SIG_IGN, 0),
        "handler" => (handler as *const () as usize, libc::SA_SIGINFO),
        "plain handler" => (plain_handler as *const () as usize, 0),
        "mending handler" => (mending_handler as *const () as usize, libc::SA_SIGINFO | libc::SA_NODEFER),
        "returning handler" => (returning_handler as *const () as usize, libc::SA_RESTART),
        "returning handler once" => (returning_handler as *const () as usize, libc::SA_RESETHAND),
        _ => return,
    };
    for signal in [SIGSEGV, SIGBUS] {
        // SAFETY: a sigaction is integers and an optional function: zeros are a value of it.
        let mut action: libc::sigaction = unsafe { zeroed() };
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        // SAFETY: the handler has the signature that the flags ask for.
        assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
    }
}

fn see_that_it_works(scene: &Scene) {
    let mut buffer = vec![0; 2 * PAGE];
    for mut queue in Queue::of_each_drive() {
        for page in [0, 2] {
            let sqe = Sqe::memcpy(buffer.as_mut_ptr(), scene.arena.at(page * PAGE + 6), PAGE);
            let cqe = queue.run(sqe);
            let offset = if page == 0 { 4090 } else { 0 };
            assert_eq!((cqe.status(), cqe.value()), (Status::FAULT, offset));
        }
    }
}

/// To this thread, so that it has arrived when this returns.
fn send(signal: c_int) {
    // SAFETY: takes an integer.
    unsafe { libc::raise(signal) };
}

fn send_from_outside() {
    // SAFETY: takes a number. If the signal is lost, this ends the process, by another one.
    unsafe { libc::alarm(60) };
    // SAFETY: takes nothing.
    let process = unsafe { libc::getpid() };
    // SAFETY: takes two integers.
    unsafe { libc::kill(process, SIGSEGV) };
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

/// What the kernel sends of a page that broke and that nobody has touched yet (prctl(2), PR_MCE_KILL).
fn send_news() {
    // SAFETY: a siginfo is integers.
    let mut info: siginfo_t = unsafe { zeroed() };
    (info.si_signo, info.si_code) = (SIGBUS, libc::BUS_MCEERR_AO);
    // SAFETY: takes nothing.
    let process = unsafe { libc::getpid() };
    // SAFETY: takes nothing.
    let thread = unsafe { libc::gettid() };
    // SAFETY: the siginfo outlives the call, which may name any code if it goes to this thread itself.
    let refused = unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, SIGBUS, &raw const info) };
    assert_eq!(refused, 0, "rt_tgsigqueueinfo: {}", io::Error::last_os_error());
}

fn overflow() {
    #[expect(unconditional_recursion, reason = "it is to overflow the stack")]
    fn deeper() -> u64 {
        black_box(deeper()) + 1
    }
    let deep = thread::Builder::new().name("deep".to_owned()).spawn(deeper).expect("a thread");
    // It does not come to this.
    let _ = deep.join();
}

/// What was there when the later handler came, and the R9 of the guarded fault that it handed on.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
static R9: OnceLock<i64> = OnceLock::new();

extern "C" fn later_handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a context, which lives until the handler returns.
    let registers = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    R9.get_or_init(|| registers[libc::REG_R9 as usize]);
    if let Some(before) = BEFORE.get() {
        let field = &raw const before.sa_sigaction;
        // SAFETY: the handler of the guard, which has the flag SA_SIGINFO and so this type.
        let handler = unsafe { field.cast::<extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>().read() };
        handler(signal, info, context);
    }
}

/// Installs [`later_handler`], and sees that a guarded fault is resumed behind it.
fn come_later() {
    let mut before = std::mem::MaybeUninit::uninit();
    // SAFETY: there is room for the action.
    assert_eq!(unsafe { libc::sigaction(SIGSEGV, ptr::null(), before.as_mut_ptr()) }, 0);
    // SAFETY: the call has filled it.
    let before = unsafe { before.assume_init() };
    assert!(before.sa_flags & libc::SA_SIGINFO != 0 && before.sa_flags & libc::SA_ONSTACK != 0);
    let later = libc::sigaction { sa_sigaction: later_handler as *const () as usize, ..before };
    assert!(BEFORE.set(before).is_ok());
    // SAFETY: the handler has the signature that the flags ask for.
    assert_eq!(unsafe { libc::sigaction(SIGSEGV, &later, ptr::null_mut()) }, 0);
    let cqe = Queue::new(0, INLINE, false).run(Sqe::memset(ptr::without_provenance_mut(64), 0, 9));
    assert_eq!((cqe.status(), cqe.value()), (Status::FAULT, 0));
    assert!(R9.get().is_some(), "the later handler was passed over");
}

/// Crashes with the register that names where to go on, but not in the routine that goes on there.
fn crash_with_its_r9(scene: &Scene) {
    come_later();
    let (r9, page) = (R9.get().copied().unwrap_or_default(), scene.arena.at(PAGE));
    // SAFETY: none: it is wrong, and must end the process.
    unsafe { std::arch::asm!("mov al, [{}]", in(reg) page, in("r9") r9, out("rax") _) };
}

fn copy_without_guard(scene: &Scene) {
    let (mut sq, _cq) = QueuePair::builder().entries(8).workers(0).build().expect("in range").split();
    let mut page = vec![0; PAGE];
    // SAFETY: none: the source is not there, and must end the process.
    unsafe { sq.push(Sqe::memcpy(page.as_mut_ptr(), scene.arena.at(2 * PAGE), PAGE).on(INLINE)) }.expect("room");
    sq.submit();
}

fn act(role: &str) {
    let (_, act, _) = ROLES.iter().find(|(name, ..)| *name == role).expect("a role of the list");
    let scene = Scene::new();
    ready(role);
    see_that_it_works(&scene);
    println!("the guard works");
    act(&scene);
    println!("it lives");
    io::stdout().flush().expect("a pipe");
}

fn check(role: &str, output: &Output, end: End) {
    let text = words(output);
    assert!(text.contains("the guard works"), "{role}: {text}");
    let expected = match end {
        End::Lives => (Some(0), None),
        End::Exits(code) => (Some(code), None),
        End::DiesOf(signal) => (None, Some(signal)),
    };
    assert_eq!((output.status.code(), output.status.signal()), expected, "{role}: {text}");
    assert_eq!(text.contains("it lives"), matches!(end, End::Lives), "{role}: {text}");
    if role == "stack overflow" {
        assert!(text.contains("thread 'deep'") && text.contains("has overflowed its stack"), "{text}");
    }
}

#[test]
fn all_else_ends_as_without_the_guard() {
    const NAME: &str = "crashes::all_else_ends_as_without_the_guard";
    match role() {
        Some(role) => act(&role),
        None => {
            for &(role, _, end) in ROLES {
                check(role, &again(NAME, role, &[]), end);
            }
        }
    }
}
