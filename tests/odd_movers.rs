//! Goal: movers that are full, broken or badly named, and submitters that panic, harm nobody else.
//!
//! Method: a device with room for one operation, which ends when the test says so: what the driver did meanwhile is
//! counted, never timed. A watchdog turns a hang into a failure.
#![expect(unsafe_code, reason = "implements movers, and pushes nops and entries whose memory outlives them")]

#[path = "support/watchdog.rs"]
mod watchdog;

use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use memring::mover::{Bell, Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{Arm, CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue};
use memring::{MoverId, Opcode, Sqe, Status};

use watchdog::must_end;

/// What the test sees of its devices, and tells them.
#[derive(Debug, Default)]
struct Panel {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    polls: u64,
    waits: u64,
    /// Operations that devices hold now.
    held: u64,
    /// Operations that may end.
    may_end: u64,
}

impl Panel {
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().expect("nobody panics with it"));
        self.changed.notify_all();
    }

    fn wait_until(&self, is: impl Fn(&Seen) -> bool) -> Seen {
        let seen = self.seen.lock().expect("nobody panics with it");
        *self.changed.wait_while(seen, |seen| !is(seen)).expect("nobody panics with it")
    }
}

/// A device with room for one operation.
struct Device {
    panel: Arc<Panel>,
    held: Option<Kept>,
}

// SAFETY: touches no memory: it takes nops only.
unsafe impl DataMover for Device {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Nop])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut may_end = false;
        self.panel.note(|seen| {
            seen.polls += 1;
            may_end = self.held.is_some() && seen.may_end > 0;
            if may_end {
                seen.may_end -= 1;
                seen.held -= 1;
            }
        });
        if may_end && let Some(token) = self.held.take() {
            done.complete(token, Status::SUCCESS);
            return Progress::Busy;
        }
        if self.held.is_some() {
            return Progress::Waiting;
        }
        self.held = lane.claim().map(Claimed::keep);
        if self.held.is_none() {
            return Progress::Idle;
        }
        self.panel.note(|seen| seen.held += 1);
        Progress::Busy
    }

    fn wait(&mut self, bell: &Bell<'_>, deadline: Option<Instant>) {
        self.panel.note(|seen| seen.waits += 1);
        bell.sleep(deadline);
    }
}

fn devices(drive: Drive) -> (Arc<Panel>, SubmissionQueue, CompletionQueue, MoverId) {
    let panel = Arc::new(Panel::default());
    let shared = Arc::clone(&panel);
    let make = move || Device { panel: Arc::clone(&shared), held: None };
    let builder = QueuePair::builder().entries(8).workers(0).spin(Duration::ZERO);
    let pair = builder.mover("device", drive, make).build().expect("it is sound");
    let mover = pair.mover("device").expect("it was just added");
    let (sq, cq) = pair.split();
    (panel, sq, cq, mover)
}

fn submit_nops(sq: &mut SubmissionQueue, mover: MoverId, count: usize) {
    // SAFETY: nops touch no memory.
    unsafe { sq.push_batch(&vec![Sqe::nop().on(mover); count]) }.expect("there is room");
    assert_eq!(sq.submit(), count);
}

/// A driver that polled a full mover as fast as it can would count thousands of polls for each wait.
#[test]
fn a_full_mover_waits_although_its_lane_does_not() {
    must_end(|| {
        let (panel, mut sq, mut cq, device) = devices(Drive::Threads(1));
        submit_nops(&mut sq, device, 3);
        let before = panel.wait_until(|seen| seen.held == 1);
        let after = panel.wait_until(|seen| seen.waits >= before.waits + 20);
        assert!(after.polls - before.polls <= after.waits - before.waits + 2, "{before:?}, then {after:?}");
        panel.note(|seen| seen.may_end += 3);
        assert_eq!(cq.wait(3, None), Ok(3));
    });
}

/// A driver that took more entries than its mover has room for would leave the other device idle, for ever.
#[test]
fn two_devices_share_what_waits() {
    must_end(|| {
        let (panel, mut sq, mut cq, device) = devices(Drive::Threads(2));
        submit_nops(&mut sq, device, 5);
        panel.wait_until(|seen| seen.held == 2);
        panel.note(|seen| seen.may_end += 5);
        assert_eq!(cq.wait(5, None), Ok(5));
    });
}

/// Nobody can signal the end of what a caller-driven mover holds: a promise of a wake would be empty.
#[test]
fn a_caller_with_operations_under_way_must_poll() {
    must_end(|| {
        let (panel, mut sq, mut cq, device) = devices(Drive::Caller);
        assert_eq!(cq.arm(), Arm::Armed);
        submit_nops(&mut sq, device, 2);
        assert_eq!(cq.arm(), Arm::NotEmpty, "there is work");
        assert_eq!(cq.drain().count(), 0);
        cq.drain();
        assert_eq!(cq.arm(), Arm::MustPoll, "the device is full, and what it holds is under way");
        panel.note(|seen| seen.may_end += 2);
        assert_eq!(cq.wait(2, None), Ok(2));
        assert_eq!(cq.drain().count(), 2);
        assert_eq!(cq.arm(), Arm::Armed);
    });
}

/// A wait that sleeps uses the word of the armed state; it must not use it up.
#[test]
fn a_wait_leaves_the_descriptor_as_it_was_promised() {
    must_end(|| {
        for _ in 0..50 {
            let (panel, mut sq, mut cq, device) = devices(Drive::Threads(1));
            assert_eq!(cq.arm(), Arm::Armed);
            submit_nops(&mut sq, device, 1);
            let ends = thread::spawn(move || {
                panel.wait_until(|seen| seen.held == 1);
                panel.note(|seen| seen.may_end += 1);
            });
            assert_eq!(cq.wait(1, None), Ok(1));
            let mut polled = libc::pollfd { fd: cq.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, which outlives the call.
            let ready = unsafe { libc::poll(&raw mut polled, 1, 60_000) };
            assert_eq!(ready, 1, "a completion came after the arm, so the descriptor becomes readable");
            ends.join().expect("it does not panic");
        }
    });
}

/// Panics at the entry 666; else does nothing, well.
struct Fragile;

// SAFETY: touches no memory: it takes nops only.
unsafe impl DataMover for Fragile {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Nop]).quiescent_on_panic()
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(claimed) = lane.claim() {
            if claimed.sqe().data() == 666 {
                panic_any(Bomb);
            }
            done.complete(claimed, Status::SUCCESS);
            progress = Progress::Busy;
        }
        progress
    }
}

/// A panic payload that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload's drop");
    }
}

fn fragile(threads: usize) -> (SubmissionQueue, CompletionQueue, MoverId) {
    let builder = QueuePair::builder().entries(64).workers(0);
    let pair = builder.mover("fragile", Drive::Threads(threads), || Fragile).build().expect("it is sound");
    let mover = pair.mover("fragile").expect("it was just added");
    let (sq, cq) = pair.split();
    (sq, cq, mover)
}

fn break_one(sq: &mut SubmissionQueue, cq: &mut CompletionQueue, mover: MoverId) {
    // SAFETY: a nop touches no memory.
    unsafe { sq.push(Sqe::nop().user_data(666).on(mover)) }.expect("there is room");
    sq.submit();
    assert_eq!(cq.wait(1, None), Ok(1));
    assert!(cq.drain().all(|cqe| cqe.status() == Status::JOB_CORRUPTED));
}

fn statuses(sq: &mut SubmissionQueue, cq: &mut CompletionQueue, mover: MoverId) -> Vec<Status> {
    submit_nops(sq, mover, 64);
    assert_eq!(cq.wait(64, None), Ok(64));
    cq.drain().map(|cqe| cqe.status()).collect()
}

/// A broken driver answers at once, so it would win most of what comes from its sound companions.
#[test]
fn one_broken_driver_of_several_leaves_the_others_to_it() {
    must_end(|| {
        let (mut sq, mut cq, mover) = fragile(3);
        for _ in 0..2 {
            break_one(&mut sq, &mut cq, mover);
            for _ in 0..50 {
                assert!(statuses(&mut sq, &mut cq, mover).iter().all(|status| status.is_success()));
            }
        }
        break_one(&mut sq, &mut cq, mover);
        let last = statuses(&mut sq, &mut cq, mover);
        assert!(last.iter().all(|status| *status == Status::JOB_CORRUPTED), "the last one stays, to answer");
    });
}

#[test]
fn a_name_that_no_thread_can_bear_is_no_reason_to_panic() {
    must_end(|| {
        let pair = QueuePair::builder().workers(1).mover("a\0b", Drive::Threads(1), || Fragile).build();
        let pair = pair.expect("a mover's name is the user's affair");
        assert!(pair.mover("a\0b").is_some());
    });
}

/// Nobody vouches any more for the memory of what was staged before a panic.
#[test]
fn unwinding_discards_what_was_staged() {
    must_end(|| {
        let (mut sq, mut cq) = QueuePair::builder().entries(4).workers(0).build().expect("it is sound").split();
        let mut other = sq.clone();
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let mut buffer = vec![0_u8; 64];
            // SAFETY: never submitted: the panic below discards it.
            unsafe { sq.push(Sqe::memset(buffer.as_mut_ptr(), 1, 64)) }.expect("there is room");
            panic!("between push and submit");
        }));
        assert!(unwound.is_err());
        assert_eq!((cq.in_flight(), cq.drain().count()), (0, 0));
        // SAFETY: nops touch no memory.
        unsafe { other.push_batch(&[Sqe::nop(); 4]) }.expect("the credit of what was discarded came back");
        // SAFETY: as above.
        assert!(matches!(unsafe { other.push(Sqe::nop()) }, Err(PushError::Full(_))));
    });
}
