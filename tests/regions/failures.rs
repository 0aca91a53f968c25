//! What becomes of a region whose disk fails. (Of a disk that really fails: `tests/durability.rs`.)
#![expect(unsafe_code, reason = "pushes raw entries")]

use memring::{MappedFile, OpFlags, Sqe, Status};

use crate::files::{PAGE, Queue, WAYS, file, map};
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
