//! Blocking: several threads at once, foreign futures, heirs of the role, and where blocking is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_util::future::{join, join_all, poll_fn, select};
use memring::queue::Drive;
use memring::{BlockError, Operation, Ring, ScopeError, State};

use crate::canary::Ledger;
use crate::movers::{gated, held, watched};
use crate::setup::{on_each, queued};
use crate::wakers::{Wakes, poll, poll_with, run};
use crate::watchdog::must_end;

/// A future that somebody else completes: it knows nothing of rings.
#[derive(Clone, Default)]
struct Flag(Arc<(Mutex<Raised>, Condvar)>);

/// Whether it is, and who waits for it.
type Raised = (bool, Option<Waker>);

impl Flag {
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.0.lock().unwrap();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        self.0.1.notify_all();
        Poll::Pending
    }

    async fn raised(&self) {
        poll_fn(|context| self.poll(context)).await;
    }

    fn raise(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.0 = true;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }

    /// Waits until somebody has been told to wait.
    fn is_awaited(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |state| state.1.is_none()).unwrap());
    }
}

#[test]
fn several_threads_block_at_once() {
    must_end(|| {
        on_each(|ring, name| {
            thread::scope(|threads| {
                for thread in 0..6 {
                    threads.spawn(move || {
                        for round in 0..60 {
                            let len = [600, 5000, 60_000][round % 3];
                            let set = ring.block_on(ring.memset(vec![0; len], thread)).unwrap().unwrap();
                            assert!(set == vec![thread; len], "{name}");
                            let mut two = [ring.memset(vec![0; len], 1), ring.memset(vec![0; len], 2)];
                            ring.wait_all(&mut two).unwrap();
                            assert!(two.iter().all(|set| set.state() == State::Complete));
                        }
                    });
                }
            });
        });
    });
}

#[test]
fn foreign_futures_are_awaited_while_others_reap() {
    must_end(|| {
        on_each(|ring, name| {
            for _ in 0..50 {
                let (there, back) = (Flag::default(), Flag::default());
                thread::scope(|threads| {
                    let (there, back) = (&there, &back);
                    threads.spawn(move || {
                        ring.block_on(there.raised()).unwrap();
                        back.raise();
                    });
                    threads.spawn(move || assert!(ring.block_on(ring.memset(vec![0; 9000], 1)).unwrap().is_ok()));
                    there.raise();
                    ring.block_on(back.raised()).unwrap();
                });
            }
            assert_eq!(ring.block_on(async { name.len() }), Ok(name.len()), "ready at once");
        });
    });
}

#[test]
fn blocking_inside_blocking() {
    must_end(|| {
        on_each(|ring, _| {
            let set = ring.block_on(async {
                let page = ring.memset(vec![0; 9000], 1).await.unwrap();
                let (mut copy, other) = ring.block_on(ring.memcpy(vec![0; 9000], page)).unwrap().unwrap();
                ring.scope(|s| s.memcpy(&mut copy[..100], &other[100..200])).unwrap();
                ring.memset(copy, 3).await.unwrap()
            });
            assert_eq!(set, Ok(vec![3; 9000]));
        });
    });
}

#[test]
fn operations_of_two_rings_are_awaited_by_either() {
    must_end(|| {
        on_each(|ring, name| {
            for (_, builder) in queued() {
                let other = builder().build().unwrap();
                let both = join(ring.memset(vec![0; 9000], 1), other.memset(vec![0; 9000], 2));
                let (one, two) = ring.block_on(both).unwrap();
                assert_eq!((one.unwrap(), two.unwrap()), (vec![1; 9000], vec![2; 9000]), "{name}");
                let mut sets = [other.memset(vec![0; 9000], 1), ring.memset(vec![0; 9000], 2)];
                ring.wait_all(&mut sets).unwrap();
            }
        });
    });
}

#[test]
fn a_future_that_panics_takes_nothing_with_it() {
    must_end(|| {
        on_each(|ring, _| {
            for _ in 0..10 {
                let panics = async {
                    ring.memset(vec![0; 9000], 1).await.unwrap();
                    panic!("as the test wants it");
                };
                assert!(catch_unwind(AssertUnwindSafe(|| ring.block_on(panics))).is_err());
                assert_eq!(ring.block_on(ring.memset(vec![0; 9000], 1)).unwrap().unwrap(), [1; 9000]);
            }
        });
    });
}

/// Everything that blocks, tried where it must not.
fn tries(ring: &Ring) -> Vec<BlockError> {
    let mut bytes = [0; 600];
    let mut sets = [ring.memset(vec![0; 600], 1)];
    let scope = match ring.scope(|s| s.memset(&mut bytes, 1)) {
        Err(ScopeError::Block(error)) => Err(error),
        other => Ok(other),
    };
    let polled = Mutex::new(false);
    let future = async { *polled.lock().unwrap() = true };
    let errors = [ring.block_on(future).err(), scope.err(), ring.wait_all(&mut sets).err()];
    assert!(!*polled.lock().unwrap() || errors[0].is_none(), "refused before anything is polled");
    assert!(sets[0].state() == State::Idle || errors[2].is_none(), "refused before anything is begun");
    errors.into_iter().flatten().collect()
}

#[test]
fn who_is_woken_on_a_drivers_thread_must_not_block() {
    struct Tries(Mutex<Option<(Ring, mpsc::Sender<Vec<BlockError>>)>>);
    impl std::task::Wake for Tries {
        fn wake(self: Arc<Self>) {
            let taken = self.0.lock().unwrap().take();
            if let Some((ring, sender)) = taken {
                sender.send(tries(&ring)).unwrap();
            }
        }
    }
    must_end(|| {
        for (workers, has_thread, expected) in [
            (1, false, vec![BlockError::WouldDeadlock; 3]),
            // That thread drives nothing.
            (1, true, Vec::new()),
            (0, true, Vec::new()),
        ] {
            let builder = Ring::builder().workers(workers);
            let builder = if has_thread { builder.reaper_thread() } else { builder };
            let (ring, mover, hold) = held(builder, Drive::Threads(1));
            let (sender, receiver) = mpsc::channel();
            let mut set = ring.memset(vec![0; 600], 1).on(mover);
            let waker = Waker::from(Arc::new(Tries(Mutex::new(Some((ring.clone(), sender))))));
            assert!(poll_with(&mut set, &waker).is_pending());
            hold.wait_for(1);
            hold.release(1);
            assert_eq!(receiver.recv(), Ok(expected), "{workers} workers, a reaper thread: {has_thread}");
            assert_eq!(run(set).unwrap(), [1; 600]);
        }
    });
}

#[test]
fn a_mover_must_not_block_on_a_ring() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            for other in [false, true] {
                let shelf: Arc<Mutex<Option<Ring>>> = Arc::default();
                let (sender, receiver) = mpsc::channel();
                let found = Arc::clone(&shelf);
                let (ring, mover) = watched(Ring::builder().workers(1), drive, move |_| {
                    let ring = found.lock().unwrap().take();
                    if let Some(ring) = ring {
                        sender.send(tries(&ring)).unwrap();
                        drop(ring);
                    }
                });
                *shelf.lock().unwrap() = Some(if other { Ring::new().unwrap() } else { ring.clone() });
                assert_eq!(ring.block_on(ring.memset(vec![0; 600], 1).on(mover)).unwrap().unwrap(), [1; 600]);
                assert_eq!(receiver.recv(), Ok(vec![BlockError::WouldDeadlock; 3]), "{drive:?}");
                assert!(tries(&ring).is_empty(), "this thread may");
            }
        }
    });
}

/// Somebody drives for a while and goes away, with work left that another one has been promised.
#[test]
fn who_goes_away_with_work_left_leaves_it_to_who_blocks() {
    must_end(|| {
        for goes in ["a poll that is the last", "a drive", "a select"] {
            eprintln!("{goes}");
            let (ring, mover, gate) = gated(Ring::builder().workers(0).poll_budget(4096), Drive::Caller);
            drop(ring.memset(vec![0; 1000], 1).on(mover).try_start().unwrap());
            let driver = thread::spawn({
                let ring = ring.clone();
                move || match goes {
                    "a drive" => _ = ring.drive(1),
                    "a select" => {
                        let mut other = ring.memset(vec![0; 1000], 3).on(mover);
                        let _ = ring.block_on(select(&mut other, pin!(async {})));
                    }
                    _ => {
                        let mut other = ring.memset(vec![0; 1000], 3).on(mover);
                        assert!(poll(&mut other).is_pending());
                    }
                }
            });
            gate.wait();
            // Its first poll says so; the role is somebody else's.
            let began = Flag::default();
            let blocker = thread::spawn({
                let (ring, began) = (ring.clone(), began.clone());
                move || {
                    let mut set = ring.memset(vec![0; 4 << 20], 2);
                    ring.block_on(poll_fn(|context| {
                        let polled = std::pin::Pin::new(&mut set).poll(context);
                        let _: bool = began.poll(&Context::from_waker(Waker::noop())).is_pending();
                        polled
                    }))
                }
            });
            began.is_awaited();
            // A moment for the one who blocks to become an heir. Too short a moment makes the test easier, not wrong.
            (0..1000).for_each(|_| thread::yield_now());
            gate.open();
            driver.join().unwrap();
            assert_eq!(blocker.join().unwrap().unwrap().unwrap(), vec![2; 4 << 20]);
        }
    });
}

/// The thread that reaps finds the role taken, and whoever had it goes away with work left.
#[test]
fn a_reaper_thread_goes_on_with_what_others_leave() {
    must_end(|| {
        let ring = Ring::builder().workers(0).reaper_thread().poll_budget(4096).build().unwrap();
        for round in 0..30 {
            let (wakes, waker) = Wakes::new();
            let mut set = ring.memset(vec![0; 4 << 20], round);
            if poll_with(&mut set, &waker).is_ready() {
                continue;
            }
            for turn in 0..20 {
                match turn % 4 {
                    0 => assert_eq!(ring.block_on(async {}), Ok(())),
                    1 => drop(ring.memset(vec![0; 600], 1).try_start().map(Operation::cancel)),
                    2 => _ = ring.block_on(ring.memset(vec![0; 600], 1)),
                    _ => _ = ring.drive(1),
                }
            }
            wakes.wait_for_more(0);
            assert!(poll(&mut set).map(Result::unwrap) == Poll::Ready(vec![round; 4 << 20]));
        }
    });
}

/// A thread that blocks "meanwhile reaps and helps": what others begin and leave is done.
#[test]
fn who_blocks_does_what_others_have_begun() {
    must_end(|| {
        let ring = Ring::builder().workers(0).build().unwrap();
        let (flag, ledger) = (Flag::default(), Ledger::default());
        thread::scope(|threads| {
            threads.spawn(|| ring.block_on(flag.raised()).unwrap());
            flag.is_awaited();
            for value in 0..50_u8 {
                (0..u32::from(value) * 10).for_each(|_| thread::yield_now());
                drop(ring.memset(ledger.make(5000, 9), value).try_start().unwrap());
            }
            ledger.close();
            flag.raise();
        });
    });
}

/// Those who sleep are told of what there is to do, and not of each other.
#[test]
fn those_who_block_let_each_other_sleep() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().build().unwrap();
            let (flags, ledger) = ([(); 6].map(|()| Flag::default()), Ledger::default());
            let polls = Mutex::new(0);
            thread::scope(|threads| {
                for flag in &flags {
                    let (ring, polls) = (&ring, &polls);
                    threads.spawn(move || {
                        let counted = poll_fn(|context| {
                            *polls.lock().unwrap() += 1;
                            flag.poll(context)
                        });
                        ring.block_on(counted).unwrap();
                    });
                }
                flags.iter().for_each(Flag::is_awaited);
                for value in 0..100 {
                    drop(ring.memset(ledger.make(5000, 9), value).try_start().unwrap());
                    (0..10).for_each(|_| thread::yield_now());
                }
                ledger.close();
                // There is nothing to do any more: a moment, in which they would poll thousands of times.
                let (_sender, nobody) = mpsc::channel::<()>();
                let _: Result<(), _> = nobody.recv_timeout(Duration::from_millis(50));
                let before = *polls.lock().unwrap();
                let _: Result<(), _> = nobody.recv_timeout(Duration::from_millis(100));
                let after = *polls.lock().unwrap();
                flags.iter().for_each(Flag::raise);
                assert!(after - before < 10, "{name}: {} polls for nothing", after - before);
            });
        }
    });
}

#[test]
fn waiting_for_many_mixes_what_is_done_with_what_is_not() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().entries(4).build().unwrap();
            let mut sets: Vec<_> = (0..40).map(|value| ring.memset(vec![0; 3000], value)).collect();
            assert_eq!(run(&mut sets[7]).unwrap(), [7; 3000]);
            sets[9] = ring.memset(vec![0; 3000], 9).try_start().unwrap();
            sets[11] = ring.memset(vec![0; 10], 11);
            ring.wait_all(&mut sets).unwrap();
            ring.wait_all(&mut sets).unwrap();
            ring.wait_all::<memring::future::Memset<Vec<u8>>>(&mut []).unwrap();
            assert!(sets.iter().all(|set| set.state() == State::Complete), "{name}");
            let given: Vec<_> = sets.into_iter().map(|set| set.into_result().ok()).collect();
            assert!(given.iter().zip(0..).all(|(given, at)| given.is_some() != (at == 7)), "{name}");
            let mut again: Vec<_> = (0..40).map(|value| ring.memset(vec![0; 3000], value)).collect();
            ring.wait_all(&mut again).unwrap();
            assert!(run(join_all(again)).into_iter().all(|end| end.is_ok()), "and awaited afterwards");
        }
    });
}
