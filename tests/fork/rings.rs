//! The same for rings: operations, scopes and handles of the parent in a child.

use std::task::{Context, Poll, Waker};
use std::{pin::Pin, thread};

use memring::future::Memset;
use memring::queue::{Arm, Drive};
use memring::{BlockError, INLINE, OpError, Operation, Ring, ScopeError, State, WORKERS};

use super::child::in_child;
use super::hold::Hold;
use super::watchdog::must_end;

type Set = Operation<Memset<Vec<u8>>>;

/// A ring amid its work: two operations held, one complete and not looked at, one waiting in line, one idle.
struct Busy {
    hold: Hold,
    /// Options, so that a child can drop them while the parent keeps its own copies.
    ring: Option<Ring>,
    sets: Option<Vec<Set>>,
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

impl Busy {
    fn new(workers: usize, drive: Drive, has_thread: bool) -> Self {
        let hold = Hold::default();
        let builder = Ring::builder().entries(2).workers(workers).mover("holder", drive, hold.movers());
        let builder = if has_thread { builder.reaper_thread() } else { builder };
        let ring = builder.build().expect("the options are in range");
        let holder = ring.mover("holder").expect("it was added");
        let complete = ring.memset(vec![0; 4096], 0).on(WORKERS).try_start().expect("there is room");
        let mut waits = ring.memset(vec![0; 4096], 9);
        ring.block_on(&mut waits).expect("this thread may block").expect("it is possible");
        let kept = [1, 2].map(|value| ring.memset(vec![0; 4096], value).on(holder));
        let mut sets: Vec<Set> = kept.into_iter().chain([ring.memset(vec![0; 4096], 3)]).collect();
        assert!(sets.iter_mut().all(|set| poll(set).is_pending()));
        hold.wait_for(2);
        sets.extend([complete, ring.memset(vec![0; 4096], 4)]);
        Self { hold, ring: Some(ring), sets: Some(sets) }
    }

    /// What the child does with its copy, to the end.
    fn abuse(&mut self) {
        let ring = self.ring.take().expect("nobody has dropped it");
        let mut sets = self.sets.take().expect("nobody has dropped them");
        for set in &mut sets[..3] {
            let Poll::Ready(Err(failed)) = poll(set) else { panic!("a child waits for nobody") };
            assert_eq!((failed.error, failed.buffers.len()), (OpError::Forked, 4096));
        }
        let mut idle = sets.pop().expect("five");
        assert!(matches!(poll(&mut idle), Poll::Ready(Err(failed)) if failed.error == OpError::Forked));
        let mut complete = sets.pop().expect("four");
        assert!(poll(&mut complete).is_ready(), "it had completed, or is the parent's");
        refuses(&ring);
        let clone = ring.clone();
        drop(ring);
        drop(sets);
        drop(clone);
    }

    /// What the parent does with its own, to the end.
    fn finish(self) {
        let Self { hold, ring, sets } = self;
        let (ring, sets) = (ring.expect("the child had a copy"), sets.expect("the child had a copy"));
        hold.release(2);
        for (set, value) in sets.into_iter().zip([1, 2, 3, 0, 4]) {
            let set = ring.block_on(set).expect("this thread may block").expect("it is possible");
            assert_eq!(set, [value; 4096]);
        }
        ring.block_on(ring.shutdown()).expect("this thread may block");
    }
}

/// Nothing can be begun, and nothing hangs.
fn refuses(ring: &Ring) {
    for set in [ring.memset(vec![0; 8], 1), ring.memset(vec![0; 4096], 1), ring.memset(vec![0; 4096], 1).on(INLINE)] {
        let failed = set.try_start().expect_err("it is the parent's");
        assert_eq!((failed.error, failed.buffers[0]), (OpError::Forked, 0));
    }
    let mut batch = ring.batch::<_, Vec<u8>>().memset(vec![0; 4096], 1).memset(vec![0; 4096], 1).into_future();
    assert!(matches!(poll(&mut batch), Poll::Ready(Err(failed)) if failed.error == OpError::Forked));
    let mut page = [0; 4096];
    assert_eq!(ring.scope(|s| s.memset(&mut page, 1)), Err(ScopeError::Block(BlockError::Forked)));
    assert_eq!(ring.block_on(async {}), Err(BlockError::Forked));
    let mut sets = [ring.memset(vec![0; 4096], 1)];
    assert_eq!(ring.wait_all(&mut sets), Err(BlockError::Forked));
    assert_eq!(sets[0].state(), State::Idle);
    drop(sets.map(Operation::cancel));
    assert!(poll(&mut ring.shutdown()).is_ready());
    assert_eq!(ring.arm(), Arm::MustPoll);
    ring.clear();
}

/// With workers and without, with a thread that reaps and without, and the holding mover on a thread and in the caller.
fn configurations() -> impl Iterator<Item = (usize, Drive, bool)> {
    let drives = [(2, Drive::Threads(1)), (2, Drive::Caller), (0, Drive::Threads(1)), (0, Drive::Caller)];
    drives.into_iter().flat_map(|(workers, drive)| [(workers, drive, false), (workers, drive, true)])
}

#[test]
fn a_child_has_none_of_its_parents_operations() {
    must_end(|| {
        for (workers, drive, has_thread) in configurations() {
            let mut busy = Busy::new(workers, drive, has_thread);
            in_child(|| busy.abuse());
            in_child(|| busy.abuse());
            busy.finish();
        }
    });
}

#[test]
fn a_child_may_drop_or_cancel_what_it_finds() {
    must_end(|| {
        for (workers, drive, has_thread) in configurations() {
            let mut busy = Busy::new(workers, drive, has_thread);
            in_child(|| drop((busy.sets.take(), busy.ring.take())));
            in_child(|| drop((busy.ring.take(), busy.sets.take())));
            in_child(|| {
                let cancelled: Vec<_> = busy.sets.take().into_iter().flatten().map(Operation::cancel).collect();
                drop(busy.ring.take());
                drop(cancelled);
            });
            busy.finish();
        }
    });
}

/// A thread of the parent executes inside of the entrance, under its lock, while the process forks.
#[test]
fn a_child_is_refused_while_somebody_is_inside() {
    must_end(|| {
        let ring = Ring::builder().entries(512).workers(1).build().expect("the options are in range");
        for _ in 0..5 {
            let begun = ring.stats().mover(INLINE).operations;
            thread::scope(|threads| {
                threads.spawn(|| {
                    let page = || vec![0; 256 << 10];
                    let batch = (0..512).fold(ring.batch::<_, Vec<u8>>(), |batch, _| batch.memset(page(), 1));
                    let done = ring.block_on(batch.on(INLINE).into_future()).expect("this thread may block");
                    assert_eq!(done.expect("it is possible").len(), 512);
                });
                // The first chunk of it is done, and most of it is not.
                while ring.stats().mover(INLINE).operations == begun {
                    thread::yield_now();
                }
                in_child(|| refuses(&ring));
            });
        }
    });
}
