//! What may be a region, and how long it is one.
#![expect(unsafe_code, reason = "maps files, and pushes raw entries")]

use std::fs::File;

use memmap2::{MmapMut, MmapOptions};
use memring::queue::{PushError, QueuePair};
use memring::region::{Backing, RegisterRefusal, SpanError};
use memring::{INLINE, MappedFile, OpFlags, Ring, Sqe, URING, WORKERS};

use crate::files::{PAGE, Queue, WAYS, file, map, mapped};
use crate::hold::Hold;
use crate::watchdog::must_end;

/// What is said of a mapping of `file` at these addresses.
fn refusal(file: &File, address: *mut u8, len: usize, offset: u64) -> RegisterRefusal {
    let pair = QueuePair::builder().build().unwrap();
    // SAFETY: it stays mapped as it is, and is refused.
    let error = pair.register(unsafe { MappedFile::from_raw(file, address, len, offset) }).unwrap_err();
    assert_eq!((error.mapped.as_mut_ptr(), error.mapped.len()), (address, len), "it is given back");
    error.reason
}

#[test]
fn what_is_no_mapping_of_the_file_is_refused() {
    let (here, other) = (file(4 * PAGE), file(4 * PAGE));
    let at = map(&here).as_mut_ptr();
    assert!(matches!(refusal(&other, at, 4 * PAGE, 0), RegisterRefusal::OtherFile));
    assert!(matches!(refusal(&here, at, PAGE, PAGE as u64), RegisterRefusal::OtherFile), "another part of it");
    assert!(matches!(refusal(&here, at, 0, 0), RegisterRefusal::NotMapped));
    let mut heap = vec![0_u8; 4 * PAGE];
    assert!(matches!(refusal(&here, heap.as_mut_ptr(), PAGE, 0), RegisterRefusal::Private));
    let nowhere = std::ptr::without_provenance_mut(PAGE);
    assert!(matches!(refusal(&here, nowhere, PAGE, 0), RegisterRefusal::NotMapped));
    // SAFETY: the file is this test's own.
    let mut private = unsafe { MmapOptions::new().map_copy(&here).unwrap() };
    assert!(matches!(refusal(&here, private.as_mut_ptr(), PAGE, 0), RegisterRefusal::Private));
    let reads = MmapOptions::new().map_raw_read_only(&here).unwrap();
    assert!(matches!(refusal(&here, reads.as_mut_ptr(), PAGE, 0), RegisterRefusal::ReadOnly));
}

#[test]
fn a_part_of_a_file_is_a_region_too() {
    must_end(|| {
        let whole = file(64 * PAGE);
        // SAFETY: the file is this test's own.
        let part: MmapMut =
            unsafe { MmapOptions::new().offset(8 * PAGE as u64).len(4 * PAGE).map_mut(&whole).unwrap() };
        let part = Box::leak(Box::new(part));
        let (sq, cq) = QueuePair::builder().build().unwrap().split();
        // SAFETY: it stays mapped.
        let second =
            unsafe { MappedFile::from_raw(&whole, part.as_mut_ptr().wrapping_add(PAGE), 2 * PAGE, 9 * PAGE as u64) };
        let region = sq.register(second).unwrap();
        assert_eq!((region.len(), region.offset(), region.backing()), (2 * PAGE, 9 * PAGE as u64, Backing::PageCache));
        // SAFETY: as above.
        let first = unsafe { MappedFile::from_raw(&whole, part.as_mut_ptr(), 2 * PAGE, 8 * PAGE as u64) };
        let refused = sq.register(first).unwrap_err();
        assert!(matches!(refused.reason, RegisterRefusal::Overlaps));
        let mut queue = Queue { sq, cq, region };
        let ends = queue.run(&[Sqe::flush_in(&queue.region, 0..2 * PAGE)]);
        assert!(ends[0].status().is_success());
        queue.region.deregister().unwrap();
        assert_eq!(queue.sq.register(refused.mapped).unwrap().offset(), 8 * PAGE as u64, "there is room for it now");
    });
}

#[test]
fn files_in_memory_are_volatile() {
    let Ok(file) = tempfile::tempfile_in("/dev/shm") else {
        eprintln!("SKIP: no tmpfs at /dev/shm");
        return;
    };
    file.set_len(PAGE as u64).unwrap();
    let ring = Ring::new().unwrap();
    let region = ring.register(mapped(&file)).unwrap();
    assert_eq!(region.backing(), Backing::Volatile);
    let failed = ring.block_on(ring.memset(region.span(0..PAGE).unwrap(), 1).durable()).unwrap().unwrap_err();
    assert_eq!(failed.error, memring::OpError::NotDurable);
    // Its caches can be written back, as of any memory.
    ring.block_on(ring.flush(failed.buffers)).unwrap().unwrap();
    assert_eq!(ring.stats().fsyncs, 0);
}

#[test]
fn a_region_in_use_stays() {
    must_end(|| {
        for (name, builder) in WAYS {
            let hold = Hold::default();
            let builder = builder().mover("holder", memring::queue::Drive::Threads(1), hold.movers());
            let pair = builder.build().unwrap();
            let holder = pair.mover("holder").unwrap();
            let (sq, cq) = pair.split();
            let region = sq.register(mapped(&file(4 * PAGE))).unwrap();
            let mut queue = Queue { sq, cq, region };
            let mut plain = [0_u8; 64];
            let first = Sqe::memset(plain.as_mut_ptr(), 1, 64).on(holder).link();
            // SAFETY: the array outlives the queue's last use of it.
            unsafe { queue.sq.push_batch(&[first, Sqe::flush_in(&queue.region, 0..PAGE)]) }.unwrap();
            let busy = queue.region.deregister().unwrap_err();
            assert_eq!((busy.in_flight, busy.spans), (1, 0), "{name}: staged");
            queue.sq.submit();
            hold.wait_for(1);
            let busy = busy.region.deregister().unwrap_err();
            assert_eq!(busy.in_flight, 1, "{name}: its turn has not come");
            hold.release(1);
            let mut ended = 0;
            while ended < 2 {
                queue.cq.wait(1, None).unwrap();
                ended += queue.cq.drain().inspect(|cqe| assert!(cqe.status().is_success(), "{name}")).count();
            }
            let span = busy.region.span(0..64).unwrap();
            let busy = busy.region.deregister().unwrap_err();
            assert_eq!((busy.in_flight, busy.spans), (0, 1), "{name}");
            drop(span);
            let flush = Sqe::flush_in(&busy.region, 0..PAGE);
            busy.region.deregister().unwrap();
            // SAFETY: it is refused.
            assert_eq!(unsafe { queue.sq.push(flush) }, Err(PushError::OutsideRegion(flush)), "{name}");
        }
    });
}

#[test]
fn a_dropped_region_takes_no_more_and_ends_what_it_has() {
    must_end(|| {
        for (name, builder) in WAYS {
            let (mut sq, mut cq) = builder().build().unwrap().split();
            let own = file(4 * PAGE);
            let region = sq.register(mapped(&own)).unwrap();
            let flush = Sqe::flush_in(&region, 0..PAGE);
            // SAFETY: a flush of what stays mapped.
            unsafe { sq.push(flush) }.unwrap();
            drop(region);
            // SAFETY: it is refused.
            assert_eq!(unsafe { sq.push(flush) }, Err(PushError::OutsideRegion(flush)), "{name}");
            sq.submit();
            cq.wait(1, None).unwrap();
            assert!(cq.drain().all(|cqe| cqe.status().is_success()), "{name}");
            // What it had is free again.
            sq.register(mapped(&own)).unwrap().deregister().unwrap();
        }
    });
}

#[test]
fn spans_do_not_overlap() {
    let ring = Ring::new().unwrap();
    let region = ring.register(mapped(&file(4 * PAGE))).unwrap();
    let mut middle = region.span(PAGE..2 * PAGE).unwrap();
    middle.fill(7);
    for overlapping in [0..PAGE + 1, PAGE..2 * PAGE, 2 * PAGE - 1..3 * PAGE, PAGE + 5..PAGE + 6, 0..4 * PAGE] {
        let error = region.span(overlapping).unwrap_err();
        assert_eq!(error, SpanError::InUse { start: PAGE, end: 2 * PAGE });
    }
    let (_before, _after) = (region.span(0..PAGE).unwrap(), region.span(2 * PAGE..4 * PAGE).unwrap());
    let _nothing = region.span(PAGE + 5..PAGE + 5).unwrap();
    let beyond = region.span(3 * PAGE..4 * PAGE + 1).unwrap_err();
    assert_eq!(beyond, SpanError::OutOfRange { start: 3 * PAGE, end: 4 * PAGE + 1, len: 4 * PAGE });
    #[expect(clippy::reversed_empty_ranges, reason = "it is wrong on purpose")]
    let reversed = region.span(5..4);
    assert!(reversed.is_err());
    assert!(region.clone().deregister().is_err());
    drop(middle);
    assert_eq!(region.span(PAGE..2 * PAGE).unwrap()[..], [7; PAGE]);
}

#[test]
fn a_closed_queue_registers_nothing() {
    let (sq, cq) = QueuePair::builder().build().unwrap().split();
    let region = sq.register(mapped(&file(PAGE))).unwrap();
    drop(cq);
    let refused = sq.register(mapped(&file(PAGE))).unwrap_err();
    assert!(matches!(refused.reason, RegisterRefusal::Closed));
    assert!(refused.to_string().contains("closed"));
    assert_eq!(region.error(), None);
}

#[test]
fn preallocation_fills_holes() {
    use std::os::unix::fs::MetadataExt;
    let sparse = file(64 * PAGE);
    assert_eq!(sparse.metadata().unwrap().blocks(), 0);
    let ring = Ring::new().unwrap();
    ring.register(mapped(&sparse)).unwrap().preallocate().unwrap();
    assert!(sparse.metadata().unwrap().blocks() * 512 >= 64 * PAGE as u64);
}

#[test]
fn there_are_no_spans_of_a_region_that_is_gone() {
    let ring = Ring::new().unwrap();
    let region = ring.register(mapped(&file(PAGE))).unwrap();
    let other = region.clone();
    region.deregister().unwrap();
    assert_eq!(other.span(0..8).unwrap_err(), SpanError::Deregistered);
    assert_eq!(other.span(8..8).unwrap_err(), SpanError::Deregistered);
    let failed = ring.block_on(ring.flush_in(&other, 0..8)).unwrap().unwrap_err();
    assert_eq!(failed.error, memring::OpError::OutsideRegion);
}

/// Whatever backs it, and whoever does it.
#[test]
fn all_that_is_in_a_region_holds_it() {
    must_end(|| {
        let Ok(file) = tempfile::tempfile_in("/dev/shm") else {
            eprintln!("SKIP: no tmpfs at /dev/shm");
            return;
        };
        file.set_len(PAGE as u64).unwrap();
        let (sq, cq) = QueuePair::builder().workers(0).build().unwrap().split();
        let mut region = sq.register(mapped(&file)).unwrap();
        let mut queue = Queue { sq, cq, region: region.clone() };
        for mover in [memring::ROUTED, WORKERS, INLINE] {
            // SAFETY: a flush of what is mapped.
            unsafe { queue.sq.push(Sqe::flush(region.as_mut_ptr(), PAGE).on(mover)) }.unwrap();
            let busy = region.deregister().unwrap_err();
            assert_eq!(busy.in_flight, 1, "{mover:?}");
            region = busy.region;
            queue.sq.submit();
            queue.cq.wait(1, None).unwrap();
            assert!(queue.cq.drain().all(|cqe| cqe.status().is_success()), "{mover:?}");
        }
        // SAFETY: as above.
        assert!(unsafe { queue.sq.execute(Sqe::flush_in(&region, 0..PAGE)) }.unwrap().status().is_success());
        region.deregister().unwrap();
    });
}

/// A durable copy whose region goes between the choice of its mover and its entry is refused, not done by halves.
#[test]
fn regions_may_come_and_go_beside_a_push() {
    const COPIES: usize = 20_000;
    must_end(|| {
        let (mut sq, mut cq) = QueuePair::builder().workers(0).build().unwrap().split();
        let own = file(PAGE);
        let at = map(&own).as_mut_ptr().expose_provenance();
        let address = move || std::ptr::with_exposed_provenance_mut(at);
        let is_over = std::sync::Arc::new(std::sync::Mutex::new(false));
        let (other, ends) = (sq.clone(), std::sync::Arc::clone(&is_over));
        let comes_and_goes = std::thread::spawn(move || {
            while !*ends.lock().unwrap() {
                // SAFETY: it stays mapped.
                let mapped = unsafe { MappedFile::from_raw(&own, address(), PAGE, 0) };
                let mut region = other.register(mapped).unwrap();
                while let Err(busy) = region.deregister() {
                    region = busy.region;
                }
            }
        });
        for _ in 0..COPIES {
            // SAFETY: what is mapped, and nobody else has.
            if unsafe { sq.push(Sqe::memset(address(), 1, 8).flags(OpFlags::MEM_DURABLE)) }.is_ok() {
                sq.submit();
                cq.wait(1, None).unwrap();
                assert!(cq.drain().all(|cqe| cqe.mover() == URING), "it was never flushed");
            }
        }
        *is_over.lock().unwrap() = true;
        comes_and_goes.join().unwrap();
    });
}
