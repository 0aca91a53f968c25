//! The end that is asked for: nothing new begins, what is under way ends, and then it is said.
#![expect(unsafe_code, reason = "a waker whose clone does something")]

use std::sync::Mutex;
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};

use memring::queue::Drive;
use memring::{OpError, Ring, Status};

use crate::movers::held;
use crate::setup::{on_each, queued};
use crate::wakers::{Wakes, poll, poll_with, run};
use crate::watchdog::must_end;

#[test]
fn nothing_begins_any_more() {
    must_end(|| {
        on_each(|ring, name| {
            run(ring.shutdown());
            for len in [0, 8, 600, 100_000] {
                let failed = run(ring.memset(vec![7; len], 1)).unwrap_err();
                assert_eq!((failed.error, failed.buffers), (OpError::ShutDown, vec![7; len]), "{name}");
                let failed = ring.try_memcpy(vec![7; len], vec![8; len]).unwrap_err();
                assert_eq!((failed.error.status(), failed.buffers.1), (Status::SHUT_DOWN, vec![8; len]));
            }
            let batch = ring.batch::<_, Vec<u8>>().memset(vec![7; 600], 1).memset(vec![7; 600], 1);
            let failed = run(batch.into_future()).unwrap_err();
            assert_eq!((failed.error, failed.buffers.len()), (OpError::ShutDown, 2), "{name}");
            let mut refused = [ring.memset(vec![7; 600], 1), ring.memset(vec![7; 1], 1)];
            ring.wait_all(&mut refused).unwrap();
            run(ring.shutdown());
            assert_eq!(ring.block_on(ring.shutdown()), Ok(()), "again");
        });
    });
}

#[test]
fn it_completes_when_what_is_in_flight_has_ended() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            for (name, builder) in queued() {
                eprintln!("{name}, {drive:?}");
                let (ring, mover, hold) = held(builder().entries(4), drive);
                let mut kept: Vec<_> = (0..4).map(|value| ring.memset(vec![0; 600], value).on(mover)).collect();
                let mut waiting: Vec<_> = (0..40).map(|_| ring.memset(vec![7; 600], 1).on(mover)).collect();
                let (refused, waker) = Wakes::new();
                assert!(kept.iter_mut().all(|set| poll(set).is_pending()));
                assert!(waiting.iter_mut().all(|set| poll_with(set, &waker).is_pending()));
                hold.wait_for(4);
                let mut ends: Vec<_> = (0..3).map(|_| (ring.shutdown(), Wakes::new())).collect();
                // One poll closes it, and those who wait are woken, without another look.
                let (end, (_, waker)) = &mut ends[0];
                assert!(poll_with(end, waker).is_pending());
                while refused.count() < 40 {
                    refused.wait_for_more(refused.count());
                }
                for (end, (_, waker)) in &mut ends {
                    assert!(poll_with(end, waker).is_pending());
                    assert!(poll_with(end, waker).is_pending());
                }
                for set in waiting {
                    let failed = run(set).unwrap_err();
                    assert_eq!((failed.error, failed.buffers), (OpError::ShutDown, vec![7; 600]), "{name}");
                }
                assert_eq!(ring.try_memset(vec![7; 600], 1).unwrap_err().error, OpError::ShutDown);
                assert!(poll(&mut ends[0].0).is_pending());
                hold.release(4);
                for (mut end, (wakes, waker)) in ends {
                    let mut seen = 0;
                    while poll_with(&mut end, &waker).is_pending() {
                        seen = wakes.wait_for_more(seen);
                    }
                }
                assert!(kept.into_iter().zip(0..).all(|(kept, value)| run(kept).unwrap() == [value; 600]), "{name}");
            }
        }
    });
}

#[test]
fn who_does_not_wait_for_the_end_has_closed_the_ring_all_the_same() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder(), Drive::Threads(1));
            let kept = ring.memset(vec![0; 600], 1).on(mover).try_start().unwrap();
            let never_polled = ring.shutdown();
            drop(never_polled);
            assert!(run(ring.memset(vec![0; 600], 1)).is_ok(), "{name}: a future does nothing until it is polled");
            let mut end = ring.shutdown();
            assert!(poll(&mut end).is_pending());
            drop(end);
            // Who has the role at this moment closes it, if that is somebody else.
            let refused = std::iter::repeat_with(|| run(ring.memset(vec![0; 600], 1))).find_map(Result::err);
            assert_eq!(refused.map(|failed| failed.error), Some(OpError::ShutDown), "{name}");
            hold.wait_for(1);
            hold.release(1);
            assert_eq!(run(kept).unwrap(), [1; 600]);
        }
    });
}

#[test]
fn shutting_down_in_the_middle_of_everything() {
    must_end(|| {
        on_each(|ring, name| {
            let end = |index: usize| {
                let set = run(ring.memset(vec![0; 700 + index * 100], 1));
                set.map(drop).map_err(|failed| failed.error)
            };
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        let first = (0..).map(|index| end(index % 50)).find_map(Result::err);
                        assert_eq!(first, Some(OpError::ShutDown), "{name}");
                    });
                }
                (0..50).for_each(|_| std::thread::yield_now());
                run(ring.shutdown());
            });
        });
    });
}

/// A waker is foreign code from its clone on.
#[test]
fn a_waker_that_uses_the_ring_when_it_is_cloned() {
    static RING: Mutex<Option<Ring>> = Mutex::new(None);
    const VTABLE: RawWakerVTable = RawWakerVTable::new(clone, touch, touch, |_| ());
    fn touch(_: *const ()) {
        let ring = RING.lock().unwrap().clone();
        if let Some(ring) = ring {
            ring.drive(1);
            let mut end = ring.shutdown();
            let _: Poll<()> = poll(&mut end);
        }
    }
    fn clone(data: *const ()) -> RawWaker {
        touch(data);
        RawWaker::new(data, &VTABLE)
    }
    must_end(|| {
        let (ring, mover, hold) = held(Ring::builder().workers(1), Drive::Threads(1));
        let kept = ring.memset(vec![0; 600], 1).on(mover).try_start().unwrap();
        *RING.lock().unwrap() = Some(ring.clone());
        // SAFETY: the functions take no notice of the data.
        let waker = unsafe { Waker::new(std::ptr::null(), &VTABLE) };
        let mut end = ring.shutdown();
        assert!(poll_with(&mut end, &waker).is_pending());
        hold.wait_for(1);
        hold.release(1);
        run(&mut end);
        *RING.lock().unwrap() = None;
        assert_eq!(run(kept).unwrap(), [1; 600]);
    });
}
