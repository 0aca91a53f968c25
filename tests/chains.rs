//! Goal: what is executed inline in a chain is in the books, and barriers that one end opens after the other need no
//! stack for each.
//!
//! Method: chains whose inline members are led by each kind of mover, judged by the statistics; then two threads with
//! small stacks submit thousands of inline barriers, and each goes on with what the other has submitted. (The order
//! itself is judged by `programs.rs`.)
#![expect(unsafe_code, reason = "pushes entries")]

#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::Barrier;
use std::thread;

use memring::queue::{CompletionQueue, QueuePair, SubmissionQueue};
use memring::{INLINE, Sqe, WORKERS};

use watchdog::must_end;

const BYTES: usize = 64;

/// Submits entries that have nothing but their places in these bytes, and waits for all.
fn run(sq: &mut SubmissionQueue, cq: &mut CompletionQueue, sqes: &[Sqe]) {
    // SAFETY: each entry writes bytes of its own, which nobody touches until all were reaped, below.
    unsafe { sq.push_batch(sqes) }.expect("there is room");
    assert_eq!(sq.submit(), sqes.len());
    assert_eq!(cq.wait(sqes.len(), None), Ok(sqes.len()));
    assert_eq!(cq.drain().filter(|cqe| cqe.status().is_success()).count(), sqes.len());
}

/// What makes an entry the head of a chain.
type Lead = fn(Sqe) -> Sqe;

const LEADS: [Lead; 4] = [Sqe::link, Sqe::hard_link, |sqe| sqe.link().drain(), |sqe| sqe.hard_link().drain()];

#[test]
fn bytes_of_inline_members_are_counted() {
    let mut bytes = [0; 3 * BYTES];
    let at = bytes.as_mut_ptr();
    for workers in [0, 1] {
        for first in [INLINE, WORKERS] {
            for (count, lead) in [2, 3].into_iter().flat_map(|count| LEADS.map(|lead| (count, lead))) {
                let (mut sq, mut cq) = QueuePair::builder().workers(workers).build().expect("a queue").split();
                let set = |number: usize| Sqe::memset(at.wrapping_add(number * BYTES), 7, BYTES);
                let mut chain: Vec<Sqe> = (0..count).map(|number| set(number).on(INLINE).link()).collect();
                chain[0] = lead(set(0)).on(first);
                run(&mut sq, &mut cq, &chain);
                let inline = count - usize::from(first == WORKERS);
                for (mover, operations) in [(INLINE, inline), (WORKERS, count - inline)] {
                    let total = cq.stats().mover(mover);
                    let expected = (operations as u64, (operations * BYTES) as u64);
                    assert_eq!((total.operations, total.bytes), expected, "{mover:?}: {:?}", cq.stats());
                }
            }
        }
    }
    assert_eq!(bytes, [7; 3 * BYTES]);
}

/// Bytes of a submitter's stack. A frame for each of two dozen barriers would not fit.
const STACK: usize = 24 << 10;
/// Of each submitter: barriers that take a while, by bytes and number, and those that come meanwhile.
const SLOW: (usize, usize) = (4 << 20, 200);
const QUICK: usize = 500;

/// Submits slow barriers together, and quick ones one by one.
fn submit_barriers(mut sq: SubmissionQueue, slow: &[Sqe], begin: &Barrier) {
    begin.wait();
    // SAFETY: barriers take turns with their bytes, which nobody else touches until all have ended.
    unsafe { sq.push_batch(slow) }.expect("there is room for all");
    assert_eq!(sq.submit(), slow.len());
    for _ in 0..QUICK {
        // SAFETY: a nop touches no memory.
        unsafe { sq.push(Sqe::nop().on(INLINE).drain()) }.expect("there is room for all");
        assert_eq!(sq.submit(), 1);
        // Not at the moment when the slow one ends: this thread would go on in the other's place.
        (0..10_000).for_each(|_| std::hint::spin_loop());
    }
}

/// While one submitter goes from barrier to barrier, the other asks again and again to be told when the one that runs
/// has ended. An overflow ends the process.
#[test]
fn barriers_of_two_submitters_need_no_stack() {
    const ALL: usize = 2 * (SLOW.1 + QUICK);
    must_end(|| {
        let mut bytes = vec![0; SLOW.0];
        let slow = vec![Sqe::memset(bytes.as_mut_ptr(), 7, SLOW.0).on(INLINE).drain(); SLOW.1];
        let (sq, mut cq) = QueuePair::builder().entries(ALL).workers(0).build().expect("a queue").split();
        let begin = Barrier::new(2);
        thread::scope(|scope| {
            for sq in [sq.clone(), sq] {
                let thread = thread::Builder::new().stack_size(STACK);
                thread.spawn_scoped(scope, || submit_barriers(sq, &slow, &begin)).expect("a thread");
            }
        });
        assert_eq!(cq.drain().filter(|cqe| cqe.status().is_success()).count(), ALL);
        assert_eq!(cq.stats().mover(INLINE).operations, ALL as u64);
        assert!(bytes.iter().all(|&byte| byte == 7));
    });
}
