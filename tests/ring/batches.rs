//! Many as one: order, failures, flushes, and what comes back.
#![expect(unsafe_code, reason = "implements buffers that fail")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use memring::mover::{Capabilities, Completions, Lane, Progress};
use memring::queue::Drive;
use memring::{INLINE, IoBufMut, MoverId, OpError, Opcode, OutOfRange, Ring, RingBuilder, State, Status, WORKERS};

use crate::movers::{Record, execute, held, recorded};
use crate::scripted::scripted;
use crate::setup::{SETUPS, on_each, queued};
use crate::verbs::pattern;
use crate::wakers::{poll, run};
use crate::watchdog::must_end;

#[test]
fn buffers_come_back_in_the_order_in_which_they_were_given() {
    must_end(|| {
        on_each(|ring, name| {
            for linked in [false, true] {
                for on in [None, Some(INLINE), Some(WORKERS)] {
                    let batch = ring.batch().memcpy(vec![0; 3000], pattern(3000)).memset(vec![0; 100], 1);
                    let batch = batch.flush().memmove(pattern(2000), 0..1000, 500).flush().flush();
                    let batch = batch.memcpy(vec![0; 0], vec![0; 0]).memset(vec![0; 60_000], 2).no_cache();
                    let batch = if linked { batch.linked() } else { batch };
                    let batch = if let Some(on) = on { batch.on(on) } else { batch };
                    let done = ring.block_on(batch.into_future()).unwrap().unwrap();
                    let mut moved = pattern(2000);
                    moved.copy_within(0..1000, 500);
                    let expected = [
                        (pattern(3000), Some(pattern(3000))),
                        (vec![1; 100], None),
                        (moved, None),
                        (vec![], Some(vec![])),
                        (vec![2; 60_000], None),
                    ];
                    assert!(done == expected, "{name}, linked: {linked}, on {on:?}");
                }
            }
        });
    });
}

#[test]
fn a_batch_of_nothing_is_done() {
    must_end(|| {
        on_each(|ring, _| {
            let empty = || ring.batch::<Vec<u8>, Vec<u8>>();
            assert_eq!(run(empty().into_future()).unwrap(), []);
            assert_eq!(run(empty().flush().linked().no_cache().into_future()).unwrap(), [], "a flush of nothing");
            assert_eq!(run(async { empty().await }).unwrap(), []);
            assert_eq!(
                empty().into_future().cancel().into_result().unwrap().unwrap_err().error.status(),
                Status::CANCELLED
            );
        });
    });
}

#[test]
fn linked_operations_run_one_after_the_other() {
    must_end(|| {
        for (name, builder) in queued() {
            for drive in [Drive::Threads(2), Drive::Caller] {
                let (ring, mover, record) = recorded(builder().entries(32), drive);
                for _ in 0..20 {
                    let batch = (0..32).fold(ring.batch::<_, Vec<u8>>(), |b, at| b.memset(vec![0; 1000 + at], 1));
                    assert_eq!(run(batch.linked().on(mover).into_future()).unwrap().len(), 32);
                    let found = std::mem::take(&mut *record.lock().unwrap());
                    assert_eq!(found, (1000..1032).collect::<Vec<_>>(), "{name}");
                }
            }
        }
    });
}

/// A ring with a mover that records lengths, and fails those of length 13.
fn failing(builder: RingBuilder, drive: Drive) -> (Ring, MoverId, Record) {
    let record = Record::default();
    let pen = Arc::clone(&record);
    let make = move || {
        let pen = Arc::clone(&pen);
        let poll = move |lane: &mut Lane<'_>, done: &mut Completions<'_>| {
            let mut progress = Progress::Idle;
            while let Some(claimed) = lane.claim() {
                pen.lock().unwrap().push(claimed.sqe().len());
                progress = Progress::Busy;
                if claimed.sqe().len() == 13 {
                    done.complete(claimed, Status::IO);
                } else {
                    execute(claimed.sqe());
                    done.complete(claimed, Status::SUCCESS);
                }
            }
            progress
        };
        scripted(Capabilities::new(&[Opcode::Memset]), poll, |bell, deadline| bell.sleep(deadline))
    };
    let ring = builder.mover("failing", drive, make).build().unwrap();
    let mover = ring.mover("failing").unwrap();
    (ring, mover, record)
}

#[test]
fn what_is_linked_to_a_failure_is_cancelled_and_the_rest_is_done() {
    must_end(|| {
        for (name, builder) in queued() {
            for drive in [Drive::Threads(1), Drive::Caller] {
                for entries in [4, 64] {
                    let (ring, mover, record) = failing(builder().entries(entries), drive);
                    let batch = || {
                        [10, 11, 13, 14]
                            .into_iter()
                            .fold(ring.batch::<_, Vec<u8>>(), |b, len| b.memset(vec![0; len], 1))
                    };
                    let failed = run(batch().linked().on(mover).into_future()).unwrap_err();
                    assert_eq!(
                        failed.error,
                        OpError::Mover(Status::IO, 0),
                        "{name}: what has failed, not what follows"
                    );
                    assert_eq!(std::mem::take(&mut *record.lock().unwrap()), [10, 11, 13], "{name}");
                    let pages: Vec<_> = failed.buffers.into_iter().map(|(page, _)| page).collect();
                    assert_eq!(pages, [vec![1; 10], vec![1; 11], vec![0; 13], vec![0; 14]]);

                    let failed = run(batch().on(mover).into_future()).unwrap_err();
                    assert_eq!(failed.error, OpError::Mover(Status::IO, 0), "{name}");
                    let pages: Vec<_> = failed.buffers.into_iter().map(|(page, _)| page).collect();
                    assert_eq!(pages, [vec![1; 10], vec![1; 11], vec![0; 13], vec![1; 14]], "{name}: it is not linked");
                    record.lock().unwrap().clear();
                }
            }
        }
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_flush_is_not_done_after_a_failure() {
    use memring::IoBuf;
    #[derive(Debug)]
    struct Nowhere;
    // SAFETY: not true; for rings with the fault guard, where memory may be missing.
    unsafe impl IoBuf for Nowhere {
        fn bytes(&self) -> Result<*const [u8], OutOfRange> {
            Ok(std::ptr::slice_from_raw_parts(std::ptr::without_provenance(64), 4096))
        }
    }
    must_end(|| {
        for (name, builder) in SETUPS {
            let ring = builder().inline_max(0).fault_guard().build().unwrap();
            let batch = ring.batch().memcpy(vec![0; 4096], Nowhere).flush().memset(vec![0; 4096], 1);
            let failed = run(batch.into_future()).unwrap_err();
            assert_eq!(failed.error, OpError::Mover(Status::FAULT, 0), "{name}");
            assert_eq!(failed.buffers[1].0, [1; 4096], "{name}: it was not linked to it");
        }
    });
}

#[test]
fn a_batch_is_cancelled_as_far_as_it_has_not_begun() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, hold) = held(builder().entries(4), Drive::Threads(1));
            let batch = (0..10).fold(ring.batch::<_, Vec<u8>>(), |batch, value| batch.memset(vec![99; 600], value));
            let mut batch = batch.on(mover).into_future();
            assert!(poll(&mut batch).is_pending());
            hold.wait_for(4);
            let mut batch = batch.cancel();
            assert!(poll(&mut batch).is_pending(), "a mover has some of it");
            hold.release(10);
            let failed = run(batch).unwrap_err();
            assert_eq!(failed.error, OpError::Cancelled, "{name}");
            let done = failed.buffers.iter().zip(0..).filter(|((page, _), value)| page == &vec![*value; 600]).count();
            assert_eq!(done, 4, "{name}: those that the mover had, and no others");
        }
    });
}

/// A buffer that cannot say where it lies, the first time.
struct Moody(Vec<u8>, Mutex<bool>);

// SAFETY: the vector's own.
unsafe impl IoBufMut for Moody {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        assert!(std::mem::replace(&mut *self.1.lock().unwrap(), true), "not in the mood");
        self.0.bytes_mut()
    }
}

#[test]
fn a_panic_on_the_way_to_the_ring_leaves_the_batch_as_it_was() {
    must_end(|| {
        for (name, builder) in queued() {
            let (ring, mover, record) = recorded(builder(), Drive::Threads(1));
            let moody = |len, calm| Moody(vec![0; len], Mutex::new(calm));
            let batch = ring.batch::<_, Vec<u8>>().memset(moody(10, true), 1).memset(moody(11, false), 1);
            let mut batch = batch.on(mover).into_future();
            assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut batch))).is_err());
            assert_eq!(batch.state(), State::Idle);
            assert_eq!(run(batch).unwrap().len(), 2);
            let mut lengths = std::mem::take(&mut *record.lock().unwrap());
            lengths.sort_unstable();
            assert_eq!(lengths, [10, 11], "{name}: each once");
        }
    });
}
