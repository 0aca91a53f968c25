//! What becomes of a region whose disk fails. (Of a disk that really fails: `tests/durability.rs`.)
#![expect(unsafe_code, reason = "pushes raw entries")]

use memring::queue::Drive;
use memring::{MappedFile, OpFlags, Sqe, Status};

use crate::files::{PAGE, Queue, WAYS, file, map, mapped};
use crate::hold::Hold;
use crate::watchdog::must_end;

const EIO: i32 = 5;

#[test]
fn a_failed_fsync_fails_all_that_it_covers_and_poisons() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 8);
            queue.region.inject_failure(EIO);
            let durable = Sqe::memset(queue.at(1), 1, PAGE).flags(OpFlags::MEM_DURABLE);
            let ends = queue.run(&[Sqe::flush_in(&queue.region, 0..PAGE), Sqe::flush_in(&queue.region, 0..8)]);
            assert!(ends.iter().all(|cqe| (cqe.status(), cqe.value()) == (Status::IO, 5)), "{name}: {ends:?}");
            assert_eq!(queue.region.error(), Some(EIO), "{name}");
            let fsyncs = queue.cq.stats().fsyncs;
            // Nothing is tried again, not even for others.
            let ends = queue.run(&[durable, Sqe::flush_in(&queue.region, 4 * PAGE..5 * PAGE)]);
            assert!(ends.iter().all(|cqe| (cqe.status(), cqe.value()) == (Status::IO, 5)), "{name}: {ends:?}");
            assert_eq!(queue.cq.stats().fsyncs, fsyncs, "{name}");
            assert_eq!((queue.region.clear_error(), queue.region.error()), (Some(EIO), None), "{name}");
            let ends = queue.run(&[durable]);
            assert_eq!(ends[0].status(), Status::SUCCESS, "{name}");
        }
    });
}

#[test]
fn all_regions_of_the_file_are_poisoned_and_no_others() {
    must_end(|| {
        for (name, builder) in WAYS {
            let (sq, cq) = builder().build().unwrap().split();
            let (own, other) = (file(8 * PAGE), file(8 * PAGE));
            let half = |file: &std::fs::File, half: usize| {
                let at = map(file).as_mut_ptr().wrapping_add(half * 4 * PAGE);
                // SAFETY: it stays mapped.
                sq.register(unsafe { MappedFile::from_raw(file, at, 4 * PAGE, (half * 4 * PAGE) as u64) }).unwrap()
            };
            let regions = [half(&own, 0), half(&own, 1), half(&other, 0)];
            let mut queue = Queue { sq: sq.clone(), cq, region: regions[0].clone() };
            regions[0].inject_failure(EIO);
            assert_eq!(queue.run(&[Sqe::flush_in(&regions[0], 0..PAGE)])[0].status(), Status::IO, "{name}");
            let errors = || [0, 1, 2].map(|of: usize| regions[of].error());
            assert_eq!(errors(), [Some(EIO), Some(EIO), None], "{name}");
            assert_eq!(regions[0].clear_error(), Some(EIO), "{name}");
            assert_eq!(errors(), [None, Some(EIO), None], "{name}: each is cleared by itself");
            let ends = queue.run(&[Sqe::flush_in(&regions[1], 0..PAGE)]);
            assert_eq!((ends[0].status(), ends[0].value()), (Status::IO, 5), "{name}");
            let ends = queue.run(&[Sqe::flush_in(&regions[0], 0..PAGE), Sqe::flush_in(&regions[2], 0..PAGE)]);
            assert!(ends.iter().all(|cqe| cqe.status().is_success()), "{name}");
        }
    });
}

/// A flush that comes while the fsync that will fail is under way waits for the next one, and is not spared.
#[test]
fn who_waits_for_the_next_fsync_fails_with_this_one() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 512);
            for round in 0..20 {
                let sets: Vec<_> = (0..512).map(|page| Sqe::memset(queue.at(page), round, PAGE)).collect();
                queue.run(&sets);
                queue.region.inject_failure(EIO);
                let mut ended = Vec::new();
                let mut pushed = 0;
                // One after the other, so that some come while one is under way.
                while pushed < 100 {
                    // SAFETY: a flush of what is mapped.
                    unsafe { queue.sq.push(Sqe::flush_in(&queue.region, 0..PAGE)) }.unwrap();
                    queue.sq.submit();
                    pushed += 1;
                    ended.extend(queue.cq.drain().map(|cqe| cqe.status()));
                }
                while ended.len() < pushed {
                    queue.cq.wait(1, None).unwrap();
                    ended.extend(queue.cq.drain().map(|cqe| cqe.status()));
                }
                assert!(ended.iter().all(|status| *status == Status::IO), "{name}: {ended:?}");
                assert_eq!(queue.region.clear_error(), Some(EIO));
            }
        }
    });
}

#[test]
fn a_chain_whose_flush_fails_goes_no_further() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 4);
            let chain = [
                Sqe::memset(queue.at(1), 9, PAGE).flags(OpFlags::MEM_DURABLE).link(),
                Sqe::memset(queue.at(0), 1, 8).flags(OpFlags::MEM_DURABLE),
            ];
            queue.region.inject_failure(EIO);
            let ends = queue.run(&chain);
            let statuses: Vec<_> = ends.iter().map(memring::Cqe::status).collect();
            assert_eq!(statuses, [Status::IO, Status::CANCELLED], "{name}");
            // SAFETY: nothing is in flight.
            assert_eq!(unsafe { queue.at(0).read() }, 0, "{name}: nothing was published");
        }
    });
}

/// Who waited when it failed is not forgiven with the rest: what he covers may be among what was lost.
#[test]
fn forgiveness_is_not_for_those_who_waited() {
    must_end(|| {
        for (name, builder) in WAYS {
            let hold = Hold::default();
            let pair = builder().mover("holder", Drive::Threads(1), hold.movers()).build().unwrap();
            let holder = pair.mover("holder").unwrap();
            let (sq, cq) = pair.split();
            let region = sq.register(mapped(&file(4 * PAGE))).unwrap();
            let mut queue = Queue { sq, cq, region };
            let mut plain = [0_u8; 8];
            let held = Sqe::memset(plain.as_mut_ptr(), 1, 8).on(holder).link();
            let later = Sqe::flush_in(&queue.region, PAGE..2 * PAGE).user_data(2);
            // SAFETY: the array outlives the queue's last use of it.
            unsafe { queue.sq.push_batch(&[held, later]) }.unwrap();
            queue.sq.submit();
            hold.wait_for(1);
            queue.region.inject_failure(EIO);
            let ends = queue.run(&[Sqe::flush_in(&queue.region, 0..PAGE)]);
            assert_eq!(ends[0].status(), Status::IO, "{name}");
            assert_eq!(queue.region.clear_error(), Some(EIO), "{name}");
            hold.release(1);
            let mut ends = Vec::new();
            while ends.len() < 2 {
                queue.cq.wait(1, None).unwrap();
                ends.extend(queue.cq.drain().map(|cqe| (cqe.user_data(), cqe.status(), cqe.value())));
            }
            assert!(ends.contains(&(2, Status::IO, 5)), "{name}: {ends:?}");
            let ends = queue.run(&[Sqe::flush_in(&queue.region, PAGE..2 * PAGE)]);
            assert!(ends[0].status().is_success(), "{name}: who comes after it is");
        }
    });
}

#[test]
fn a_region_beside_a_poisoned_one_is_poisoned() {
    must_end(|| {
        for (name, builder) in WAYS {
            let mut queue = Queue::new(builder(), 1);
            let own = file(PAGE);
            let [first, second, third] = [(); 3].map(|()| mapped(&own));
            let poisoned = queue.sq.register(first).unwrap();
            poisoned.inject_failure(EIO);
            assert_eq!(queue.run(&[Sqe::flush_in(&poisoned, 0..PAGE)])[0].status(), Status::IO, "{name}");
            let beside = queue.sq.register(second).unwrap();
            assert_eq!(beside.error(), Some(EIO), "{name}");
            assert_eq!(queue.run(&[Sqe::flush_in(&beside, 0..PAGE)])[0].status(), Status::IO, "{name}");
            assert_eq!([&poisoned, &beside].map(memring::Region::clear_error), [Some(EIO); 2], "{name}");
            let clean = queue.sq.register(third).unwrap();
            assert_eq!(clean.error(), None, "{name}");
            assert!(queue.run(&[Sqe::flush_in(&clean, 0..PAGE)])[0].status().is_success(), "{name}");
        }
    });
}

/// What fails at once makes room for more of it, and must not keep others from the disk.
#[test]
fn a_flood_of_failures_holds_up_nobody() {
    must_end(|| {
        for (name, builder) in WAYS {
            let (sq, cq) = builder().entries(64).build().unwrap().split();
            let [poisoned, sound] = [(); 2].map(|()| sq.register(mapped(&file(PAGE))).unwrap());
            let mut queue = Queue { sq, cq, region: poisoned };
            queue.region.inject_failure(EIO);
            assert_eq!(queue.run(&[Sqe::flush_in(&queue.region, 0..PAGE)])[0].status(), Status::IO, "{name}");
            // SAFETY: a flush of what is mapped.
            unsafe { queue.sq.push(Sqe::flush_in(&sound, 0..PAGE).user_data(1)) }.unwrap();
            let mut is_over = false;
            while !is_over {
                // SAFETY: as above.
                while unsafe { queue.sq.push(Sqe::flush_in(&queue.region, 0..PAGE)) }.is_ok() {}
                queue.sq.submit();
                is_over = queue.cq.drain().any(|cqe| cqe.user_data() == 1 && cqe.status().is_success());
            }
        }
    });
}
