//! A completion queue in a loop that never sleeps and, while copies are under way, never enters the kernel.
//!
//! The order in a turn: drain, feed, look at the clock. Nobody arms, so no completion costs a system call; the clock
//! is read through the vDSO. With workers a submission wakes a worker that has fallen asleep, which is a system call:
//! while the loop keeps it in work it does not sleep.
//!
//! `cargo run --release --example busy_poll -- [workers|caller] [mib=256] [piece_kib=4] [budget_kib=128] [rounds=7]`
#![expect(unsafe_code, reason = "pushes entries")]

pub(crate) mod gaps;

use std::error::Error;
use std::time::{Duration, Instant};

use memring::Sqe;
use memring::queue::{PushError, QueuePair, SubmissionQueue};

use gaps::{Buffers, Figures, Gaps, Mode, Options, Outcome, Round, Work};

/// What can be under way, and what one turn of the loop submits at the most: pushing takes time too.
const ENTRIES: usize = 4096;
const FEED: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    for &mode in &options.modes {
        gaps::print("busy_poll", mode, &options, &run(mode, &options)?);
    }
    Ok(())
}

pub(crate) fn run(mode: Mode, options: &Options) -> Result<Vec<Round>, Box<dyn Error>> {
    gaps::rounds(options, |buffers| copy(mode, options, buffers), |work| Ok(without_queue(options.tick, work)))
}

/// The loop with a queue in it.
fn copy(mode: Mode, options: &Options, buffers: &mut Buffers) -> Result<Outcome, Box<dyn Error>> {
    let workers = if mode == Mode::Workers { 1 } else { 0 };
    let builder = QueuePair::builder().entries(ENTRIES).workers(workers).poll_budget(options.budget);
    let (mut sq, mut cq) = builder.build()?.split();
    let pieces = buffers.pieces(options.piece);

    let (mut pushed, mut reaped) = (0, 0);
    let mut gaps = Gaps::begin();
    let mut timer = Timer::new(options.tick);
    loop {
        // Without workers this copies, within the budget; with workers it looks at what they have done.
        for cqe in cq.drain() {
            if !cqe.status().is_success() {
                return Err(format!("{cqe:?}").into());
            }
            reaped += 1;
        }
        // SAFETY: the buffers are borrowed for longer than `cq` lives, and used by nobody else until then.
        pushed += unsafe { feed(&mut sq, &pieces[pushed..]) }?;
        if reaped == pieces.len() {
            break;
        }
        let now = Instant::now();
        gaps.look_at(now);
        if timer.is_due(now) {
            gaps.tick();
        }
    }
    Ok(Outcome { figures: gaps.end(), reaped, stats: cq.stats() })
}

/// Pushes as many entries as the queue has room for, but not too many, and submits them; says how many.
///
/// # Safety
///
/// That of [`SubmissionQueue::push`], for each entry.
unsafe fn feed(sq: &mut SubmissionQueue, pieces: &[Sqe]) -> Result<usize, PushError> {
    for &sqe in pieces.iter().take(FEED) {
        // SAFETY: the caller's contract.
        match unsafe { sq.push(sqe) } {
            Ok(()) => {}
            Err(PushError::Full(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sq.submit())
}

/// The same loop without a queue, for comparison.
fn without_queue(tick: Duration, work: Work<'_>) -> Figures {
    let mut gaps = Gaps::begin();
    let mut timer = Timer::new(tick);
    while work(gaps.wall()) {
        let now = Instant::now();
        gaps.look_at(now);
        if timer.is_due(now) {
            gaps.tick();
        }
    }
    gaps.end()
}

/// What the loop serves once a period.
struct Timer {
    period: Duration,
    due: Instant,
}

impl Timer {
    fn new(period: Duration) -> Self {
        Self { period, due: Instant::now() + period }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.due;
        if is_due {
            self.due = now + self.period;
        }
        is_due
    }
}
