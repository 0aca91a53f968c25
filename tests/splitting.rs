//! Goal: a long operation is done in parts, by whoever has time, and nobody can tell but by the clock: its bytes are
//! right whatever its direction, it ends once, what is linked to it begins when all of it is done, what waits beside it
//! does not wait for it, and a poll budget holds to the byte.
//!
//! Method: copies of many parts in every drive, judged whole. Who did how much, and how much was done before something
//! else, is asked of the statistics; nothing is timed. `splitting/budgets.rs` counts what each `drain` does,
//! `splitting/beside.rs` what a small copy has to wait for.
//!
//! `MEMRING_STRESS=full` makes the largest copies 1 GiB long, instead of 64 MiB.
#![expect(unsafe_code, reason = "pushes entries, implements a mover")]

#[path = "splitting/beside.rs"]
mod beside;
#[path = "splitting/budgets.rs"]
mod budgets;
#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::{Arc, Mutex};

use memring::mover::{Capabilities, Completions, DataMover, Lane, Progress};
use memring::queue::{self, CompletionQueue, Driver, QueuePair, SubmissionQueue};
use memring::{Cqe, OpFlags, Opcode, Sqe, WORKERS};

use random::{Random, seed};
use watchdog::must_end;

/// About the length of a part.
const PART: usize = 256 << 10;
/// An operation of many parts, whose length is no multiple of anything.
const LONG: usize = 6 * PART + 4321;

/// Who executes: no thread, or so many.
const WORKER_COUNTS: [usize; 4] = [0, 1, 2, 4];

fn build(workers: usize) -> (SubmissionQueue, CompletionQueue) {
    QueuePair::builder().entries(64).workers(workers).build().expect("a queue").split()
}

/// The length of the largest copies.
fn huge() -> usize {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 1 << 30 } else { 64 << 20 }
}

fn noise(len: usize) -> Vec<u8> {
    let mut random = Random::new(seed());
    let mut bytes = vec![0; len];
    // A stretch of noise, over and over: as long as no distance that is tested.
    let stretch: Vec<u8> = (0..65_521).map(|_| random.next().to_ne_bytes()[0]).collect();
    bytes.chunks_mut(stretch.len()).for_each(|chunk| chunk.copy_from_slice(&stretch[..chunk.len()]));
    // No two stretches are the same.
    bytes.chunks_mut(4096).for_each(|page| page[0] = random.next().to_ne_bytes()[0]);
    bytes
}

/// Pushes and submits entries together.
///
/// # Safety
///
/// That of a push, for each.
unsafe fn submit(sq: &mut SubmissionQueue, sqes: &[Sqe]) {
    // SAFETY: the caller's contract.
    unsafe { sq.push_batch(sqes) }.expect("there is room");
    assert_eq!(sq.submit(), sqes.len());
}

/// Waits for so many completions and takes them, in order; there must be no more, and all must be successes.
fn reap(cq: &mut CompletionQueue, count: usize) -> Vec<Cqe> {
    assert_eq!(cq.wait(count, None), Ok(count));
    let cqes: Vec<Cqe> = cq.drain().collect();
    assert_eq!((cqes.len(), cq.in_flight()), (count, 0));
    assert!(cqes.iter().all(|cqe| cqe.status().is_success()), "{cqes:?}");
    cqes
}

/// Fails with few words: a vector's Debug is as long as the vector.
fn same(found: &[u8], expected: &[u8], what: &str) {
    let wrong = || found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert!(found == expected, "{what}: byte {:?} of {} is wrong", wrong(), expected.len());
}

#[test]
fn a_waiting_caller_and_a_worker_share_a_copy() {
    must_end(|| {
        let src = noise(64 << 20);
        let mut dst = vec![0; src.len()];
        let (mut sq, mut cq) = build(1);
        let bytes_by = |cq: &CompletionQueue, driver| cq.stats().driver(WORKERS, driver).map_or(0, |row| row.bytes);
        // On a machine that is busy elsewhere, one of them may miss a whole copy. Not a hundred.
        for copies in 1..=100 {
            dst.fill(0);
            // SAFETY: the buffers are not touched until the completion was reaped.
            unsafe { submit(&mut sq, &[Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), src.len())]) };
            reap(&mut cq, 1);
            same(&dst, &src, "the copy");
            let (worker, caller) = (bytes_by(&cq, Driver::Thread(0)), bytes_by(&cq, Driver::Caller));
            assert_eq!(worker + caller, copies * src.len() as u64);
            assert_eq!(cq.stats().mover(WORKERS).operations, copies, "each counts once");
            if worker > 0 && caller > 0 {
                return;
            }
        }
        panic!("one of them did it all: {:?}", cq.stats());
    });
}

#[test]
fn memory_moves_over_itself() {
    must_end(|| {
        let before = noise(2 * LONG);
        let mut bytes = before.clone();
        for workers in WORKER_COUNTS {
            let (mut sq, mut cq) = build(workers);
            for distance in [0, 1, 63, 4095, 4096, 100_000, PART, LONG / 2 + 1, LONG - 1, LONG] {
                for (to, from) in [(1000, 1000 + distance), (1000 + distance, 1000)] {
                    for flags in [OpFlags::NONE, OpFlags::NO_CACHE_HINT] {
                        bytes.copy_from_slice(&before);
                        let at = bytes.as_mut_ptr();
                        let sqe = Sqe::memmove(at.wrapping_add(to), at.wrapping_add(from), LONG - 1000).flags(flags);
                        // SAFETY: the buffer is not touched until the completion was reaped.
                        unsafe { submit(&mut sq, &[sqe]) };
                        reap(&mut cq, 1);
                        let mut expected = before.clone();
                        expected.copy_within(from..from + LONG - 1000, to);
                        same(&bytes, &expected, &format!("{workers} workers, {from} to {to}"));
                    }
                }
            }
        }
    });
}

#[test]
fn all_kinds_of_parts() {
    must_end(|| {
        let src = noise(LONG + 100);
        let mut dst = vec![0; src.len()];
        for workers in WORKER_COUNTS {
            let (mut sq, mut cq) = build(workers);
            for flags in [OpFlags::NONE, OpFlags::NO_CACHE_HINT] {
                // Where it may be cut and where it is just too short; the ends of pages, and elsewhere.
                for len in [2 * PART - 1, 2 * PART, 2 * PART + 1, 3 * PART, LONG] {
                    for (to, from) in [(0, 0), (1, 0), (63, 64), (100, 17)] {
                        dst.fill(3);
                        let at = dst.as_mut_ptr().wrapping_add(to);
                        let copy = Sqe::memcpy(at, src[from..].as_ptr(), len).flags(flags).link();
                        // SAFETY: the buffers are not touched until the completions were reaped.
                        unsafe { submit(&mut sq, &[copy, Sqe::flush(at, len)]) };
                        reap(&mut cq, 2);
                        same(&dst[to..to + len], &src[from..from + len], "the copy");
                        let around = [&dst[..to], &dst[to + len..]].concat();
                        same(&around, &vec![3; around.len()], "what lies around it");
                        // SAFETY: as above.
                        unsafe { submit(&mut sq, &[Sqe::memset(at, 9, len).flags(flags)]) };
                        reap(&mut cq, 1);
                        same(&dst[to..to + len], &vec![9; len], "the set");
                        let around = [&dst[..to], &dst[to + len..]].concat();
                        same(&around, &vec![3; around.len()], "what lies around it");
                    }
                }
            }
        }
    });
}

#[test]
fn many_at_once_and_small_ones_between() {
    const LARGE: usize = 10;
    const SMALL: usize = 30;
    must_end(|| {
        let src = noise(LONG);
        let mut large = vec![0; LARGE * LONG];
        let mut small = vec![0; SMALL * 64];
        for workers in WORKER_COUNTS {
            let (mut sq, mut cq) = build(workers);
            for round in 1..=3 {
                large.fill(0);
                small.fill(0);
                let mut small_to = small.chunks_mut(64);
                for to in large.chunks_mut(LONG) {
                    let mut batch = vec![Sqe::memcpy(to.as_mut_ptr(), src.as_ptr(), LONG)];
                    let few = small_to.by_ref().take(SMALL / LARGE);
                    batch.extend(few.map(|to| Sqe::memcpy(to.as_mut_ptr(), src.as_ptr(), 64)));
                    // SAFETY: the buffers are not touched until all completions were reaped.
                    unsafe { submit(&mut sq, &batch) };
                }
                reap(&mut cq, LARGE + SMALL);
                large.chunks(LONG).for_each(|copy| same(copy, &src, "a large copy"));
                small.chunks(64).for_each(|copy| same(copy, &src[..64], "a small copy"));
                let total = cq.stats().mover(WORKERS);
                let bytes = round * (large.len() + small.len()) as u64;
                assert_eq!((total.operations, total.bytes), (round * (LARGE + SMALL) as u64, bytes));
            }
        }
    });
}

/// What is linked to a long operation, or drained behind it, begins when all its parts are done.
#[test]
fn what_follows_begins_when_all_parts_are_done() {
    must_end(|| {
        let src = noise(LONG);
        let (mut one, mut two, mut three) = (vec![0; LONG], vec![0; LONG], vec![0; LONG]);
        for workers in WORKER_COUNTS {
            let (mut sq, mut cq) = build(workers);
            for round in 0..8 {
                one.fill(1);
                two.fill(2);
                three.fill(3);
                let first = Sqe::memcpy(one.as_mut_ptr(), src.as_ptr(), LONG);
                let second = Sqe::memcpy(two.as_mut_ptr(), one.as_ptr(), LONG);
                let third = Sqe::memmove(three.as_mut_ptr(), two.as_ptr(), LONG);
                let (batch, told) = match round % 4 {
                    0 => ([first.link(), second.link(), third], 3),
                    1 => ([first.skip_success().link(), second.hard_link().skip_success(), third], 1),
                    2 => ([first, second.drain(), third.drain()], 3),
                    _ => ([first.skip_success(), second.drain().skip_success(), third.drain().coalesce()], 1),
                };
                // SAFETY: the order that is asked for keeps the entries apart; nobody else touches the buffers.
                unsafe { submit(&mut sq, &batch.map(|sqe| sqe.user_data(round))) };
                reap(&mut cq, told);
                same(&three, &src, &format!("{workers} workers, round {round}"));
            }
            let total = cq.stats().mover(WORKERS);
            assert_eq!((total.operations, total.bytes), (8 * 3, 8 * 3 * LONG as u64), "a part is no operation");
        }
    });
}

/// Sets memory, and notes the lengths that it was given.
struct Setter(Arc<Mutex<Vec<u64>>>);

// SAFETY: writes the claimed entry's destination, before it completes it.
unsafe impl DataMover for Setter {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Memset])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(claimed) = lane.claim() {
            let sqe = claimed.sqe();
            let len = usize::try_from(sqe.len()).expect("it is in memory");
            // SAFETY: the entry's submitter vouched for its region.
            unsafe { sqe.dst().write_bytes(sqe.pattern(), len) };
            self.0.lock().expect("nobody panics").push(sqe.len());
            done.complete(claimed, memring::Status::SUCCESS);
            progress = Progress::Busy;
        }
        progress
    }
}

#[test]
fn a_users_mover_is_never_given_parts() {
    must_end(|| {
        let mut bytes = vec![0; LONG];
        for drive in [queue::Drive::Caller, queue::Drive::Threads(2)] {
            let lens: Arc<Mutex<Vec<u64>>> = Arc::default();
            let shared = Arc::clone(&lens);
            let builder = QueuePair::builder().workers(0).poll_budget(5000);
            let pair = builder.mover("setter", drive, move || Setter(Arc::clone(&shared))).build().expect("a queue");
            let setter = pair.mover("setter").expect("it was added");
            let (mut sq, mut cq) = pair.split();
            let sqe = Sqe::memset(bytes.as_mut_ptr(), 5, LONG);
            // SAFETY: the buffer is not touched until the completions were reaped; the entries are linked.
            unsafe { submit(&mut sq, &[sqe.on(setter).link(), sqe.on(WORKERS).link(), sqe.on(setter)]) };
            let mut reaped = 0;
            while reaped < 3 {
                reaped += cq.drain().count();
            }
            assert_eq!(*lens.lock().expect("nobody panics"), [LONG as u64; 2]);
            let total = cq.stats().mover(setter);
            assert_eq!((total.operations, total.bytes), (2, 2 * LONG as u64));
        }
    });
}

/// When the drop of a completion queue returns, what was submitted is done, whole.
#[test]
fn a_drop_waits_for_all_parts() {
    must_end(|| {
        let src = noise(LONG);
        let mut dst = vec![0; 3 * LONG];
        for workers in WORKER_COUNTS {
            for begun in [false, true] {
                dst.fill(0);
                let builder = QueuePair::builder().entries(8).workers(workers).poll_budget(PART);
                let (mut sq, mut cq) = builder.build().expect("a queue").split();
                let copy = |to: &mut [u8]| Sqe::memcpy(to.as_mut_ptr(), src.as_ptr(), LONG);
                let batch: Vec<Sqe> = dst.chunks_mut(LONG).map(copy).collect();
                // SAFETY: the buffers are not touched until the queue's drop has returned.
                unsafe { submit(&mut sq, &[batch[0].link(), batch[1], batch[2]]) };
                if begun {
                    // Workers may be done with some of it.
                    assert!(workers > 0 || cq.drain().count() == 0);
                }
                assert!(workers > 0 || sq.in_flight() == 3, "nothing is done whole yet");
                drop(cq);
                assert_eq!(sq.in_flight(), 0);
                dst.chunks(LONG).for_each(|copy| same(copy, &src, "a copy"));
            }
        }
    });
}
