//! Goal: the loops that `examples/` offers for copying do their whole job: they copy, they reap, and they serve others
//! meanwhile; they sleep on the descriptor where they may, and cost no signal where nobody sleeps.
//!
//! Method: the examples themselves are compiled into this test and run, each with a worker and driven by the caller. A
//! run verifies every byte itself. Asserted is what is no matter of time: the numbers of completions, who executed
//! them, that ticks were served between the first submission and the last completion, and the writes to the descriptor.
//! The queue holds fewer entries than there are copies, so a loop must come round many times; copying everything takes
//! several periods of the timer on any machine.
//!
//! Where the kernel has no io_uring that loop is skipped, and says so; `MEMRING_REQUIRE=uring` makes that a failure.
#![expect(clippy::duplicate_mod, reason = "each example is a program of its own, and brings its meter")]

#[path = "../examples/awaited.rs"]
#[expect(dead_code, reason = "`main` and what it prints are for who runs the example")]
mod awaited;
#[path = "../examples/busy_poll.rs"]
#[expect(dead_code, reason = "as above")]
mod busy_poll;
#[path = "../examples/epoll.rs"]
#[expect(dead_code, reason = "as above")]
mod epoll;
#[path = "../examples/io_uring.rs"]
#[expect(dead_code, reason = "as above")]
mod io_uring;
#[path = "../examples/mio.rs"]
#[expect(dead_code, reason = "as above")]
mod mio;
#[cfg(feature = "tokio")]
#[path = "../examples/tokio.rs"]
#[expect(dead_code, reason = "as above")]
mod tokio;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::io::{Write, stderr};
use std::sync::{Mutex, PoisonError};

use memring::queue::{Driver, Stats};
use memring::{INLINE, WORKERS};

use watchdog::must_end;

const BYTES: usize = if cfg!(debug_assertions) { 8 << 20 } else { 64 << 20 };
const PIECE: usize = if cfg!(debug_assertions) { 1 << 10 } else { 4 << 10 };
/// So much less than whole pieces is copied.
const ODD: usize = PIECE - 1;
const COPIES: usize = BYTES.div_ceil(PIECE);
/// The second is no number of whole pieces, so that some of them are cut.
const BUDGETS: [usize; 2] = [64 << 10, 10_000];

/// How often a loop is run until it sleeps.
const TRIES: usize = 100;

/// Held by the loop that runs: each wants both cores of a small machine.
static ALONE: Mutex<()> = Mutex::new(());

/// What one run of a loop has come to.
struct Run {
    reaped: usize,
    ticks: u64,
    stats: Stats,
}

impl Run {
    /// Everything was copied and reaped, this driver did it alone, and others were served meanwhile.
    fn did_its_job(&self, driver: Driver) {
        assert_eq!(self.reaped, COPIES);
        assert!(self.ticks > 0, "nothing was served while copies were in flight");
        assert_eq!(self.stats.driver(WORKERS, driver).map(|driver| driver.operations), Some(COPIES as u64));
        let all = self.stats.mover(WORKERS);
        assert_eq!((all.operations, all.bytes), (COPIES as u64, (BYTES - ODD) as u64));
        assert_eq!(self.stats.mover(INLINE).operations, 0);
        assert_eq!(self.stats.reaper_wakes, 0, "nobody waits in the queue itself");
    }
}

/// Runs a loop with a worker and without. `run` does that, with a worker or not, and a budget.
fn serves(sleeps: bool, run: impl Fn(bool, usize) -> Run) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let with_worker = || {
        let run = run(true, BUDGETS[0]);
        run.did_its_job(Driver::Thread(0));
        run.stats.eventfd_writes
    };
    if sleeps {
        // A worker that is ahead all the time leaves the loop no sleep: on a busy machine that happens.
        assert!((0..TRIES).any(|_| with_worker() > 0), "it never slept on the descriptor");
    } else {
        assert_eq!(with_worker(), 0, "nobody armed");
    }
    for budget in BUDGETS {
        let run = run(false, budget);
        run.did_its_job(Driver::Caller);
        assert_eq!(run.stats.eventfd_writes, 0, "it had work all the time");
    }
}

/// One round of an example, as `serves` wants it.
macro_rules! round_of {
    ($example:ident) => {
        |has_worker, budget| {
            use $example::gaps::{Mode, Options};
            let mode = if has_worker { Mode::Workers } else { Mode::Caller };
            let options = Options { bytes: BYTES - ODD, piece: PIECE, budget, rounds: 1, ..Options::default() };
            let rounds = $example::run(mode, &options).expect("the loop ends well, with every byte in its place");
            let copies = &rounds[0].copies;
            Run { reaped: copies.reaped, ticks: copies.figures.ticks, stats: copies.stats.clone() }
        }
    };
}

#[test]
fn epoll_serves() {
    must_end(|| serves(true, round_of!(epoll)));
}

#[test]
fn mio_serves() {
    must_end(|| serves(true, round_of!(mio)));
}

#[test]
fn io_uring_serves() {
    if let Err(error) = ::io_uring::IoUring::new(16) {
        let required = std::env::var("MEMRING_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|required| required == "uring"), "uring is required: {error}");
        let _ = writeln!(stderr(), "SKIP 1 of tests/reactors.rs, io_uring_serves: no io_uring ({error})");
        return;
    }
    must_end(|| serves(true, round_of!(io_uring)));
}

#[test]
fn busy_poll_serves_without_signals() {
    must_end(|| serves(false, round_of!(busy_poll)));
}

/// Runs the example whose copies are simply awaited: it sleeps by its wakers, so nothing is said of the descriptor.
fn awaited_serves(threads: usize) {
    use awaited::gaps::{Mode, Options};
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (mode, driver, budget) in [
        (Mode::Workers, Driver::Thread(0), BUDGETS[0]),
        (Mode::Caller, Driver::Caller, BUDGETS[0]),
        (Mode::Caller, Driver::Caller, BUDGETS[1]),
    ] {
        let options = Options { bytes: BYTES - ODD, piece: PIECE, budget, rounds: 1, ..Options::default() };
        let run = |_| {
            let rounds = awaited::run(mode, threads, &options).expect("it ends well, with every byte in its place");
            let copies = &rounds[0].copies;
            Run { reaped: copies.reaped, ticks: copies.figures.ticks, stats: copies.stats.clone() }
        };
        // A worker may have copied everything before the others got a core: on a busy machine that happens.
        let run = (0..TRIES).map(run).find(|run| run.ticks > 0).expect("others were served, once at least");
        run.did_its_job(driver);
        assert_eq!(run.stats.eventfd_writes, 0, "nobody armed");
    }
}

#[test]
fn awaited_on_one_thread_serves() {
    must_end(|| awaited_serves(1));
}

#[test]
fn awaited_on_two_threads_serves() {
    must_end(|| awaited_serves(2));
}

#[cfg(feature = "tokio")]
#[test]
fn tokio_serves() {
    must_end(|| serves(true, round_of!(tokio)));
}
