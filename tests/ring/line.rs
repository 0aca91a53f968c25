//! Who goes first when there is no room: first come, first served, and nobody is held up by somebody who has gone.

use std::sync::{Arc, Mutex};
use std::thread;

use futures_util::future::join_all;
use memring::queue::{Arm, Drive};
use memring::{OpError, Operation, Ring, State};

use crate::hold::Hold;
use crate::movers::{Gate, gated, held, watched};
use crate::setup::queued;
use crate::wakers::{Wakes, poll, poll_with, run};
use crate::watchdog::must_end;

#[test]
fn operations_begin_in_the_order_in_which_they_came() {
    must_end(|| {
        for (name, builder) in queued() {
            let (gate, record) = (Gate::default(), Arc::new(Mutex::new(Vec::new())));
            let (passed, pen) = (gate.clone(), Arc::clone(&record));
            let (ring, mover) = watched(builder().entries(3), Drive::Threads(1), move |sqe| {
                pen.lock().unwrap().push(sqe.len());
                passed.pass();
            });
            let mut sets: Vec<_> = (0..100).map(|at| ring.memset(vec![0; 1000 + at], 1).on(mover)).collect();
            assert!(sets.iter_mut().all(|set| poll(set).is_pending()));
            // Some go away, from the front, the middle and the end.
            let gone: Vec<_> = [99, 50, 49, 10, 3].map(|at| sets.remove(at)).into();
            drop(gone);
            gate.open();
            let ended = run(join_all(sets));
            assert!(ended.into_iter().all(|set| set.is_ok()), "{name}");
            let expected: Vec<u64> =
                (0..100).filter(|at| ![99, 50, 49, 10, 3].contains(at)).map(|at| 1000 + at).collect();
            assert_eq!(*record.lock().unwrap(), expected, "{name}");
        }
    });
}

/// Sixty-four tasks share four entries. One operation is let go at a time, and each task comes to its next one before
/// the next is let go: then they have their turns in a circle, however long they go on.
#[test]
fn nobody_starves() {
    const TASKS: usize = 64;
    const TURNS: usize = 10;
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(4), Drive::Threads(1));
            let turns = Arc::new(Mutex::new(Vec::new()));
            let task = |number: usize| {
                let (ring, turns) = (ring.clone(), Arc::clone(&turns));
                async move {
                    for _ in 0..TURNS {
                        ring.memset(vec![0; 100], 1).on(mover).await.unwrap();
                        turns.lock().unwrap().push(number);
                    }
                }
            };
            let mut tasks = join_all((0..TASKS).map(task));
            let (wakes, waker) = Wakes::new();
            for turn in 0..TASKS * TURNS {
                let mut seen = wakes.count();
                while poll_with(&mut tasks, &waker).is_pending() && turns.lock().unwrap().len() < turn {
                    seen = wakes.wait_for_more(seen);
                }
                hold.release(1);
            }
            run(tasks);
            let turns = std::mem::take(&mut *turns.lock().unwrap());
            assert_eq!(turns, (0..TASKS * TURNS).map(|turn| turn % TASKS).collect::<Vec<_>>(), "{name}");
        }
    });
}

/// The same at full speed: they only have to come to an end.
#[test]
fn many_tasks_share_few_entries() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().entries(4).build().unwrap();
            let task = |value: u8| {
                let ring = ring.clone();
                async move {
                    let mut page = vec![0; 2000];
                    for _ in 0..100 {
                        page = ring.memset(page, value).await.unwrap();
                    }
                    page == vec![value; 2000]
                }
            };
            assert!(run(join_all((0..64).map(task))).into_iter().all(|right| right), "{name}");
        }
    });
}

#[test]
fn who_does_not_wait_does_not_overtake() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(4).inline_max(512), Drive::Threads(1));
            let kept = [1, 2].map(|value| ring.memset(vec![0; 1000], value).on(mover).try_start().unwrap());
            hold.wait_for(2);
            // A chain of three waits for a third entry, and two are free.
            let chain = (0..3).fold(ring.batch::<_, Vec<u8>>(), |batch, value| batch.memset(vec![0; 1000], value));
            let mut chain = chain.linked().into_future();
            let (chained, waker) = Wakes::new();
            assert!(poll_with(&mut chain, &waker).is_pending());
            let seen = chained.count();
            for _ in 0..3 {
                let failed = ring.try_memset(vec![7; 1000], 1).unwrap_err();
                assert_eq!((failed.error, failed.buffers), (OpError::Full, vec![7; 1000]), "{name}");
            }
            let mut behind = ring.memset(vec![0; 1000], 5);
            assert!(poll(&mut behind).is_pending());
            assert_eq!(ring.block_on(ring.memset(vec![0; 8], 5)).unwrap().unwrap(), [5; 8], "it needs no room");
            hold.release(1);
            let _ = seen;
            let ended = run(async { (chain.await.unwrap().len(), behind.await.unwrap()) });
            assert_eq!(ended, (3, vec![5; 1000]), "{name}");
            hold.release(1);
            for (kept, value) in kept.into_iter().zip(1..) {
                assert_eq!(run(kept).unwrap(), [value; 1000]);
            }
        }
    });
}

/// What stands behind a chain that goes away has room now, and nothing that is in flight will say so.
#[test]
fn who_leaves_the_line_lets_the_next_one_go() {
    must_end(|| {
        for (name, builder) in queued() {
            for cancels in [false, true] {
                eprintln!("{name}, cancels: {cancels}");
                let (ring, mover, hold) = held(builder().entries(4), Drive::Threads(1));
                let kept = [1, 2].map(|value| ring.memset(vec![0; 1000], value).on(mover).try_start().unwrap());
                hold.wait_for(2);
                let chain = (0..3).fold(ring.batch::<_, Vec<u8>>(), |batch, value| batch.memset(vec![0; 1000], value));
                let mut chain = chain.linked().into_future();
                assert!(poll(&mut chain).is_pending());
                let mut behind = ring.memset(vec![0; 1000], 5);
                assert!(poll(&mut behind).is_pending());
                if cancels {
                    let failed = run(chain.cancel()).unwrap_err();
                    assert_eq!(failed.error, OpError::Cancelled);
                } else {
                    drop(chain);
                }
                assert_eq!(run(behind).unwrap(), [5; 1000]);
                hold.release(2);
                kept.into_iter().for_each(|kept| assert!(run(kept).is_ok()));
            }
        }
    });
}

#[test]
fn who_waits_and_is_never_polled_again_holds_nobody_up() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(1), Drive::Threads(1));
            let kept = ring.memset(vec![0; 1000], 1).on(mover).try_start().unwrap();
            let mut lazy = ring.memset(vec![0; 1000], 2);
            let mut next = ring.memset(vec![0; 1000], 3);
            assert!(poll(&mut lazy).is_pending() && poll(&mut next).is_pending());
            hold.wait_for(1);
            hold.release(1);
            assert_eq!(run(next).unwrap(), [3; 1000], "{name}");
            drop(kept);
            assert_eq!(lazy.state(), State::Running, "nobody has polled it");
            assert_eq!(run(lazy).unwrap(), [2; 1000]);
        }
    });
}

/// As before, in a ring that somebody has driven once and drives no more: he was no reactor.
#[test]
fn one_drive_makes_no_reactor() {
    must_end(|| {
        for (name, builder) in queued() {
            for arms in [false, true] {
                eprintln!("{name}, arms: {arms}");
                let (ring, mover, hold) = held(builder().entries(1), Drive::Threads(1));
                let _: bool = arms && ring.arm() == Arm::Armed;
                let _: usize = ring.drive(1);
                let kept = ring.memset(vec![0; 1000], 1).on(mover).try_start().unwrap();
                let mut lazy = ring.memset(vec![0; 1000], 2);
                let mut next = ring.memset(vec![0; 1000], 3);
                assert!(poll(&mut lazy).is_pending() && poll(&mut next).is_pending());
                hold.wait_for(1);
                hold.release(1);
                assert_eq!(run(next).unwrap(), [3; 1000], "{name}");
                drop((kept, lazy));
            }
        }
    });
}

/// Somebody drives once, just as a driver frees the room that another waits for, and then never again.
///
/// What he feeds from the line is for callers to do, and he does not come again. The one whose it is found nothing to
/// drive when he came, and sleeps: nobody tells him.
#[test]
fn who_passes_by_leaves_nobody_asleep() {
    must_end(|| {
        for (name, builder) in queued() {
            for polls in [false, true] {
                eprintln!("{name}, polls: {polls}");
                let (ring, mover, hold) = held(builder().entries(1), Drive::Threads(1));
                for round in 0..300 {
                    let kept = ring.memset(vec![0; 1000], 1).on(mover);
                    let mut kept = Some(kept.try_start().unwrap_or_else(|failed| panic!("{name}: {}", failed.error)));
                    let mut next = ring.memset(vec![0; 1000], 3);
                    let (wakes, waker) = Wakes::new();
                    hold.wait_for(1);
                    // Until it is told of nothing any more.
                    let mut seen = usize::MAX;
                    while seen != wakes.count() {
                        seen = wakes.count();
                        assert!(poll_with(&mut next, &waker).is_pending());
                    }
                    let passer = std::thread::spawn({
                        let (ring, mut kept) = (ring.clone(), if polls { kept.take() } else { None });
                        move || {
                            for _ in 0..round {
                                match &mut kept {
                                    Some(kept) => _ = poll(kept).is_ready(),
                                    None => _ = ring.drive(1),
                                }
                            }
                        }
                    });
                    hold.release(1);
                    passer.join().unwrap();
                    loop {
                        seen = wakes.wait_for_more(seen);
                        if let std::task::Poll::Ready(set) = poll_with(&mut next, &waker) {
                            assert_eq!(set.unwrap(), [3; 1000], "{name}");
                            break;
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn who_has_slept_in_line_keeps_no_waker() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(1), Drive::Threads(1));
            let kept = ring.memset(vec![0; 1000], 1).on(mover).try_start().unwrap();
            hold.wait_for(1);
            let (wakes, waker) = Wakes::new();
            let mut sleepers: Vec<_> = (0..10).map(|_| ring.memset(vec![0; 1000], 3)).collect();
            for sleeper in &mut sleepers {
                let mut seen = usize::MAX;
                while seen != wakes.count() {
                    seen = wakes.count();
                    assert!(poll_with(sleeper, &waker).is_pending());
                }
            }
            assert!(Arc::strong_count(&wakes) > 2, "{name}");
            sleepers.truncate(5);
            hold.release(1);
            sleepers.into_iter().for_each(|sleeper| _ = run(sleeper).unwrap());
            run(kept).unwrap();
            run(ring.shutdown());
            drop(waker);
            // Whoever woke the last one may be about to drop what it woke it by.
            while Arc::strong_count(&wakes) > 1 {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn what_waits_is_cancelled_without_a_turn() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(2), Drive::Threads(1));
            let kept = [1, 2].map(|value| ring.memset(vec![0; 1000], value).on(mover).try_start().unwrap());
            hold.wait_for(2);
            let waiting: Vec<_> = (0..100)
                .map(|_| {
                    let mut set = ring.memset(vec![9; 1000], 3);
                    assert!(poll(&mut set).is_pending());
                    set.cancel()
                })
                .collect();
            for set in waiting {
                let failed = run(set).unwrap_err();
                assert_eq!((failed.error, failed.buffers), (OpError::Cancelled, vec![9; 1000]), "{name}");
            }
            hold.release(2);
            assert!(kept.into_iter().all(|kept| run(kept).is_ok()));
        }
    });
}

/// More cancels than one look can carry come while somebody else has the role.
#[test]
fn no_cancel_is_forgotten() {
    const WAITING: usize = 200;
    must_end(|| {
        let hold = Hold::default();
        let builder = Ring::builder().entries(3).workers(1).mover("holder", Drive::Threads(1), hold.movers());
        let (ring, gated, gate) = gated(builder, Drive::Caller);
        let holder = ring.mover("holder").unwrap();
        let kept = [1, 2, 3].map(|value| ring.memset(vec![0; 1000], value).on(holder).try_start().unwrap());
        hold.wait_for(3);
        let (wakes, waker) = Wakes::new();
        let mut first = ring.memset(vec![0; 1000], 1).on(gated);
        assert!(poll(&mut first).is_pending());
        let mut waiting: Vec<_> = (0..WAITING).map(|_| ring.memset(vec![9; 1000], 3).on(holder)).collect();
        assert!(waiting.iter_mut().all(|set| poll_with(set, &waker).is_pending()));
        // One is let go, and whoever reaps it goes on with the first in line, and stands before the gate, with the
        // role.
        hold.release(1);
        gate.wait();
        let waiting: Vec<_> = waiting.into_iter().map(Operation::cancel).collect();
        gate.open();
        let mut seen = 0;
        while seen < WAITING - 1 {
            seen = wakes.wait_for_more(seen);
        }
        // (One may have begun with the entry that came free.)
        hold.release(3);
        let ended: Vec<_> = waiting.into_iter().map(|set| run(set).map_err(|failed| failed.error)).collect();
        let cancelled = ended.iter().filter(|end| **end == Err(OpError::Cancelled)).count();
        assert!(cancelled >= WAITING - 1);
        assert!(kept.into_iter().all(|kept| run(kept).is_ok()) && run(first).is_ok());
    });
}

#[test]
fn what_is_larger_than_the_queue_gets_on_beside_those_who_wait() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().entries(4).build().unwrap();
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    let (mut dst, src) = (vec![0; 600 * 1000], vec![7; 600 * 1000]);
                    let pieces = dst.chunks_mut(1000).zip(src.chunks(1000));
                    ring.scope(|s| pieces.for_each(|(to, from)| s.memcpy(to, from))).unwrap();
                    assert!(dst == src, "{name}");
                });
                threads.spawn(|| {
                    let batch = (0..500).fold(ring.batch::<_, Vec<u8>>(), |batch, _| batch.memset(vec![0; 1000], 5));
                    let done = run(batch.into_future()).unwrap();
                    assert!(done.len() == 500 && done.iter().all(|(page, _)| page == &[5; 1000]), "{name}");
                });
                threads.spawn(|| {
                    let task = || async {
                        for value in 0..50 {
                            assert_eq!(ring.memset(vec![0; 1000], value).await.unwrap(), [value; 1000]);
                        }
                    };
                    run(join_all((0..8).map(|_| task())));
                });
            });
        }
    });
}
