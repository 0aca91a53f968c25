//! Goal: a task of tokio that awaits a completion queue misses nothing, leaves the runtime to the others, and may be
//! dropped at any point; a forked child can do no harm.
//!
//! Method: an `AsyncCompletionQueue` on runtimes of either kind. Where a moment matters, the test polls `ready` by
//! hand: once, so that it has armed and is about to sleep, and then it drops it, submits, or forks. Turns of other
//! tasks are counted. A wake that is lost makes a test hang, which `support/watchdog.rs` turns into a failure.
#![expect(unsafe_code, reason = "pushes entries")]

#[path = "support/child.rs"]
mod child;
#[path = "support/hold.rs"]
mod hold;
#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use memring::queue::{Arm, Drive, PushError, QueuePair, SubmissionQueue};
use memring::tokio::AsyncCompletionQueue;
use memring::{INLINE, MoverId, ROUTED, Sqe, WORKERS};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_local, yield_now};

use child::in_child;
use hold::Hold;
use random::{Random, seed};
use watchdog::must_end;

const ENTRIES: usize = 256;
const TOTAL: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const ROUNDS: u64 = 1000;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().expect("a runtime")
}

fn queue(workers: usize) -> (SubmissionQueue, AsyncCompletionQueue) {
    let (sq, cq) = QueuePair::builder().entries(ENTRIES).workers(workers).build().expect("a queue").split();
    (sq, AsyncCompletionQueue::new(cq).expect("a watched queue"))
}

fn submit_nop(sq: &mut SubmissionQueue, mover: MoverId) {
    // SAFETY: a nop touches no memory.
    unsafe { sq.push(Sqe::nop().on(mover)) }.expect("there is room");
    assert_eq!(sq.submit(), 1);
}

/// Whether a task was woken.
#[derive(Default)]
struct Alarm(Mutex<bool>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.0.lock().expect("nobody panics with it") = true;
    }
}

/// Polls `ready` once, and drops it. If it is pending it must wait for a wake, and not have asked for the next turn.
fn glance(cq: &mut AsyncCompletionQueue) -> Poll<io::Result<usize>> {
    let alarm = Arc::new(Alarm::default());
    let end = pin!(cq.ready()).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&alarm))));
    assert!(end.is_ready() || !*alarm.0.lock().expect("nobody panics with it"), "it spins");
    end
}

/// Submits `TOTAL` nops in batches of random size, from a thread of its own.
fn submit_all(mut sq: SubmissionQueue, mover: MoverId) {
    let mut random = Random::new(seed());
    let mut number = 0;
    while number < TOTAL {
        let most = 1 << random.below(9);
        let batch = (1 + random.below(most) as u64).min(TOTAL - number);
        let sqes: Vec<Sqe> = (number..number + batch).map(|number| Sqe::nop().user_data(number).on(mover)).collect();
        // SAFETY: nops touch no memory.
        while let Err(error) = unsafe { sq.push_batch(&sqes) } {
            assert!(matches!(error, PushError::Full(_)), "{error}");
            thread::yield_now();
        }
        number += sq.submit() as u64;
    }
}

/// Reaps `TOTAL` nops, each once.
async fn reap_all(mut cq: AsyncCompletionQueue) -> io::Result<u64> {
    let mut seen = vec![false; usize::try_from(TOTAL).expect("a table")];
    let mut left = TOTAL;
    while left > 0 {
        cq.ready().await?;
        for cqe in cq.drain() {
            let number = usize::try_from(cqe.user_data()).expect("an index");
            assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
            left -= 1;
        }
    }
    Ok(cq.get_mut().stats().eventfd_writes)
}

#[test]
fn a_task_misses_nothing() {
    for (workers, mover) in [(1, ROUTED), (0, WORKERS), (0, INLINE)] {
        for multi_threaded in [false, true] {
            let writes = must_end(move || {
                let runtime = if multi_threaded {
                    Builder::new_multi_thread().worker_threads(2).enable_io().build().expect("a runtime")
                } else {
                    runtime()
                };
                let (sq, cq) = {
                    let _context = runtime.enter();
                    queue(workers)
                };
                let submitter = thread::spawn(move || submit_all(sq, mover));
                let reaped = runtime.block_on(async { tokio::spawn(reap_all(cq)).await });
                submitter.join().expect("the submitter");
                reaped.expect("the task ends").expect("nothing fails")
            });
            assert!(writes > 0, "it never slept: this has tested nothing");
        }
    }
}

#[test]
fn a_ready_that_is_dropped_halfway_has_taken_nothing() {
    must_end(|| {
        for (workers, mover) in [(1, WORKERS), (0, WORKERS), (0, INLINE)] {
            runtime().block_on(async {
                let (mut sq, mut cq) = queue(workers);
                for round in 0..ROUNDS {
                    // Armed, and dropped before the wake; or when the wake has come, or both.
                    if round % 3 != 1 {
                        assert!(glance(&mut cq).is_pending(), "nothing was submitted");
                    }
                    submit_nop(&mut sq, mover);
                    if round % 3 != 0 {
                        drop(glance(&mut cq));
                    }
                    let mut reaped = 0;
                    while reaped == 0 {
                        cq.ready().await.expect("nothing fails");
                        reaped = cq.drain().count();
                    }
                    assert_eq!(reaped, 1);
                }
            });
        }
    });
}

#[test]
fn it_tells_how_many_are_ready_without_a_turn_of_the_others() {
    runtime().block_on(async {
        let (mut sq, mut cq) = queue(0);
        for _ in 0..3 {
            submit_nop(&mut sq, INLINE);
        }
        for _ in 0..2 {
            assert!(matches!(glance(&mut cq), Poll::Ready(Ok(3))), "nobody has drained yet");
        }
        submit_nop(&mut sq, WORKERS);
        assert_eq!(cq.drain().take(3).count(), 3);
        assert!(glance(&mut cq).is_pending(), "after a drain it is the others' turn");
        assert_eq!(cq.ready().await.expect("nothing fails"), 1);
        assert_eq!(cq.drain().count(), 1);
    });
}

/// Runs `body` beside a task that counts its turns.
fn beside_others(body: impl AsyncFnOnce(&Cell<u64>)) {
    LocalSet::new().block_on(&runtime(), async {
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        body(&turns).await;
    });
}

#[test]
fn the_others_have_a_turn_between_any_two_drains() {
    const LEN: usize = 1 << 20;
    const BUDGET: usize = 4096;
    beside_others(async |turns| {
        let mut buffer = vec![0_u8; LEN];
        let builder = QueuePair::builder().workers(0).poll_budget(BUDGET);
        let (mut sq, cq) = builder.build().expect("a queue").split();
        let mut cq = AsyncCompletionQueue::new(cq).expect("a watched queue");
        // SAFETY: the buffer outlives `cq`, and nobody looks at it before the completion was reaped.
        unsafe { sq.push(Sqe::memset(buffer.as_mut_ptr(), 7, LEN)) }.expect("there is room");
        sq.submit();
        let (mut drains, mut reaped) = (0, 0);
        while reaped == 0 {
            let before = turns.get();
            cq.ready().await.expect("nothing fails");
            assert!(drains == 0 || turns.get() > before, "two drains in one turn");
            reaped = cq.drain().count();
            drains += 1;
        }
        assert!(drains >= LEN / BUDGET, "{drains} drains");
        assert_eq!(buffer, vec![7; LEN]);
        assert_eq!(cq.get_mut().stats().eventfd_writes, 0);
    });
}

#[test]
fn what_must_be_polled_is_polled_between_turns_of_the_others() {
    beside_others(async |turns| {
        // Let go after the assertions, and at the latest before the queue is dropped.
        let hold = Hold::default();
        let pair = QueuePair::builder().mover("holder", Drive::Caller, hold.movers()).build().expect("a queue");
        let holder = pair.mover("holder").expect("it was added");
        let (mut sq, cq) = pair.split();
        let (mut cq, hold) = (AsyncCompletionQueue::new(cq).expect("a watched queue"), hold);
        submit_nop(&mut sq, holder);
        assert_eq!(cq.ready().await.expect("nothing fails"), 0);
        assert_eq!(cq.drain().count(), 0);
        hold.wait_for(1);
        for round in 0..100 {
            let before = turns.get();
            assert_eq!(cq.ready().await.expect("nothing fails"), 0);
            assert!(turns.get() > before, "whether it was drained or not");
            if round % 2 == 0 {
                assert_eq!(cq.drain().count(), 0);
            }
        }
        hold.release(1);
        let mut reaped = 0;
        while reaped == 0 {
            cq.ready().await.expect("nothing fails");
            reaped = cq.drain().count();
        }
        assert_eq!(cq.get_mut().arm(), Arm::Armed);
    });
}

#[test]
fn a_forked_child_is_refused_and_leaves_the_parent_its_wakes() {
    must_end(|| {
        for unwrapped in [false, true] {
            for workers in [0, 1] {
                runtime().block_on(async {
                    let (sq, cq) = queue(workers);
                    let mut cq = Some(cq);
                    assert!(glance(cq.as_mut().expect("it is there")).is_pending());
                    in_child(|| {
                        let mut cq = cq.take().expect("the parent has its own");
                        for _ in 0..2 {
                            let Poll::Ready(Err(error)) = glance(&mut cq) else {
                                panic!("a child has nothing to await")
                            };
                            assert_eq!(error.to_string(), "the queue belongs to the parent process");
                        }
                        assert_eq!(cq.drain().count(), 0);
                        if unwrapped { drop(cq.into_inner()) } else { drop(cq) }
                    });
                    let mut cq = cq.expect("the child had a copy");
                    for _ in 0..10 {
                        assert!(glance(&mut cq).is_pending());
                        let mut submitter = sq.clone();
                        let submitter = thread::spawn(move || submit_nop(&mut submitter, ROUTED));
                        let mut reaped = 0;
                        while reaped == 0 {
                            cq.ready().await.expect("nothing fails");
                            reaped = cq.drain().count();
                        }
                        submitter.join().expect("the submitter");
                    }
                });
            }
        }
    });
}

#[test]
fn a_queue_may_go_from_one_runtime_to_another() {
    must_end(|| {
        let (mut sq, mut cq) = QueuePair::builder().entries(ENTRIES).workers(1).build().expect("a queue").split();
        for _ in 0..3 {
            // Its descriptor is readable from the last wake; that must not be taken for one of now.
            cq = runtime().block_on(async {
                let mut cq = AsyncCompletionQueue::new(cq).expect("a watched queue");
                let fd = cq.get_mut().as_raw_fd();
                for _ in 0..10 {
                    assert!(glance(&mut cq).is_pending());
                    submit_nop(&mut sq, ROUTED);
                    assert_eq!(cq.ready().await.expect("nothing fails"), 1);
                    assert_eq!(cq.drain().count(), 1);
                }
                let cq = cq.into_inner();
                assert_eq!(cq.as_raw_fd(), fd);
                cq
            });
        }
    });
}

#[test]
fn it_fails_when_its_runtime_is_gone() {
    must_end(|| {
        let gone = runtime();
        let (mut sq, mut cq) = {
            let _context = gone.enter();
            queue(1)
        };
        drop(gone);
        runtime().block_on(async {
            assert!(cq.ready().await.is_err(), "nobody would tell of a wake");
            // What is there needs no wake.
            submit_nop(&mut sq, ROUTED);
            assert_eq!(cq.get_mut().wait(1, None), Ok(1));
            assert_eq!(cq.ready().await.expect("it does not sleep"), 1);
            assert_eq!(cq.drain().count(), 1);
        });
    });
}
