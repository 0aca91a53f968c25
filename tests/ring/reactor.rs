//! Rings in a reactor: `arm`, `drive` and the descriptor, alone and with others at work on the same ring.
#![expect(unsafe_code, reason = "poll has no safe wrapper in std")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::task::Poll;
use std::thread;

use memring::future::Memset;
use memring::queue::{Arm, Drive};
use memring::{OpError, Operation, Ring, WORKERS};

use crate::movers::{gated, held};
use crate::random::Random;
use crate::setup::{SETUPS, queued};
use crate::wakers::{Wakes, poll, poll_with, run};
use crate::watchdog::must_end;

/// Sleeps until the descriptor is readable; whether it is, after so long.
fn is_readable(ring: &Ring, limit_ms: libc::c_int) -> bool {
    let mut wanted = libc::pollfd { fd: ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    let ready = unsafe { libc::poll(&raw mut wanted, 1, limit_ms) };
    assert!(ready >= 0, "poll: {}", io::Error::last_os_error());
    ready == 1
}

/// Arms, and sleeps if that is the answer.
fn sleep(ring: &Ring) {
    match ring.arm() {
        Arm::Armed => {
            assert!(is_readable(ring, 60_000), "a wake was lost");
            ring.clear();
        }
        Arm::NotEmpty => {}
        Arm::MustPoll => thread::yield_now(),
    }
}

/// Polls what is under way with a waker that does nothing, and takes out what has ended.
fn look(under_way: &mut VecDeque<Operation<Memset<Vec<u8>>>>) -> usize {
    let before = under_way.len();
    let mut looked = std::mem::take(under_way);
    looked.retain_mut(|set| match poll(set) {
        Poll::Pending => true,
        Poll::Ready(end) => {
            let page = end.unwrap();
            assert!(page.iter().all(|&byte| byte == page[0]));
            false
        }
    });
    *under_way = looked;
    before - under_way.len()
}

#[test]
fn a_loop_around_poll_misses_nothing() {
    const OPERATIONS: usize = 2000;
    must_end(|| {
        for (name, builder) in SETUPS {
            eprintln!("{name}");
            let ring = builder().entries(16).build().unwrap();
            let mut random = Random::new(7);
            let (mut under_way, mut begun, mut done) = (VecDeque::new(), 0, 0);
            while done < OPERATIONS {
                while begun < OPERATIONS && under_way.len() < 16 {
                    let len = [600, 3000, 30_000][random.below(3)];
                    match ring.try_memset(vec![0; len], 1) {
                        Ok(set) => under_way.push_back(set),
                        Err(failed) => {
                            assert_eq!(failed.error, OpError::Full);
                            break;
                        }
                    }
                    begun += 1;
                }
                ring.drive(16 << 10);
                let ended = look(&mut under_way);
                done += ended;
                if ended == 0 && !under_way.is_empty() {
                    sleep(&ring);
                }
            }
        }
    });
}

/// The count that `drive` answers is all that this loop knows.
#[test]
fn a_loop_may_go_by_what_drive_has_counted() {
    must_end(|| {
        for (name, builder) in queued() {
            eprintln!("{name}");
            let ring = builder().entries(64).inline_max(0).build().unwrap();
            for _ in 0..100 {
                for value in 0..64 {
                    drop(ring.try_memset(vec![0; 600], value).unwrap());
                }
                let mut counted = 0;
                while counted < 64 {
                    sleep(&ring);
                    counted += ring.drive(16 << 10);
                }
                assert_eq!((counted, ring.drive(1)), (64, 0), "{name}");
            }
        }
    });
}

#[test]
fn an_answer_of_not_empty_takes_nothing_from_drive() {
    must_end(|| {
        let (ring, mover, hold) = held(Ring::builder().workers(1), Drive::Threads(1));
        let (wakes, waker) = Wakes::new();
        let mut set = ring.memset(vec![0; 600], 1).on(mover);
        assert!(poll_with(&mut set, &waker).is_pending());
        hold.wait_for(1);
        hold.release(1);
        wakes.wait_for_more(0);
        assert_eq!(ring.arm(), Arm::NotEmpty, "it has completed before");
        assert_eq!(ring.drive(1), 1, "since drive was last asked");
        assert_eq!(ring.arm(), Arm::Armed);
        assert_eq!(ring.drive(1), 0);
    });
}

#[test]
fn others_submit_while_a_reactor_sleeps() {
    const EACH: usize = 1500;
    must_end(|| {
        for (name, builder) in queued() {
            eprintln!("{name}");
            let ring = builder().entries(16).inline_max(0).build().unwrap();
            thread::scope(|threads| {
                for value in 0..3 {
                    let ring = &ring;
                    threads.spawn(move || {
                        let mut random = Random::new(u64::from(value));
                        for _ in 0..EACH {
                            // They leave it to the reactor.
                            while let Err(failed) = ring.try_memset(vec![0; 600 + random.below(2000)], value) {
                                assert_eq!(failed.error, OpError::Full);
                                thread::yield_now();
                            }
                        }
                    });
                }
                let mut done = 0;
                while done < 3 * EACH {
                    done += ring.drive(16 << 10);
                    if done < 3 * EACH {
                        sleep(&ring);
                    }
                }
            });
        }
    });
}

#[test]
fn others_poll_and_block_while_a_reactor_sleeps() {
    must_end(|| {
        for (name, builder) in queued() {
            eprintln!("{name}");
            let ring = builder().entries(8).inline_max(0).build().unwrap();
            thread::scope(|threads| {
                for value in 0..3 {
                    let ring = &ring;
                    threads.spawn(move || {
                        for round in 0..200 {
                            let set = ring.memset(vec![0; 3000], value);
                            let set = if round % 2 == 0 { run(set) } else { ring.block_on(set).unwrap() };
                            assert_eq!(set.unwrap(), [value; 3000]);
                        }
                    });
                }
                let mut own = VecDeque::new();
                for value in 0..200 {
                    own.push_back(ring.memset(vec![0; 3000], value));
                    while !own.is_empty() {
                        if look(&mut own) == 0 {
                            sleep(&ring);
                        }
                        ring.drive(4096);
                    }
                }
            });
        }
    });
}

#[test]
fn the_descriptor_is_readable_after_a_wake_and_until_it_is_cleared() {
    must_end(|| {
        let (ring, mover, hold) = held(Ring::builder().workers(1), Drive::Threads(1));
        assert_eq!(ring.as_fd().as_raw_fd(), ring.as_raw_fd());
        let begin = || ring.memset(vec![0; 600], 1).on(mover).try_start().unwrap();
        let finish = |set: Operation<Memset<Vec<u8>>>| {
            hold.wait_for(1);
            hold.release(1);
            assert_eq!(run(set).unwrap(), [1; 600]);
        };
        assert!(!is_readable(&ring, 0));
        finish(begin());
        assert!(!is_readable(&ring, 0), "nobody had armed");
        assert_eq!(ring.drive(1), 1);
        let set = begin();
        assert_eq!(ring.arm(), Arm::Armed);
        finish(set);
        assert!(is_readable(&ring, 60_000) && is_readable(&ring, 0));
        ring.clear();
        assert!(!is_readable(&ring, 0));
        assert_eq!(ring.stats().eventfd_writes, 0, "the ring signals by itself");
    });
}

/// What ends without a mover is news to a reactor too.
#[test]
fn a_reactor_hears_of_what_was_refused() {
    must_end(|| {
        for cancels in [false, true] {
            let (ring, mover, hold) = held(Ring::builder().workers(1).entries(2), Drive::Threads(1));
            let kept = [1, 2].map(|value| ring.memset(vec![0; 600], value).on(mover).try_start().unwrap());
            hold.wait_for(2);
            let mut waiting = ring.memset(vec![0; 600], 1);
            let mut others = ring.memset(vec![0; 600], 1);
            assert!(poll(&mut waiting).is_pending() && poll(&mut others).is_pending());
            ring.drive(1);
            assert_eq!(ring.arm(), Arm::Armed);
            let other = thread::spawn({
                let mut end = ring.shutdown();
                move || if cancels { drop(others.cancel()) } else { assert!(poll(&mut end).is_pending()) }
            });
            other.join().unwrap();
            assert!(is_readable(&ring, 0), "an operation has ended, cancelled: {cancels}");
            hold.release(2);
            assert!(kept.into_iter().all(|kept| run(kept).is_ok()));
        }
    });
}

#[test]
fn a_drive_keeps_to_its_budget_however_many_end() {
    must_end(|| {
        for sets in [1, 40, 400] {
            let ring = Ring::builder().workers(0).entries(512).build().unwrap();
            for value in 0..sets {
                drop(ring.try_memset(vec![0; 4096], u8::try_from(value % 256).unwrap()).unwrap());
            }
            let mut before = 0;
            for budget in [40, 33, 1, 64].map(|pages| pages * 4096) {
                ring.drive(budget);
                let done = ring.stats().mover(WORKERS).bytes;
                assert!(done - before <= budget as u64 + 4096 * 3, "{} bytes in a drive of {budget}", done - before);
                before = done;
            }
        }
    });
}

/// Whoever polls drives one budget, and does not become the servant of those who poll at the same time.
#[test]
fn a_poll_ends_although_others_call() {
    must_end(|| {
        let (ring, mover, gate) = gated(Ring::builder().workers(0).poll_budget(4096), Drive::Caller);
        let mut own = ring.memset(vec![0; 600], 1).on(mover);
        thread::scope(|threads| {
            let poller = threads.spawn(|| {
                let _: bool = poll(&mut own).is_pending();
                ring.stats().mover(WORKERS).bytes
            });
            gate.wait();
            // An operation that takes hundreds of polls, by somebody who polls without a pause.
            let (_, waker) = Wakes::new();
            let other = threads.spawn({
                let (ring, gate) = (&ring, &gate);
                move || {
                    let mut large = ring.memset(vec![0; 8 << 20], 1);
                    let mut polls = 0;
                    while poll_with(&mut large, &waker).is_pending() {
                        polls += 1;
                        if polls == 100 {
                            gate.open();
                        }
                    }
                }
            });
            let bytes = poller.join().unwrap();
            assert!(bytes < 4 << 20, "a poll has done {bytes} bytes for somebody else");
            other.join().unwrap();
        });
    });
}

#[test]
fn a_reactor_that_never_drives_is_served_by_others() {
    must_end(|| {
        for (name, builder) in queued().filter(|(name, _)| !name.contains("caller")) {
            eprintln!("{name}");
            let ring = builder().inline_max(0).build().unwrap();
            let mut set = ring.memset(vec![0; 600], 1);
            for value in 0..250 {
                while poll(&mut set).is_pending() {
                    sleep(&ring);
                }
                set = ring.memset(vec![0; 600], value);
            }
        }
    });
}
