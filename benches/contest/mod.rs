//! Contests: several ways to do the same work, timed side by side.
//!
//! A benchmark says once what its contestants are, as [`Group`]s of [`Entry`]s, and hands them to [`main`]. They then
//! run in two ways:
//!
//! - `cargo bench --bench NAME` gives them to criterion: one after the other, with its statistics and comparisons.
//! - `cargo bench --bench NAME -- --paired [repetitions]` runs all contestants of a group once in *every* repetition,
//!   each time beginning with another one, and compares within the repetition. A slow minute of the machine then
//!   hits all of them, and the ratios hold where the times do not. It prints Markdown: this is what `record/` keeps.
//!
//! A contestant lives only while it is timed (a peer's spinning thread must not take another's core), and it is
//! warmed up each time. Its last check, that it did the work and by whom, stands outside of the measured time.
//!
//! Two threads that hand work to each other stand still when either is descheduled. A paired run therefore asks the
//! kernel how long its threads stood in a run queue while they were timed (`/proc/self/task/*/schedstat`), and repeats
//! a turn that lost more than [`LOST`] of its time so: it measured the neighbours. That holds for all contestants
//! alike, and the number of repeated turns is printed.
#![expect(clippy::print_stdout, reason = "benchmarks report on the standard output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

/// Someone who does the work, with all that it needs, ready to run.
pub(crate) trait Contestant {
    /// Does the work of one round.
    fn round(&mut self);

    /// Does one round after the other, and says how long that took.
    fn run(&mut self, rounds: u64) -> Duration {
        let begin = Instant::now();
        for _ in 0..rounds {
            self.round();
        }
        begin.elapsed()
    }

    /// Panics if the rounds so far were not done as the benchmark says. Not timed.
    fn check(&mut self) {}
}

/// What makes a contestant ready; or the reason why this machine cannot run it.
type Start = Box<dyn Fn() -> Result<Box<dyn Contestant>, String>>;

/// A contestant's name, and how to make it.
pub(crate) struct Entry {
    name: &'static str,
    start: Start,
}

impl Entry {
    pub(crate) fn new<C: Contestant + 'static>(name: &'static str, start: impl Fn() -> C + 'static) -> Self {
        Self::fallible(name, move || Ok(start()))
    }

    /// A contestant that not every machine can run.
    pub(crate) fn fallible<C: Contestant + 'static>(
        name: &'static str,
        start: impl Fn() -> Result<C, String> + 'static,
    ) -> Self {
        Self { name, start: Box::new(move || Ok(Box::new(start()?))) }
    }
}

/// Contestants that do the same work. The first is what the others are compared to.
pub(crate) struct Group {
    pub(crate) name: String,
    /// Operations of one round.
    pub(crate) operations: u64,
    pub(crate) entries: Vec<Entry>,
}

/// How long a contestant is timed in one repetition of a paired run, about: no longer than a scheduler's slice, so that
/// a thread that loses its core spoils one repetition, which the median drops, and not a part of each.
const TIMED: Duration = Duration::from_millis(5);
/// How long it is warmed up before that, at least.
const WARM_UP: Duration = Duration::from_millis(3);
/// The share of its time that a turn may lose to other programs.
const LOST: f64 = 0.01;
/// How often a turn is tried; the last one counts, disturbed or not.
const TRIES: usize = 20;
/// Repetitions of a paired run, if the command line does not say.
const REPETITIONS: usize = 51;

/// Runs the groups as the command line says.
pub(crate) fn main(bench: &str, groups: &[Group]) {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--paired");
    if arguments.next().is_some() {
        // Cargo adds an argument of its own, so the number may not be the last one.
        let repetitions = arguments.find_map(|argument| argument.parse().ok()).unwrap_or(REPETITIONS).max(1);
        paired(bench, groups, repetitions);
    } else {
        with_criterion(bench, groups);
    }
}

fn with_criterion(bench: &str, groups: &[Group]) {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for group in groups {
        let mut contest = criterion.benchmark_group(format!("{bench}/{}", group.name));
        contest.throughput(Throughput::Elements(group.operations));
        for entry in &group.entries {
            contest.bench_function(entry.name, |bencher| match (entry.start)() {
                Ok(mut contestant) => {
                    bencher.iter_custom(|rounds| contestant.run(rounds));
                    contestant.check();
                }
                Err(reason) => {
                    println!("SKIP {}: {reason}", entry.name);
                    // Criterion wants a measurement of whatever it was told of.
                    bencher.iter(|| black_box(0));
                }
            });
        }
        contest.finish();
    }
    criterion.final_summary();
}

fn paired(bench: &str, groups: &[Group], repetitions: usize) {
    println!("## {bench}\n");
    println!("{}\n", machine());
    println!(
        "Nanoseconds per operation: median (least - most) of {repetitions} repetitions. Ratio: time over that of the \
         first row in the same repetition, median (least - most)."
    );
    for group in groups {
        println!("\n### {}\n", group.name);
        println!("| contestant | ns per operation | ratio |\n|---|---|---|");
        let mut disturbed = 0;
        let mut times: Vec<Result<Vec<f64>, String>> = group.entries.iter().map(|_| Ok(Vec::new())).collect();
        for repetition in 0..repetitions {
            for place in 0..group.entries.len() {
                let at = (repetition + place) % group.entries.len();
                match (turn(&group.entries[at], group.operations, &mut disturbed), &mut times[at]) {
                    (Ok(timed), Ok(so_far)) => so_far.push(timed),
                    (Err(reason), so_far) => *so_far = Err(reason),
                    (Ok(_), Err(_)) => {}
                }
            }
        }
        for (entry, measured) in group.entries.iter().zip(&times) {
            match (measured, &times[0]) {
                (Err(reason), _) => println!("| {} | SKIP: {reason} | |", entry.name),
                (Ok(own), Ok(first)) => {
                    let ratios = own.iter().zip(first).map(|(own, first)| own / first).collect();
                    println!("| {} | {} | {} |", entry.name, spread(own.clone(), 1), spread(ratios, 2));
                }
                (Ok(own), Err(_)) => println!("| {} | {} | |", entry.name, spread(own.clone(), 1)),
            }
        }
        println!("\nTurns repeated because other programs disturbed them: {disturbed}.");
    }
}

/// One contestant's turn in one repetition: nanoseconds per operation. Counts the tries that other programs disturbed.
fn turn(entry: &Entry, operations: u64, disturbed: &mut usize) -> Result<f64, String> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (took, lost) = once(entry, operations)?;
        if lost <= LOST || tries == TRIES {
            return Ok(took);
        }
        *disturbed += 1;
        // Lets the neighbours have their share now, and not in the middle of the next try.
        std::thread::sleep(TIMED);
    }
}

/// A contestant from its making to its end: nanoseconds per operation, and the share of the time that it stood waiting
/// for a core.
fn once(entry: &Entry, operations: u64) -> Result<(f64, f64), String> {
    let mut contestant = (entry.start)()?;
    let (mut rounds, mut warm) = (1, Duration::ZERO);
    let last = loop {
        let took = contestant.run(rounds);
        warm += took;
        if warm >= WARM_UP {
            break took;
        }
        rounds *= 2;
    };
    let fitting = u128::from(rounds) * TIMED.as_nanos() / last.as_nanos().max(1);
    let rounds = u64::try_from(fitting).unwrap_or(u64::MAX).max(1);
    let waited = waited_for_a_core();
    let took = contestant.run(rounds);
    let waited = waited_for_a_core().saturating_sub(waited);
    contestant.check();
    Ok((took.as_secs_f64() * 1e9 / (rounds * operations) as f64, waited.as_secs_f64() / took.as_secs_f64()))
}

/// How long the threads of this process have stood in a run queue so far. Zero where the kernel does not say.
fn waited_for_a_core() -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let waited = |thread: std::fs::DirEntry| {
        let line = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(|thread| waited(thread.ok()?)).sum())
}

fn spread(mut values: Vec<f64>, decimals: usize) -> String {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
    let (least, most) = (values[0], values[values.len() - 1]);
    format!("{median:.decimals$} ({least:.decimals$} - {most:.decimals$})")
}

/// What the figures belong to, in one line.
pub(crate) fn machine() -> String {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_cpu = |key: &str| {
        let line = cpu_info.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = of_cpu("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let family = of_cpu("cpu family").zip(of_cpu("model\t"));
    let family = family.map_or_else(String::new, |(family, model)| format!(" (family {family}, model {model})"));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let compiler = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output()
        .map_or_else(|error| format!("rustc: {error}"), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let debug = if cfg!(debug_assertions) { ", WITH DEBUG ASSERTIONS: these figures mean nothing" } else { "" };
    format!("{model}{family}, {cpus} CPUs, Linux {}, {}{debug}", kernel.trim(), compiler.trim())
}
