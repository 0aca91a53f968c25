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

use memring::dsa::model::{ModelPortal, Settings};
use memring::dsa::{Dsa, Mode, Preset, WorkQueueCapabilities};
use memring::queue::{CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{INLINE, Ring, Sqe, WORKERS};

/// Operations of a round, and the bytes of each.
const BATCH: usize = 32;
const LEN: usize = 64;
/// The same where a round is a scope.
const PAGES: usize = 4096;
const PAGE: usize = 4096;

/// A path: its name, the operations of a round, how many rounds are counted, and what does so many rounds.
type Path = (&'static str, usize, u64, fn(u64));

const PATHS: [Path; 10] = [
    ("inline, push_batch", BATCH, 2000, |rounds| small(rounds, INLINE, push_batch)),
    ("inline, push", BATCH, 2000, |rounds| small(rounds, INLINE, push)),
    ("caller-driven, push_batch", BATCH, 2000, |rounds| small(rounds, WORKERS, push_batch)),
    ("caller-driven nop, push_batch", BATCH, 2000, nops),
    ("DSA's null device, push_batch", BATCH, 2000, null_device),
    ("plain memcpy", BATCH, 2000, plain),
    ("4096 pages, push_batch", PAGES, 4, pages_by_hand),
    ("4096 pages, scope", PAGES, 4, |rounds| pages(rounds, scoped)),
    ("4096 pages, batch", PAGES, 4, |rounds| owned(rounds, batch)),
    ("4096 pages, awaited", PAGES, 4, |rounds| owned(rounds, awaited)),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--path") {
        Some(at) => {
            let (_, _, _, run) = PATHS.into_iter().find(|(name, ..)| *name == arguments[at + 1]).expect("a path");
            run(arguments[at + 2].parse().expect("a number of rounds"));
        }
        None => count(),
    }
}

fn count() {
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        println!("SKIP: valgrind: {error}");
        return;
    }
    println!("| path | operations a round | bytes of each | instructions per operation |\n|---|---|---|---|");
    for (name, operations, rounds, _) in PATHS {
        let [once, twice] = [rounds, 2 * rounds].map(|rounds| instructions(name, rounds));
        let per_operation = (twice - once) as f64 / (rounds * operations as u64) as f64;
        let len = if operations == BATCH { LEN } else { PAGE };
        println!("| {name} | {operations} | {len} | {per_operation:.1} |");
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

fn queue() -> (SubmissionQueue, CompletionQueue) {
    QueuePair::builder().entries(PAGES).workers(0).build().expect("a queue pair").split()
}

fn rounds_of(rounds: u64, entries: &[Sqe], push: fn(&mut SubmissionQueue, &[Sqe])) {
    let (mut sq, mut cq) = queue();
    for _ in 0..rounds {
        push(&mut sq, black_box(entries));
        sq.submit();
        reap(&mut cq, entries.len());
    }
}

fn small(rounds: u64, on: memring::MoverId, push: fn(&mut SubmissionQueue, &[Sqe])) {
    let mut memory = Memory([7; 2 * BATCH * LEN]);
    rounds_of(rounds, &memory.copies(on), push);
}

fn nops(rounds: u64) {
    rounds_of(rounds, &[Sqe::nop().on(WORKERS); BATCH], push_batch);
}

/// Copies by a device that does nothing: what it costs to have one.
fn null_device(rounds: u64) {
    let device = Preset::V2Full.capabilities();
    let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    let mut settings = Settings::default();
    settings.is_null = true;
    let portal = ModelPortal::new(device, queue, settings);
    let dsa = Dsa::new([portal.into()]).expect("there is one");
    let builder = QueuePair::builder().entries(PAGES).workers(0);
    let pair = builder.mover("dsa", Drive::Caller, move || dsa.mover()).build().expect("a queue pair");
    let mover = pair.mover("dsa").expect("it was added");
    let (mut sq, mut cq) = pair.split();
    let mut memory = Memory([7; 2 * BATCH * LEN]);
    let entries = memory.copies(mover);
    for _ in 0..rounds {
        push_batch(&mut sq, black_box(&entries));
        sq.submit();
        // The first drain sends them, the second one finds them done.
        reap(&mut cq, 0);
        reap(&mut cq, BATCH);
    }
}

fn plain(rounds: u64) {
    let mut memory = Memory([7; 2 * BATCH * LEN]);
    let entries = memory.copies(INLINE);
    (0..rounds).for_each(|_| copy(black_box(&entries)));
}

/// As a scope does it, by hand: nothing is prepared before the round.
fn pages_by_hand(rounds: u64) {
    let (mut sq, mut cq) = queue();
    let (mut dst, src) = (vec![0_u8; PAGES * PAGE], vec![7_u8; PAGES * PAGE]);
    let mut entries = Vec::with_capacity(PAGES);
    for _ in 0..rounds {
        entries.clear();
        let pages = dst.chunks_mut(black_box(PAGE)).zip(src.chunks(black_box(PAGE)));
        entries.extend(pages.map(|(to, from)| Sqe::memcpy(to.as_mut_ptr(), from.as_ptr(), from.len()).user_data(1)));
        push_batch(&mut sq, &entries);
        sq.submit();
        let mut back = 0;
        while back < PAGES {
            cq.wait(PAGES - back, None).expect("no fork");
            back += cq.drain().inspect(|cqe| assert!(cqe.status().is_success())).count();
        }
    }
}

fn ring() -> Ring {
    Ring::builder().entries(PAGES).workers(0).build().expect("a ring")
}

fn pages(rounds: u64, round: fn(&Ring, &mut [u8], &[u8])) {
    let ring = ring();
    let (mut dst, src) = (vec![0_u8; PAGES * PAGE], vec![7_u8; PAGES * PAGE]);
    (0..rounds).for_each(|_| round(&ring, &mut dst, &src));
}

fn scoped(ring: &Ring, dst: &mut [u8], src: &[u8]) {
    let pages = dst.chunks_mut(black_box(PAGE)).zip(src.chunks(black_box(PAGE)));
    ring.scope(|s| pages.for_each(|(to, from)| s.memcpy(to, from))).expect("copied");
}

type Copies = Vec<(Vec<u8>, Vec<u8>)>;

fn owned(rounds: u64, round: fn(&Ring, Copies) -> Copies) {
    let ring = ring();
    // Half a page more, so that no source lies at the low bits of its destination.
    let mut copies: Copies = (0..PAGES).map(|_| (vec![0; PAGE], vec![7; PAGE + PAGE / 2])).collect();
    copies.iter_mut().for_each(|(_, src)| src.truncate(PAGE));
    for _ in 0..rounds {
        copies = round(&ring, copies);
    }
}

fn batch(ring: &Ring, copies: Copies) -> Copies {
    let batch = copies.into_iter().fold(ring.batch(), |batch, (dst, src)| batch.memcpy(dst, src));
    let done = ring.block_on(batch.into_future()).expect("not a driver").expect("copied");
    done.into_iter().map(|(dst, src)| (dst, src.expect("of a copy"))).collect()
}

fn awaited(ring: &Ring, copies: Copies) -> Copies {
    let begin = |(dst, src)| ring.try_memcpy(dst, src).expect("room");
    let operations: Vec<_> = copies.into_iter().map(begin).collect();
    let all = async {
        let mut done = Vec::with_capacity(PAGES);
        for operation in operations {
            done.push(operation.await.expect("copied"));
        }
        done
    };
    ring.block_on(all).expect("not a driver")
}

#[expect(unsafe_code, reason = "memcpy is unsafe")]
fn copy(entries: &[Sqe]) {
    for entry in entries {
        let len = usize::try_from(entry.len()).expect("it was a usize");
        // SAFETY: the regions lie in memory that lives, apart from each other.
        unsafe { entry.dst().copy_from_nonoverlapping(entry.src(), len) }
    }
}

fn reap(cq: &mut CompletionQueue, operations: usize) {
    let mut back = 0;
    for cqe in cq.drain() {
        assert!(cqe.status().is_success());
        back += 1;
    }
    assert_eq!(back, operations);
}
