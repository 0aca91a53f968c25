//! What each verb does, with each option, begun in each way.

use memring::future::{Flush, Memcpy, Memmove, Memset, Verb};
use memring::{Failed, INLINE, Operation, Ring, State, Status, WORKERS};

use crate::setup::{SETUPS, on_each};
use crate::watchdog::must_end;

/// Around the sizes where something changes: nothing, inline or not, a part of a budget or more.
const LENGTHS: [usize; 9] = [0, 1, 63, 511, 512, 513, 4096, 4097, 100_000];

/// Bytes that no other place has.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("it is less")).collect()
}

/// Runs an operation in each way in which one can be begun and awaited.
fn in_each_way<V: Verb>(ring: &Ring, make: impl Fn() -> Operation<V>, is_right: impl Fn(V::Buffers) -> bool) {
    let awaited = |operation: Operation<V>| ring.block_on(operation).expect("this thread may block");
    assert!(is_right(awaited(make()).expect("it is possible")), "awaited");
    let started = make().try_start().expect("there is room");
    assert!(is_right(awaited(started).expect("it is possible")), "started, then awaited");
    assert!(is_right(awaited(make().no_cache()).expect("it is possible")), "past the cache");
    for mover in [INLINE, WORKERS] {
        assert!(is_right(awaited(make().on(mover)).expect("it is possible")), "on {mover:?}");
    }
    let mut two = [make(), make()];
    ring.wait_all(&mut two).expect("this thread may block");
    for operation in two {
        assert_eq!(operation.state(), State::Complete);
        let result = operation.into_result().expect("it was waited for");
        assert!(is_right(result.expect("it is possible")), "waited for with others");
    }
    let cancelled = awaited(make().cancel());
    assert!(matches!(cancelled, Err(Failed { error, .. }) if error.status() == Status::CANCELLED), "it was idle");
}

#[test]
fn copies() {
    must_end(|| {
        on_each(|ring, _| {
            for len in LENGTHS {
                let make = || ring.memcpy(vec![0; len], pattern(len));
                in_each_way::<Memcpy<_, _>>(ring, make, |(dst, src)| dst == pattern(len) && src == dst);
                let (dst, src) = ring.block_on(ring.try_memcpy(vec![0; len], pattern(len)).unwrap()).unwrap().unwrap();
                assert_eq!((&dst, &src), (&src, &pattern(len)));
            }
        });
    });
}

#[test]
fn moves_in_either_direction() {
    must_end(|| {
        on_each(|ring, name| {
            for len in LENGTHS.into_iter().filter(|&len| len > 8) {
                for (from, to) in [(0..len / 2, len / 4), (len / 4..len, 0), (3..3, len), (0..len, 0), (1..2, 5)] {
                    let mut expected = pattern(len);
                    expected.copy_within(from.clone(), to);
                    let make = || ring.memmove(pattern(len), from.clone(), to);
                    in_each_way::<Memmove<_>>(ring, make, |found| found == expected);
                    let begun = ring.try_memmove(pattern(len), from.clone(), to).unwrap();
                    assert!(ring.block_on(begun).unwrap().unwrap() == expected, "{name}: {from:?} to {to} of {len}");
                }
            }
        });
    });
}

#[test]
fn sets() {
    must_end(|| {
        on_each(|ring, _| {
            for len in LENGTHS {
                in_each_way::<Memset<_>>(ring, || ring.memset(pattern(len), 77), |found| found == vec![77; len]);
                let begun = ring.try_memset(pattern(len), 78).unwrap();
                assert_eq!(ring.block_on(begun).unwrap().unwrap(), vec![78; len]);
            }
        });
    });
}

#[test]
fn flushes_change_nothing() {
    must_end(|| {
        on_each(|ring, _| {
            for len in LENGTHS {
                in_each_way::<Flush<_>>(ring, || ring.flush(pattern(len)), |found| found == pattern(len));
                let begun = ring.try_flush(pattern(len)).unwrap();
                assert_eq!(ring.block_on(begun).unwrap().unwrap(), pattern(len));
            }
        });
    });
}

#[test]
fn who_does_it_is_who_was_asked() {
    must_end(|| {
        let done = |ring: &Ring, mover| ring.stats().mover(mover).operations;
        for (name, builder) in SETUPS {
            let ring = builder().inline_max(512).build().unwrap();
            ring.block_on(ring.memset(vec![0; 512], 1)).unwrap().unwrap();
            assert_eq!((done(&ring, INLINE), done(&ring, WORKERS)), (1, 0), "{name}: it is small");
            ring.block_on(ring.memset(vec![0; 513], 1)).unwrap().unwrap();
            assert_eq!((done(&ring, INLINE), done(&ring, WORKERS)), (1, 1), "{name}: it is not");
            ring.block_on(ring.memset(vec![0; 513], 1).on(INLINE)).unwrap().unwrap();
            ring.block_on(ring.memset(vec![0; 1], 1).on(WORKERS)).unwrap().unwrap();
            assert_eq!((done(&ring, INLINE), done(&ring, WORKERS)), (2, 2), "{name}: as it was told");
        }
    });
}

#[test]
fn options_come_too_late_for_what_has_begun() {
    must_end(|| {
        let ring = Ring::builder().workers(0).inline_max(0).build().unwrap();
        let begun = ring.memset(vec![0; 64], 1).try_start().unwrap();
        let set = ring.block_on(begun.durable().on(INLINE).no_cache()).unwrap();
        assert_eq!(set.expect("durable would be refused"), [1; 64]);
        assert_eq!(ring.stats().mover(WORKERS).operations, 1);
    });
}

#[test]
fn rings_can_be_told_what_they_are() {
    let ring = Ring::builder().entries(48).build().unwrap();
    assert_eq!(format!("{ring:?}"), "Ring { entries: 48, .. }");
    let set = ring.memset(vec![0; 4096], 1);
    assert_eq!(format!("{set:?}"), "Operation { state: Idle, .. }");
    assert_eq!(format!("{:?}", ring.shutdown()), "Shutdown { .. }");
    assert_eq!((ring.mover("workers"), ring.mover("nobody")), (Some(WORKERS), None));
    assert!(ring.route().explain(&memring::Sqe::nop()).to_string().contains("INLINE"), "a nop has no length");
}
