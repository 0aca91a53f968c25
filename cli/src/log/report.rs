//! What came of a log, for a person or for a program.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::contestant::NAMES;
use super::file::LogPlace;
use super::{Plan, ROUNDS, Score, rate};
use crate::failure::{Failure, reason};

/// The contestant that the others are compared with.
const MEMRING: usize = 2;

/// All that is told.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) place: &'a LogPlace,
    pub(super) plan: Plan,
    pub(super) scores: &'a [Score; 3],
    pub(super) is_kept: bool,
    pub(super) flushes_by: &'static str,
}

/// Latencies in microseconds: of them all, half are at most `p50`, and 99 of 100 at most `p99`.
#[derive(Clone, Copy, Debug)]
struct Latencies {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Latencies {
    fn of(score: &Score) -> Self {
        let mut sorted: Vec<Duration> = score.acknowledged.iter().map(|record| record.latency).collect();
        sorted.sort_unstable();
        // The nearest rank: of 100 latencies, p99 is the 99th.
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

/// How many times as many records per second, in rounds that are compared with themselves: in the middle one of them,
/// and in the middle half of them, from `low` to `high`.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    median: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    /// None, if there was no round in which both appended.
    fn between(one: &Score, other: &Score) -> Option<Self> {
        let rounds = one.rates.iter().zip(&other.rates);
        let mut ratios: Vec<f64> = rounds.filter_map(|(one, other)| Some((*one)? / (*other)?)).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let last = ratios.len().checked_sub(1)?;
        // Between two of them, it is the middle of both.
        let at = |quarter: usize| {
            let (below, above) = (last * quarter / 4, (last * quarter).div_ceil(4));
            f64::midpoint(ratios[below], ratios[above])
        };
        Some(Self { median: at(2), low: at(1), high: at(3) })
    }
}

impl Report<'_> {
    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        let text = if as_json { format!("{}\n", self.json()) } else { self.lines() };
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| Failure::new(format!("measured, but cannot say so: {}", reason(&error))))
    }

    fn lines(&self) -> String {
        let work = self.plan.work;
        let mut lines = format!(
            "records of {} bytes from {} threads, {ROUNDS} rounds, on {}; memring by {}; all were read back\n",
            work.payload,
            work.threads,
            self.place.file_system(),
            self.flushes_by,
        );
        lines += &format!(
            "{:<16} {:>9} {:>11} {:>13} {:>10} {:>10} {:>10}\n",
            "", "records", "records/s", "fsyncs/record", "p50 us", "p99 us", "max us",
        );
        for (name, score) in NAMES.iter().zip(self.scores) {
            let Latencies { p50, p99, max } = Latencies::of(score);
            lines += &format!(
                "{name:<16} {:>9} {:>11.0} {:>13.3} {p50:>10.1} {p99:>10.1} {max:>10.1}\n",
                score.acknowledged.len(),
                records_per_s(score),
                fsyncs_per_record(score),
            );
        }
        for (name, ratio) in self.ratios() {
            let Some(Ratio { median, low, high }) = ratio else { continue };
            lines += &format!(
                "memring: {median:.2} times the records/s of {name}; in half of the rounds {low:.2} to {high:.2}\n"
            );
        }
        if self.is_kept {
            lines += &format!("{:?} is kept\n", self.place.path());
        }
        lines
    }

    fn json(&self) -> Value {
        let contestant = |(name, score): (&&str, &Score)| {
            let Latencies { p50, p99, max } = Latencies::of(score);
            json!({
                "name": name,
                "records": score.acknowledged.len(),
                "seconds": score.elapsed.as_secs_f64(),
                "records_per_s": records_per_s(score),
                "fsyncs": score.fsyncs,
                "fsyncs_per_record": fsyncs_per_record(score),
                "p50_us": p50,
                "p99_us": p99,
                "max_us": max,
                "rounds": score.rates,
            })
        };
        let ratio = |(name, ratio): (&str, Option<Ratio>)| {
            json!({
                "over": name,
                "median": ratio.map(|ratio| ratio.median),
                "quartiles": ratio.map(|ratio| [ratio.low, ratio.high]),
            })
        };
        let work = self.plan.work;
        json!({
            "command": "log",
            "file": self.place.path().to_string_lossy(),
            "file_system": self.place.file_system(),
            "bytes": work.payload,
            "threads": work.threads,
            "flushes_by": self.flushes_by,
            "contestants": NAMES.iter().zip(self.scores).map(contestant).collect::<Vec<_>>(),
            "memring": self.ratios().map(ratio),
            "verified": true,
            "kept": self.is_kept,
        })
    }

    /// Of memring to each of the others.
    fn ratios(&self) -> [(&'static str, Option<Ratio>); MEMRING] {
        [0, 1].map(|other| (NAMES[other], Ratio::between(&self.scores[MEMRING], &self.scores[other])))
    }
}

fn records_per_s(score: &Score) -> f64 {
    rate(score.acknowledged.len(), score.elapsed).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
fn fsyncs_per_record(score: &Score) -> f64 {
    // A contestant that has appended nothing has no such number, and JSON no word for it.
    score.fsyncs as f64 / score.acknowledged.len().max(1) as f64
}
