//! A completion queue that a task of tokio awaits, while other tasks play ping-pong over a socket and serve a timer.
//!
//! The order in a turn: feed, `ready().await`, drain. `ready` does the rest: it arms, sleeps if that is allowed, and
//! where the task itself does the copying it gives way to the other tasks between any two drains. The runtime has one
//! thread, so whoever keeps it keeps it from all the others.
//!
//! A tick is a ping that came back, or one of the interval's; a gap is the time between two arrivals at either end of
//! the socket.
//!
//! `cargo run --release --features tokio --example tokio -- [workers|caller] [mib=256] [piece_kib=4] [rounds=7]`
#![expect(unsafe_code, reason = "pushes entries")]

pub(crate) mod gaps;
mod others;

use std::error::Error;

use memring::Sqe;
use memring::queue::{PushError, QueuePair, SubmissionQueue};
use memring::tokio::AsyncCompletionQueue;
use tokio::runtime::{Builder, Runtime};

use gaps::{Buffers, Mode, Options, Outcome, Round, Work};
use others::{Others, without_queue};

/// What can be under way, and what one turn of the loop submits at the most: pushing takes time too.
const ENTRIES: usize = 4096;
const FEED: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    for &mode in &options.modes {
        gaps::print("tokio", mode, &options, &run(mode, &options)?);
    }
    Ok(())
}

pub(crate) fn run(mode: Mode, options: &Options) -> Result<Vec<Round>, Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let without_queue = |work: Work<'_>| runtime.block_on(without_queue(work));
    gaps::rounds(options, |buffers| copy(mode, options, &runtime, buffers), without_queue)
}

/// The loop with a queue in it.
fn copy(mode: Mode, options: &Options, runtime: &Runtime, buffers: &mut Buffers) -> Result<Outcome, Box<dyn Error>> {
    let workers = if mode == Mode::Workers { 1 } else { 0 };
    let builder = QueuePair::builder().entries(ENTRIES).workers(workers).poll_budget(options.budget);
    let (mut sq, cq) = builder.build()?.split();
    let pieces = buffers.pieces(options.piece);
    // Not an `async fn`: such a future can be forgotten, and `buffers` used again while they are copied. This one is
    // polled to its end by the frame that borrows them, or dropped there.
    runtime.block_on(async {
        let mut cq = AsyncCompletionQueue::new(cq)?;
        let (mut pushed, mut reaped) = (0, 0);
        let others = Others::begin()?;
        while reaped < pieces.len() {
            // SAFETY: the buffers are borrowed for longer than `cq` lives, and used by nobody else until then.
            pushed += unsafe { feed(&mut sq, &pieces[pushed..]) }?;
            cq.ready().await?;
            // Without workers this copies, within the budget; with workers it looks at what they have done.
            for cqe in cq.drain() {
                if !cqe.status().is_success() {
                    return Err(format!("{cqe:?}").into());
                }
                reaped += 1;
            }
        }
        Ok(Outcome { figures: others.end().await?, reaped, stats: cq.get_mut().stats() })
    })
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
