//! Goal: a full queue answers `Full` with the entry, and no operation is lost, doubled or torn. However many threads
//! press however many operations into however small a queue: each push that was accepted completes exactly once, with
//! the right bytes, and each push that was refused gave its entry back and did nothing.
//!
//! Method: four threads push random operations, singly and in batches, through several clones, until every one was
//! accepted; an entry that came back is pushed again as it came back. An operation is a number: its kind, length and
//! bytes follow from it, and its completion carries it. So the reaper can judge all 64 bytes around the destination
//! the moment it has the completion, and a table with a place for each number shows what came never or twice (an entry
//! that was refused *and* executed comes twice). Buffers go back to their submitter only when they were judged.
//!
//! By default 10 million operations are shared among the drives in release builds, and fewer in debug builds;
//! `MEMRING_STRESS=full` gives 10 million to each drive.
#![expect(unsafe_code, reason = "pushes entries, and shares their buffers among threads")]
#![expect(clippy::disallowed_types, reason = "a flag hands each buffer from the reaper to its submitter")]
#![expect(clippy::print_stdout, reason = "the figures of a run, seen when it fails or with --nocapture")]

#[path = "support/random.rs"]
mod random;

use std::cell::UnsafeCell;
use std::io::{Write, stderr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memring::queue::{CompletionQueue, PushError, QueuePair, Stats, SubmissionQueue};
use memring::{Cqe, INLINE, MoverId, Sqe, WORKERS};

use random::{Random, seed};

const THREADS: u64 = 4;
/// Bytes of a slot's buffers: what an operation may write, and what around it must stay.
const BYTES: usize = 64;
/// An operation that has not completed after this time is lost. Nothing waits this long otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drive {
    Inline,
    Workers(usize),
    Caller,
    /// Each operation by its number: the submitter, or one of two workers.
    Mixed,
}

impl Drive {
    const ALL: [Self; 6] =
        [Self::Inline, Self::Workers(1), Self::Workers(2), Self::Workers(8), Self::Caller, Self::Mixed];

    fn build(self, entries: usize) -> (SubmissionQueue, CompletionQueue) {
        let workers = match self {
            Self::Inline | Self::Caller => 0,
            Self::Workers(workers) => workers,
            Self::Mixed => 2,
        };
        QueuePair::builder().entries(entries).workers(workers).build().expect("a queue").split()
    }

    fn mover(self, number: u64) -> MoverId {
        match self {
            Self::Inline => INLINE,
            Self::Mixed if mix(number) & 1 == 0 => INLINE,
            _ => WORKERS,
        }
    }
}

/// How many operations a test of one drive runs: its share of the 10 million, or all of them.
fn operations() -> u64 {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") {
        10_000_000
    } else if cfg!(debug_assertions) {
        100_000
    } else {
        10_000_000 / Drive::ALL.len() as u64
    }
}

/// 64 bits that follow from a number, and look as if they did not.
fn mix(number: u64) -> u64 {
    Random::new(number).next()
}

type Bytes = [u8; BYTES];

/// Eight words that belong to one number and to one purpose.
fn pattern(number: u64, purpose: u64) -> Bytes {
    let mut bytes = [0; BYTES];
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&mix(number ^ (purpose << 56) ^ ((index as u64) << 48)).to_ne_bytes());
    }
    bytes
}

/// What the operation of one number does: all of it follows from the number.
#[derive(Clone, Copy)]
struct Plan {
    number: u64,
    kind: u64,
    len: usize,
    /// Where in the destination's buffer it begins to write, and in the source's (for a move: the same buffer) to read.
    to: usize,
    from: usize,
}

impl Plan {
    fn of(number: u64) -> Self {
        let mut random = Random::new(mix(number));
        let len = random.below(BYTES + 1);
        let room = BYTES - len + 1;
        Self { number, kind: mix(number) >> 8 & 7, len, to: random.below(room), from: random.below(room) }
    }

    fn source(self) -> Bytes {
        pattern(self.number, 1)
    }

    fn before(self) -> Bytes {
        pattern(self.number, 2)
    }

    /// The destination's buffer when the operation has ended.
    fn after(self) -> Bytes {
        let mut bytes = self.before();
        let (to, from) = (self.to..self.to + self.len, self.from..self.from + self.len);
        match self.kind {
            0 => {}
            1 | 2 => bytes[to].fill(self.value()),
            3 | 4 => bytes.copy_within(from, self.to),
            _ => bytes[to].copy_from_slice(&self.source()[from]),
        }
        bytes
    }

    fn value(self) -> u8 {
        self.source()[0]
    }

    fn sqe(self, slot: &Slot) -> Sqe {
        let dst = slot.dst.get().cast::<u8>();
        let to = dst.wrapping_add(self.to);
        match self.kind {
            0 => Sqe::nop(),
            1 | 2 => Sqe::memset(to, self.value(), self.len),
            3 | 4 => Sqe::memmove(to, dst.wrapping_add(self.from), self.len),
            _ => Sqe::memcpy(to, slot.src.get().cast::<u8>().wrapping_add(self.from), self.len),
        }
    }
}

/// The buffers of one operation.
///
/// They belong to the submitter while `free`, to the operation from its push to its completion, then to the reaper,
/// which gives them back by setting `free`.
struct Slot {
    free: AtomicBool,
    src: UnsafeCell<Bytes>,
    dst: UnsafeCell<Bytes>,
}

// SAFETY: the buffers have one owner at a time, as said above; `free` is set with Release and seen with Acquire.
unsafe impl Sync for Slot {}

impl Slot {
    fn new() -> Self {
        Self { free: AtomicBool::new(true), src: UnsafeCell::new([0; BYTES]), dst: UnsafeCell::new([0; BYTES]) }
    }

    /// Takes a free slot for an operation and makes it ready.
    fn prepare(&self, plan: Plan) {
        self.free.store(false, Ordering::Relaxed);
        // SAFETY: the caller is the submitter and has seen the slot free.
        unsafe { *self.src.get() = plan.source() };
        // SAFETY: as above.
        unsafe { *self.dst.get() = plan.before() };
    }

    /// Judges the bytes of a completed operation and gives the slot back.
    fn judge(&self, plan: Plan) {
        // SAFETY: the operation's completion was reaped, so the buffers are the reaper's.
        let found = unsafe { *self.dst.get() };
        assert_eq!(found, plan.after(), "wrong bytes after operation {}", plan.number);
        self.free.store(true, Ordering::Release);
    }
}

/// One run of random operations through one queue.
#[derive(Clone, Copy)]
struct Run {
    drive: Drive,
    entries: usize,
    /// Slots of each thread: how many operations it may have under way.
    slots: usize,
    operations: u64,
}

struct Submitter<'a> {
    run: Run,
    slots: &'a [Slot],
    first_slot: usize,
    cursor: usize,
    clones: Vec<SubmissionQueue>,
    random: Random,
    refused: u64,
}

impl Submitter<'_> {
    /// Pushes and submits operations of these numbers; returns how often it was refused.
    fn press(mut self, mut numbers: Range<u64>) -> u64 {
        let mut batch = Vec::new();
        while !numbers.is_empty() {
            // Batches of one are common, batches that fill the queue are not rare.
            let most = [1, 1, 2, 64][self.random.below(4)].min(self.run.entries);
            batch.clear();
            for number in numbers.by_ref().take(1 + self.random.below(most)) {
                let sqe = self.next_operation(number, batch.is_empty());
                batch.extend(sqe);
                if sqe.is_none() {
                    numbers.start = number; // No slot is free: that one is the first of the next batch.
                    break;
                }
            }
            let clone = self.random.below(self.clones.len());
            self.push_all(clone, &mut batch);
            if self.random.below(2) == 0 {
                self.clones[clone].submit();
            }
        }
        self.submit_all();
        self.refused
    }

    /// The entry of one operation, its buffers ready. None if no slot is free, unless the caller needs one.
    fn next_operation(&mut self, number: u64, needed: bool) -> Option<Sqe> {
        loop {
            for _ in 0..self.slots.len() {
                self.cursor = (self.cursor + 1) % self.slots.len();
                let slot = &self.slots[self.cursor];
                if slot.free.load(Ordering::Acquire) {
                    let plan = Plan::of(number);
                    slot.prepare(plan);
                    let user_data = ((self.first_slot + self.cursor) as u64) << 48 | number;
                    return Some(plan.sqe(slot).user_data(user_data).on(self.run.drive.mover(number)));
                }
            }
            if !needed {
                return None;
            }
            self.submit_all(); // Staged operations hold slots.
            assert!(!self.clones[0].is_closed(), "the reaper has failed");
            thread::yield_now();
        }
    }

    /// Pushes until all is accepted. Every refusal must name the entry, bit for bit, and leave the stage as it was.
    fn push_all(&mut self, clone: usize, batch: &mut [Sqe]) {
        loop {
            let sq = &mut self.clones[clone];
            let staged = sq.staged();
            let answer = match *batch {
                // SAFETY: the slot's buffers are the operation's until its completion was reaped.
                [one] if self.random.below(2) == 0 => unsafe { sq.push(one) },
                // SAFETY: as above, for each.
                _ => unsafe { sq.push_batch(batch) },
            };
            match answer {
                Ok(()) => {
                    assert_eq!(sq.staged(), staged + batch.len());
                    return;
                }
                Err(PushError::Full(back)) => {
                    assert_eq!(back, batch[0], "a refusal gave another entry back");
                    assert_eq!(sq.staged(), staged, "a refusal staged something");
                    batch[0] = back;
                }
                Err(other) => panic!("{other}"),
            }
            self.refused += 1;
            self.submit_all(); // What is staged holds credits.
            thread::yield_now();
        }
    }

    fn submit_all(&mut self) {
        for sq in &mut self.clones {
            sq.submit();
        }
    }
}

/// Reaps in every way there is until all operations have completed.
fn reap(run: Run, cq: &mut CompletionQueue, slots: &[Slot], seed: u64) {
    let mut seen = vec![false; usize::try_from(run.operations).expect("a table")];
    let mut random = Random::new(seed);
    let mut left = run.operations;
    let mut last = Instant::now();
    while left > 0 {
        if random.below(8) == 0 {
            let min = 1 + random.below(run.entries.min(8));
            let timeout = if random.below(2) == 0 { PATIENCE } else { Duration::from_micros(20) };
            // A wait for more than the queue can hold, or than was submitted, must return too.
            cq.wait(min, Some(timeout)).expect("not forked");
        }
        let most = if random.below(4) == 0 { random.below(run.entries + 1) } else { usize::MAX };
        let before = left;
        for cqe in cq.drain().take(most) {
            left -= 1;
            judge(run, cqe, slots, &mut seen);
        }
        if left < before {
            last = Instant::now();
        } else {
            if last.elapsed() > PATIENCE {
                lost(left, &cq.stats());
            }
            thread::yield_now();
        }
    }
    assert!(seen.iter().all(|&seen| seen));
}

/// Ends the test binary. A panic would drop the queue, which would wait for the lost ones for ever.
fn lost(operations: u64, stats: &Stats) -> ! {
    let _ = writeln!(stderr(), "{operations} operations are lost: {stats:?}");
    std::process::abort()
}

fn judge(run: Run, cqe: Cqe, slots: &[Slot], seen: &mut [bool]) {
    let number = cqe.user_data() & ((1 << 48) - 1);
    let index = usize::try_from(number).expect("an operation");
    assert!(!std::mem::replace(&mut seen[index], true), "operation {number} completed twice");
    assert!(cqe.status().is_success(), "{cqe:?}");
    assert_eq!((cqe.mover(), cqe.value(), cqe.flags()), (run.drive.mover(number), 0, 0));
    slots[usize::try_from(cqe.user_data() >> 48).expect("a slot")].judge(Plan::of(number));
}

impl Run {
    /// Runs it, and returns how many pushes were refused.
    fn go(self) -> u64 {
        let (begin, seed) = (Instant::now(), seed());
        let per_thread = self.operations / THREADS;
        let run = Self { operations: per_thread * THREADS, ..self };
        let slots: Vec<Slot> = (0..run.slots * usize::try_from(THREADS).expect("small")).map(|_| Slot::new()).collect();
        println!("{:?}, {} entries: MEMRING_SEED={seed}", run.drive, run.entries);
        let (mut sq, cq) = run.drive.build(run.entries);
        let (refused, mut cq) = thread::scope(|scope| {
            let mut cq = cq;
            let submitters: Vec<_> = (slots.chunks(run.slots).zip(0..))
                .map(|(slots, thread)| {
                    let submitter = Submitter {
                        run,
                        slots,
                        first_slot: run.slots * usize::try_from(thread).expect("small"),
                        cursor: 0,
                        clones: vec![sq.clone(), sq.clone(), sq.clone()],
                        random: Random::new(mix(seed ^ thread)),
                        refused: 0,
                    };
                    scope.spawn(move || submitter.press(thread * per_thread..(thread + 1) * per_thread))
                })
                .collect();
            // The closure owns the completion queue: a failure here closes it, and the submitters notice.
            reap(run, &mut cq, &slots, seed);
            (submitters.into_iter().map(|thread| thread.join().expect("a submitter")).sum::<u64>(), cq)
        });
        run.settled(&mut sq, &mut cq);
        let Self { drive, entries, .. } = run;
        println!(
            "{drive:?}, {entries} entries: {} operations, {refused} refusals, {:.1?}",
            run.operations,
            begin.elapsed()
        );
        refused
    }

    /// Nothing is left behind: no completion, nothing in flight, every credit back, every operation in the books.
    fn settled(self, sq: &mut SubmissionQueue, cq: &mut CompletionQueue) {
        assert_eq!(cq.drain().count(), 0, "a completion too many");
        assert_eq!((sq.in_flight(), cq.in_flight()), (0, 0));
        let stats = cq.stats();
        assert_eq!(stats.drivers.iter().map(|driver| driver.operations).sum::<u64>(), self.operations);
        let nops = vec![Sqe::nop(); self.entries];
        // SAFETY: nops touch no memory.
        unsafe { sq.push_batch(&nops) }.expect("every credit came back");
        // SAFETY: as above.
        assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))), "and none too many");
    }
}

/// A queue of four entries under four threads: refusals are the rule.
fn four_entries(drive: Drive) {
    let refused = Run { drive, entries: 4, slots: 16, operations: operations() }.go();
    assert!(refused > 0, "the queue was never full: this has tested nothing");
}

#[test]
fn four_entries_inline() {
    four_entries(Drive::Inline);
}

#[test]
fn four_entries_one_worker() {
    four_entries(Drive::Workers(1));
}

#[test]
fn four_entries_two_workers() {
    four_entries(Drive::Workers(2));
}

#[test]
fn four_entries_eight_workers() {
    four_entries(Drive::Workers(8));
}

#[test]
fn four_entries_caller_driven() {
    four_entries(Drive::Caller);
}

#[test]
fn four_entries_mixed() {
    four_entries(Drive::Mixed);
}

#[test]
fn one_entry_in_every_drive() {
    for drive in Drive::ALL {
        let refused = Run { drive, entries: 1, slots: 2, operations: operations() / 20 }.go();
        assert!(refused > 0, "the queue was never full: this has tested nothing");
    }
}

/// Capacities that are no powers of two: rings have more slots than there are credits.
#[test]
fn odd_numbers_of_entries() {
    for (entries, drive) in [(3, Drive::Workers(2)), (7, Drive::Caller), (100, Drive::Mixed)] {
        Run { drive, entries, slots: 64, operations: operations() / 10 }.go();
    }
}

#[test]
fn most_entries_under_four_threads() {
    for drive in [Drive::Inline, Drive::Workers(2), Drive::Caller] {
        Run { drive, entries: 65536, slots: 1024, operations: operations() / 4 }.go();
    }
}

/// 65536 operations are accepted, exactly; none is lost over several laps of the rings.
#[test]
fn most_entries_filled_to_the_brim() {
    const ENTRIES: usize = 65536;
    for drive in [Drive::Inline, Drive::Workers(2), Drive::Caller] {
        let (mut sq, mut cq) = drive.build(ENTRIES);
        let mut words = vec![0_u64; ENTRIES];
        for lap in 1..=3_u8 {
            let mut random = Random::new(seed());
            let dst = words.as_mut_ptr();
            let sqe = |index: usize| {
                let word = dst.wrapping_add(index).cast::<u8>();
                Sqe::memset(word, lap, 8).user_data(index as u64).on(drive.mover(0))
            };
            let mut pushed = 0;
            while pushed < ENTRIES {
                let more = (1 + random.below(300)).min(ENTRIES - pushed);
                let batch: Vec<Sqe> = (pushed..pushed + more).map(sqe).collect();
                // SAFETY: each entry has its own word, and none is touched until all have completed.
                unsafe { sq.push_batch(&batch) }.expect("there is room");
                pushed += more;
                if random.below(3) == 0 {
                    sq.submit();
                }
            }
            // SAFETY: as above.
            assert!(matches!(unsafe { sq.push(sqe(7)) }, Err(PushError::Full(back)) if back == sqe(7)));
            sq.submit();
            let mut seen = vec![false; ENTRIES];
            let mut left = ENTRIES;
            while left > 0 {
                assert!(cq.wait(1 + random.below(left), Some(PATIENCE)).expect("not forked") > 0, "{left} are lost");
                for cqe in cq.drain() {
                    let index = usize::try_from(cqe.user_data()).expect("an index");
                    assert!(cqe.status().is_success() && !std::mem::replace(&mut seen[index], true));
                    left -= 1;
                }
            }
            assert!(words.iter().all(|&word| word == u64::from_ne_bytes([lap; 8])));
        }
    }
}

/// Clones of one thread share the credits, not the stage, and a batch is taken whole or not at all.
#[test]
fn clones_on_one_thread_share_credits() {
    let (mut a, mut cq) = Drive::Caller.build(4);
    let (mut b, mut c) = (a.clone(), a.clone());
    let nop = |number| Sqe::nop().user_data(number);
    // SAFETY: nops touch no memory, here and below.
    unsafe { a.push_batch(&[nop(0), nop(1)]) }.expect("two of four");
    // SAFETY: as above.
    unsafe { b.push(nop(2)) }.expect("three of four");
    // SAFETY: as above.
    let refused = unsafe { c.push_batch(&[nop(3), nop(4)]) };
    assert_eq!(refused, Err(PushError::Full(nop(3))), "two do not fit");
    // SAFETY: as above.
    let refused = unsafe { b.push_batch(&[nop(5); 5]) };
    assert_eq!(refused, Err(PushError::TooLong(nop(5))), "five would never fit");
    let wrong = Sqe::memset(std::ptr::null_mut(), 0, 1);
    // SAFETY: the entry is refused.
    let refused = unsafe { c.push_batch(&[nop(6), wrong]) };
    assert_eq!(refused, Err(PushError::Null(wrong)), "an entry at fault is named before the lack of room");
    assert_eq!((a.staged(), b.staged(), c.staged()), (2, 1, 0));
    // SAFETY: as above.
    unsafe { c.push(nop(7)) }.expect("the refusals have taken no credit");
    // SAFETY: as above.
    assert_eq!(unsafe { a.push(nop(8)) }, Err(PushError::Full(nop(8))));

    assert_eq!(cq.drain().count(), 0, "nothing was submitted");
    assert_eq!((b.submit(), b.submit()), (1, 0));
    drop(c); // A drop publishes what was staged.
    assert_eq!(a.in_flight(), 2);
    let mut reaped: Vec<u64> = cq.drain().map(|cqe| cqe.user_data()).collect();
    // SAFETY: as above.
    unsafe { b.push_batch(&[nop(9), nop(10)]) }.expect("two credits came back");
    assert_eq!((a.submit(), b.submit()), (2, 2));
    reaped.extend(cq.drain().map(|cqe| cqe.user_data()));
    assert_eq!(reaped, [2, 7, 0, 1, 9, 10], "one mover, one driver: in the order of the submissions");
}

/// A reaper that takes part of a drain, and forgets the rest of it, frees exactly what it took.
#[test]
#[expect(clippy::mem_forget, reason = "that forgetting a drain is harmless is what this shows")]
fn a_forgotten_drain_loses_nothing() {
    for take in 0..=4 {
        let (mut sq, mut cq) = Drive::Caller.build(4);
        // SAFETY: nops touch no memory, here and below.
        unsafe { sq.push_batch(&[0, 1, 2, 3].map(|number| Sqe::nop().user_data(number))) }.expect("four of four");
        sq.submit();
        let mut drain = cq.drain();
        let mut reaped: Vec<u64> = drain.by_ref().take(take).map(|cqe| cqe.user_data()).collect();
        std::mem::forget(drain);
        reaped.extend(cq.drain().map(|cqe| cqe.user_data()));
        assert_eq!(reaped, [0, 1, 2, 3]);
        // SAFETY: as above.
        unsafe { sq.push_batch(&[Sqe::nop(); 4]) }.expect("every credit came back");
    }
}

/// What ends without a completion of its own makes room before its end is known, so that whoever knows of all ends can
/// push as many again. The fewer entries, the sooner the next push comes.
fn room_comes_first(entry: Sqe, entries: usize, mut ends: impl FnMut(&mut CompletionQueue) -> usize) {
    let rounds = operations().min(200_000);
    for workers in [1, 2] {
        let (mut sq, mut cq) = Drive::Workers(workers).build(entries);
        let batch = vec![entry.on(WORKERS); entries];
        for round in 0..rounds {
            // SAFETY: nops touch no memory.
            let pushed = unsafe { sq.push_batch(&batch) };
            pushed.unwrap_or_else(|error| panic!("round {round}, {workers} workers, all has ended: {error}"));
            sq.submit();
            let (begin, mut left) = (Instant::now(), entries);
            while left > 0 {
                left -= ends(&mut cq);
                assert!(begin.elapsed() < PATIENCE, "{left} are lost");
            }
        }
    }
}

#[test]
fn room_comes_before_a_silent_end() {
    room_comes_first(Sqe::nop().skip_success(), 1, |cq| usize::from(cq.in_flight() == 0));
}

#[test]
fn room_comes_before_a_shared_end() {
    let ends = |cq: &mut CompletionQueue| cq.drain().map(|cqe| cqe.count() as usize).sum();
    room_comes_first(Sqe::nop().coalesce(), 2, ends);
}
