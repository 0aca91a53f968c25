//! The other tasks of a runtime of tokio: they play ping-pong over a socket and serve a timer, and measure how long
//! they had to wait for their turn.
//!
//! A tick is a ping that came back, or one of the interval's; a gap is the time between two arrivals at either end of
//! the socket.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use super::gaps::{Figures, Gaps, Work};

/// The timers of tokio are no finer.
const PERIOD: Duration = Duration::from_millis(1);

/// The same tasks without a queue, for comparison.
pub(crate) async fn without_queue(work: Work<'_>) -> Result<Figures, Box<dyn Error>> {
    let others = Others::begin()?;
    while work(others.gaps().wall()) {
        sleep(PERIOD).await;
    }
    Ok(others.end().await?)
}

/// The other tasks of the runtime, and the meter of how long they had to wait.
pub(crate) struct Others {
    gaps: Arc<Mutex<Gaps>>,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Others {
    pub(crate) fn begin() -> io::Result<Self> {
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
    pub(crate) async fn end(mut self) -> io::Result<Figures> {
        let figures = self.gaps().end();
        let tasks = std::mem::take(&mut self.tasks);
        // None of them ends by itself, unless it fails.
        let failed: Vec<bool> = tasks.iter().map(JoinHandle::is_finished).collect();
        tasks.iter().for_each(JoinHandle::abort);
        for (task, failed) in tasks.into_iter().zip(failed) {
            let end = task.await;
            if failed {
                end.unwrap_or(Ok(()))?;
            }
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
