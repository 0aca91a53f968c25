//! Movers that panic: what they held ends as corrupted, or, if its memory may be in use, never, and no drop returns.

use std::mem::ManuallyDrop;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use memring::mover::{Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{Drive, QueuePair};
use memring::{MoverId, Status, WORKERS};

use super::hold::Hold;
use super::scripted::scripted;
use super::subprocess::{again, role, words};
use super::watchdog::must_end;
use super::{ENTRIES, Queue, all, build, build_of, each_once, polling, reap, submit_nops};

/// A mover that completes user data 0, keeps three more, and panics over the fifth.
fn panicking(capabilities: Capabilities) -> impl DataMover {
    let mut kept: Vec<Kept> = Vec::new();
    polling(capabilities, move |lane, done| {
        while let Some(claimed) = lane.claim() {
            match claimed.sqe().data() {
                0 => done.complete(claimed, Status::SUCCESS),
                1..=3 => kept.push(claimed.keep()),
                _ => panic!("as the test wants it"),
            }
        }
        if kept.is_empty() { Progress::Idle } else { Progress::Waiting }
    })
}

#[test]
fn a_quiescent_mover_may_panic_in_poll() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let (mut sq, mut cq, mover) = build(drive, || panicking(all().quiescent_on_panic()));
            submit_nops(&mut sq, 8, mover);
            let cqes = reap(&mut cq, 8);
            let mut seen: Vec<(u64, Status)> = cqes.iter().map(|cqe| (cqe.user_data(), cqe.status())).collect();
            seen.sort_unstable_by_key(|(user_data, _)| *user_data);
            let corrupted = (1..8).map(|user_data| (user_data, Status::JOB_CORRUPTED));
            assert_eq!(seen, [(0, Status::SUCCESS)].into_iter().chain(corrupted).collect::<Vec<_>>(), "{drive:?}");
            // What comes later is answered, even what the mover would have done.
            submit_nops(&mut sq, ENTRIES as u64, mover);
            each_once(&reap(&mut cq, ENTRIES), Status::JOB_CORRUPTED);
            assert_eq!((cq.in_flight(), cq.stats().mover(mover).operations), (0, 8 + ENTRIES as u64));
            // The rest of the queue is as good as new.
            submit_nops(&mut sq, 1, WORKERS);
            each_once(&reap(&mut cq, 1), Status::SUCCESS);
            assert_eq!(cq.shutdown(None), Ok(0));
            drop(cq);
        }
    });
}

/// A mover that keeps two operations and panics in its wait for them.
fn panicking_in_wait(capabilities: Capabilities) -> impl DataMover {
    let kept: Arc<Mutex<Vec<Kept>>> = Arc::default();
    let held = Arc::clone(&kept);
    let poll = move |lane: &mut Lane<'_>, _: &mut Completions<'_>| {
        let mut kept = kept.lock().expect("polls do not panic");
        while let Some(claimed) = lane.claim() {
            kept.push(claimed.keep());
        }
        if kept.is_empty() { Progress::Idle } else { Progress::Waiting }
    };
    scripted(capabilities, poll, move |bell, deadline| {
        let held = held.lock().expect("a panic ends this mover").len();
        assert!(held < 2, "as the test wants it");
        bell.sleep(deadline);
    })
}

#[test]
fn a_quiescent_mover_may_panic_in_wait() {
    must_end(|| {
        let (mut sq, mut cq, mover) = build(Drive::Threads(1), || panicking_in_wait(all().quiescent_on_panic()));
        submit_nops(&mut sq, 2, mover);
        each_once(&reap(&mut cq, 2), Status::JOB_CORRUPTED);
        submit_nops(&mut sq, 5, mover);
        each_once(&reap(&mut cq, 5), Status::JOB_CORRUPTED);
        drop(cq);
    });
}

/// One driver of two breaks down, over the first entry of those it has taken or in the wait in which it was rung for
/// them. The other one sleeps, and hears of what is left.
#[test]
fn a_driver_that_breaks_down_wakes_another_for_what_it_leaves() {
    for in_wait in [false, true] {
        must_end(move || {
            let may_panic = Arc::new(Mutex::new(true));
            let (about, waits) = mpsc::channel();
            let (mut sq, mut cq, mover) = build(Drive::Threads(2), move || {
                let ([of_poll, of_wait], about) = ([0, 1].map(|_| Arc::clone(&may_panic)), about.clone());
                let is_time = |may: &Mutex<bool>| std::mem::take(&mut *may.lock().expect("it is not held in a panic"));
                let poll = move |lane: &mut Lane<'_>, done: &mut Completions<'_>| {
                    let mut progress = Progress::Idle;
                    while let Some(claimed) = lane.claim() {
                        assert!(in_wait || !is_time(&of_poll), "as the test wants it");
                        done.complete(claimed, Status::SUCCESS);
                        progress = Progress::Busy;
                    }
                    progress
                };
                scripted(all().quiescent_on_panic().claim_together(32), poll, move |bell, deadline| {
                    let _ = about.send(thread::current().id());
                    bell.sleep(deadline);
                    assert!(!in_wait || !bell.is_rung() || !is_time(&of_wait), "as the test wants it");
                })
            });
            let first = waits.recv().expect("a driver comes to its wait");
            while waits.recv().expect("so does the other") == first {}
            submit_nops(&mut sq, 8, mover);
            assert_eq!(cq.wait(8, Some(Duration::from_secs(10))), Ok(8), "in a wait: {in_wait}");
            let successes = cq.drain().filter(|cqe| cqe.status().is_success()).count();
            assert_eq!(successes, if in_wait { 8 } else { 7 });
        });
    }
}

/// What a queue says when a mover that is not quiescent has panicked with `held` of `count` operations; then its drop.
fn not_quiescent(queue: Queue, count: u64, held: u64) {
    let (mut sq, mut cq, mover) = queue;
    submit_nops(&mut sq, count, mover);
    let answered = usize::try_from(count - held).expect("small");
    let cqes = reap(&mut cq, answered);
    assert!(cqes.iter().skip(1).all(|cqe| cqe.status() == Status::JOB_CORRUPTED));
    assert_eq!(cq.wait(1, None), Ok(0), "nobody waits for what never completes");
    assert_eq!((cq.in_flight(), sq.in_flight()), (held, held));
    submit_nops(&mut sq, 3, mover);
    each_once(&reap(&mut cq, 3), Status::JOB_CORRUPTED);
    assert_eq!(cq.shutdown(Some(Duration::from_millis(1))), Ok(held));
    assert_eq!(cq.shutdown(None), Ok(held));
    eprintln!("now it is dropped");
    drop(cq);
    eprintln!("it returned");
}

#[test]
fn dropping_a_queue_aborts_rather_than_free_memory_in_use() {
    const NAME: &str = "panics::dropping_a_queue_aborts_rather_than_free_memory_in_use";
    match role().as_deref() {
        Some("poll on a thread") => must_end(|| not_quiescent(build(Drive::Threads(1), || panicking(all())), 8, 4)),
        Some("poll in the caller") => {
            must_end(|| not_quiescent(build(Drive::Caller, || panicking(all())), 8, 4));
        }
        Some("wait") => must_end(|| not_quiescent(build(Drive::Threads(1), || panicking_in_wait(all())), 2, 2)),
        _ => {
            for (role, held) in [("poll on a thread", 4), ("poll in the caller", 4), ("wait", 2)] {
                let output = again(NAME, role, &[]);
                assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{role}: {}", words(&output));
                let text = words(&output);
                let message = format!("a mover panicked with {held} operations under way that may still touch memory");
                assert!(text.contains("now it is dropped") && text.contains(&message), "{role}: {text}");
                assert!(!text.contains("it returned"), "{role}: {text}");
            }
        }
    }
}

#[test]
fn a_shutdown_waits_for_the_others_when_one_mover_breaks_down() {
    must_end(|| {
        let may_panic = Arc::new(Mutex::new(false));
        let told = Arc::clone(&may_panic);
        let (about, panics) = mpsc::channel();
        let hold = Hold::default();
        let builder = QueuePair::builder().workers(0).mover("holder", Drive::Threads(1), hold.movers());
        let (mut sq, cq, mover) = build_of(builder, Drive::Threads(1), move || {
            let (told, about, mut kept) = (Arc::clone(&told), about.clone(), None);
            polling(all(), move |lane, _| {
                kept = kept.take().or_else(|| lane.claim().map(Claimed::keep));
                let told = *told.lock().expect("it is not held in a panic");
                if told && kept.is_some() {
                    let _ = about.send(());
                    panic!("as the test wants it");
                }
                if kept.is_some() { Progress::Waiting } else { Progress::Idle }
            })
        });
        // Its drop would abort the process, as the test above shows.
        let mut cq = ManuallyDrop::new(cq);
        // Ids are given in the order of the movers.
        submit_nops(&mut sq, 1, MoverId::from_u8(mover.to_u8() - 1));
        submit_nops(&mut sq, 1, mover);
        hold.wait_for(1);
        let breaker = thread::spawn(move || {
            while !sq.is_closed() {
                thread::yield_now();
            }
            *may_panic.lock().expect("it is not held in a panic") = true;
            panics.recv().expect("it panics");
            // Time for a shutdown that is wrong to return; one that is right stays.
            let _ = panics.recv_timeout(Duration::from_millis(20));
            hold.release(1);
        });
        assert_eq!(cq.shutdown(None), Ok(1), "the held one has ended; the other one never does");
        breaker.join().expect("it did not panic");
    });
}
