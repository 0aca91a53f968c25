//! What can be a buffer, and what becomes of each kind.

use std::sync::Arc;

use memring::{IoBuf, IoBufMut, OpError, OutOfRange, Ring, Slice, State};

use crate::setup::on_each;
use crate::verbs::pattern;
use crate::watchdog::must_end;

/// Copies each source to each destination, and looks at what arrives, what comes back, and where it lies.
fn copies<D: IoBufMut, S: IoBuf + Clone>(ring: &Ring, dst: D, src: &S, bytes: impl Fn(&D) -> &[u8], expected: &[u8]) {
    let address = bytes(&dst).as_ptr();
    let source = src.bytes().unwrap().cast::<u8>();
    let (dst, src) = ring.block_on(ring.memcpy(dst, src.clone())).unwrap().unwrap();
    assert_eq!(bytes(&dst), expected);
    assert_eq!(bytes(&dst).as_ptr(), address, "it is the same buffer");
    drop((src, source));
}

#[test]
fn every_source_goes_to_every_destination() {
    const LEN: usize = 5000;
    static STATIC: [u8; LEN] = [42; LEN];
    must_end(|| {
        on_each(|ring, _| {
            let bytes = pattern(LEN);
            fn each<S: IoBuf + Clone>(ring: &Ring, src: &S, expected: &[u8]) {
                let len = expected.len();
                copies(ring, vec![0; len], src, |dst| dst, expected);
                copies::<Box<[u8]>, _>(ring, vec![0; len].into(), src, |dst| dst, expected);
                copies(ring, vec![0; len].slice(..), src, |dst| dst.get_ref(), expected);
            }
            each(ring, &bytes.clone(), &bytes);
            each::<Box<[u8]>>(ring, &bytes.clone().into(), &bytes);
            each::<Arc<[u8]>>(ring, &bytes.clone().into(), &bytes);
            each::<&'static [u8]>(ring, &&STATIC[..], &STATIC);
            each(ring, &bytes.clone().slice(100..), &bytes[100..]);
            each(ring, &Arc::<[u8]>::from(bytes.clone()).slice(..=4200), &bytes[..=4200]);
            each(ring, &(&STATIC[..]).slice(1..2), &[42]);
            // Slices of slices count from where the outer one begins.
            each(ring, &bytes.clone().slice(100..4100).slice(50..2050), &bytes[150..2150]);
        });
    });
}

#[test]
fn a_shared_source_is_shared_again_afterwards() {
    must_end(|| {
        on_each(|ring, _| {
            let page: Arc<[u8]> = pattern(4096).into();
            let mut copies: Vec<_> = (0..10).map(|_| ring.memcpy(vec![0; 4096], Arc::clone(&page))).collect();
            assert_eq!(Arc::strong_count(&page), 11);
            ring.wait_all(&mut copies).unwrap();
            for copy in copies {
                assert_eq!(copy.into_result().unwrap().unwrap(), (pattern(4096), Arc::clone(&page)));
            }
            assert_eq!(Arc::strong_count(&page), 1);
        });
    });
}

#[test]
fn a_slice_leaves_the_rest_alone() {
    must_end(|| {
        on_each(|ring, _| {
            let part = vec![1; 9000].slice(2000..8000);
            let set = ring.block_on(ring.memset(part, 2)).unwrap().unwrap();
            assert_eq!(set.get_ref().len(), 9000);
            let expected: Vec<u8> = [vec![1; 2000], vec![2; 6000], vec![1; 1000]].concat();
            assert_eq!(set.into_inner(), expected);

            let moved = ring.memmove(pattern(9000).slice(1000..), 0..5000, 3000);
            let mut expected = pattern(9000);
            expected[1000..].copy_within(0..5000, 3000);
            assert_eq!(ring.block_on(moved).unwrap().unwrap().into_inner(), expected);
            let empty = Slice::new(vec![1; 10], 10..);
            assert_eq!(ring.block_on(ring.memset(empty, 2)).unwrap().unwrap().into_inner(), [1; 10]);
        });
    });
}

#[test]
fn spare_capacity_counts_when_it_was_written_and_not_before() {
    must_end(|| {
        on_each(|ring, _| {
            for (used, spare) in [(0, 5000), (100, 5000), (100, 0), (100, 1)] {
                let mut log = Vec::with_capacity(used + spare);
                log.resize(used, 1);
                let address = log.as_ptr();
                let copied = ring.block_on(ring.memcpy(log.spare(spare), pattern(spare))).unwrap().unwrap();
                let log = copied.0.into_inner();
                assert_eq!(log, [vec![1; used], pattern(spare)].concat());
                assert_eq!(log.as_ptr(), address, "it did not grow");
            }
            // Refused, cancelled, failed: as it was.
            let log = || Vec::from([1; 10]);
            let refused = ring.block_on(ring.memset(log().spare(log().capacity()), 2)).unwrap().unwrap_err();
            assert!(matches!(refused.error, OpError::Range(OutOfRange { start: 0, .. })));
            assert_eq!(refused.buffers.into_inner(), log());
            let mut roomy = log();
            roomy.reserve_exact(10);
            let cancelled = ring.block_on(ring.memset(roomy.spare(10), 2).cancel()).unwrap().unwrap_err();
            assert_eq!(cancelled.buffers.into_inner(), log());
            let lengths = ring.block_on(ring.memcpy(Vec::with_capacity(8).spare(8), vec![0; 7])).unwrap().unwrap_err();
            assert_eq!(lengths.error, OpError::Lengths { dst: 8, src: 7 });
            assert_eq!(lengths.buffers.0.into_inner(), []);
        });
    });
}

#[test]
fn spare_capacity_can_be_filled_piece_by_piece() {
    must_end(|| {
        on_each(|ring, _| {
            let mut log = Vec::with_capacity(10 * 1000);
            for round in 0..10_u8 {
                let set = ring.memset(log.spare(1000), round);
                log = ring.block_on(set).unwrap().unwrap().into_inner();
                assert_eq!(log.len(), (usize::from(round) + 1) * 1000);
            }
            assert!(log.chunks(1000).zip(0..).all(|(piece, round)| piece == [round; 1000]));
            // In a batch, too.
            let batch = (0..10).fold(ring.batch(), |batch, _| {
                batch
                    .memcpy(Vec::with_capacity(1000).spare(1000), pattern(1000))
                    .memset(Vec::with_capacity(9).spare(9), 1)
            });
            for (dst, src) in ring.block_on(batch.into_future()).unwrap().unwrap() {
                assert_eq!(dst.into_inner(), src.unwrap_or_else(|| vec![1; 9]));
            }
        });
    });
}

#[test]
fn buffers_move_with_their_operation() {
    must_end(|| {
        on_each(|ring, _| {
            // Into a vector that grows, to another thread, and back.
            let mut begun = Vec::new();
            for value in 0..40_usize {
                begun.push(ring.memcpy(vec![0; 3000].slice(1..), pattern(2999)).try_start().unwrap());
                let turns = (value % 3).min(begun.len());
                begun.rotate_left(turns);
            }
            let mut begun = std::thread::spawn(|| begun).join().unwrap();
            ring.wait_all(&mut begun).unwrap();
            for copy in begun {
                assert_eq!(copy.state(), State::Complete);
                let (dst, src) = copy.into_result().unwrap().unwrap();
                assert_eq!(dst.into_inner()[1..], src);
            }
        });
    });
}

#[cfg(feature = "bytes")]
mod of_bytes {
    use bytes::{Bytes, BytesMut};

    use super::*;

    #[test]
    fn bytes_and_bytes_mut_are_buffers() {
        must_end(|| {
            on_each(|ring, _| {
                let src = Bytes::from(pattern(5000));
                let (dst, _) = ring.block_on(ring.memcpy(vec![0; 5000], src.clone())).unwrap().unwrap();
                assert_eq!(dst, src);
                let part = Bytes::slice(&src, 10..4000);
                let (dst, _) = ring.block_on(ring.memcpy(BytesMut::zeroed(3990), part.clone())).unwrap().unwrap();
                assert_eq!(dst, part);
                let (dst, src) = ring.block_on(ring.memcpy(vec![0; 3990], dst)).unwrap().unwrap();
                assert_eq!(dst, src);
                let moved = ring.memmove(IoBuf::slice(src, ..2000), 0..1000, 1000);
                let moved = ring.block_on(moved).unwrap().unwrap().into_inner();
                assert_eq!(moved[1000..2000], part[..1000]);
                assert_eq!(ring.block_on(ring.memset(moved, 3)).unwrap().unwrap()[..], [3; 3990]);
            });
        });
    }

    #[test]
    fn a_part_that_was_split_off_is_a_buffer_of_its_own() {
        must_end(|| {
            on_each(|ring, _| {
                let mut left = BytesMut::zeroed(8000);
                let right = left.split_off(4000);
                let mut sets = [ring.memset(left, 1), ring.memset(right, 2)];
                ring.wait_all(&mut sets).unwrap();
                let [left, right] = sets.map(|set| set.into_result().unwrap().unwrap());
                assert_eq!((&left[..], &right[..]), (&[1; 4000][..], &[2; 4000][..]));
            });
        });
    }
}

#[cfg(feature = "memmap2")]
mod of_memmap2 {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::FromRawFd;

    use memmap2::{Mmap, MmapMut};

    use super::*;

    #[expect(unsafe_code, reason = "memfd_create has no safe wrapper in std")]
    fn file(bytes: &[u8]) -> File {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"memring".as_ptr(), 0) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new, and nobody else has it.
        let mut file = unsafe { File::from_raw_fd(fd) };
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    #[expect(unsafe_code, reason = "maps a file")]
    fn mappings_are_buffers() {
        must_end(|| {
            on_each(|ring, _| {
                let file = file(&pattern(10_000));
                // SAFETY: nobody else has the file.
                let source = unsafe { Mmap::map(&file) }.unwrap();
                let (dst, source) = ring.block_on(ring.memcpy(vec![0; 10_000], source)).unwrap().unwrap();
                assert_eq!((&dst[..], &source[..]), (&pattern(10_000)[..], &pattern(10_000)[..]));
                drop(source);
                // SAFETY: as above.
                let target = unsafe { MmapMut::map_mut(&file) }.unwrap();
                let (target, _) = ring.block_on(ring.memcpy(target.slice(5000..), vec![9; 5000])).unwrap().unwrap();
                let target = ring.block_on(ring.flush(target)).unwrap().unwrap().into_inner();
                drop(target);
                // SAFETY: as above.
                let source = unsafe { Mmap::map(&file) }.unwrap();
                assert_eq!((&source[..5000], &source[5000..]), (&pattern(10_000)[..5000], &[9; 5000][..]));
            });
        });
    }

    #[test]
    fn anonymous_mappings_are_buffers() {
        must_end(|| {
            on_each(|ring, _| {
                let make = || MmapMut::map_anon(1 << 20).unwrap();
                let source = ring.block_on(ring.memset(make(), 5)).unwrap().unwrap();
                let (dst, source) = ring.block_on(ring.memcpy(make(), source)).unwrap().unwrap();
                assert_eq!(dst[..], source[..]);
                let moved = ring.block_on(ring.memmove(dst, 0..5, 1 << 19)).unwrap().unwrap();
                assert_eq!(moved[..], [5; 1 << 20]);
            });
        });
    }
}
