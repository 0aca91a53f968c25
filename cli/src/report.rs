//! The closing line of a copy, for a person or for a program.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use memring::queue::{Driver, DriverStats, Stats};
use memring::{INLINE, WORKERS};
use serde_json::{Value, json};

use crate::copy::Plan;
use crate::destination::Reserved;
use crate::failure::{Failure, reason};

/// What was done, and how long it took.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) source: &'a Path,
    pub(crate) destination: &'a Path,
    pub(crate) bytes: u64,
    pub(crate) plan: Plan,
    pub(crate) reserved: Reserved,
    /// From the start until the copy had its name, without the comparing.
    pub(crate) elapsed: Duration,
    /// How long the comparing took, if it was asked for.
    pub(crate) verified: Option<Duration>,
    /// What it took to make the copy durable, if that was asked for.
    pub(crate) synced: Option<Syncs>,
    pub(crate) stats: &'a Stats,
}

/// What it took to make a copy durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Syncs {
    /// Of the file by memring, as it was copied; of the file, whole; and of its folder.
    pub(crate) fsyncs: u64,
    /// From the last byte's copy to the end.
    pub(crate) last: Duration,
}

impl Report<'_> {
    pub(crate) fn print(&self, as_json: bool) -> Result<(), Failure> {
        let line = if as_json { self.json().to_string() } else { self.line() };
        writeln!(io::stdout(), "{line}")
            .map_err(|error| Failure::new(format!("copied, but cannot say so: {}", reason(&error))))
    }

    fn line(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let operations = self.operations();
        let mut line =
            format!("{} bytes, {operations} operations, {seconds:.3} s, {:.2} GB/s", self.bytes, self.gb_per_s());
        let busy = self.stats.drivers.iter().filter(|driver| driver.operations > 0);
        for (index, driver) in busy.enumerate() {
            let separator = if index == 0 { "; " } else { ", " };
            line += &format!("{separator}{} did {}", who(driver), driver.operations);
        }
        if let Some(time) = self.verified {
            line += &format!("; verified in {:.3} s", time.as_secs_f64());
        }
        if let Some(Syncs { fsyncs, last }) = self.synced {
            line += &format!("; durable by {fsyncs} fsyncs, the last ones in {:.3} s", last.as_secs_f64());
        }
        if self.reserved == Reserved::Zeros {
            line += "; no fallocate here, so the space was reserved by writing zeros";
        }
        line
    }

    fn json(&self) -> Value {
        let driver = |driver: &DriverStats| {
            json!({
                "mover": driver.name,
                "driver": role(driver.driver),
                "operations": driver.operations,
                "bytes": driver.bytes,
                "batches": driver.batches,
            })
        };
        json!({
            "command": "cp",
            "source": self.source.to_string_lossy(),
            "destination": self.destination.to_string_lossy(),
            "bytes": self.bytes,
            "operations": self.operations(),
            "seconds": self.elapsed.as_secs_f64(),
            "gb_per_s": self.gb_per_s(),
            "verified": self.verified.is_some(),
            "verify_seconds": self.verified.map(|time| time.as_secs_f64()),
            "durable": self.synced.is_some(),
            "fsyncs": self.synced.map(|synced| synced.fsyncs),
            "sync_seconds": self.synced.map(|synced| synced.last.as_secs_f64()),
            "chunk": self.plan.chunk,
            "entries": self.plan.entries,
            "workers": self.workers(),
            "on": if self.plan.on == INLINE { "inline" } else { "workers" },
            "reserved_by": if self.reserved == Reserved::Zeros { "zeros" } else { "fallocate" },
            "drivers": self.stats.drivers.iter().map(driver).collect::<Vec<_>>(),
            "worker_wakes": self.stats.mover(WORKERS).wakes,
            "reaper_wakes": self.stats.reaper_wakes,
        })
    }

    fn operations(&self) -> u64 {
        self.stats.drivers.iter().map(|driver| driver.operations).sum()
    }

    fn workers(&self) -> usize {
        self.stats.drivers.iter().filter(|driver| matches!(driver.driver, Driver::Thread(_))).count()
    }

    fn gb_per_s(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        // No time at all would be no number in JSON.
        if seconds > 0.0 { bytes_as_f64(self.bytes) / seconds / 1e9 } else { 0.0 }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
fn bytes_as_f64(bytes: u64) -> f64 {
    bytes as f64
}

fn role(driver: Driver) -> String {
    match driver {
        Driver::Submitter => "submitter".to_owned(),
        Driver::Caller => "caller".to_owned(),
        Driver::Thread(number) => format!("thread {number}"),
        other => format!("{other:?}"),
    }
}

fn who(driver: &DriverStats) -> String {
    match driver.driver {
        Driver::Thread(number) => format!("worker {number}"),
        Driver::Caller => "the waiting thread".to_owned(),
        Driver::Submitter => "the submitting thread".to_owned(),
        other => format!("{} {other:?}", driver.name),
    }
}
