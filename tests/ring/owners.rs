//! Who owns the buffers: operations are dropped, forgotten and cancelled at every point of their lives.

use memring::queue::Drive;
use memring::{Failed, OpError, Operation, Ring, State};

use crate::canary::{Canary, Ledger};
use crate::movers::held;
use crate::random::{Random, seed};
use crate::setup::{SETUPS, queued};
use crate::wakers::{poll, run};
use crate::watchdog::must_end;

#[test]
fn a_dropped_operation_leaves_its_buffers_to_its_mover() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            for (name, builder) in queued() {
                let ledger = Ledger::default();
                let (ring, mover, hold) = held(builder(), drive);
                for value in 0..3 {
                    let mut set = ring.memset(ledger.make(1000, 9), value).on(mover);
                    assert!(poll(&mut set).is_pending());
                    drop(set);
                }
                if drive == Drive::Caller {
                    ring.drive(1);
                }
                hold.wait_for(3);
                assert_eq!(ledger.dropped(), 0, "{name}: a mover has them");
                hold.release(3);
                if drive == Drive::Caller {
                    ring.drive(1);
                }
                ledger.close();
            }
        }
    });
}

#[test]
fn what_has_not_begun_or_has_ended_is_dropped_at_once() {
    must_end(|| {
        for (name, builder) in SETUPS {
            let ring = builder().build().unwrap();
            let ledger = Ledger::default();
            drop(ring.memcpy(ledger.make(4096, 1), ledger.make(4096, 2)));
            assert_eq!(ledger.dropped(), 2, "{name}: idle");
            let mut waited = [ring.memcpy(ledger.make(4096, 1), ledger.make(4096, 2))];
            ring.wait_all(&mut waited).unwrap();
            drop(waited);
            assert_eq!(ledger.dropped(), 4, "{name}: complete");
            drop(ring.memset(ledger.make(4096, 1), 1).cancel());
            drop(ring.memcpy(ledger.make(4096, 1), ledger.make(4095, 2)).try_start());
            assert_eq!(ledger.dropped(), 7, "{name}: refused");
            ledger.close();
        }
    });
}

#[test]
fn what_waits_for_its_turn_is_dropped_at_once() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(2), Drive::Threads(1));
            let ledger = Ledger::default();
            let kept = [1, 2].map(|value| ring.memset(ledger.make(1000, 0), value).on(mover).try_start().unwrap());
            hold.wait_for(2);
            let mut waiting: Vec<_> = (0..10).map(|_| ring.memset(ledger.make(1000, 5), 6)).collect();
            for set in &mut waiting {
                assert!(poll(set).is_pending());
                assert_eq!(set.state(), State::Running);
            }
            drop(waiting);
            assert_eq!(ledger.dropped(), 10, "{name}: no mover has them");
            hold.release(2);
            for (kept, value) in kept.into_iter().zip(1..) {
                assert!(run(kept).unwrap().is_all(value));
            }
            ledger.close();
        }
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "that it is harmless is what is tested")]
fn a_forgotten_operation_is_done_and_costs_its_place_only() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(8), Drive::Threads(1));
            let ledger = Ledger::default();
            let forget = |mut operation: Operation<_>, polls: bool| {
                if polls {
                    std::mem::forget(poll(&mut operation));
                }
                std::mem::forget(operation);
            };
            for _ in 0..2 {
                forget(ring.memset(ledger.make(1000, 0), 1).on(mover), true);
                forget(ring.memset(ledger.make(1000, 0), 1), true);
                forget(ring.memset(ledger.make(1000, 0), 1), false);
                forget(ring.memset(ledger.make(1000, 0), 1).on(mover).try_start().unwrap(), false);
            }
            hold.wait_for(4);
            hold.release(4);
            std::mem::forget(ring.memset(ledger.make(1000, 0), 1).cancel());
            std::mem::forget(ring.shutdown());
            let mut pages: Vec<_> = (0..20).map(|value| ring.memset(ledger.make(1000, 0), value)).collect();
            ring.wait_all(&mut pages).unwrap();
            assert!(pages.into_iter().zip(0..).all(|(page, value)| page.into_result().unwrap().unwrap().is_all(value)));
            assert_eq!(ledger.dropped(), 20, "{name}: the forgotten ones are leaked");
        }
    });
}

/// What a test does with an operation.
fn end(ring: &Ring, random: &mut Random, mut operation: Operation<memring::future::Memcpy<Canary, Canary>>, value: u8) {
    if random.below(2) == 0 {
        match operation.try_start() {
            Ok(started) => operation = started,
            Err(Failed { error, buffers }) => {
                assert_eq!(error, OpError::Full);
                assert!(buffers.0.is_all(0) && buffers.1.is_all(value));
                return;
            }
        }
    }
    for _ in 0..random.below(3) {
        if let std::task::Poll::Ready(done) = poll(&mut operation) {
            return is_right(done, value);
        }
    }
    if random.below(8) == 0 {
        ring.drive(1 << 16);
    }
    match random.below(4) {
        0 => drop(operation),
        1 => is_right(run(operation), value),
        2 => is_right(run(operation.cancel()), value),
        _ => drop(operation.cancel()),
    }
}

fn is_right(result: Result<(Canary, Canary), Failed<(Canary, Canary)>>, value: u8) {
    match result {
        Ok((dst, src)) => assert!(dst.is_all(value) && src.is_all(value)),
        Err(Failed { error, buffers: (_, src) }) => {
            assert_eq!(error, OpError::Cancelled);
            assert!(src.is_all(value), "a source is not written");
        }
    }
}

#[test]
fn buffers_are_freed_once_and_never_while_a_mover_has_them() {
    let seed = seed();
    eprintln!("MEMRING_SEED={seed}");
    must_end(move || {
        for (name, builder) in SETUPS {
            eprintln!("{name}");
            let ring = builder().entries(8).build().unwrap();
            let ledger = Ledger::default();
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let (ring, ledger) = (ring.clone(), ledger.clone());
                    std::thread::spawn(move || {
                        let mut random = Random::new(seed + thread);
                        for value in (1..=255).cycle().take(600) {
                            let len = 1 + random.below(10_000);
                            let copy = ring.memcpy(ledger.make(len, 0), ledger.make(len, value));
                            end(&ring, &mut random, copy, value);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            drop(ring);
            ledger.close();
        }
    });
}

#[test]
fn batches_are_dropped_in_the_middle() {
    let seed = seed();
    eprintln!("MEMRING_SEED={seed}");
    must_end(move || {
        for (name, builder) in SETUPS {
            eprintln!("{name}");
            let ring = builder().entries(8).build().unwrap();
            let ledger = Ledger::default();
            let mut random = Random::new(seed);
            for value in 1..=200 {
                let count = random.below(20);
                let batch = (0..count).fold(ring.batch(), |batch, _| {
                    batch.memcpy(ledger.make(2000, 0), ledger.make(2000, value)).memset(ledger.make(999, 0), value)
                });
                let mut batch = if count < 4 { batch.linked() } else { batch }.into_future();
                let _: bool = random.below(4) > 0 && poll(&mut batch).is_pending();
                match random.below(3) {
                    0 => drop(batch),
                    1 => drop(batch.cancel()),
                    _ if batch.state() == State::Complete => {}
                    _ => {
                        let done = run(batch).unwrap();
                        assert!(
                            done.iter().all(|(dst, src)| dst.is_all(value) && src.iter().all(|src| src.is_all(value)))
                        );
                    }
                }
            }
            drop(ring);
            ledger.close();
        }
    });
}
