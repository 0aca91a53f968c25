//! A turn: some threads append to one contestant's part, each its next record when the last one is durable.
//!
//! The records' numbers are handed out in order, under a lock that all contestants pay for alike, and a record's place
//! follows from its number. A turn ends when its records are all handed out, or its time is over.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::contestant::Contestant;
use super::record;
use crate::failure::{Failure, reason};
use crate::signals;

/// An acknowledged record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) sequence: u64,
    /// From the decision to append it until it was durable.
    pub(crate) latency: Duration,
}

/// How much a turn is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) threads: u32,
    /// Bytes of a record's payload.
    pub(crate) payload: u32,
    pub(crate) time: Option<Duration>,
}

/// What came of a turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// From the first thread's begin to the last one's end.
    pub(crate) elapsed: Duration,
    pub(crate) fsyncs: u64,
}

/// The numbers that are left.
struct Numbers {
    left: Mutex<Range<u64>>,
    until: Option<Instant>,
}

impl Numbers {
    fn next(&self, now: Instant) -> Option<u64> {
        if self.until.is_some_and(|until| now >= until) {
            return None;
        }
        self.lock().next()
    }

    /// Nobody gets another one.
    fn end(&self) {
        *self.lock() = 0..0;
    }

    fn lock(&self) -> MutexGuard<'_, Range<u64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one thread did, and between when and when.
struct Part {
    acknowledged: Vec<Acknowledged>,
    begin: Instant,
    end: Instant,
}

/// Appends the records of these numbers, or as many as the time allows.
pub(crate) fn run(contestant: &dyn Contestant, work: Work, numbers: Range<u64>) -> Result<Turn, Failure> {
    let fsyncs_before = contestant.fsyncs();
    let capacity = usize::try_from((numbers.end - numbers.start) / u64::from(work.threads) + 1).unwrap_or_default();
    let numbers = Numbers { left: Mutex::new(numbers), until: work.time.map(|time| Instant::now() + time) };
    let parts = thread::scope(|scope| {
        // Requests to end are for the main thread, which waits below.
        let held = signals::hold();
        // Nobody begins before all are there.
        let mut gate = numbers.lock();
        let numbers = &numbers;
        let start = |thread| {
            let append = move || append(contestant, work, numbers, thread, capacity);
            thread::Builder::new().spawn_scoped(scope, append)
        };
        let started: io::Result<Vec<_>> = (0..work.threads).map(start).collect();
        if started.is_err() {
            *gate = 0..0;
        }
        drop((gate, held));
        let lost = || Err(io::Error::other("a thread of the log ended by a panic"));
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| lost());
        started.map(|threads| threads.into_iter().map(join).collect::<Vec<io::Result<Part>>>())
    });
    let parts = parts.map_err(|error| Failure::new(format!("the system refused a thread: {}", reason(&error))))?;
    let parts: Vec<Part> = parts
        .into_iter()
        .collect::<io::Result<_>>()
        .map_err(|error| Failure::new(format!("cannot append: {}", reason(&error))))?;
    let first = parts.iter().map(|part| part.begin).min();
    let last = parts.iter().map(|part| part.end).max();
    Ok(Turn {
        elapsed: first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first),
        acknowledged: parts.into_iter().flat_map(|part| part.acknowledged).collect(),
        fsyncs: contestant.fsyncs() - fsyncs_before,
    })
}

fn append(
    contestant: &dyn Contestant,
    work: Work,
    numbers: &Numbers,
    thread: u32,
    capacity: usize,
) -> io::Result<Part> {
    let len = record::len(work.payload as usize);
    let mut bytes = Vec::with_capacity(len);
    let mut acknowledged = Vec::with_capacity(capacity);
    drop(numbers.lock());
    let begin = Instant::now();
    let mut now = begin;
    while let Some(sequence) = numbers.next(now) {
        record::write(&mut bytes, work.payload, thread, sequence);
        // The log fits a file and memory, so its offsets fit.
        let at = usize::try_from(sequence).unwrap_or(usize::MAX).saturating_mul(len);
        bytes = contestant.append(at, bytes).inspect_err(|_| numbers.end())?;
        let done = Instant::now();
        acknowledged.push(Acknowledged { sequence, latency: done - now });
        now = done;
    }
    Ok(Part { acknowledged, begin, end: now })
}
