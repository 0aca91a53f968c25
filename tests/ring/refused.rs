//! Every error: who produces it, what it names, and that the buffers come back as they were.
#![expect(unsafe_code, reason = "implements buffers that make no sense")]

use std::error::Error;
use std::ptr;

use memring::mover::{Capabilities, Completions, Lane, Progress};
use memring::queue::Drive;
use memring::{
    BlockError, Failed, IoBuf, IoBufMut, MoverId, OpError, Opcode, OutOfRange, Ring, ScopeError, State, Status,
};

use crate::movers::held;
use crate::scripted::scripted;
use crate::setup::{SETUPS, on_each};
use crate::verbs::pattern;
use crate::watchdog::must_end;

/// A buffer that claims to lie where it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Liar {
    address: usize,
    len: usize,
}

impl Liar {
    fn bytes_at(self) -> *mut [u8] {
        ptr::slice_from_raw_parts_mut(ptr::without_provenance_mut(self.address), self.len)
    }
}

// SAFETY: not true. It is used where an operation is refused, or with the fault guard, where memory may be missing.
unsafe impl IoBuf for Liar {
    fn bytes(&self) -> Result<*const [u8], OutOfRange> {
        Ok(self.bytes_at())
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Liar {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        Ok(self.bytes_at())
    }
}

/// What an operation fails with, awaited and started; both must say the same. The buffers are judged by the caller.
fn fails<V: memring::future::Verb>(
    ring: &Ring,
    make: impl Fn() -> memring::Operation<V>,
    came_back: impl Fn(V::Buffers) -> bool,
) -> OpError {
    let Err(awaited) = ring.block_on(make()).unwrap() else { panic!("it succeeded") };
    let started = match make().try_start() {
        Err(failed) => failed,
        Ok(_) => panic!("it began"),
    };
    assert_eq!(awaited.error, started.error, "awaited, and started");
    assert!(came_back(awaited.buffers) && came_back(started.buffers), "the buffers");
    awaited.error
}

#[test]
fn lengths_that_differ() {
    must_end(|| {
        on_each(|ring, _| {
            for (to, from) in [(8, 9), (9, 8), (0, 1), (1, 0), (5000, 100_000)] {
                let make = || ring.memcpy(vec![7; to], pattern(from));
                let error = fails(ring, make, |(dst, src)| dst == vec![7; to] && src == pattern(from));
                assert_eq!(error, OpError::Lengths { dst: to, src: from });
                assert_eq!((error.status(), error.value()), (Status::INVALID, 0));
                let said = format!("the destination has {to} bytes and the source {from}");
                assert_eq!(error.to_string(), said);
            }
        });
    });
}

#[test]
fn ranges_that_are_not_there() {
    const MAX: usize = usize::MAX;
    must_end(|| {
        on_each(|ring, _| {
            let of = |start, end| OpError::Range(OutOfRange { start, end, len: 8 });
            let slice = |range: (usize, usize)| vec![7; 8].slice(range.0..range.1);
            for (start, end) in [(0, 9), (9, 9), (8, 9), (5, 4), (0, MAX), (MAX, MAX), (MAX, 0), (1, MAX)] {
                let error = fails(ring, || ring.memset(slice((start, end)), 1), |back| back.into_inner() == [7; 8]);
                assert_eq!(error, of(start, end));
                let error = fails(ring, || ring.flush(slice((start, end))), |back| back.into_inner() == [7; 8]);
                assert_eq!(error, of(start, end));
                let make = || ring.memcpy(slice((start, end)), slice((0, 8)));
                assert_eq!(fails(ring, make, |(dst, _)| dst.into_inner() == [7; 8]), of(start, end));
                let make = || ring.memcpy(slice((0, 8)), slice((start, end)));
                assert_eq!(fails(ring, make, |(dst, _)| dst.into_inner() == [7; 8]), of(start, end));
                let make = || ring.memmove(vec![7; 8], start..end, 0);
                assert_eq!(fails(ring, make, |back| back == [7; 8]), of(start, end));
            }
            for (to, end) in [(1, 9), (9, 17), (MAX, MAX), (MAX - 7, MAX)] {
                let error = fails(ring, || ring.memmove(vec![7; 8], 0..8, to), |back| back == [7; 8]);
                assert_eq!(error, of(to, end));
            }
            assert_eq!(of(5, 9).to_string(), "the bytes 5..9 are not in a buffer of 8");
            assert_eq!(of(5, 9).status(), Status::INVALID);
        });
    });
}

#[test]
fn bounds_beyond_the_last_number() {
    use std::ops::Bound::{self, Excluded, Included, Unbounded};
    const MAX: usize = usize::MAX;
    must_end(|| {
        let ring = Ring::new().unwrap();
        let range = |range: (Bound<usize>, Bound<usize>)| {
            let failed = ring.block_on(ring.memset(vec![7; 8].slice(range), 1)).unwrap().unwrap_err();
            assert_eq!(failed.buffers.into_inner(), [7; 8]);
            match failed.error {
                OpError::Range(OutOfRange { start, end, .. }) => (start, end),
                other => panic!("{other}"),
            }
        };
        assert_eq!(range((Excluded(MAX), Unbounded)), (MAX, 8));
        assert_eq!(range((Included(0), Included(MAX))), (0, MAX));
        assert_eq!(range((Included(MAX), Included(MAX))), (MAX, MAX));
        assert_eq!(range((Excluded(8), Unbounded)), (9, 8));
        let whole = vec![7; 8].slice((Excluded(2), Included(7)));
        assert_eq!(ring.block_on(ring.memset(whole, 1)).unwrap().unwrap().into_inner(), [7, 7, 7, 1, 1, 1, 1, 1]);
    });
}

#[test]
fn a_ring_that_is_full() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let (ring, mover, hold) = held(Ring::builder().entries(2).workers(1), drive);
            let kept = [1, 2].map(|value| ring.memset(vec![0; 4096], value).on(mover).try_start().unwrap());
            let refused = [
                ring.try_memcpy(vec![7; 4096], vec![8; 4096])
                    .map(drop)
                    .map_err(|failed| (failed.error, failed.buffers.0)),
                ring.try_memset(vec![7; 4096], 1).map(drop).map_err(|failed| (failed.error, failed.buffers)),
                ring.try_memmove(vec![7; 4096], 0..2048, 1).map(drop).map_err(|failed| (failed.error, failed.buffers)),
                ring.try_flush(vec![7; 4096]).map(drop).map_err(|failed| (failed.error, failed.buffers)),
            ];
            for refused in refused {
                assert_eq!(refused, Err((OpError::Full, vec![7; 4096])));
            }
            let small = ring.try_memset(vec![0; 8], 1).expect("what is small needs no room");
            assert_eq!(ring.block_on(small).unwrap().unwrap(), [1; 8]);
            hold.release(2);
            for (kept, value) in kept.into_iter().zip(1..) {
                assert_eq!(ring.block_on(kept).unwrap().unwrap(), [value; 4096]);
            }
            assert_eq!((OpError::Full.status(), OpError::Full.value()), (Status::OUT_OF_MEMORY, 0));
        }
    });
}

#[test]
fn a_batch_that_finds_no_room_can_be_begun_by_a_poll() {
    must_end(|| {
        for (name, builder) in SETUPS.into_iter().skip(1) {
            let ring = builder().entries(4).build().unwrap();
            let batch = || {
                (0..5).fold(ring.batch::<_, Vec<u8>>(), |batch, value| batch.memset(vec![0; 4096], value)).into_future()
            };
            let failed = batch().try_start().unwrap_err();
            // It is not linked: that it is longer than the ring is no obstacle, but for there being no room *now*.
            assert_eq!(failed.error, OpError::Full, "{name}");
            assert_eq!(failed.buffers.len(), 5);
            assert_eq!(ring.block_on(batch()).unwrap().unwrap().len(), 5);
        }
    });
}

#[test]
fn chains_that_would_never_fit() {
    must_end(|| {
        for (name, builder) in SETUPS {
            let ring = builder().entries(4).build().unwrap();
            let batch = |len: u8| {
                (0..len).fold(ring.batch::<_, Vec<u8>>(), |batch, value| batch.memset(vec![9; 600], value)).linked()
            };
            let error = fails(&ring, || batch(5).into_future(), |back| back.len() == 5 && back[4].0 == [9; 600]);
            assert_eq!(error, OpError::TooLong(5), "{name}");
            assert_eq!(error.status(), Status::INVALID);
            assert_eq!(error.to_string(), "5 linked operations are more than the ring has entries");
            // A flush counts as one, and is linked to what it is a flush of.
            let flushes = |count| (0..count).fold(batch(1), |batch, _| batch.flush()).into_future();
            assert_eq!(fails(&ring, || flushes(4), |back| back.len() == 1), OpError::TooLong(5), "{name}");
            assert_eq!(ring.block_on(flushes(3)).unwrap().unwrap().len(), 1);
            assert_eq!(ring.block_on(batch(4).into_future()).unwrap().unwrap().len(), 4);
        }
    });
}

#[test]
fn movers_that_are_not_there_or_cannot() {
    must_end(|| {
        for (name, builder) in SETUPS {
            let (ring, holder, _hold) = held(builder(), Drive::Threads(1));
            let is_back = |back: Vec<u8>| back == [7; 600];
            for id in [5, 200, 255] {
                let error = fails(&ring, || ring.memset(vec![7; 600], 1).on(MoverId::from_u8(id)), is_back);
                let unknown = OpError::UnknownMover;
                assert_eq!((error, error.status()), (unknown, Status::INVALID), "{name}: {id}");
            }
            let error = fails(&ring, || ring.flush(vec![7; 600]).on(holder), is_back);
            assert_eq!((error, error.status()), (OpError::Unsupported, Status::UNSUPPORTED), "{name}");
            assert_eq!(fails(&ring, || ring.memset(vec![7; 600], 1).durable(), is_back), OpError::NotDurable);
            assert_eq!(
                fails(&ring, || ring.memset(vec![7; 600], 1).on(holder).no_cache(), is_back),
                OpError::Unsupported
            );
            // One of many: nothing is run.
            let mixed = || {
                let batch = ring.batch().memset(vec![7; 600], 1).memcpy(vec![7; 600], vec![1; 600]);
                batch.on(holder).into_future()
            };
            let error = fails(&ring, mixed, |back| back.into_iter().all(|(dst, _)| dst == [7; 600]));
            assert_eq!(error, OpError::Unsupported);
            assert_eq!(ring.stats().mover(holder).operations, 0);
        }
    });
}

#[test]
fn entries_that_make_no_sense() {
    must_end(|| {
        on_each(|ring, _| {
            let nowhere = Liar { address: 0, len: 600 };
            let error = fails(ring, || ring.memset(nowhere, 1), |back| back == nowhere);
            assert_eq!((error, error.status()), (OpError::Refused, Status::INVALID), "null");
            let beyond = Liar { address: usize::MAX - 10, len: 600 };
            assert_eq!(fails(ring, || ring.flush(beyond), |back| back == beyond), OpError::Refused, "it wraps");
            let one = Liar { address: 4096, len: 600 };
            let same = || ring.memcpy(one, one);
            assert_eq!(fails(ring, same, |back| back == (one, one)), OpError::Refused, "a copy onto itself");
            let mixed = || ring.batch::<_, Vec<u8>>().memset(one, 1).memset(nowhere, 1).into_future();
            assert_eq!(fails(ring, mixed, |back| back.len() == 2), OpError::Refused, "one of many");
            let empty = Liar { address: 0, len: 0 };
            assert_eq!(ring.block_on(ring.memset(empty, 1)).unwrap().unwrap(), empty, "nothing at null is nothing");
        });
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn pages_that_are_missing() {
    must_end(|| {
        for (name, builder) in SETUPS {
            let ring = builder().fault_guard().build().unwrap();
            for len in [64, 4096] {
                let nowhere = Liar { address: 64, len };
                let failed = ring.block_on(ring.memcpy(vec![0; len], nowhere)).unwrap().unwrap_err();
                assert_eq!(failed.error, OpError::Mover(Status::FAULT, 0), "{name}");
                assert_eq!((failed.error.status(), failed.error.value()), (Status::FAULT, 0));
                assert_eq!((failed.buffers.0.len(), failed.buffers.1), (len, nowhere));
                assert_eq!(failed.to_string(), "the memory could not be accessed, from byte 0 on");
                // A batch says so too, and does the rest.
                let batch = ring.batch().memcpy(vec![0; len], nowhere.slice(..)).memset(vec![0; len], 3).into_future();
                let failed = ring.block_on(batch).unwrap().unwrap_err();
                assert_eq!(failed.error, OpError::Mover(Status::FAULT, 0), "{name}");
                assert_eq!(failed.buffers[1].0, vec![3; len]);
            }
        }
    });
}

#[test]
fn movers_that_fail_in_their_own_way() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let make = || {
                let poll = |lane: &mut Lane<'_>, done: &mut Completions<'_>| {
                    let mut progress = Progress::Idle;
                    while let Some(claimed) = lane.claim() {
                        progress = Progress::Busy;
                        match claimed.sqe().pattern() {
                            0 => drop(claimed),
                            status => done.complete(claimed, Status::from_u16(status.into())),
                        }
                    }
                    progress
                };
                scripted(Capabilities::new(&[Opcode::Memset]), poll, |bell, deadline| bell.sleep(deadline))
            };
            let ring = Ring::builder().mover("failing", drive, make).build().unwrap();
            let failing = ring.mover("failing").unwrap();
            let fails = |pattern| {
                let failed = ring.block_on(ring.memset(vec![9; 64], pattern).on(failing)).unwrap().unwrap_err();
                assert_eq!(failed.buffers, [9; 64]);
                assert!(failed.source().is_none() && failed.to_string() == failed.error.to_string());
                failed.error
            };
            assert_eq!(fails(0), OpError::Mover(Status::JOB_CORRUPTED, 0), "a token was dropped");
            for status in [Status::OUT_OF_MEMORY, Status::JOB_CORRUPTED, Status::INVALID, Status::IO] {
                assert_eq!(fails(u8::try_from(status.to_u16()).unwrap()), OpError::Mover(status, 0));
            }
            assert_eq!(fails(99), OpError::Mover(Status::from_u16(99), 0), "a status of tomorrow");
            assert_eq!(fails(99).to_string(), "status 99");
            assert_eq!(fails(3), OpError::Unsupported, "a mover may say so, too");
            assert_eq!((fails(5), fails(8)), (OpError::Cancelled, OpError::ShutDown));
            let mut bytes = [0; 64];
            let scoped = ring.scope(|s| s.on(failing).memset(&mut bytes, 4));
            assert_eq!(scoped, Err(ScopeError::Operation(OpError::Mover(Status::INVALID, 0))));
        }
    });
}

#[test]
fn failures_are_shown_without_their_buffers() {
    let failed = Failed { error: OpError::Full, buffers: "secret" };
    assert_eq!(format!("{failed:?}"), "Failed { error: Full, .. }");
    let every = [
        OpError::Full,
        OpError::TooLong(3),
        OpError::Cancelled,
        OpError::ShutDown,
        OpError::Forked,
        OpError::UnknownMover,
        OpError::Unsupported,
        OpError::Refused,
        OpError::NotDurable,
        OpError::OutsideRegion,
        OpError::Mover(Status::IO, 5),
        OpError::Mover(Status::JOB_CORRUPTED, 5),
    ];
    let texts: Vec<String> = every.iter().map(ToString::to_string).collect();
    assert!(texts.iter().all(|text| text.len() > 10), "{texts:?}");
    assert_eq!(texts[10], "the storage failed: Input/output error (os error 5)");
    assert_eq!(texts[11], format!("{} (5)", Status::JOB_CORRUPTED));
    assert_eq!(OpError::Forked.status(), Status::SHUT_DOWN);
    for (error, text) in [
        (ScopeError::Block(BlockError::WouldDeadlock), BlockError::WouldDeadlock.to_string()),
        (ScopeError::Operation(OpError::Full), OpError::Full.to_string()),
    ] {
        assert_eq!(error.to_string(), text);
        assert_eq!(error.source().map(ToString::to_string), Some(text));
    }
    assert_eq!(BlockError::Forked.to_string(), OpError::Forked.to_string());
}

#[test]
fn an_operation_that_was_refused_is_complete() {
    let ring = Ring::new().unwrap();
    let mut refused = ring.memcpy(vec![0; 1], vec![0; 2]);
    ring.wait_all(std::slice::from_mut(&mut refused)).unwrap();
    assert_eq!(refused.state(), State::Complete);
    let failed = refused.into_result().unwrap().unwrap_err();
    assert_eq!(failed.buffers, (vec![0; 1], vec![0; 2]));
}
