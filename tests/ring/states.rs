//! The life of an operation: from state to state, by every way there is, and what a poll does in each.

use std::task::Poll;

use memring::queue::Drive;
use memring::{OpError, Ring, State, Status};

use crate::movers::held;
use crate::setup::{on_each, queued};
use crate::wakers::{Wakes, poll, poll_with, run};
use crate::watchdog::must_end;

const HELD: [Drive; 2] = [Drive::Threads(1), Drive::Caller];

#[test]
fn nothing_is_done_before_the_first_poll() {
    must_end(|| {
        on_each(|ring, _| {
            let set = ring.memset(vec![0; 4096], 1);
            assert_eq!(set.state(), State::Idle);
            drop(set);
            ring.drive(usize::MAX);
            assert!(ring.stats().drivers.iter().all(|driver| driver.operations == 0));
            let mut idle = ring.memset(vec![0; 4096], 1).into_result().expect_err("it has not begun");
            assert_eq!(idle.state(), State::Idle);
            assert_eq!(run(&mut idle).unwrap(), [1; 4096]);
        });
    });
}

#[test]
fn an_operation_runs_while_its_mover_has_it() {
    must_end(|| {
        for drive in HELD {
            let (ring, mover, hold) = held(Ring::builder().workers(1), drive);
            let mut polled = ring.memset(vec![0; 100], 1).on(mover);
            let (wakes, waker) = Wakes::new();
            assert!(poll_with(&mut polled, &waker).is_pending());
            assert_eq!(polled.state(), State::Running);
            let started = ring.memset(vec![0; 100], 2).on(mover).try_start().unwrap();
            assert_eq!(started.state(), State::Running);
            let started = started.try_start().unwrap();
            let started = started.into_result().expect_err("a mover has it");
            assert_eq!(started.state(), State::Running);

            if drive == Drive::Caller {
                ring.drive(1);
            }
            hold.wait_for(2);
            hold.release(2);
            if drive == Drive::Caller {
                ring.drive(1);
            }
            wakes.wait_for_more(0);
            assert_eq!(polled.state(), State::Running, "nobody has looked");
            assert_eq!(poll(&mut polled).map(Result::unwrap), Poll::Ready(vec![1; 100]));
            assert_eq!(polled.state(), State::Complete);
            assert_eq!(run(started).unwrap(), [2; 100]);
        }
    });
}

#[test]
fn a_poll_after_the_end_stays_pending_and_wakes_nobody() {
    must_end(|| {
        on_each(|ring, name| {
            let mut set = ring.memset(vec![0; 4096], 1);
            assert_eq!(run(&mut set).unwrap(), [1; 4096]);
            let (wakes, waker) = Wakes::new();
            for _ in 0..3 {
                assert!(poll_with(&mut set, &waker).is_pending());
            }
            assert_eq!((set.state(), wakes.count()), (State::Complete, 0), "{name}");
            ring.wait_all(std::slice::from_mut(&mut set)).expect("what has given its output is waited for by nobody");
            let set = set.try_start().expect("it has begun");
            let mut set = set.cancel();
            assert!(poll(&mut set).is_pending());
            assert!(set.into_result().is_err(), "its result was taken");
        });
    });
}

#[test]
fn what_is_small_is_done_in_its_first_poll() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().inline_max(512).build().unwrap();
            assert_eq!(
                poll(&mut ring.memset(vec![0; 512], 1)).map(Result::unwrap),
                Poll::Ready(vec![1; 512]),
                "{name}"
            );
            let started = ring.memset(vec![0; 512], 1).try_start().unwrap();
            assert_eq!(started.state(), State::Complete);
            assert_eq!(started.into_result().unwrap().unwrap(), [1; 512]);
            let empty = ring.batch::<Vec<u8>, Vec<u8>>().into_future().try_start().unwrap();
            assert_eq!((empty.state(), empty.into_result().unwrap().unwrap()), (State::Complete, Vec::new()));
        }
    });
}

#[test]
fn an_idle_operation_is_cancelled_at_once() {
    must_end(|| {
        on_each(|ring, _| {
            let mut cancelled = ring.memset(vec![9; 4096], 1).cancel();
            assert_eq!(cancelled.state(), State::Complete);
            let Poll::Ready(Err(failed)) = poll(&mut cancelled) else { panic!("it is complete") };
            assert_eq!(failed.error, OpError::Cancelled);
            assert_eq!(failed.buffers, [9; 4096]);
            let refused = ring.memset(vec![9; 4096], 1).cancel().cancel().try_start().unwrap();
            assert_eq!(refused.into_result().unwrap().unwrap_err().error.status(), Status::CANCELLED);
        });
    });
}

#[test]
fn what_a_mover_has_runs_to_its_end_when_it_is_cancelled() {
    must_end(|| {
        for drive in HELD {
            let (ring, mover, hold) = held(Ring::builder().workers(1), drive);
            let mut kept = ring.memset(vec![0; 100], 1).on(mover).try_start().unwrap();
            if drive == Drive::Caller {
                ring.drive(1);
            }
            hold.wait_for(1);
            kept = kept.cancel();
            assert_eq!(kept.state(), State::Running);
            let (wakes, waker) = Wakes::new();
            assert!(poll_with(&mut kept, &waker).is_pending());
            kept = kept.cancel();
            hold.release(1);
            drop(wakes);
            assert_eq!(run(kept).unwrap(), [1; 100]);
        }
    });
}

#[test]
fn what_nobody_has_begun_is_cancelled() {
    must_end(|| {
        for (name, builder) in [
            ("in the lane", (|| Ring::builder().workers(0)) as fn() -> memring::RingBuilder),
            ("in the lane, in parts", || Ring::builder().workers(0).poll_budget(4096)),
        ] {
            let ring = builder().entries(64).build().unwrap();
            let begun: Vec<_> = (0..64).map(|_| ring.memset(vec![9; 4096], 1).try_start().unwrap()).collect();
            for (cancelled, at) in begun.into_iter().rev().map(memring::Operation::cancel).zip(0..) {
                match run(cancelled) {
                    Ok(done) => assert_eq!(done, [1; 4096]),
                    Err(failed) => {
                        assert_eq!((failed.error, failed.buffers), (OpError::Cancelled, vec![9; 4096]));
                        continue;
                    }
                }
                assert!(at > 0, "{name}: the last one had not begun");
            }
            // Every place and every credit is back.
            let mut again: Vec<_> = (0..64).map(|_| ring.memset(vec![9; 4096], 1).try_start().unwrap()).collect();
            ring.wait_all(&mut again).unwrap();
        }
    });
}

#[test]
fn an_end_that_nobody_looks_at_costs_no_credit() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().entries(4).build().unwrap();
            // Ten times as many as there is room for: each ends, and none is looked at.
            let start = |value| loop {
                match ring.try_memset(vec![0; 4096], value) {
                    Ok(set) => return set,
                    Err(failed) => assert_eq!(failed.error, OpError::Full, "{name}"),
                }
                ring.drive(1 << 20);
                std::thread::yield_now();
            };
            let unseen: Vec<_> = (0..40).map(start).collect();
            for (set, value) in unseen.into_iter().zip(0..) {
                assert_eq!(set.state(), State::Running, "nobody has looked");
                assert_eq!(run(set).unwrap(), vec![value; 4096], "{name}");
            }
        }
    });
}
