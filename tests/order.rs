//! Goal: chains and barriers hold up nobody whom they do not order. Method: what stands beside a long chain is told
//! early, counted in completions and bytes; and a barrier is opened again and again in the moments in which a thread
//! calls the reaper for something else.
#![expect(unsafe_code, reason = "pushes are unsafe")]

#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::time::Duration;

use memring::mover::Capabilities;
use memring::queue::{Builder, CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{Opcode, Sqe, WORKERS};
use scripted::{promptly, scripted};
use watchdog::must_end;

/// As much as a driver claims before it looks around, and half of what is cut into parts, bytes.
const CHUNK: usize = 256 << 10;
const BESIDE: u64 = 1000;

fn pair(builder: Builder) -> (SubmissionQueue, CompletionQueue) {
    builder.entries(1024).build().expect("a queue").split()
}

/// Submits a chain of sets of one buffer, with a nop behind it that it does not order; then reaps until the nop is
/// told. How often `reap` was called, and how many members were told before.
fn members_before(
    (mut sq, mut cq): (SubmissionQueue, CompletionQueue),
    members: u64,
    mut reap: impl FnMut(&mut CompletionQueue) -> Vec<u64>,
) -> (usize, usize) {
    let mut buffer = vec![0_u8; CHUNK];
    for index in 0..members {
        let sqe = Sqe::memset(buffer.as_mut_ptr(), 1, CHUNK).user_data(index);
        // SAFETY: the buffer lives until the queue is dropped, below, and the chain uses it in order.
        unsafe { sq.push(if index + 1 < members { sqe.link() } else { sqe }) }.expect("there is room");
    }
    // SAFETY: a nop touches no memory.
    unsafe { sq.push(Sqe::nop().on(WORKERS).user_data(BESIDE)) }.expect("there is room");
    sq.submit();
    let (mut calls, mut told) = (0, 0);
    loop {
        calls += 1;
        for data in reap(&mut cq) {
            if data == BESIDE {
                drop(cq);
                return (calls, told);
            }
            told += 1;
        }
    }
}

fn drain(cq: &mut CompletionQueue) -> Vec<u64> {
    cq.drain().map(|cqe| cqe.user_data()).collect()
}

#[test]
fn a_long_chain_leaves_the_callers_lane_its_turns() {
    must_end(|| {
        let queue = pair(QueuePair::builder().workers(0).poll_budget(CHUNK));
        let (drains, _) = members_before(queue, 100, drain);
        assert!(drains < 5, "told in drain {drains}");
    });
}

#[test]
fn a_long_chain_leaves_a_workers_lane_its_turns() {
    must_end(|| {
        let (_, told) = members_before(pair(QueuePair::builder().workers(1)), 500, drain);
        assert!(told < 10, "told after {told} members");
    });
}

/// Thirty-two chains come to their long members at once: a waiting caller does not do them all before it looks at its
/// deadline.
#[test]
fn a_poll_of_successors_ends_when_its_bytes_are_spent() {
    const LEN: usize = 400 << 10;
    let mut buffer = vec![0_u8; LEN * 32];
    let (mut sq, mut cq) = pair(QueuePair::builder().workers(0));
    for piece in buffer.chunks_mut(LEN) {
        let batch = [Sqe::nop().on(WORKERS).link(), Sqe::memset(piece.as_mut_ptr(), 1, LEN)];
        // SAFETY: the buffer outlives the queue, and each piece has one operation.
        unsafe { sq.push_batch(&batch) }.expect("there is room");
    }
    sq.submit();
    assert_eq!(cq.drain().count(), 32, "the first members");
    cq.wait(32, Some(Duration::from_nanos(1))).expect("this process owns it");
    let bytes = cq.stats().mover(WORKERS).bytes;
    assert!(bytes <= 3 * LEN as u64, "{bytes} bytes at once");
}

/// A thread sends the second member of a chain to the caller's lane, and calls the caller. The caller may have done it
/// by then, so that the call comes when a barrier's time has come: the call must not take that for its own.
#[test]
fn a_call_to_the_reaper_leaves_the_barrier_to_who_opens_it() {
    let rounds = if std::env::var("MEMRING_STRESS").is_ok_and(|length| length == "full") { 500_000 } else { 20_000 };
    for arms in [false, true] {
        must_end(move || {
            let nops = Capabilities::new(&[Opcode::Nop]);
            let make = move || scripted(nops, promptly, |bell, deadline| bell.sleep(deadline));
            let builder = QueuePair::builder().entries(64).workers(0).spin(Duration::from_secs(1));
            let pair = builder.mover("mine", Drive::Threads(1), make).build().expect("a queue");
            let mine = pair.mover("mine").expect("it was just added");
            let (mut sq, mut cq) = pair.split();
            let batch = [Sqe::nop().on(mine).link(), Sqe::nop().on(WORKERS), Sqe::nop().on(WORKERS).drain()];
            for _ in 0..rounds {
                // SAFETY: nops touch no memory.
                unsafe { sq.push_batch(&batch) }.expect("there is room");
                sq.submit();
                let mut told = 0;
                while told < batch.len() {
                    if arms {
                        let _ = cq.arm();
                    }
                    told += cq.drain().count();
                }
            }
        });
    }
}
