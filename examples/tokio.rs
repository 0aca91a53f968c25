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

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memring::Sqe;
use memring::queue::{PushError, QueuePair, SubmissionQueue};
use memring::tokio::AsyncCompletionQueue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use gaps::{Buffers, Figures, Gaps, Mode, Options, Outcome, Round, Work};

/// What can be under way, and what one turn of the loop submits at the most: pushing takes time too.
const ENTRIES: usize = 4096;
const FEED: usize = 256;
/// The timers of tokio are no finer.
const PERIOD: Duration = Duration::from_millis(1);

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

/// The same tasks without a queue, for comparison.
async fn without_queue(work: Work<'_>) -> Result<Figures, Box<dyn Error>> {
    let others = Others::begin()?;
    while work(others.gaps().wall()) {
        sleep(PERIOD).await;
    }
    Ok(others.end().await?)
}

/// The other tasks of the runtime, and the meter of how long they had to wait.
struct Others {
    gaps: Arc<Mutex<Gaps>>,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Others {
    fn begin() -> io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        let mut others = Self { gaps: Arc::new(Mutex::new(Gaps::begin())), tasks: Vec::new() };
        others.tasks.push(tokio::spawn(serve_timer(Arc::clone(&others.gaps))));
        others.tasks.push(tokio::spawn(ping(near, Arc::clone(&others.gaps))));
        others.tasks.push(tokio::spawn(echo(far, Arc::clone(&others.gaps))));
        Ok(others)
    }

    fn gaps(&self) -> MutexGuard<'_, Gaps> {
        lock(&self.gaps)
    }

    /// Ends the tasks; what they have met.
    async fn end(mut self) -> io::Result<Figures> {
        let figures = self.gaps().end();
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // Cancelled is how it should end.
            task.await.unwrap_or(Ok(()))?;
        }
        Ok(figures)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(gaps: &Mutex<Gaps>) -> MutexGuard<'_, Gaps> {
    gaps.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve_timer(gaps: Arc<Mutex<Gaps>>) -> io::Result<()> {
    let mut timer = interval(PERIOD);
    loop {
        timer.tick().await;
        lock(&gaps).tick();
    }
}

async fn ping(mut stream: UnixStream, gaps: Arc<Mutex<Gaps>>) -> io::Result<()> {
    loop {
        stream.write_u8(0).await?;
        stream.read_u8().await?;
        let mut gaps = lock(&gaps);
        gaps.look();
        gaps.tick();
    }
}

async fn echo(mut stream: UnixStream, gaps: Arc<Mutex<Gaps>>) -> io::Result<()> {
    loop {
        let byte = stream.read_u8().await?;
        lock(&gaps).look();
        stream.write_u8(byte).await?;
    }
}
