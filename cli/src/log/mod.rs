//! `memring log`: what a durable record costs, in a small write-ahead log, against the two usual ways.
//!
//! One file, made new, has a part for each contestant (`contestant.rs`). They take turns in one run, [`ROUNDS`] short
//! rounds in every order that there is, so that none is always first, or always after the same other one; a round's
//! turns are compared with each other, since a disk's speed changes from second to second. Afterwards the file is read
//! back, from the disk if the kernel lets go of its pages, and every acknowledged record must be there, whole.
//!
//! That the records are there shows that none was lost or torn on its way to the file. It does not show that they would
//! have outlived a power cut: that is what the file system promises of an fsync.

mod contestant;
mod file;
mod record;
mod report;
mod turn;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};
use rustix::fs::Advice;

use self::contestant::{Contestant, NAMES};
use self::file::{LogFile, LogPlace};
use self::report::Report;
use self::turn::{Acknowledged, Turn, Work};
use crate::failure::Failure;
use crate::{durability, signals, size};

/// The orders of three contestants, all of them, each once.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0], [0, 2, 1], [1, 0, 2]];
/// How often each contestant has its turn: in every order equally often.
const ROUNDS: u32 = 30;
/// Where time is the limit: room for a contestant's records, bytes. A log that is full ends its turn early.
const ROOM: usize = 64 << 20;
/// The largest payload, bytes.
const PAYLOAD_MAX: usize = 16 << 20;
const RECORDS_MAX: u64 = 10_000_000;
const THREADS_MAX: i64 = 64;
const SECONDS_MAX: f64 = 3600.0;
/// Read back at a time, at least a record.
const BLOCK: usize = 1 << 20;

/// Arguments of `memring log`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The log's file, which is made new, and removed at the end
    file: PathBuf,
    /// Records that each contestant appends, 1 to 10000000 [default: 6000]
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = value_parser!(u64).range(1..=RECORDS_MAX))]
    records: Option<u64>,
    /// Seconds that each contestant appends, instead of a number of records; it ends sooner if its 64 MiB are full
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Bytes of a record, 1 to 16M, beside the 24 of its header; K and M stand for 1024 and 1024²
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = payload)]
    bytes: u32,
    /// Threads that append, 1 to 64
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = value_parser!(u32).range(1..=THREADS_MAX))]
    threads: u32,
    /// Leave the file there at the end
    #[arg(long)]
    keep: bool,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("a time is a number of seconds, more than 0 and at most {SECONDS_MAX}")),
    }
}

fn payload(text: &str) -> Result<u32, String> {
    let bytes = size::parse(text)?;
    let fits = u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_MAX);
    fits.ok_or_else(|| format!("a record has at most {PAYLOAD_MAX} bytes"))
}

/// What is to be done, in all.
#[derive(Clone, Copy, Debug)]
struct Plan {
    work: Work,
    /// Records of a contestant: to be appended, or at most.
    records: u64,
    /// Bytes of a contestant's part of the file: whole pages.
    part: usize,
}

impl Plan {
    fn of(options: &Options) -> Result<Self, Failure> {
        let len = record::len(options.bytes as usize);
        let records = match (options.records, options.seconds) {
            (Some(records), _) => records,
            (None, Some(_)) => (ROOM / len).max(ROUNDS as usize) as u64,
            (None, None) => 6000,
        };
        let bytes = usize::try_from(records).ok().and_then(|records| records.checked_mul(len));
        let part = bytes.and_then(|bytes| bytes.checked_next_multiple_of(rustix::param::page_size()));
        let part = part.filter(|part| i64::try_from(*part).is_ok_and(|part| part.checked_mul(3).is_some()));
        let part = part.ok_or_else(|| Failure::usage("so many records of so many bytes fit no file"))?;
        let time = options.seconds.map(|time| time / ROUNDS);
        Ok(Self { work: Work { threads: options.threads, payload: options.bytes, time }, records, part })
    }

    /// The numbers that a contestant may hand out in this round, if so many are handed out already.
    fn numbers(&self, round: u64, begin: u64) -> std::ops::Range<u64> {
        begin..(self.records * (round + 1) / u64::from(ROUNDS)).max(begin)
    }
}

/// What one contestant did.
#[derive(Debug, Default)]
struct Score {
    acknowledged: Vec<Acknowledged>,
    fsyncs: u64,
    elapsed: Duration,
    /// Acknowledged records per second, of each turn that had any.
    rates: Vec<Option<f64>>,
}

impl Score {
    fn add(&mut self, turn: Turn) {
        self.rates.push(rate(turn.acknowledged.len(), turn.elapsed));
        self.acknowledged.extend(turn.acknowledged);
        self.elapsed += turn.elapsed;
        self.fsyncs += turn.fsyncs;
    }
}

/// Records per second; none of nothing.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
fn rate(records: usize, elapsed: Duration) -> Option<f64> {
    let seconds = elapsed.as_secs_f64();
    (records > 0 && seconds > 0.0).then(|| records as f64 / seconds)
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    signals::install("log");
    let plan = Plan::of(options)?;
    let place = LogPlace::find(&options.file)?;
    let mut log = LogFile::create(&place, plan.part as u64 * 3)?;
    let scores = compete(plan, &log)?;
    if options.keep {
        // Also if it turns out to be wrong: then it is worth looking at.
        log.keep();
    }
    for (number, score) in scores.iter().enumerate() {
        read_back(plan, &log, number, score)?;
    }
    // From here on the log is gone, or there to stay: an interrupt does not say that nothing was left.
    let held = signals::hold();
    drop(log);
    held.done();
    Report { place: &place, plan, scores: &scores, is_kept: options.keep, flushes_by: durability::flushes_by()? }
        .print(options.json)
}

/// All rounds; the mappings and threads of the contestants are gone when this returns.
fn compete(plan: Plan, log: &LogFile<'_>) -> Result<[Score; 3], Failure> {
    let contestants = {
        // Threads that this starts inherit it: requests to end are for the main thread.
        let _held = signals::hold();
        let Work { threads, payload, .. } = plan.work;
        contestant::all(log.file(), plan.part, record::len(payload as usize), threads as usize)?
    };
    let mut scores: [Score; 3] = Default::default();
    for (order, round) in ORDERS.into_iter().cycle().take(ROUNDS as usize).zip(0..) {
        for number in order {
            let contestant: &dyn Contestant = &*contestants[number];
            let score = &mut scores[number];
            let numbers = plan.numbers(round, score.acknowledged.len() as u64);
            if numbers.is_empty() {
                // Fewer records than rounds.
                score.rates.push(None);
                continue;
            }
            let turn = turn::run(contestant, plan.work, numbers);
            score.add(turn.map_err(|failure| Failure::new(format!("{}: {failure}", NAMES[number])))?);
        }
    }
    Ok(scores)
}

/// Finds every acknowledged record of a contestant in the file, or says which one is not there.
fn read_back(plan: Plan, log: &LogFile<'_>, number: usize, score: &Score) -> Result<(), Failure> {
    let len = record::len(plan.work.payload as usize);
    let part = (number * plan.part) as u64;
    let mut is_acknowledged = vec![false; score.acknowledged.len()];
    for Acknowledged { sequence, .. } in &score.acknowledged {
        // They are numbered without gaps; one that is not would be found missing by the number that it takes.
        if let Some(place) = usize::try_from(*sequence).ok().and_then(|at| is_acknowledged.get_mut(at)) {
            *place = true;
        }
    }
    let lost = |sequence: usize, why: &dyn std::fmt::Display| {
        Failure::new(format!("{}: record {sequence} was acknowledged, and {why}", NAMES[number]))
    };
    if let Some(sequence) = is_acknowledged.iter().position(|is| !is) {
        return Err(lost(sequence, &"its number was not"));
    }
    // What is clean and not mapped is dropped from memory, so that it comes from the disk. Only a wish.
    let _ = rustix::fs::fadvise(log.file(), part, std::num::NonZeroU64::new(plan.part as u64), Advice::DontNeed);
    let at_a_time = (BLOCK / len).max(1);
    let mut block = vec![0; at_a_time * len];
    for first in (0..is_acknowledged.len()).step_by(at_a_time) {
        let block = &mut block[..at_a_time.min(is_acknowledged.len() - first) * len];
        read(log.file(), block, part + (first * len) as u64).map_err(|error| log.cannot("read", error))?;
        for (bytes, sequence) in block.chunks_exact(len).zip(first..) {
            record::check(bytes, plan.work.payload, sequence as u64).map_err(|broken| lost(sequence, &broken))?;
        }
    }
    Ok(())
}

fn read(file: &File, block: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(block, at)
}
