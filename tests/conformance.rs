//! Goal: every drive does to memory exactly what `core::ptr` does, for every opcode, size, alignment and overlap.
//!
//! Method: one suite, stamped by a macro on every drive and both ways of reaping. A case has a window of a large arena
//! to itself: guard bytes, destination, guard bytes, source, guard bytes, all noise. Cases run as batches on the arena
//! through the queue; a twin arena gets the same by `copy_within` and `fill`, which are `core::ptr::copy` and
//! `write_bytes`. Then the arenas must be equal, byte for byte, so a stray write anywhere is found. Who executed what
//! is asked of the statistics, so no drive passes by another's work. Each user_data must arrive exactly once.
#![expect(unsafe_code, reason = "pushes entries whose memory the arena owns")]

#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::OnceLock;
use std::thread;

use memring::dsa::model::{ModelPortal, Settings};
use memring::dsa::{Dsa, Mode, Preset, WorkQueueCapabilities};
use memring::queue::{Builder, CompletionQueue, Drive, Driver, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, OpFlags, Opcode, Sqe, WORKERS};

use random::Random;
use watchdog::must_end;

const MIB: usize = 1 << 20;
/// Bytes of noise around each region, which must stay as they are.
const GUARD: usize = 64;
/// Windows begin on such a boundary, so that a misalignment is what its case says.
const LINE: usize = 64;
const PAGE: usize = 4096;
/// Entries of the queue: small, so that batches are longer and the rings wrap.
const ENTRIES: usize = 48;
const ARENA: usize = 14 * MIB;

const SIZES: [usize; 21] =
    [0, 1, 2, 3, 7, 8, 15, 16, 31, 33, 63, 64, 65, 127, 255, 4095, 4096, 4097, 65537, MIB + 1, 3 * MIB];

/// Misalignments of short operations, each with each: around words, vectors, and both sides of a line's edge.
const OFFSETS: [usize; 12] = [0, 1, 3, 4, 7, 8, 9, 15, 16, 31, 32, 63];
/// Those of long ones, as (destination, source).
const OFFSET_PAIRS: [(usize, usize); 6] = [(0, 0), (1, 0), (0, 15), (8, 16), (63, 1), (33, 33)];

/// How the suite waits for completions.
#[derive(Clone, Copy)]
enum Reaping {
    /// Blocks in `wait`, which helps the workers.
    Wait,
    /// Calls `drain` again and again.
    Drain,
}

/// Who must have executed everything, by the statistics.
#[derive(Clone, Copy)]
enum Executed {
    Submitter,
    Caller,
    Workers,
    /// The mover named `dsa`.
    Dsa,
}

/// One operation on the arena, by offsets from its begin.
#[derive(Clone, Copy, Debug)]
struct Case {
    opcode: Opcode,
    dst: usize,
    src: usize,
    len: usize,
    value: u8,
    flags: OpFlags,
    window: (usize, usize),
}

/// A queue of one drive, and how to reap it.
struct Rig {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    reaping: Reaping,
    executed: Executed,
    /// Whoever must complete everything.
    mover: MoverId,
    submitted: u64,
}

impl Rig {
    fn new(configure: impl Fn(Builder) -> Builder, reaping: Reaping, executed: Executed) -> Self {
        let pair = configure(QueuePair::builder().entries(ENTRIES)).build().expect("the options are in range");
        let mover = match executed {
            Executed::Submitter => INLINE,
            Executed::Caller | Executed::Workers => WORKERS,
            Executed::Dsa => pair.mover("dsa").expect("it was added"),
        };
        let (sq, cq) = pair.split();
        Self { sq, cq, reaping, executed, mover, submitted: 0 }
    }

    /// Executes all entries, in pieces: some alone, some in batches. Returns when all are reaped.
    fn execute(&mut self, sqes: &[Sqe]) {
        let asks = |sqe: &Sqe| if matches!(self.executed, Executed::Dsa) { sqe.on(self.mover) } else { *sqe };
        let sqes: Vec<Sqe> = sqes.iter().map(asks).collect();
        let mut rest = &sqes[..];
        let mut reaped = vec![false; sqes.len()];
        let mut outstanding = 0;
        let mut piece = 1;
        while !rest.is_empty() || outstanding > 0 {
            let count = piece.min(rest.len()).min(ENTRIES - outstanding);
            let (now, later) = rest.split_at(count);
            if let [sqe] = now {
                // SAFETY: the arena outlives the completion, and nobody touches the case's window until it is reaped.
                unsafe { self.sq.push(*sqe) }.expect("a credit is left");
            } else {
                // SAFETY: as above, for each case; windows of different cases do not overlap.
                unsafe { self.sq.push_batch(now) }.expect("the credits are left");
            }
            assert_eq!(self.sq.submit(), count);
            (rest, outstanding, piece) = (later, outstanding + count, piece % ENTRIES + 7);
            self.submitted += count as u64;
            outstanding -= self.reap(outstanding, &mut reaped);
        }
        assert!(reaped.iter().all(|&reaped| reaped), "a completion is missing");
        assert_eq!((self.sq.in_flight(), self.cq.drain().count()), (0, 0), "a completion too many");
    }

    /// Reaps what there is, at least one if anything is outstanding.
    fn reap(&mut self, outstanding: usize, reaped: &mut [bool]) -> usize {
        let expected = self.mover;
        let mut count = 0;
        while outstanding > 0 && count == 0 {
            if matches!(self.reaping, Reaping::Wait) {
                let ready = self.cq.wait(1, None).expect("this is the process that made it");
                assert!(ready > 0, "wait returned without a completion or a timeout");
            }
            for cqe in self.cq.drain() {
                let index = usize::try_from(cqe.user_data()).expect("an index was pushed");
                assert!(!std::mem::replace(&mut reaped[index], true), "operation {index} completed twice");
                assert!(cqe.status().is_success(), "operation {index}: {}", cqe.status());
                assert_eq!((cqe.mover(), cqe.value(), cqe.flags()), (expected, 0, 0), "operation {index}");
                count += 1;
            }
            thread::yield_now();
        }
        count
    }

    /// Whether the drive under test, and nobody else, executed everything.
    fn check_who_executed(&self) {
        let stats = self.cq.stats();
        let by_caller = stats.driver(WORKERS, Driver::Caller).map_or(0, |driver| driver.operations);
        let (inline, workers) = (stats.mover(INLINE).operations, stats.mover(WORKERS).operations);
        match self.executed {
            Executed::Submitter => assert_eq!((inline, workers), (self.submitted, 0)),
            Executed::Caller => assert_eq!((inline, workers, by_caller), (0, self.submitted, self.submitted)),
            Executed::Workers => assert_eq!((inline, workers), (0, self.submitted)),
            Executed::Dsa => {
                let dsa = stats.mover(self.mover).operations;
                assert_eq!((inline, workers, dsa), (0, 0, self.submitted));
            }
        }
        if matches!((self.executed, self.reaping), (Executed::Workers, Reaping::Drain)) {
            assert_eq!(by_caller, 0, "a drain does not help the workers");
        }
    }
}

/// The noise that arenas begin with.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut random = Random::new(1);
        (0..(ARENA + PAGE) / 8).flat_map(|_| random.next().to_ne_bytes()).collect()
    })
}

/// The memory under test and its twin, and the cases that are planned on them.
struct Arena {
    /// The first, so that it is dropped before the memory that it works on.
    rig: Rig,
    live: Vec<u8>,
    twin: Vec<u8>,
    /// Where a page begins in `live`: offset 0 of the cases.
    origin: usize,
    /// The first byte that no window holds.
    free: usize,
    cases: Vec<Case>,
    /// Whether all cases have the hint that the destination will not be read soon, or only some.
    past_the_cache: bool,
    /// How a failure can be repeated.
    about: String,
}

impl Arena {
    fn new(rig: Rig, about: String) -> Self {
        let live = noise().to_vec();
        let origin = live.as_ptr().align_offset(PAGE);
        Self {
            rig,
            twin: live[origin..].to_vec(),
            live,
            origin,
            free: 0,
            cases: Vec::new(),
            past_the_cache: false,
            about,
        }
    }

    /// A window of `bytes` between guards, beginning on a cache line.
    fn window(&mut self, bytes: usize) -> usize {
        let whole = (GUARD + bytes + GUARD).next_multiple_of(LINE);
        if self.free + whole > ARENA {
            self.run();
        }
        let begin = self.free;
        self.free += whole;
        assert!(self.free <= ARENA, "a case is larger than the arena");
        begin + GUARD
    }

    /// Plans a case whose regions lie apart, at these distances from a cache line.
    fn apart(&mut self, opcode: Opcode, len: usize, dst_offset: usize, src_offset: usize) {
        let reach = (len + LINE + GUARD).next_multiple_of(LINE);
        let begin = self.window(2 * reach + LINE);
        self.plan(opcode, begin + dst_offset, begin + reach + src_offset, len, begin, 2 * reach + LINE);
    }

    /// Plans a memmove whose source lies `distance` after its destination, or before it.
    fn overlapping(&mut self, len: usize, distance: usize, forwards: bool, offset: usize) {
        let bytes = len + distance + LINE;
        let begin = self.window(bytes);
        let (low, high) = (begin + offset, begin + offset + distance);
        let (dst, src) = if forwards { (low, high) } else { (high, low) };
        self.plan(Opcode::Memmove, dst, src, len, begin, bytes);
    }

    fn plan(&mut self, opcode: Opcode, dst: usize, src: usize, len: usize, begin: usize, bytes: usize) {
        // Something that changes from case to case and has both all-zero and all-one bytes in it.
        let value = [0, 0xff, 0x5a, u8::try_from(len & 0xff).expect("masked")][self.cases.len() % 4];
        let hint = self.past_the_cache || self.cases.len() % 3 == 1;
        let flags = if hint { OpFlags::NO_CACHE_HINT } else { OpFlags::NONE };
        let window = (begin - GUARD, begin + bytes + GUARD);
        self.cases.push(Case { opcode, dst, src, len, value, flags, window });
    }

    /// Executes what is planned, here and on the twin, compares, and begins anew.
    fn run(&mut self) {
        let base = self.live[self.origin..].as_mut_ptr();
        let sqe = |(index, case): (usize, &Case)| {
            let (dst, src) = (base.wrapping_add(case.dst), base.wrapping_add(case.src).cast_const());
            let sqe = match case.opcode {
                Opcode::Nop => Sqe::nop(),
                Opcode::Memcpy => Sqe::memcpy(dst, src, case.len),
                Opcode::Memmove => Sqe::memmove(dst, src, case.len),
                Opcode::Memset => Sqe::memset(dst, case.value, case.len),
                Opcode::Flush => Sqe::flush(dst, case.len),
                other => panic!("the suite does not know {other:?}"),
            };
            sqe.flags(case.flags).user_data(index as u64)
        };
        let sqes: Vec<Sqe> = self.cases.iter().enumerate().map(sqe).collect();
        self.rig.execute(&sqes);

        for case in &self.cases {
            match case.opcode {
                Opcode::Memcpy | Opcode::Memmove => self.twin.copy_within(case.src..case.src + case.len, case.dst),
                Opcode::Memset => self.twin[case.dst..case.dst + case.len].fill(case.value),
                _ => {}
            }
        }
        self.compare();
        let used = 0..self.free;
        let fresh = &noise()[self.origin..][used.clone()];
        self.twin[used.clone()].copy_from_slice(fresh);
        self.live[self.origin..][used].copy_from_slice(fresh);
        self.cases.clear();
        self.free = 0;
    }

    fn compare(&self) {
        let (live, twin) = (&self.live[self.origin..], &self.twin[..]);
        if live == twin {
            return;
        }
        let at = live.iter().zip(twin).position(|(live, twin)| live != twin).expect("they differ");
        let culprit = self.cases.iter().find(|case| (case.window.0..case.window.1).contains(&at));
        panic!("byte {at} is {:#04x}, not {:#04x}, in {culprit:?} ({})", live[at], twin[at], self.about);
    }
}

/// The (destination, source) misalignments that are tried at this length.
fn misalignments(len: usize) -> Vec<(usize, usize)> {
    if len > 256 {
        // The last two let the destination, then the source, end exactly on a line.
        let to_edge = (LINE - len % LINE) % LINE;
        return OFFSET_PAIRS.into_iter().chain([(to_edge, 5), (5, to_edge)]).collect();
    }
    OFFSETS.iter().flat_map(|&dst| OFFSETS.iter().map(move |&src| (dst, src))).collect()
}

/// Plans and runs the copies of one opcode between regions that lie apart.
fn copies(arena: &mut Arena, opcode: Opcode) {
    for len in SIZES {
        for (dst, src) in misalignments(len) {
            arena.apart(opcode, len, dst, src);
        }
    }
    arena.run();
}

/// As [`copies`], for an operation without a source.
fn one_region(arena: &mut Arena, opcode: Opcode) {
    for len in SIZES {
        for offset in 0..=LINE {
            if len <= PAGE + 1 || offset % 13 == 0 {
                arena.apart(opcode, len, offset, 0);
            }
        }
    }
    arena.run();
}

/// Memmoves whose regions overlap by every interesting distance, in both directions.
fn overlaps(arena: &mut Arena) {
    for len in SIZES {
        for distance in [0, 1, 7, 64, 4096, len / 2, len.saturating_sub(1), len] {
            for forwards in [true, false] {
                for offset in [0, 1, 15, 63] {
                    if len <= PAGE + 1 || offset == 15 {
                        arena.overlapping(len, distance, forwards, offset);
                    }
                }
            }
        }
    }
    arena.run();
}

/// Operations with the hint, which may go by other routines: around the length where those begin, and around the
/// vectors and lines that they store, at every misalignment of the destination.
fn past_the_cache(arena: &mut Arena) {
    arena.past_the_cache = true;
    for len in [1023, 1024, 1025, 1055, 1056, 1057, 1087, 1088, 1089, 2048, 4097, 65537, MIB + 1] {
        for offset in (0..=LINE).filter(|offset| len <= PAGE + 1 || offset % 13 == 0) {
            arena.apart(Opcode::Memset, len, offset, 0);
            arena.apart(Opcode::Memcpy, len, offset, 0);
            arena.apart(Opcode::Memcpy, len, offset, 17);
            arena.apart(Opcode::Memmove, len, offset, 1);
            arena.overlapping(len, 33, offset % 2 == 0, offset % LINE);
        }
    }
    arena.run();
}

/// What the lists above have not thought of.
fn random(arena: &mut Arena, random: &mut Random) {
    for _ in 0..600 {
        // Short lengths are as likely as long ones.
        let most = 1 << random.below(18);
        let len = random.below(most + 1);
        let opcode = Opcode::ALL[random.below(Opcode::ALL.len())];
        if opcode == Opcode::Memmove && random.below(4) > 0 {
            let distance = random.below(len + 64);
            arena.overlapping(len, distance, random.below(2) == 0, random.below(LINE));
        } else {
            arena.apart(opcode, len, random.below(LINE + 1), random.below(LINE + 1));
        }
    }
    arena.run();
}

/// Runs one part of the suite on one drive.
fn suite(
    configure: impl Fn(Builder) -> Builder + Send + 'static,
    reaping: Reaping,
    executed: Executed,
    part: impl Fn(&mut Arena) + Send + 'static,
) {
    suite_about(configure, reaping, executed, "nothing random".to_owned(), part);
}

fn suite_about(
    configure: impl Fn(Builder) -> Builder + Send + 'static,
    reaping: Reaping,
    executed: Executed,
    about: String,
    part: impl Fn(&mut Arena) + Send + 'static,
) {
    must_end(move || {
        let mut arena = Arena::new(Rig::new(configure, reaping, executed), about);
        part(&mut arena);
        assert!(arena.cases.is_empty() && arena.rig.submitted > 0, "the part ran nothing");
        arena.rig.check_who_executed();
    });
}

/// Adds devices in software as the mover `dsa`.
fn with_dsa(builder: Builder, drive: Drive, dsa: Dsa) -> Builder {
    builder.workers(0).mover("dsa", drive, move || dsa.mover())
}

/// Two queues of such a device, each at its worst: everything in any order, every third operation stopped by a fault.
fn hostile(preset: Preset, mode: Mode) -> Dsa {
    let (device, mut queue) = (preset.capabilities(), WorkQueueCapabilities::new(mode, 8));
    queue.max_transfer_bytes = 64 << 10;
    let portal = |seed| ModelPortal::new(device, queue, Settings::hostile(seed));
    Dsa::new((0..2).map(|seed| portal(seed).into())).expect("there are two")
}

macro_rules! parts {
    ($configure:expr, $reaping:ident, $executed:ident) => {
        use super::super::*;

        fn on_this_drive(part: impl Fn(&mut Arena) + Send + 'static) {
            suite($configure, Reaping::$reaping, Executed::$executed, part);
        }

        #[test]
        fn memcpy() {
            on_this_drive(|arena| copies(arena, Opcode::Memcpy));
        }

        #[test]
        fn memmove_apart() {
            on_this_drive(|arena| copies(arena, Opcode::Memmove));
        }

        #[test]
        fn memmove_overlapping() {
            on_this_drive(overlaps);
        }

        #[test]
        fn hinted_operations() {
            on_this_drive(past_the_cache);
        }

        #[test]
        fn memset() {
            on_this_drive(|arena| one_region(arena, Opcode::Memset));
        }

        #[test]
        fn flush_changes_nothing() {
            on_this_drive(|arena| one_region(arena, Opcode::Flush));
        }

        #[test]
        fn nop_changes_nothing() {
            on_this_drive(|arena| one_region(arena, Opcode::Nop));
        }

        #[test]
        fn random_mixtures() {
            let seed = random::seed();
            let about = format!("repeat with MEMRING_SEED={seed}");
            suite_about($configure, Reaping::$reaping, Executed::$executed, about, move |arena| {
                random(arena, &mut Random::new(seed));
            });
        }
    };
}

macro_rules! conformance {
    ($($drive:ident: $configure:expr, $executed:ident;)*) => {
        $(mod $drive {
            mod by_wait {
                parts!($configure, Wait, $executed);
            }
            mod by_drain {
                parts!($configure, Drain, $executed);
            }
        })*
    };
}

conformance! {
    inline: |builder| builder.workers(0).inline_max(usize::MAX), Submitter;
    workers_1: |builder| builder.workers(1), Workers;
    workers_2: |builder| builder.workers(2), Workers;
    workers_8: |builder| builder.workers(8), Workers;
    caller_driven: |builder| builder.workers(0), Caller;
    caller_driven_in_small_pieces: |builder| builder.workers(0).poll_budget(1), Caller;
    dsa_by_caller: |builder| with_dsa(builder, Drive::Caller, Dsa::software()), Dsa;
    dsa_by_two_threads: |builder| with_dsa(builder, Drive::Threads(2), Dsa::software()), Dsa;
    dsa_hostile: |builder| with_dsa(builder, Drive::Caller, hostile(Preset::V2Full, Mode::Shared)), Dsa;
    dsa_hostile_dedicated: |builder| {
        with_dsa(builder, Drive::Threads(2), hostile(Preset::V1Early, Mode::Dedicated))
    }, Dsa;
    dsa_without_batches: |builder| {
        with_dsa(builder, Drive::Caller, hostile(Preset::V1Production, Mode::Dedicated))
    }, Dsa;
}
