//! Instructions per operation: what noise cannot blur.
//!
//! `cargo bench --bench instructions` runs each path under `valgrind --tool=callgrind` for a number of rounds and for
//! twice that number: the difference is the rounds alone, without start and end. Differences too small for a clock on a
//! busy machine show here; what does not show is the price of a cache line that another core holds.
//!
//! For a profile by function, or by line (valgrind must be installed; `--dump-instr=yes` adds the disassembly):
//!
//! ```text
//! cargo bench --bench instructions --no-run          # says where the binary is
//! valgrind --tool=callgrind --callgrind-out-file=inline.out BINARY --path 'inline, push_batch' 10000
//! callgrind_annotate --auto=yes inline.out
//! ```
#![expect(clippy::print_stdout, reason = "benchmarks report on the standard output")]

use std::hint::black_box;
use std::process::Command;

use memring::queue::{CompletionQueue, QueuePair, SubmissionQueue};
use memring::{INLINE, Sqe, WORKERS};

const BATCH: usize = 32;
const LEN: usize = 64;
const ROUNDS: u64 = 2000;

/// A path: its name, the entries of a round, and how they are pushed.
type Path = (&'static str, fn(&mut Memory) -> Vec<Sqe>, fn(&mut SubmissionQueue, &[Sqe]));

const PATHS: [Path; 5] = [
    ("inline, push_batch", |memory| memory.copies(INLINE), push_batch),
    ("inline, push", |memory| memory.copies(INLINE), push),
    ("caller-driven, push_batch", |memory| memory.copies(WORKERS), push_batch),
    ("caller-driven nop, push_batch", |_| vec![Sqe::nop().on(WORKERS); BATCH], push_batch),
    ("plain memcpy", |memory| memory.copies(INLINE), |_, _| {}),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--path") {
        Some(at) => run(&arguments[at + 1], arguments[at + 2].parse().expect("a number of rounds")),
        None => count(),
    }
}

fn count() {
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        println!("SKIP: valgrind: {error}");
        return;
    }
    println!("| path, {BATCH} operations a round, {LEN} bytes each | instructions per operation |\n|---|---|");
    for (name, ..) in PATHS {
        let [once, twice] = [ROUNDS, 2 * ROUNDS].map(|rounds| instructions(name, rounds));
        let per_operation = (twice - once) as f64 / (ROUNDS * BATCH as u64) as f64;
        println!("| {name} | {per_operation:.1} |");
    }
}

/// What callgrind counts for this binary with that path.
fn instructions(path: &str, rounds: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("the path of this binary"))
        .args(["--path", path, &rounds.to_string()])
        .output()
        .expect("valgrind was found");
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    collected.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("callgrind says: {report}"))
}

struct Memory([u8; 2 * BATCH * LEN]);

impl Memory {
    fn copies(&mut self, on: memring::MoverId) -> Vec<Sqe> {
        let base = self.0.as_mut_ptr();
        let copy = |index| {
            let src = base.wrapping_add(index * LEN);
            Sqe::memcpy(src.wrapping_add(BATCH * LEN), src, black_box(LEN)).on(on)
        };
        (0..BATCH).map(copy).collect()
    }
}

#[expect(unsafe_code, reason = "pushes are unsafe")]
fn push_batch(sq: &mut SubmissionQueue, entries: &[Sqe]) {
    // SAFETY: the regions lie in memory that lives until all is reaped, and nobody else touches it.
    unsafe { sq.push_batch(entries) }.expect("room for a batch");
}

#[expect(unsafe_code, reason = "pushes are unsafe")]
fn push(sq: &mut SubmissionQueue, entries: &[Sqe]) {
    for &entry in entries {
        // SAFETY: as above.
        unsafe { sq.push(entry) }.expect("room for a batch");
    }
}

fn run(path: &str, rounds: u64) {
    let (name, entries, push) = PATHS.into_iter().find(|(name, ..)| *name == path).expect("a path of the list");
    let (mut sq, mut cq) = QueuePair::builder().workers(0).build().expect("a queue pair").split();
    let mut memory = Memory([7; 2 * BATCH * LEN]);
    let entries = entries(&mut memory);
    for _ in 0..rounds {
        if name == "plain memcpy" {
            copy(black_box(&entries));
        } else {
            push(&mut sq, black_box(&entries));
            sq.submit();
            reap(&mut cq);
        }
    }
}

#[expect(unsafe_code, reason = "memcpy is unsafe")]
fn copy(entries: &[Sqe]) {
    for entry in entries {
        let len = usize::try_from(entry.len()).expect("it was a usize");
        // SAFETY: the regions lie in memory that lives, apart from each other.
        unsafe { entry.dst().copy_from_nonoverlapping(entry.src(), len) }
    }
}

fn reap(cq: &mut CompletionQueue) {
    let mut back = 0;
    for cqe in cq.drain() {
        assert!(cqe.status().is_success());
        back += 1;
    }
    assert_eq!(back, BATCH);
}
