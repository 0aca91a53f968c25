//! Whoever polls: executors of every kind, foreign wakers, threads.

use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use futures_util::future::{Either, join_all, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use memring::future::{Memset, Shutdown};
use memring::queue::Drive;
use memring::{Batch, IoBuf, Operation, Ring, State};

use crate::movers::held;
use crate::setup::{on_each, queued};
use crate::verbs::pattern;
use crate::wakers::{Wakes, poll, poll_with, run};
use crate::watchdog::must_end;

#[test]
fn handles_and_operations_go_where_they_are_wanted() {
    fn everywhere<T: Clone + Send + Sync + 'static>() {}
    fn to_threads<T: Send + Sync + Unpin + 'static>() {}
    everywhere::<Ring>();
    to_threads::<Operation<Memset<Vec<u8>>>>();
    to_threads::<Shutdown>();
    fn moves<T: Send + 'static>() {}
    moves::<Batch<Vec<u8>, &'static [u8]>>();
}

/// What a task does: some operations one after the other, each of whose results the next one needs.
async fn task(ring: Ring, seed: u8) -> u8 {
    let mut page = vec![seed; 3000];
    for value in 0..10 {
        page = ring.memset(page, value).await.unwrap();
        let (copy, src) = ring.memcpy(vec![0; 3000], page).await.unwrap();
        assert_eq!(copy, src);
        page = ring.memmove(copy, 0..1000, 500).await.unwrap();
    }
    page = ring.memset(ring.flush(page).await.unwrap().slice(..1000), seed).await.unwrap().into_inner();
    assert_eq!((&page[..1000], &page[1000..]), (&[seed; 1000][..], &[9; 2000][..]));
    page[0]
}

#[test]
fn a_hand_written_executor() {
    must_end(|| {
        on_each(|ring, _| assert_eq!(run(task(ring.clone(), 7)), 7));
    });
}

#[test]
fn the_rings_own() {
    must_end(|| {
        on_each(|ring, _| assert_eq!(ring.block_on(task(ring.clone(), 7)), Ok(7)));
    });
}

#[test]
fn tokio_on_one_thread_and_on_several() {
    must_end(|| {
        on_each(|ring, name| {
            for threads in [None, Some(3)] {
                let runtime = match threads {
                    None => tokio::runtime::Builder::new_current_thread().build().unwrap(),
                    Some(threads) => {
                        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().unwrap()
                    }
                };
                let tasks: Vec<_> = (0..40).map(|seed| runtime.spawn(task(ring.clone(), seed))).collect();
                let ends = runtime.block_on(join_all(tasks));
                assert!(ends.into_iter().zip(0..).all(|(end, seed)| end.unwrap() == seed), "{name}");
            }
        });
    });
}

#[test]
fn all_at_once() {
    must_end(|| {
        on_each(|ring, _| {
            let copies =
                || (0..500).map(|value| ring.memcpy(vec![0; 2000], vec![u8::try_from(value % 256).unwrap(); 2000]));
            for (ended, value) in run(join_all(copies())).into_iter().zip(0..) {
                let (dst, src) = ended.unwrap();
                assert_eq!((dst[77], &dst), (u8::try_from(value % 256).unwrap(), &src));
            }
            let ended = run(copies().collect::<FuturesUnordered<_>>().map(Result::unwrap).collect::<Vec<_>>());
            assert_eq!(ended.len(), 500);
            assert_eq!(
                ended.into_iter().map(|(dst, _)| usize::from(dst[1])).sum::<usize>(),
                (0..500).map(|v| v % 256).sum()
            );
        });
    });
}

#[test]
fn whichever_is_first() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let (ring, mover, hold) = held(Ring::builder().workers(1), drive);
            let kept = ring.memset(vec![0; 100], 1).on(mover);
            let free = ring.memset(vec![0; 4096], 2);
            let Either::Right((free, kept)) = run(select(kept, free)) else { panic!("the other one is held") };
            assert_eq!((free.unwrap(), kept.state()), (vec![2; 4096], State::Running));
            hold.release(1);
            let never = pin!(std::future::pending::<()>());
            let Either::Left((kept, _)) = run(select(kept, never)) else { panic!("the other one never ends") };
            assert_eq!(kept.unwrap(), [1; 100]);
        }
    });
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    must_end(|| {
        let (ring, mover, hold) = held(Ring::builder().workers(1), Drive::Threads(1));
        let mut kept = ring.memset(vec![0; 100], 1).on(mover);
        let wakers: Vec<_> = (0..10).map(|_| Wakes::new()).collect();
        for (_, waker) in &wakers {
            assert!(poll_with(&mut kept, waker).is_pending());
            assert!(poll_with(&mut kept, waker).is_pending(), "the same again");
        }
        hold.wait_for(1);
        hold.release(1);
        let (last, others) = wakers.split_last().unwrap();
        assert_eq!(last.0.wait_for_more(0), 1);
        assert!(others.iter().all(|(wakes, _)| wakes.count() == 0));
        assert!(poll(&mut kept).is_ready());
        assert_eq!(last.0.count(), 1, "once");
    });
}

#[test]
fn a_waker_is_not_kept_when_it_has_been_of_use() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().build().unwrap();
            let (wakes, waker) = Wakes::new();
            let mut set = ring.memset(vec![0; 4096], 1);
            while poll_with(&mut set, &waker).is_pending() {
                thread::yield_now();
            }
            drop(waker);
            // Whoever is about to wake has it for a moment still.
            while std::sync::Arc::strong_count(&wakes) > 1 {
                thread::yield_now();
            }
            let (wakes, waker) = Wakes::new();
            let (ring, mover, hold) = held(builder(), Drive::Threads(1));
            let mut kept = ring.memset(vec![0; 100], 1).on(mover);
            assert!(poll_with(&mut kept, &waker).is_pending());
            drop((kept, waker));
            while std::sync::Arc::strong_count(&wakes) > 1 {
                thread::yield_now();
            }
            hold.release(1);
            drop(ring);
            assert_eq!(wakes.count(), 0, "{name}: the one who would have been woken has gone");
        }
    });
}

#[test]
fn an_operation_is_polled_on_one_thread_after_the_other() {
    must_end(|| {
        on_each(|ring, _| {
            let (sender, receiver) = mpsc::channel::<Operation<Memset<Vec<u8>>>>();
            let (back, ends) = mpsc::channel();
            thread::scope(|threads| {
                threads.spawn(move || receiver.into_iter().for_each(|set| back.send(run(set).unwrap()).unwrap()));
                for value in 0..100 {
                    let mut set = ring.memset(pattern(4096), value);
                    match poll(&mut set) {
                        Poll::Pending => sender.send(set).unwrap(),
                        Poll::Ready(done) => assert_eq!(done.unwrap(), vec![value; 4096]),
                    }
                }
                drop(sender);
                assert!(ends.into_iter().all(|done| done.len() == 4096 && done[0] == done[4095]));
            });
        });
    });
}
