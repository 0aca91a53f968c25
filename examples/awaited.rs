//! Thousands of copies that are simply awaited, in a runtime of tokio, while other tasks play ping-pong over a socket
//! and serve a timer.
//!
//! Nothing here knows of queues or descriptors: an operation, or a batch of them, is a future that owns its buffers and
//! works in any executor. With a worker it wakes its task when it is done. Without one a poll copies, within the ring's
//! budget, and wakes its task again: one poll in a round of the runtime, however many tasks wait.
//!
//! Two things keep the others from waiting for long. To begin operations takes its time too, whoever copies: each of
//! eight tasks has a batch of 256 copies under way, and they begin one after the other. And the runtime looks at its
//! sockets after every task that it polls (`event_interval`); by default it does so after 61 of them.
//!
//! `cargo run --release --example awaited -- [workers|caller] [mib=256] [piece_kib=4] [budget_kib=128] [rounds=7]`
//!
//! It runs on a runtime of one thread, and then on one of two.

pub(crate) mod gaps;
mod others;

use std::error::Error;
use std::sync::Arc;

use memring::{Failed, IoBuf, OpError, Ring};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use gaps::{Buffers, Figures, Mode, Options, Outcome, Round, Work};
use others::{Others, without_queue};

const TASKS: usize = 8;
/// Copies that are begun and awaited together.
const BATCH: usize = 256;

type Page = Vec<u8>;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    for threads in [1, 2] {
        for &mode in &options.modes {
            gaps::print(&format!("awaited, {threads} thread(s)"), mode, &options, &run(mode, threads, &options)?);
        }
    }
    Ok(())
}

pub(crate) fn run(mode: Mode, threads: usize, options: &Options) -> Result<Vec<Round>, Box<dyn Error>> {
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    let runtime = builder.event_interval(1).enable_io().enable_time().build()?;
    let without_queue = |work: Work<'_>| runtime.block_on(without_queue(work));
    gaps::rounds(options, |buffers| copy(mode, options, &runtime, buffers), without_queue)
}

/// Copies in the runtime, from and to memory that operations can own; and then into the buffers, which are verified.
fn copy(mode: Mode, options: &Options, runtime: &Runtime, buffers: &mut Buffers) -> Result<Outcome, Box<dyn Error>> {
    let workers = if mode == Mode::Workers { 1 } else { 0 };
    let builder = Ring::builder().entries(TASKS * BATCH).workers(workers).poll_budget(options.budget);
    // However short the last piece is, it goes the way of the others.
    let ring = builder.inline_max(0).build()?;
    let source: Arc<[u8]> = Arc::from(&*buffers.both().0);
    // What only prepares the work is done before it is measured: pages, too, and no zeros, whose pages are made when
    // they are first written.
    let share = options.bytes.div_ceil(options.piece).div_ceil(TASKS) * options.piece;
    let page = |piece: &[u8]| vec![1; piece.len()];
    let shares = source.chunks(share).map(|share| share.chunks(options.piece).map(page).collect());
    let shares: Vec<Vec<Page>> = shares.collect();

    // A task, since this thread is none of the runtime's: with two of those it would be one more than there are cores.
    let all = runtime.spawn(copy_all(ring.clone(), source, share, shares));
    let (shares, figures) = runtime.block_on(all)?.map_err(|error| -> Box<dyn Error> { error })?;

    let (to, pages) = (buffers.both().1.chunks_mut(options.piece), || shares.iter().flatten());
    to.zip(pages()).for_each(|(to, page)| to.copy_from_slice(page));
    Ok(Outcome { figures, reaped: pages().count(), stats: ring.stats() })
}

/// Copies to all pages, a task for each share of them, beside the others. The pages come back.
async fn copy_all(
    ring: Ring,
    source: Arc<[u8]>,
    share: usize,
    shares: Vec<Vec<Page>>,
) -> Result<(Vec<Vec<Page>>, Figures), Box<dyn Error + Send + Sync>> {
    let others = Others::begin()?;
    let (mut tasks, mut done) = (Vec::with_capacity(TASKS), Vec::with_capacity(TASKS));
    for (task, pages) in shares.into_iter().enumerate() {
        tasks.push(tokio::spawn(copy_share(ring.clone(), Arc::clone(&source), task * share, pages)));
        yield_now().await;
    }
    for task in tasks {
        done.push(task.await??);
    }
    Ok((done, others.end().await?))
}

/// Copies what lies in the source from `at` on to pages, batch by batch, and gives the pages back in their order.
async fn copy_share(ring: Ring, source: Arc<[u8]>, mut at: usize, pages: Vec<Page>) -> Result<Vec<Page>, OpError> {
    let mut done = Vec::with_capacity(pages.len());
    let mut pages = pages.into_iter();
    while pages.len() > 0 {
        let mut batch = ring.batch();
        for page in pages.by_ref().take(BATCH) {
            let from = Arc::clone(&source).slice(at..at + page.len());
            at += page.len();
            batch = batch.memcpy(page, from);
        }
        // A failure would give the pages back too.
        let copied = batch.await.map_err(|Failed { error, .. }| error)?;
        done.extend(copied.into_iter().map(|(page, _)| page));
    }
    Ok(done)
}
