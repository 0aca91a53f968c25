//! What flushes and durable operations do, and what they cost.
#![expect(unsafe_code, reason = "pushes raw entries")]

use memring::queue::Drive;
use memring::queue::PushError;
use memring::{INLINE, OpFlags, Sqe, Status, URING, WORKERS};

use crate::files::{PAGE, Queue, WAYS, file, map, mapped};
use crate::watchdog::must_end;

#[test]
fn a_flush_of_a_region_is_an_fsync() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 4);
            let ends = queue.run(&[Sqe::flush_in(&queue.region, 0..PAGE).user_data(7)]);
            assert_eq!((ends[0].status(), ends[0].mover(), ends[0].user_data()), (Status::SUCCESS, URING, 7), "{name}");
            assert_eq!(queue.cq.stats().fsyncs, 1, "{name}");
            // Found by its address as well.
            let ends = queue.run(&[Sqe::flush(queue.at(1), 2 * PAGE)]);
            assert_eq!((ends[0].status(), ends[0].mover()), (Status::SUCCESS, URING), "{name}");
            assert_eq!(queue.cq.stats().fsyncs, 2, "{name}");
            // The caches of a CPU are not what a page cache is flushed of.
            for mover in [WORKERS, INLINE] {
                let flush = Sqe::flush(queue.at(1), PAGE).on(mover);
                // SAFETY: it is refused.
                assert_eq!(unsafe { queue.sq.push(flush) }, Err(PushError::Unsupported(flush)), "{name}");
            }
        }
    });
}

#[test]
fn durable_operations_copy_and_then_sync() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 1024);
            let src = vec![7_u8; 1 << 20];
            let durable = OpFlags::MEM_DURABLE;
            let set = Sqe::memset(queue.at(0), 5, PAGE).flags(durable).user_data(1);
            let copy = Sqe::memcpy(queue.at(1), src.as_ptr(), PAGE).flags(durable).within(&queue.region).user_data(2);
            // In parts, since it is long.
            let long = Sqe::memcpy(queue.at(512), src.as_ptr(), 1 << 20).flags(durable | OpFlags::NO_CACHE_HINT);
            let ends = queue.run(&[set, copy, long.user_data(3)]);
            assert!(ends.iter().all(|cqe| cqe.status().is_success() && cqe.mover() == URING), "{name}: {ends:?}");
            let moved = Sqe::memmove(queue.at(2), queue.at(1), PAGE).flags(durable);
            let ends = queue.run(&[moved]);
            assert_eq!((ends[0].status(), ends[0].mover()), (Status::SUCCESS, URING), "{name}");
            // SAFETY: nothing is in flight.
            let bytes = unsafe { std::slice::from_raw_parts(queue.at(0), 1024 * PAGE) };
            assert!(bytes[..PAGE] == [5; PAGE] && bytes[PAGE..2 * PAGE] == [7; PAGE], "{name}");
            assert!(bytes[2 * PAGE..3 * PAGE] == [7; PAGE] && bytes[512 * PAGE..768 * PAGE] == src, "{name}");
            assert!(queue.cq.stats().mover(WORKERS).bytes >= (1 << 20) + 3 * PAGE as u64, "{name}");
            assert!((1..=4).contains(&queue.cq.stats().fsyncs), "{name}");
        }
    });
}

/// What is copied on the submitter's thread is durable when it completes all the same: alone, in a batch, as the head
/// of a chain and as a member.
#[test]
fn inline_copies_go_on_as_flushes() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder().inline_max(64), 4);
            let small = |page: usize| Sqe::memset(queue.at(page), 6, 64).flags(OpFlags::MEM_DURABLE);
            let (alone, asked) = (small(0), Sqe::memset(queue.at(1), 6, PAGE).flags(OpFlags::MEM_DURABLE).on(INLINE));
            let chain = [small(2).link(), Sqe::memset(queue.at(2), 6, PAGE).link(), small(3)];
            for (entries, fsyncs) in [(&[alone][..], 1..=1), (&[alone, asked], 1..=2), (&chain, 2..=2)] {
                let before = queue.cq.stats();
                let ends = queue.run(entries);
                assert!(ends.iter().all(|cqe| cqe.status().is_success()), "{name}: {ends:?}");
                let after = queue.cq.stats();
                assert!(fsyncs.contains(&(after.fsyncs - before.fsyncs)), "{name}");
                let durable = entries.iter().filter(|sqe| sqe.op_flags().contains(OpFlags::MEM_DURABLE)).count() as u64;
                assert_eq!(after.mover(URING).operations - before.mover(URING).operations, durable, "{name}");
            }
            let bytes = queue.cq.stats().mover(INLINE).bytes;
            assert_eq!(bytes, (PAGE + 4 * 64) as u64, "{name}");
            // None of them holds its region any more.
            queue.region.deregister().unwrap();
        }
    });
}

/// Copy, make durable, publish: each begins when the one before it has ended, under whichever mover.
#[test]
fn chains_cross_to_the_disk_and_back() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 8);
            let record = [9_u8; PAGE];
            let chain = [
                Sqe::memcpy(queue.at(1), record.as_ptr(), PAGE).link().user_data(1),
                Sqe::flush_in(&queue.region, PAGE..2 * PAGE).link().user_data(2),
                Sqe::memset(queue.at(0), 1, 8).flags(OpFlags::MEM_DURABLE).user_data(3),
            ];
            let ends = queue.run(&chain);
            assert_eq!(ends.iter().map(memring::Cqe::user_data).collect::<Vec<_>>(), [1, 2, 3], "{name}");
            assert!(ends.iter().all(|cqe| cqe.status().is_success()), "{name}");
            assert_eq!(queue.cq.stats().fsyncs, 2, "{name}");
        }
    });
}

#[test]
fn what_waits_together_is_one_fsync() {
    const FLUSHES: usize = 1000;
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), FLUSHES);
            let sets: Vec<_> = (0..FLUSHES).map(|page| Sqe::memset(queue.at(page), 3, PAGE)).collect();
            assert!(queue.run(&sets).iter().all(|cqe| cqe.status().is_success()));
            let flushes: Vec<_> =
                (0..FLUSHES).map(|page| Sqe::flush_in(&queue.region, page * PAGE..(page + 1) * PAGE)).collect();
            let ends = queue.run(&flushes);
            assert!(ends.iter().all(|cqe| cqe.status().is_success() && cqe.mover() == URING), "{name}");
            let fsyncs = queue.cq.stats().fsyncs;
            assert!((1..=3).contains(&fsyncs), "{name}: {fsyncs} fsyncs");
        }
    });
}

#[test]
fn a_sleeping_reactor_is_woken_by_the_kernel() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 4);
            for round in 0..50_u8 {
                let set = Sqe::memset(queue.at(0), round, PAGE).flags(OpFlags::MEM_DURABLE);
                // SAFETY: the region's bytes, which nobody else has.
                unsafe { queue.sq.push(set) }.unwrap();
                queue.sq.submit();
                let mut ended = 0;
                while ended == 0 {
                    match queue.cq.arm() {
                        memring::queue::Arm::Armed => {
                            crate::rings::sleep_on(&queue.cq);
                            queue.cq.clear();
                        }
                        memring::queue::Arm::NotEmpty => {}
                        other => panic!("{name}: {other:?}"),
                    }
                    ended = queue.cq.drain().inspect(|cqe| assert!(cqe.status().is_success(), "{name}")).count();
                }
            }
        }
    });
}

#[test]
fn what_cannot_be_durable_is_refused() {
    let (_, builder) = WAYS[0];
    let mut queue = Queue::new(builder(), 4);
    let mut plain = vec![0_u8; 2 * PAGE];
    let durable = OpFlags::MEM_DURABLE;
    let set = Sqe::memset(plain.as_mut_ptr(), 1, PAGE).flags(durable);
    // SAFETY: all of these are refused.
    let mut push = |sqe| unsafe { queue.sq.push(sqe) };
    assert_eq!(push(set), Err(PushError::NotDurable(set)));
    let flush = Sqe::flush(plain.as_ptr(), PAGE);
    assert_eq!(push(flush.flags(durable)), Err(PushError::NotDurable(flush.flags(durable))));
    assert_eq!(push(flush.on(URING)), Err(PushError::NotDurable(flush.on(URING))));
    let nop = Sqe::nop().on(URING);
    assert_eq!(push(nop), Err(PushError::Unsupported(nop)));
    let end = queue.region.as_mut_ptr().wrapping_add(3 * PAGE);
    for beyond in [
        Sqe::memset(end, 1, 2 * PAGE).flags(durable),
        Sqe::flush(end, 2 * PAGE),
        Sqe::flush_in(&queue.region, 3 * PAGE..5 * PAGE),
        Sqe::flush(plain.as_ptr(), PAGE).within(&queue.region),
    ] {
        // SAFETY: as above.
        assert_eq!(unsafe { queue.sq.push(beyond) }, Err(PushError::OutsideRegion(beyond)));
    }
    let inline = Sqe::memset(queue.at(0), 1, PAGE).flags(durable).on(INLINE);
    // SAFETY: as above.
    let executed = unsafe { queue.sq.execute(inline) };
    assert_eq!(executed, Err(PushError::Unsupported(inline)), "nobody here waits for a disk");
    // A number that is no region's name, and a name where none belongs.
    let Sqe { .. } = nop;
    let mut raw = Sqe::flush(plain.as_ptr(), PAGE).to_raw();
    raw[5] = 1;
    let odd = Sqe::from_raw(raw);
    // SAFETY: as above.
    assert_eq!(unsafe { queue.sq.push(odd) }, Err(PushError::UnknownFlags(odd)));
    let plain_copy = Sqe::memset(queue.at(0), 1, PAGE).within(&queue.region);
    // SAFETY: as above.
    assert_eq!(unsafe { queue.sq.push(plain_copy) }, Err(PushError::UnknownFlags(plain_copy)));
    // SAFETY: as above; nothing of a batch is let in, and nothing of it holds the region.
    let batch = unsafe { queue.sq.push_batch(&[Sqe::flush_in(&queue.region, 0..PAGE), set]) };
    assert_eq!(batch, Err(PushError::NotDurable(set)));
    assert_eq!(queue.sq.staged(), 0);
    queue.region.deregister().unwrap();
}

/// Where the CPU's caches are all that is between a store and the storage, no fsync is made.
#[test]
fn persistent_memory_is_flushed_by_the_cpu() {
    must_end(|| {
        for (name, builder) in WAYS {
            let (sq, cq) = builder().build().unwrap().split();
            // SAFETY: nobody believes the completions.
            let region = sq.register(unsafe { mapped(&file(4 * PAGE)).assume_dax() }).unwrap();
            let mut queue = Queue { sq, cq, region };
            let src = [4_u8; 3 * PAGE];
            let copy = Sqe::memcpy(queue.at(0), src.as_ptr(), 3 * PAGE).flags(OpFlags::MEM_DURABLE);
            let flush = Sqe::flush_in(&queue.region, 0..PAGE).flags(OpFlags::MEM_DURABLE);
            let ends = queue.run(&[copy.link(), flush]);
            assert!(ends.iter().all(|cqe| cqe.status().is_success() && cqe.mover() == WORKERS), "{name}");
            assert_eq!(queue.cq.stats().fsyncs, 0, "{name}");
            // The copy, and the write-back of what it has written, and one more.
            assert_eq!(queue.cq.stats().mover(WORKERS).bytes, 7 * PAGE as u64, "{name}");
        }
    });
}

#[test]
fn a_thread_that_ends_leaves_its_fsyncs_to_others() {
    must_end(|| {
        let builder = memring::queue::QueuePair::builder().workers(0).flush_drive(Drive::Caller);
        let mut queue = Queue::new(builder, 64);
        for round in 0..20 {
            // What this thread hands to the kernel is cancelled when the thread ends, if it has not been done.
            queue = std::thread::spawn(move || {
                let sets: Vec<_> = (0..64).map(|page| Sqe::memset(queue.at(page), round, PAGE)).collect();
                queue.run(&sets);
                let flushes: Vec<_> =
                    (0..64).map(|page| Sqe::flush_in(&queue.region, page * PAGE..(page + 1) * PAGE)).collect();
                // SAFETY: flushes of what is mapped.
                unsafe { queue.sq.push_batch(&flushes) }.unwrap();
                queue.sq.submit();
                let early = queue.cq.drain().inspect(|cqe| assert!(cqe.status().is_success())).count();
                (queue, early)
            })
            .join()
            .map(|(mut queue, early)| {
                let mut ended = early;
                while ended < 64 {
                    queue.cq.wait(1, None).unwrap();
                    ended += queue.cq.drain().inspect(|cqe| assert_eq!(cqe.status(), Status::SUCCESS)).count();
                }
                queue
            })
            .unwrap();
        }
        assert_eq!(queue.region.error(), None);
    });
}

#[test]
fn flushes_that_wait_can_be_cancelled() {
    must_end(|| {
        let (_, builder) = WAYS[2];
        let mut queue = Queue::new(builder(), 4);
        // SAFETY: flushes of what is mapped.
        unsafe { queue.sq.push_batch(&[1, 2, 2].map(|of| Sqe::flush_in(&queue.region, 0..PAGE).user_data(of))) }
            .unwrap();
        queue.sq.submit();
        assert_eq!(queue.cq.cancel(2), 2);
        let mut ends = Vec::new();
        while ends.len() < 3 {
            queue.cq.wait(1, None).unwrap();
            ends.extend(queue.cq.drain().map(|cqe| (cqe.user_data(), cqe.status())));
        }
        ends.sort_by_key(|(of, _)| *of);
        assert_eq!(ends, [(1, Status::SUCCESS), (2, Status::CANCELLED), (2, Status::CANCELLED)]);
        queue.region.deregister().unwrap();
    });
}

#[test]
fn unregistered_mappings_are_plain_memory() {
    let (_, builder) = WAYS[0];
    let mut queue = Queue::new(builder(), 1);
    let other = map(&file(PAGE));
    let ends = queue.run(&[Sqe::flush(other.as_ptr(), PAGE)]);
    assert_eq!((ends[0].status(), ends[0].mover()), (Status::SUCCESS, WORKERS));
}
