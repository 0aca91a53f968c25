//! Goal: however the halves of a queue end, are forgotten or change threads, no promise about memory is broken and
//! nothing hangs; what a wait or a shutdown returns is exactly what its documentation says.
//!
//! Method: operations are in flight for as long as a test wants, since a mover of the test holds them
//! (`support/hold.rs`); or they are large enough that a drop which did not wait would be seen in the buffers. Each test
//! runs under a limit, so that a hang is a failure.
#![expect(unsafe_code, reason = "pushes entries")]

#[path = "lifetimes/driver_thread.rs"]
mod driver_thread;
#[path = "support/hold.rs"]
mod hold;
#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::os::fd::AsFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use memring::queue::{Arm, Builder, CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Sqe, WORKERS};

use hold::Hold;
use watchdog::must_end;

const ENTRIES: usize = 64;
/// Long enough that copying takes much longer than returning from a drop that does not wait.
const LEN: usize = 1 << 20;
const COPIES: usize = 12;

fn build(workers: usize) -> (SubmissionQueue, CompletionQueue) {
    QueuePair::builder().entries(ENTRIES).workers(workers).build().expect("the options are in range").split()
}

/// A queue with one more mover, which holds what it claims.
fn build_held(builder: Builder, drive: Drive) -> (SubmissionQueue, CompletionQueue, MoverId, Hold) {
    let hold = Hold::default();
    let pair = builder.entries(ENTRIES).mover("holder", drive, hold.movers()).build();
    let pair = pair.expect("the options are in range");
    let mover = pair.mover("holder").expect("it was added");
    let (sq, cq) = pair.split();
    (sq, cq, mover, hold)
}

/// Pushes nops, with user data 0, 1, and so on.
fn push_nops(sq: &mut SubmissionQueue, count: usize, mover: MoverId) {
    for index in 0..count {
        // SAFETY: a nop touches no memory.
        unsafe { sq.push(Sqe::nop().user_data(index as u64).on(mover)) }.expect("there is room");
    }
}

/// Whether every credit is back: exactly as many nops as the queue has entries can be pushed.
fn has_all_credits(sq: &mut SubmissionQueue, cq: &mut CompletionQueue) {
    push_nops(sq, ENTRIES, WORKERS);
    // SAFETY: a nop touches no memory.
    assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))));
    assert_eq!(sq.submit(), ENTRIES);
    assert_eq!(cq.wait(ENTRIES, None), Ok(ENTRIES));
    assert_eq!(cq.drain().count(), ENTRIES);
}

/// Buffers for some large copies, and whether those were done.
struct Copies {
    src: Vec<u8>,
    dst: Vec<u8>,
}

impl Copies {
    fn new() -> Self {
        let mut src = vec![0; COPIES * LEN];
        for (value, chunk) in (1..).zip(src.chunks_mut(LEN)) {
            chunk.fill(value);
        }
        Self { src, dst: vec![0; COPIES * LEN] }
    }

    /// Pushes all copies. The buffers must not be touched until they are reaped or the completion queue is gone.
    fn push(&mut self, sq: &mut SubmissionQueue) {
        for (dst, src) in self.dst.chunks_mut(LEN).zip(self.src.chunks(LEN)) {
            // SAFETY: the caller keeps the buffers, untouched, as it was told.
            unsafe { sq.push(Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), LEN)) }.expect("there is room");
        }
    }

    fn are_done(&self) -> bool {
        self.dst == self.src
    }

    fn are_untouched(&self) -> bool {
        self.dst == vec![0; COPIES * LEN]
    }
}

#[test]
fn buffers_are_right_when_the_completion_queues_drop_returns() {
    must_end(|| {
        for workers in [0, 1, 3] {
            let mut copies = Copies::new();
            let (mut sq, cq) = build(workers);
            copies.push(&mut sq);
            assert_eq!(sq.submit(), COPIES);
            drop(cq);
            assert!(copies.are_done(), "workers: {workers}");
            assert_eq!(sq.in_flight(), 0);
            drop(sq);
        }
    });
}

#[test]
fn buffers_are_right_when_the_submission_queue_goes_first() {
    must_end(|| {
        for workers in [0, 1, 3] {
            let mut copies = Copies::new();
            let (mut sq, mut cq) = build(workers);
            copies.push(&mut sq);
            drop(sq); // Publishes what it had staged.
            assert_eq!(cq.wait(COPIES, None), Ok(COPIES), "workers: {workers}");
            assert!(cq.drain().all(|cqe| cqe.status().is_success()));
            assert!(copies.are_done());

            let mut copies = Copies::new();
            let (mut sq, cq) = build(workers);
            copies.push(&mut sq);
            drop(sq);
            drop(cq);
            assert!(copies.are_done(), "workers: {workers}");
        }
    });
}

#[test]
fn an_unsplit_pair_waits_in_its_drop() {
    must_end(|| {
        for workers in [0, 2] {
            for submit in [false, true] {
                let mut copies = Copies::new();
                let mut pair = QueuePair::builder().entries(ENTRIES).workers(workers).build().expect("in range");
                let (sq, _) = pair.halves();
                copies.push(sq);
                if submit {
                    sq.submit();
                }
                drop(pair);
                assert!(copies.are_done(), "workers: {workers}, submit: {submit}");
            }
        }
    });
}

#[test]
fn a_submission_queue_dropped_after_the_close_discards() {
    must_end(|| {
        for workers in [0, 2] {
            let mut copies = Copies::new();
            let (mut sq, cq) = build(workers);
            copies.push(&mut sq);
            drop(cq);
            drop(sq);
            assert!(copies.are_untouched(), "workers: {workers}");

            let (mut sq, mut cq) = build(workers);
            copies.push(&mut sq);
            assert_eq!(cq.shutdown(None), Ok(0), "staged entries are not in flight");
            drop(sq);
            assert_eq!(cq.drain().count(), 0);
            assert!(copies.are_untouched(), "workers: {workers}");
        }
    });
}

#[test]
fn completions_that_nobody_reaps_are_no_obstacle() {
    must_end(|| {
        for workers in [0, 2] {
            let (mut sq, mut cq) = build(workers);
            push_nops(&mut sq, ENTRIES, WORKERS);
            assert_eq!(sq.submit(), ENTRIES);
            assert_eq!(cq.wait(ENTRIES, None), Ok(ENTRIES));
            assert_eq!(cq.drain().take(5).count(), 5);
            drop(cq);
            drop(sq);
        }
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "that it is harmless is what is tested")]
fn a_forgotten_submission_queue_never_hangs_a_drop() {
    must_end(|| {
        for workers in [0, 2] {
            let mut copies = Copies::new();
            let (mut sq, mut cq) = build(workers);
            let mut clone = sq.clone();
            copies.push(&mut sq);
            std::mem::forget(sq);
            push_nops(&mut clone, 3, WORKERS);
            assert_eq!(clone.submit(), 3);
            assert_eq!((cq.wait(3, None), cq.in_flight()), (Ok(3), 0));
            assert_eq!(cq.shutdown(None), Ok(0), "what is staged for ever is not in flight");
            drop(cq);
            assert!(copies.are_untouched());
        }
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "that it is harmless is what is tested")]
fn a_forgotten_completion_queue_harms_nobody() {
    must_end(|| {
        let mut copies = Copies::new();
        let (mut sq, cq) = build(2);
        copies.push(&mut sq);
        std::mem::forget(cq);
        assert!(!sq.is_closed());
        assert_eq!(sq.submit(), COPIES, "the workers are there still");
        while sq.in_flight() > 0 {
            thread::yield_now();
        }
        assert!(copies.are_done());
        push_nops(&mut sq, ENTRIES - COPIES, WORKERS);
        // SAFETY: a nop touches no memory.
        assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))), "nobody reaps");
        drop(sq);

        // Without threads, nothing is executed any more, and nobody waits for it.
        let (mut sq, cq) = build(0);
        std::mem::forget(cq);
        push_nops(&mut sq, 1, WORKERS);
        assert_eq!((sq.submit(), sq.in_flight()), (1, 1));
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "that it is harmless is what is tested")]
fn a_forgotten_drain_leaves_the_rest_and_gives_its_credits_back() {
    must_end(|| {
        let (mut sq, mut cq) = build(0);
        push_nops(&mut sq, ENTRIES, WORKERS);
        sq.submit();
        let mut drain = cq.drain();
        assert_eq!(drain.len(), ENTRIES);
        let taken: Vec<u64> = drain.by_ref().take(5).map(|cqe| cqe.user_data()).collect();
        assert_eq!((taken, drain.len()), ((0..5).collect(), ENTRIES - 5));
        std::mem::forget(drain);

        // The next call gives back what the forgotten drain owed.
        assert_eq!(cq.wait(0, None), Ok(ENTRIES - 5));
        push_nops(&mut sq, 5, WORKERS);
        // SAFETY: a nop touches no memory.
        assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))));
        let rest: Vec<u64> = cq.drain().map(|cqe| cqe.user_data()).collect();
        assert_eq!(rest, (5..ENTRIES as u64).collect::<Vec<_>>(), "no completion is lost, none comes twice");
        assert_eq!(sq.submit(), 5);
        assert_eq!(cq.drain().count(), 5);
        has_all_credits(&mut sq, &mut cq);
    });
}

#[test]
fn a_drain_taken_in_part_leaves_the_rest() {
    must_end(|| {
        for workers in [0, 2] {
            let (mut sq, mut cq) = build(workers);
            push_nops(&mut sq, ENTRIES, WORKERS);
            sq.submit();
            assert_eq!(cq.wait(ENTRIES, None), Ok(ENTRIES));
            let mut seen: Vec<u64> = Vec::new();
            for count in [1, 0, 7, 30] {
                let before = seen.len();
                seen.extend(cq.drain().take(count).map(|cqe| cqe.user_data()));
                assert_eq!(seen.len() - before, count);
                push_nops(&mut sq, count, WORKERS); // The credits are back as soon as the drain is gone.
                // SAFETY: a nop touches no memory.
                assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))));
            }
            seen.extend(cq.drain().map(|cqe| cqe.user_data()));
            seen.sort_unstable();
            assert_eq!(seen, (0..ENTRIES as u64).collect::<Vec<_>>());
            assert_eq!(sq.submit(), 38);
            assert_eq!(cq.wait(38, None), Ok(38));
            assert_eq!(cq.drain().count(), 38);
            has_all_credits(&mut sq, &mut cq);
        }
    });
}

#[test]
fn a_drain_yields_what_was_there_when_it_was_asked() {
    must_end(|| {
        let (mut sq, mut cq) = build(2);
        push_nops(&mut sq, 3, WORKERS);
        sq.submit();
        assert_eq!(cq.wait(3, None), Ok(3));
        let mut drain = cq.drain();
        assert_eq!(drain.size_hint(), (3, Some(3)));
        assert!(drain.next().is_some());
        push_nops(&mut sq, 2, WORKERS);
        sq.submit();
        while sq.in_flight() > 0 {
            thread::yield_now();
        }
        assert_eq!(drain.len(), 2);
        assert_eq!(drain.by_ref().count(), 2, "those that came later are for the next drain");
        drop(drain);
        assert_eq!(cq.wait(2, None), Ok(2));
        assert_eq!(cq.drain().count(), 2);
    });
}

#[test]
fn shutdown_reports_what_is_in_flight_at_the_deadline() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Threads(2), Drive::Caller] {
            let mut buffer = vec![0_u8; 300];
            let (mut sq, mut cq, mover, hold) = build_held(QueuePair::builder().workers(1), drive);
            for chunk in buffer.chunks_mut(100) {
                // SAFETY: the buffer is touched again when the completions were reaped.
                unsafe { sq.push(Sqe::memset(chunk.as_mut_ptr(), 7, 100).on(mover)) }.expect("there is room");
            }
            push_nops(&mut sq, 4, WORKERS);
            assert_eq!(sq.submit(), 7);
            assert_eq!(cq.shutdown(Some(Duration::from_millis(1))), Ok(3), "{drive:?}");
            assert_eq!(cq.shutdown(Some(Duration::ZERO)), Ok(3), "{drive:?}");
            assert_eq!((sq.is_closed(), cq.in_flight(), sq.in_flight()), (true, 3, 3));
            assert_eq!(cq.drain().count(), 4, "what has ended can be reaped");

            hold.wait_for(3);
            hold.release(1);
            assert_eq!(cq.wait(1, None), Ok(1));
            assert_eq!(cq.shutdown(Some(Duration::from_millis(1))), Ok(2), "{drive:?}");
            hold.release(2);
            assert_eq!(cq.shutdown(None), Ok(0), "{drive:?}");
            assert_eq!(cq.drain().filter(|cqe| cqe.mover() == mover && cqe.status().is_success()).count(), 3);
            assert_eq!(buffer, [7; 300]);
        }
    });
}

#[test]
fn a_drop_waits_for_a_mover_that_holds() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let mut buffer = vec![0_u8; 4096];
            let (mut sq, cq, mover, hold) = build_held(QueuePair::builder().workers(0), drive);
            // SAFETY: the buffer is touched again when the completion queue's drop has returned.
            unsafe { sq.push(Sqe::memset(buffer.as_mut_ptr(), 9, 4096).on(mover)) }.expect("there is room");
            assert_eq!(sq.submit(), 1);
            let (dropped, drops) = mpsc::channel();
            let dropper = thread::spawn(move || {
                drop(cq);
                dropped.send(()).expect("the test listens");
            });
            hold.wait_for(1);
            while !sq.is_closed() {
                thread::yield_now();
            }
            let early = drops.recv_timeout(Duration::from_millis(20));
            assert_eq!(early, Err(RecvTimeoutError::Timeout), "it returned while the mover had the memory");
            assert_eq!(sq.in_flight(), 1);
            hold.release(1);
            drops.recv().expect("the drop returns");
            assert_eq!(buffer, [9; 4096]);
            dropper.join().expect("it did not panic");
        }
    });
}

#[test]
fn wait_returns_at_once_when_fewer_are_outstanding() {
    must_end(|| {
        for workers in [0, 2] {
            let (mut sq, mut cq) = build(workers);
            assert_eq!(cq.wait(1, None), Ok(0), "nothing is outstanding");
            push_nops(&mut sq, 2, WORKERS);
            assert_eq!(cq.wait(1, None), Ok(0), "staged is not outstanding");
            sq.submit();
            assert_eq!(cq.wait(2, None), Ok(2));
            assert_eq!(cq.wait(3, None), Ok(2), "two of three will never be three");
            assert_eq!(cq.wait(ENTRIES + 1, None), Ok(2), "more than the queue has entries");
            assert_eq!(cq.wait(usize::MAX, None), Ok(2));
            assert_eq!(cq.drain().count(), 2, "a wait takes none");
        }
    });
}

#[test]
fn wait_for_nothing_looks_and_returns() {
    must_end(|| {
        let (mut sq, mut cq, mover, hold) = build_held(QueuePair::builder().workers(1), Drive::Threads(1));
        push_nops(&mut sq, 1, mover);
        sq.submit();
        hold.wait_for(1);
        assert_eq!(cq.wait(0, None), Ok(0));
        assert_eq!(cq.wait(1, Some(Duration::ZERO)), Ok(0));
        assert_eq!(cq.wait(1, Some(Duration::from_nanos(1))), Ok(0));
        hold.release(1);
        assert_eq!(cq.wait(1, None), Ok(1));
        assert_eq!(cq.wait(0, None), Ok(1));
        assert_eq!(cq.wait(0, Some(Duration::ZERO)), Ok(1));
    });
}

#[test]
fn a_wait_that_times_out_has_waited() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let (mut sq, mut cq, mover, hold) = build_held(QueuePair::builder().workers(1), drive);
            push_nops(&mut sq, 2, mover);
            sq.submit();
            let (begin, timeout) = (Instant::now(), Duration::from_millis(20));
            assert_eq!(cq.wait(1, Some(timeout)), Ok(0), "{drive:?}");
            assert!(begin.elapsed() >= timeout, "{drive:?}: it gave up too early");
            hold.wait_for(2);
            hold.release(1);
            assert_eq!(cq.wait(1, None), Ok(1), "{drive:?}");
            let begin = Instant::now();
            assert_eq!(cq.wait(2, Some(timeout)), Ok(1), "{drive:?}: what is there is reported after a timeout too");
            assert!(begin.elapsed() >= timeout, "{drive:?}: it gave up too early");
            hold.release(1);
        }
    });
}

#[test]
fn huge_timeouts_are_none() {
    must_end(|| {
        for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 4), Duration::from_secs(1 << 40)] {
            for drive in [Drive::Threads(1), Drive::Caller] {
                let (mut sq, mut cq, mover, hold) = build_held(QueuePair::builder().workers(1), drive);
                assert_eq!(cq.wait(1, Some(timeout)), Ok(0));
                push_nops(&mut sq, 2, mover);
                sq.submit();
                hold.release(1);
                assert_eq!(cq.wait(1, Some(timeout)), Ok(1), "{drive:?} {timeout:?}");
                hold.release(1);
                assert_eq!(cq.shutdown(Some(timeout)), Ok(0), "{drive:?} {timeout:?}");
            }
        }
    });
}

#[test]
fn clones_submit_from_many_threads() {
    const EACH: u64 = 500;
    must_end(|| {
        for workers in [0, 2] {
            let (sq, mut cq) = build(workers);
            let submit = |index: u64, mut sq: SubmissionQueue| {
                move || {
                    let mut pushed = 0;
                    while pushed < EACH {
                        let sqe = Sqe::nop().user_data(index * EACH + pushed);
                        let sqe = if pushed % 5 == 0 { sqe.on(INLINE) } else { sqe };
                        // SAFETY: a nop touches no memory.
                        match unsafe { sq.push(sqe) } {
                            Ok(()) => pushed += 1,
                            Err(PushError::Full(_)) => thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                        if pushed % 3 == 0 || sq.staged() > 8 {
                            sq.submit();
                        }
                    }
                    // The rest goes with the drop.
                }
            };
            let threads: Vec<_> = (0..4).map(|index| thread::spawn(submit(index, sq.clone()))).collect();
            drop(sq);
            let mut seen = vec![false; 4 * usize::try_from(EACH).expect("small")];
            let mut count = 0;
            while count < seen.len() {
                if cq.wait(1, None) == Ok(0) {
                    thread::yield_now(); // Nothing is outstanding at the moment.
                }
                for cqe in cq.drain() {
                    let index = usize::try_from(cqe.user_data()).expect("an index was pushed");
                    assert!(!std::mem::replace(&mut seen[index], true), "operation {index} completed twice");
                    count += 1;
                }
            }
            for thread in threads {
                thread.join().expect("it did not panic");
            }
            assert_eq!((cq.in_flight(), cq.drain().count()), (0, 0));
        }
    });
}

#[test]
fn the_completion_queue_moves_between_threads() {
    must_end(|| {
        for workers in [0, 2] {
            let (mut sq, mut cq) = build(workers);
            for round in 0..8 {
                let mut copies = Copies::new();
                copies.push(&mut sq);
                sq.submit();
                if round == 7 {
                    // The last owner drops it, with everything in flight.
                    thread::spawn(move || drop(cq)).join().expect("it did not panic");
                    assert!(copies.are_done(), "workers: {workers}");
                    break;
                }
                let reap = move || {
                    assert_eq!(cq.wait(COPIES, None), Ok(COPIES));
                    assert_eq!(cq.drain().count(), COPIES);
                    cq
                };
                cq = thread::spawn(reap).join().expect("it did not panic");
                assert!(copies.are_done(), "workers: {workers}, round {round}");
            }
        }
    });
}

#[test]
fn an_armed_queue_ends_like_any_other() {
    must_end(|| {
        for workers in [0, 2] {
            let mut copies = Copies::new();
            let (mut sq, mut cq) = build(workers);
            assert_eq!(cq.arm(), Arm::Armed);
            let readable = cq.as_fd().try_clone_to_owned().expect("a descriptor can be doubled");
            copies.push(&mut sq);
            sq.submit();
            drop(cq);
            assert!(copies.are_done());
            drop(readable);
        }
    });
}
