//! Goal: a mover written by a user gets exactly what the contract of `DataMover` promises, on every drive, and whatever
//! such a mover does, each operation ends once or its memory is never let go.
//!
//! Method: movers of many habits (synchronous, asynchronous, forgetful, panicking, waiting in their own ways) run on
//! threads and in the caller; who executed what is asked of the statistics. Where something sleeps, it announces
//! that first by a message, so no test depends on time. What aborts the process does so in a process of its own.
#![expect(unsafe_code, reason = "pushes entries, and implements a mover")]

#[path = "support/hold.rs"]
mod hold;
#[path = "movers/panics.rs"]
mod panics;
#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "movers/waits.rs"]
mod waits;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use memring::mover::{Capabilities, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{Arm, Builder, CompletionQueue, Drive, Driver, QueuePair, SubmissionQueue};
use memring::{Cqe, MoverId, OpFlags, Opcode, Sqe, Status, WORKERS};

use hold::Hold;
use scripted::scripted;
use watchdog::must_end;

const DRIVES: [Drive; 4] = [Drive::Threads(1), Drive::Threads(2), Drive::Threads(3), Drive::Caller];
const ENTRIES: usize = 64;

type Queue = (SubmissionQueue, CompletionQueue, MoverId);

fn build<M: DataMover + 'static>(drive: Drive, make: impl Fn() -> M + 'static) -> Queue {
    build_of(QueuePair::builder().workers(0), drive, make)
}

fn build_of<M: DataMover + 'static>(builder: Builder, drive: Drive, make: impl Fn() -> M + 'static) -> Queue {
    let pair = builder.entries(ENTRIES).mover("mine", drive, make).build().expect("the options are in range");
    let mover = pair.mover("mine").expect("it was added");
    let (sq, cq) = pair.split();
    (sq, cq, mover)
}

/// A mover that polls by a closure and sleeps as movers do by themselves.
fn polling<P>(capabilities: Capabilities, poll: P) -> impl DataMover
where
    P: FnMut(&mut Lane<'_>, &mut Completions<'_>) -> Progress + Send,
{
    scripted(capabilities, poll, |bell, deadline| bell.sleep(deadline))
}

fn all() -> Capabilities {
    Capabilities::new(&Opcode::ALL)
}

/// Completes all that it is given, as `status` says.
fn answering(status: impl Fn(&Sqe) -> (Status, u32) + Send) -> impl DataMover {
    polling(all().flags(OpFlags::MEM_DURABLE | OpFlags::NO_CACHE_HINT), move |lane, done| {
        let mut progress = Progress::Idle;
        while let Some(claimed) = lane.claim() {
            let (status, value) = status(claimed.sqe());
            done.complete_with(claimed, status, value);
            progress = Progress::Busy;
        }
        progress
    })
}

/// Submits nops with the user data 0, 1, and so on.
fn submit_nops(sq: &mut SubmissionQueue, count: u64, mover: MoverId) {
    let batch: Vec<Sqe> = (0..count).map(|index| Sqe::nop().user_data(index).on(mover)).collect();
    // SAFETY: nops touch no memory.
    unsafe { sq.push_batch(&batch) }.expect("there is room");
    assert_eq!(sq.submit(), batch.len());
}

/// Waits for so many completions and takes them, in order; there must be no more.
fn reap(cq: &mut CompletionQueue, count: usize) -> Vec<Cqe> {
    assert_eq!(cq.wait(count, None), Ok(count));
    let cqes: Vec<Cqe> = cq.drain().collect();
    assert_eq!(cqes.len(), count);
    cqes
}

/// Whether the completions are those of user data 0, 1, and so on, in any order, each once and with this status.
fn each_once(cqes: &[Cqe], status: Status) {
    let mut seen: Vec<u64> = cqes.iter().map(Cqe::user_data).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..cqes.len() as u64).collect::<Vec<_>>());
    assert!(cqes.iter().all(|cqe| cqe.status() == status), "{cqes:?}");
}

/// Writes the pattern of a memset.
struct Filler;

// SAFETY: writes only the claimed entry's destination, and only before completing it.
unsafe impl DataMover for Filler {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Memset])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(claimed) = lane.claim() {
            let sqe = claimed.sqe();
            // SAFETY: the entry's submitter vouched for its region.
            unsafe { sqe.dst().write_bytes(sqe.pattern(), usize::try_from(sqe.len()).expect("it is in memory")) };
            done.complete(claimed, Status::SUCCESS);
            progress = Progress::Busy;
        }
        progress
    }
}

#[test]
fn a_synchronous_mover_on_every_drive() {
    must_end(|| {
        for drive in DRIVES {
            let mut buffer = vec![0_u8; ENTRIES * 100];
            let made = Arc::new(Mutex::new(0));
            let count = Arc::clone(&made);
            let (mut sq, mut cq, mover) = build(drive, move || {
                *count.lock().expect("nobody panics") += 1;
                Filler
            });
            let drivers = if let Drive::Threads(threads) = drive { threads } else { 1 };
            assert_eq!(*made.lock().expect("nobody panics"), drivers, "one instance for each driver");

            for (value, chunk) in (1..).zip(buffer.chunks_mut(100)) {
                // SAFETY: the buffer is looked at when all completions were reaped.
                unsafe { sq.push(Sqe::memset(chunk.as_mut_ptr(), value, 100).on(mover)) }.expect("there is room");
            }
            assert_eq!(sq.submit(), ENTRIES);
            let cqes = reap(&mut cq, ENTRIES);
            assert!(cqes.iter().all(|cqe| cqe.status().is_success() && cqe.mover() == mover));
            assert!((1..).zip(buffer.chunks(100)).all(|(value, chunk)| chunk.iter().all(|&byte| byte == value)));

            let stats = cq.stats();
            let mine: Vec<_> = stats.drivers.iter().filter(|stats| stats.mover == mover).collect();
            assert_eq!(mine.len(), drivers);
            assert!(mine.iter().all(|stats| stats.name == "mine"));
            let expected = |driver| stats.driver(mover, driver).is_some();
            assert_eq!(expected(Driver::Caller), drive == Drive::Caller);
            assert_eq!((0..drivers).all(|thread| expected(Driver::Thread(thread))), drive != Drive::Caller);
            let total = stats.mover(mover);
            assert_eq!((total.operations, total.bytes), (ENTRIES as u64, ENTRIES as u64 * 100));
            assert_eq!(mine.iter().map(|stats| stats.operations).sum::<u64>(), total.operations);
            assert!((1..=total.operations).contains(&total.batches));
            assert_eq!(stats.mover(WORKERS).operations, 0);
        }
    });
}

#[test]
fn an_asynchronous_mover_completes_in_its_own_order() {
    must_end(|| {
        for (drive, can) in [(Drive::Threads(1), all()), (Drive::Caller, all()), (Drive::Caller, all())] {
            // A reaper that sleeps as soon as it can must be brought back by itself, or nobody polls a caller's mover.
            let builder = QueuePair::builder().workers(0).spin(Duration::ZERO);
            let (mut sq, mut cq, mover) = build_of(builder, drive, move || {
                let mut kept: Vec<Kept> = Vec::new();
                let mut rest_polls = 0;
                polling(can, move |lane, done| {
                    while let Some(claimed) = lane.claim() {
                        kept.push(claimed.keep());
                    }
                    rest_polls += usize::from(kept.len() == 8);
                    if rest_polls < 5 {
                        return if kept.is_empty() { Progress::Idle } else { Progress::Waiting };
                    }
                    rest_polls = 0;
                    kept.drain(..).rev().for_each(|token| done.complete(token, Status::SUCCESS));
                    Progress::Busy
                })
            });
            for _ in 0..3 {
                submit_nops(&mut sq, 8, mover);
                let order: Vec<u64> = reap(&mut cq, 8).iter().map(Cqe::user_data).collect();
                assert_eq!(order, (0..8).rev().collect::<Vec<_>>(), "{drive:?}");
            }
        }
    });
}

#[test]
fn lengths_that_no_counter_holds_break_nothing() {
    must_end(|| {
        let (mut sq, mut cq, mover) = build(Drive::Threads(1), || {
            let mut kept: Vec<Kept> = Vec::new();
            polling(all(), move |lane, done| {
                while let Some(claimed) = lane.claim() {
                    kept.push(claimed.keep());
                }
                if kept.len() < 4 {
                    return if kept.is_empty() { Progress::Idle } else { Progress::Waiting };
                }
                kept.drain(..).for_each(|token| done.complete(token, Status::SUCCESS));
                Progress::Busy
            })
        });
        // Nops may say what they like.
        let sqe = |index| Sqe::from_raw([0, index, 0, 0, isize::MAX as u64, 0, 0]).on(mover);
        for _ in 0..3 {
            // SAFETY: nops touch no memory.
            unsafe { sq.push_batch(&[sqe(0), sqe(1), sqe(2), sqe(3)]) }.expect("there is room");
            sq.submit();
            each_once(&reap(&mut cq, 4), Status::SUCCESS);
        }
    });
}

#[test]
fn asynchronous_movers_on_many_threads_complete_each_operation_once() {
    must_end(|| {
        for drive in DRIVES {
            let (mut sq, mut cq, mover) = build(drive, || {
                let mut kept: Vec<Kept> = Vec::new();
                let mut polls = 0;
                polling(all(), move |lane, done| {
                    while let Some(claimed) = lane.claim() {
                        kept.push(claimed.keep());
                    }
                    polls += 1;
                    // Every third poll ends the one in the middle.
                    if polls % 3 == 0 && !kept.is_empty() {
                        done.complete(kept.swap_remove(kept.len() / 2), Status::SUCCESS);
                    }
                    if kept.is_empty() { Progress::Idle } else { Progress::Waiting }
                })
            });
            for _ in 0..3 {
                submit_nops(&mut sq, ENTRIES as u64, mover);
                each_once(&reap(&mut cq, ENTRIES), Status::SUCCESS);
            }
            assert_eq!((cq.in_flight(), cq.stats().mover(mover).operations), (0, 3 * ENTRIES as u64));
        }
    });
}

#[test]
fn arm_says_must_poll_while_a_mover_that_cannot_signal_is_at_work() {
    must_end(|| {
        let hold = Hold::default();
        let (mut sq, mut cq, mover) = build(Drive::Caller, hold.movers());
        let hold = hold; // To be dropped before the queue.
        assert_eq!(cq.arm(), Arm::Armed);
        submit_nops(&mut sq, 2, mover);
        assert_eq!(cq.arm(), Arm::NotEmpty, "this thread must drive what was submitted");
        assert_eq!(cq.drain().count(), 0, "it claims, and completes nothing yet");
        hold.wait_for(2);
        cq.drain();
        assert_eq!(cq.arm(), Arm::MustPoll);
        hold.release(1);
        assert_eq!(cq.drain().count(), 1);
        cq.drain();
        assert_eq!(cq.arm(), Arm::MustPoll, "one is still under way");
        hold.release(1);
        assert_eq!(cq.wait(1, None), Ok(1));
        assert_eq!(cq.arm(), Arm::NotEmpty);
        assert_eq!(cq.drain().count(), 1);
        cq.drain();
        assert_eq!(cq.arm(), Arm::Armed);
    });
}

#[test]
fn dropped_tokens_end_as_corrupted_exactly_once() {
    must_end(|| {
        for drive in DRIVES {
            let (mut sq, mut cq, mover) = build(drive, || {
                polling(all(), |lane, _| {
                    let mut progress = Progress::Idle;
                    while let Some(claimed) = lane.claim() {
                        progress = Progress::Busy;
                        // Half of them as they are, half of them kept first.
                        if claimed.sqe().data() % 2 == 0 { drop(claimed) } else { drop(claimed.keep()) }
                    }
                    progress
                })
            });
            for _ in 0..2 {
                submit_nops(&mut sq, ENTRIES as u64, mover);
                each_once(&reap(&mut cq, ENTRIES), Status::JOB_CORRUPTED);
            }
            assert_eq!((cq.in_flight(), cq.stats().mover(mover).operations), (0, 2 * ENTRIES as u64));
        }
    });
}

#[test]
fn tokens_may_be_dropped_on_any_thread() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let (give, taken) = mpsc::channel::<Kept>();
            let (mut sq, mut cq, mover) = build(drive, move || {
                let give = give.clone();
                polling(all(), move |lane, _| {
                    while let Some(claimed) = lane.claim() {
                        give.send(claimed.keep()).expect("the test listens");
                    }
                    Progress::Waiting
                })
            });
            submit_nops(&mut sq, 3, mover);
            let dropper = thread::spawn(move || taken.into_iter().take(3).for_each(drop));
            each_once(&reap(&mut cq, 3), Status::JOB_CORRUPTED);
            dropper.join().expect("it did not panic");
        }
    });
}

#[test]
fn tokens_may_be_completed_by_another_instance() {
    must_end(|| {
        let pool: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let (mut sq, mut cq, mover) = build(Drive::Threads(3), move || {
            let pool = Arc::clone(&pool);
            polling(all(), move |lane, done| {
                let mut pool = pool.lock().expect("polls do not panic");
                while let Some(claimed) = lane.claim() {
                    pool.push(claimed.keep());
                }
                if pool.len() < ENTRIES {
                    return Progress::Waiting;
                }
                pool.drain(..).for_each(|token| done.complete(token, Status::SUCCESS));
                Progress::Busy
            })
        });
        for _ in 0..3 {
            submit_nops(&mut sq, ENTRIES as u64, mover);
            each_once(&reap(&mut cq, ENTRIES), Status::SUCCESS);
        }
        assert_eq!(cq.stats().mover(mover).operations, 3 * ENTRIES as u64);
    });
}

#[test]
fn tokens_end_in_the_queue_that_they_came_from() {
    must_end(|| {
        // One pool for two queues: whichever mover finds eight tokens completes them all, its own and the other's.
        let pool: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let make = |pool: &Arc<Mutex<Vec<Kept>>>| {
            let pool = Arc::clone(pool);
            move || {
                let pool = Arc::clone(&pool);
                polling(all(), move |lane, done| {
                    let mut pool = pool.lock().expect("polls do not panic");
                    while let Some(claimed) = lane.claim() {
                        pool.push(claimed.keep());
                    }
                    if pool.len() < 8 {
                        return Progress::Waiting;
                    }
                    pool.drain(..).for_each(|token| done.complete_with(token, Status::SUCCESS, 7));
                    Progress::Busy
                })
            }
        };
        let mut queues = [build(Drive::Threads(1), make(&pool)), build(Drive::Threads(1), make(&pool))];
        for _ in 0..20 {
            for ((sq, _, mover), count) in queues.iter_mut().zip([5, 3]) {
                submit_nops(sq, count, *mover);
            }
            for ((sq, cq, _), count) in queues.iter_mut().zip([5, 3]) {
                let cqes = reap(cq, count);
                each_once(&cqes, Status::SUCCESS);
                assert!(cqes.iter().all(|cqe| cqe.value() == 7));
                assert_eq!(sq.in_flight(), 0);
            }
        }
        for ((_, cq, mover), total) in queues.iter().zip([100, 60]) {
            assert_eq!(cq.stats().mover(*mover).operations, total);
        }
    });
}

#[test]
fn a_mover_may_leave_entries_for_later() {
    must_end(|| {
        for (drive, lie) in DRIVES.into_iter().flat_map(|drive| [(drive, Progress::Idle), (drive, Progress::Waiting)]) {
            let (mut sq, mut cq, mover) = build(drive, move || {
                polling(all(), move |lane, done| {
                    if let Some(claimed) = lane.claim() {
                        done.complete(claimed, Status::SUCCESS);
                    }
                    lie
                })
            });
            submit_nops(&mut sq, ENTRIES as u64, mover);
            each_once(&reap(&mut cq, ENTRIES), Status::SUCCESS);
        }
    });
}

#[test]
fn every_status_and_value_arrives() {
    must_end(|| {
        for drive in DRIVES {
            let (mut sq, mut cq, mover) = build(drive, || {
                let low = |word: u64| u32::try_from(word & 0xffff_ffff).expect("32 bits");
                answering(move |sqe| {
                    (Status::from_u16(u16::try_from(sqe.data() >> 32).expect("16 bits")), low(sqe.data()))
                })
            });
            let known = Status::ALL.iter().copied();
            for status in known.chain([Status::from_u16(999), Status::from_u16(u16::MAX)]) {
                for value in [0, 1, 5, u32::MAX] {
                    let user_data = (u64::from(status.to_u16()) << 32) | u64::from(value);
                    // SAFETY: a nop touches no memory.
                    unsafe { sq.push(Sqe::nop().user_data(user_data).on(mover)) }.expect("there is room");
                    sq.submit();
                    let cqe = reap(&mut cq, 1)[0];
                    assert_eq!((cqe.user_data(), cqe.status(), cqe.value()), (user_data, status, value));
                    assert_eq!((cqe.mover(), cqe.flags()), (mover, 0));
                    assert_eq!(cqe.status().is_success(), status.to_u16() == 0);
                }
            }
        }
    });
}

#[test]
fn a_mover_sees_the_users_entry() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            let (seen, sees) = mpsc::channel();
            let (mut sq, mut cq, mover) = build(drive, move || {
                let seen = seen.clone();
                answering(move |sqe| {
                    seen.send(*sqe).expect("the test listens");
                    (Status::SUCCESS, 0)
                })
            });
            let (mut dst, src) = ([0_u8; 64], [0_u8; 64]);
            let both = OpFlags::MEM_DURABLE | OpFlags::NO_CACHE_HINT;
            for sqe in [
                Sqe::nop(),
                Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 60),
                Sqe::memmove(dst.as_mut_ptr(), src.as_ptr(), 61).flags(OpFlags::NO_CACHE_HINT),
                Sqe::memset(dst.as_mut_ptr(), 0xa7, 62).flags(both),
                Sqe::flush(dst.as_ptr(), 63).flags(OpFlags::MEM_DURABLE),
            ] {
                let sqe = sqe.user_data(0xfeed_0000_0000_beef).on(mover);
                // SAFETY: this mover touches no memory.
                unsafe { sq.push(sqe) }.expect("there is room");
                sq.submit();
                assert_eq!(reap(&mut cq, 1)[0].user_data(), 0xfeed_0000_0000_beef);
                let seen = sees.recv().expect("it was completed, so it was seen");
                assert_eq!(seen.to_raw(), sqe.to_raw());
                assert_eq!((seen.opcode(), seen.op_flags(), seen.len()), (sqe.opcode(), sqe.op_flags(), sqe.len()));
                assert_eq!((seen.dst(), seen.src(), seen.pattern()), (sqe.dst(), sqe.src(), sqe.pattern()));
            }
        }
    });
}

#[test]
fn the_route_gives_a_mover_what_those_before_it_cannot_do() {
    let pair = QueuePair::builder().workers(0).mover("durable", Drive::Caller, || answering(|_| (Status::SUCCESS, 0)));
    let pair = pair.build().expect("the options are in range");
    let durable = pair.mover("durable").expect("it was added");
    assert_eq!((pair.mover("workers"), pair.mover("nobody")), (Some(WORKERS), None));
    let plain = Sqe::nop();
    let marked = plain.flags(OpFlags::MEM_DURABLE);
    assert_eq!(pair.route().choose(&plain), Ok(WORKERS));
    assert_eq!(pair.route().choose(&marked), Ok(durable));
    assert_eq!(pair.route().choose(&plain.on(durable)), Ok(durable));
    assert!(pair.route().choose(&marked.on(WORKERS)).is_err());
    let (mut sq, mut cq) = pair.split();
    // SAFETY: nops touch no memory.
    unsafe { sq.push_batch(&[plain.user_data(0), marked.user_data(1), plain.user_data(2)]) }.expect("there is room");
    assert_eq!(sq.submit(), 3);
    for cqe in reap(&mut cq, 3) {
        assert_eq!(cqe.mover(), if cqe.user_data() == 1 { durable } else { WORKERS });
    }
}

#[test]
fn many_movers_at_once() {
    must_end(|| {
        let drives = [Drive::Threads(2), Drive::Caller, Drive::Threads(1), Drive::Caller, Drive::Threads(3)];
        let mut builder = QueuePair::builder().entries(ENTRIES).workers(2);
        for (index, drive) in (0..).zip(drives) {
            builder = builder.mover(&format!("m{index}"), drive, move || answering(move |_| (Status::SUCCESS, index)));
        }
        let pair = builder.build().expect("the options are in range");
        let ids: Vec<MoverId> =
            (0..drives.len()).map(|index| pair.mover(&format!("m{index}")).expect("it was added")).collect();
        let (mut sq, mut cq) = pair.split();
        let chosen = |user_data: u64| ids.get(usize::try_from(user_data % 6).expect("small")).copied();
        for round in 0..20 {
            let sqe = |user_data| {
                let mover = chosen(user_data * (round + 1)).unwrap_or(WORKERS);
                Sqe::nop().user_data(user_data).on(mover)
            };
            let batch: Vec<Sqe> = (0..ENTRIES as u64).map(sqe).collect();
            let (one_by_one, together) = batch.split_at(ENTRIES / 2);
            for sqe in one_by_one {
                // SAFETY: a nop touches no memory.
                unsafe { sq.push(*sqe) }.expect("there is room");
            }
            // SAFETY: as above.
            unsafe { sq.push_batch(together) }.expect("there is room");
            sq.submit();
            let cqes = reap(&mut cq, ENTRIES);
            each_once(&cqes, Status::SUCCESS);
            for cqe in cqes {
                let mover = chosen(cqe.user_data() * (round + 1));
                let value = mover.map_or(0, |mover| u32::from(mover.to_u8()) - 16);
                assert_eq!((cqe.mover(), cqe.value()), (mover.unwrap_or(WORKERS), value));
            }
        }
        let stats = cq.stats();
        let total: u64 = ids.iter().chain([&WORKERS]).map(|&mover| stats.mover(mover).operations).sum();
        assert_eq!(total, 20 * ENTRIES as u64);
    });
}

#[test]
fn a_busy_mover_does_not_starve_the_next_one() {
    let builder = QueuePair::builder().workers(0).poll_budget(1);
    let (mut sq, mut cq, mover) = build_of(builder, Drive::Caller, || answering(|_| (Status::SUCCESS, 0)));
    let mut byte = 0_u8;
    let one_byte = Sqe::memset(&raw mut byte, 1, 1).user_data(1);
    // SAFETY: the byte outlives the queue, and nobody looks at it.
    unsafe { sq.push_batch(&[one_byte; 8]) }.expect("there is room");
    assert_eq!(sq.submit(), 8);
    submit_nops(&mut sq, 1, mover);
    // Every drain does one of the eight, which spends its budget, and another one takes its place.
    let reached = (0..8).any(|_| {
        let found = cq.drain().any(|cqe| cqe.mover() == mover);
        // SAFETY: as above.
        unsafe { sq.push(one_byte) }.expect("there is room");
        sq.submit();
        found
    });
    assert!(reached, "eight drains have not polled the second mover");
}
