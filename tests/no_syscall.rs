//! Goal: who never arms never enters the kernel. Pushing, submitting, executing and draining make no system call: not
//! in the caller, and not in a worker that is still spinning. Nor do links, silent and shared completions, and cancels.
//! (A barrier takes a lock, which is the kernel's affair when it is contended.)
//!
//! Method: each test forks a child, which has none of the harness's threads. The child builds a queue, warms it up, and
//! then puts all its threads under a seccomp filter that kills the process at any system call but `exit_group`, which
//! it needs to report. There it runs 100 000 rounds and leaves with a code that only a full and right run leaves with.
//! Two further tests do what does enter the kernel (wake an armed reactor, wake a worker) and must be killed for it.
//!
//! Where the kernel has no seccomp the tests are skipped, and say so; `MEMRING_REQUIRE=seccomp` makes that a failure.
#![expect(unsafe_code, reason = "pushes entries; fork, seccomp, alarm and _exit have no safe wrapper in std")]

use std::io::{Error, Write, stderr};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use memring::queue::{Arm, Builder, CompletionQueue, Driver, PushError, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Sqe, Status, WORKERS};

const ROUNDS: u64 = 100_000;
const ENTRIES: usize = 64;
/// Entries of a chain.
const CHAIN: usize = 8;
/// The user data of the last of each chain.
const LAST: u64 = u64::MAX;
/// Bytes of one copy.
const LEN: usize = 256;
/// A confined process that has not ended after so many seconds is ended by the kernel.
const LIMIT_S: libc::c_uint = 300;

/// How a child ends: all was done and right, something was wrong, it failed before its confinement, or that was
/// refused with this errno.
const RIGHT: i32 = 42;
const WRONG: i32 = 43;
const UNPREPARED: i32 = 44;
const UNCONFINED_ERRNO: i32 = 100;

/// Puts all threads of this process under the filter.
fn confine() -> Result<(), Error> {
    const NUMBER_OFFSET: u32 = 0; // Of `nr` in seccomp_data.
    let instruction = |code: u32, jt, jf, k| {
        let code = u16::try_from(code).expect("BPF codes have 16 bits");
        libc::sock_filter { code, jt, jf, k }
    };
    let exit_group = u32::try_from(libc::SYS_exit_group).expect("a system call's number");
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER_OFFSET),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, exit_group),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: prctl takes numbers here.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(Error::last_os_error());
    }
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: `program` and the filter it points at live during the call; the kernel copies them.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if set == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process; nobody needs its memory.
    unsafe { libc::_exit(code) }
}

/// What a child has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Right,
    /// It made a system call.
    Killed,
    /// It could not be confined, which was said.
    Skipped,
}

/// In a child: runs `prepare`, then `body` on what that made, under the filter. Nothing is dropped there.
fn confined<T>(name: &str, prepare: impl FnOnce() -> T, body: impl FnOnce(&mut T) -> bool) -> End {
    // SAFETY: the child is a copy with one thread. It allocates, which glibc's own fork handlers make possible, takes
    // no lock that the harness's threads may have held, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", Error::last_os_error());
    if child == 0 {
        // SAFETY: alarm takes a number.
        unsafe { libc::alarm(LIMIT_S) };
        set_hook(Box::new(|_| {})); // It might want a lock.
        let Ok(mut prepared) = catch_unwind(AssertUnwindSafe(prepare)) else { exit(UNPREPARED) };
        match confine() {
            Ok(()) if body(&mut prepared) => exit(RIGHT),
            Ok(()) => exit(WRONG),
            Err(error) => exit(UNCONFINED_ERRNO + error.raw_os_error().unwrap_or(0)),
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours and not yet waited for; `status` is a live c_int.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "waitpid: {}", Error::last_os_error());
    let status = ExitStatus::from_raw(status);
    match (status.code(), status.signal()) {
        (Some(RIGHT), _) => End::Right,
        (_, Some(libc::SIGSYS)) => End::Killed,
        (Some(code @ UNCONFINED_ERRNO..), _) => {
            skip(name, "seccomp", &Error::from_raw_os_error(code - UNCONFINED_ERRNO).to_string());
            End::Skipped
        }
        _ => panic!("the child ended by {status}: {RIGHT} is right, {WRONG} wrong, {UNPREPARED} unprepared"),
    }
}

/// Says, past the harness's capture, that a test is skipped; fails if what it needs was required.
fn skip(name: &str, feature: &str, reason: &str) {
    static SKIPPED: Mutex<u32> = Mutex::new(0);
    let required = std::env::var("MEMRING_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|required| required == feature), "{feature} is required: {reason}");
    let mut skipped = SKIPPED.lock().expect("nobody panics here");
    *skipped += 1;
    let _ = writeln!(stderr(), "SKIP {} of tests/no_syscall.rs, {name}: no {feature} ({})", *skipped, reason.trim());
}

/// A queue, and pages to copy.
struct Load {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    batch: Vec<Sqe>,
    src: Vec<u8>,
    dst: Vec<u8>,
    cancelled: usize,
}

impl Load {
    fn new(builder: Builder, mover: MoverId) -> Self {
        let (sq, cq) = builder.entries(ENTRIES).build().expect("a queue").split();
        let (src, mut dst) = (vec![7; ENTRIES * LEN], vec![0; ENTRIES * LEN]);
        let pages = dst.chunks_mut(LEN).zip(src.chunks(LEN));
        let copy = |(dst, src): (&mut [u8], &[u8])| Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), LEN).on(mover);
        let batch = pages.map(copy).collect();
        Self { sq, cq, batch, src, dst, cancelled: 0 }
    }

    /// Pushes `count` copies, one of them alone, submits, and drains until they are done. Whether all went well.
    ///
    /// No assertion here: its message would be a system call.
    fn round(&mut self, count: usize) -> bool {
        let (one, rest) = (self.batch[0], &self.batch[1..count]);
        // SAFETY: the pages live, and nobody touches them, until the completions were reaped.
        let mut right = unsafe { self.sq.push(one) }.is_ok();
        // SAFETY: as above.
        right &= unsafe { self.sq.push_batch(rest) }.is_ok();
        if count == ENTRIES {
            // SAFETY: as above.
            right &= matches!(unsafe { self.sq.push(one) }, Err(PushError::Full(_)));
        }
        right &= self.sq.submit() == count;
        let mut reaped = 0;
        while right && reaped < count {
            for cqe in self.cq.drain() {
                right &= cqe.status().is_success();
                reaped += 1;
            }
        }
        right && reaped == count
    }

    /// Runs a full queue of chains, of whose members only the last are told of, in shared completions, and cancels some
    /// of the others, which are told of then.
    fn round_of_chains(&mut self, round: usize) -> bool {
        for (number, sqe) in self.batch.iter_mut().enumerate() {
            let plain = Sqe::memcpy(sqe.dst(), sqe.src(), LEN).on(sqe.mover());
            *sqe = match number % CHAIN {
                7 => plain.coalesce().user_data(LAST),
                3 => plain.hard_link().user_data(LAST),
                _ => plain.hard_link().skip_success().user_data(number as u64),
            };
        }
        // SAFETY: the pages live, and nobody touches them, until the last of each chain was reaped.
        let mut right = unsafe { self.sq.push_batch(&self.batch) }.is_ok();
        right &= self.sq.submit() == ENTRIES;
        let some = (round % 7..ENTRIES).step_by(3).map(|number| self.cq.cancel(number as u64));
        let mut cancelled: usize = some.sum();
        self.cancelled += cancelled;
        let mut told = 0;
        while right && (told < ENTRIES / CHAIN * 2 || cancelled > 0) {
            for cqe in self.cq.drain() {
                match (cqe.user_data(), cqe.status()) {
                    (LAST, Status::SUCCESS) => told += cqe.count() as usize,
                    (_, Status::CANCELLED) if cancelled > 0 => cancelled -= 1,
                    _ => right = false,
                }
            }
        }
        right
    }

    /// Runs such rounds, in which some cancels must come in time, or none.
    fn run_chains(&mut self, in_time: bool) -> bool {
        let rounds = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
        (0..rounds).all(|round| self.round_of_chains(round)) && (self.cancelled > 0) == in_time
    }

    /// Runs rounds of 1 to `ENTRIES` copies until `operations` are done.
    fn run(&mut self, operations: u64) -> bool {
        let mut sizes = (1..=ENTRIES).cycle();
        let mut done = 0;
        while done < operations {
            let count = sizes.next().unwrap_or(1);
            if !self.round(count) {
                return false;
            }
            done += count as u64;
        }
        self.dst == self.src
    }
}

#[test]
fn inline() {
    let prepare = || Load::new(QueuePair::builder().workers(0), INLINE);
    let body = |load: &mut Load| (0..ROUNDS).all(|_| load.round(2)) && load.run(ROUNDS) && load.run_chains(false);
    let end = confined("inline", prepare, body);
    assert_ne!(end, End::Killed, "a system call was made");
}

#[test]
fn caller_driven() {
    let prepare = || Load::new(QueuePair::builder().workers(0), WORKERS);
    let body = |load: &mut Load| (0..ROUNDS).all(|_| load.round(2)) && load.run(ROUNDS) && load.run_chains(true);
    let end = confined("caller_driven", prepare, body);
    assert_ne!(end, End::Killed, "a system call was made");
}

/// The filter holds for the worker, too. It looks at the clock now and then, so the clock must be readable without
/// the kernel, which a first child finds out.
#[test]
fn one_spinning_worker() {
    const NAME: &str = "one_spinning_worker";
    match confined(NAME, || (), |()| Instant::now().elapsed() < Duration::MAX) {
        End::Right => {}
        End::Killed => return skip(NAME, "clock", "this machine's clock is read by a system call"),
        End::Skipped => return,
    }
    let prepare = || {
        let mut load = Load::new(QueuePair::builder().workers(1).spin(Duration::from_secs(3600)), WORKERS);
        // Past what a thread does to begin.
        let executed = |load: &Load| load.cq.stats().driver(WORKERS, Driver::Thread(0)).map(|stats| stats.operations);
        while executed(&load) == Some(0) {
            assert!(load.round(1));
        }
        load
    };
    let end = confined(NAME, prepare, |load| load.run(ROUNDS) && load.run_chains(true));
    assert_ne!(end, End::Killed, "a system call was made");
}

/// The filter is there, and holds for the caller: it is killed for the write that an armed reactor is woken with.
#[test]
fn an_armed_reactor_is_noticed() {
    let prepare = || {
        let mut load = Load::new(QueuePair::builder().workers(0), WORKERS);
        assert!(load.round(2));
        assert_eq!(load.cq.arm(), Arm::Armed);
        load
    };
    let end = confined("an_armed_reactor_is_noticed", prepare, |load| load.round(2));
    assert_ne!(end, End::Right, "the write was not noticed");
}

/// It holds for the worker, too: either the worker is killed for going to sleep, or the caller for waking it.
#[test]
fn a_sleeping_worker_is_noticed() {
    let prepare = || {
        let mut load = Load::new(QueuePair::builder().workers(1).spin(Duration::ZERO), WORKERS);
        assert!(load.round(2));
        load
    };
    let end = confined("a_sleeping_worker_is_noticed", prepare, |load| load.run(ROUNDS));
    assert_ne!(end, End::Right, "neither the sleep nor the wake was noticed");
}
