//! Devices that go silent at the worst of times.
#![expect(unsafe_code, reason = "wraps the unsafe portal, and the unsafe mover contract")]

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use memring::dsa::{
    Attachment, Descriptor, Dsa, DsaMover, Mode, OnFault, Portal, QueueState, RecordStatus, Submitted,
    WorkQueueCapabilities,
};
use memring::mover::{Capabilities, Completions, DataMover, Lane, Progress};
use memring::queue::{Drive, QueuePair};
use memring::{Sqe, Status};

use super::device::Plan;
use super::rig::{Rig, copies, noise};
use super::script::{Pair, Retires, Script, ends_as, members_of, perform};
use super::watchdog::must_end;

const LIMIT: Duration = Duration::from_millis(50);
const DONE: Status = Status::SUCCESS;

fn hasty(devices: &[&Script]) -> Dsa {
    Dsa::new(devices.iter().map(|device| device.attachment())).unwrap().time_limit(LIMIT)
}

fn states(dsa: &Dsa) -> Vec<QueueState> {
    dsa.queues().map(|(_, state)| state).collect()
}

/// Memory that a lost device may have for ever.
fn forever(len: usize) -> *mut u8 {
    Box::leak(vec![0_u8; len].into_boxed_slice()).as_mut_ptr()
}

#[test]
fn of_which_a_part_had_no_room() {
    must_end(|| {
        let (src, mut dst) = (noise(2 << 20), vec![0; 2 << 20]);
        let plan = Plan { queue: WorkQueueCapabilities::new(Mode::Shared, 16), ..Plan::default() };
        let mut rig = Rig::with(&[plan], |dsa| dsa.time_limit(LIMIT));
        rig.device().let_run(false);
        assert!(rig.run(&copies(&mut dst, &src, 64 << 10)).iter().all(|(status, _)| status.is_success()));
        assert_eq!((dst == src, states(&rig.dsa)), (true, vec![QueueState::GivenUp]));
    });
}

#[test]
fn after_another_one_was_only_slow() {
    must_end(|| {
        let (slow, lost) = (Script::new(1, Retires::Late), Script::new(100, Retires::Unknown));
        let dsa = hasty(&[&slow, &lost]);
        let mut pair = Pair::new(&dsa);
        let bytes = forever(64);
        pair.submit(&[Sqe::memset(bytes, 1, 64)]);
        assert_eq!(pair.poll_until(1), [(0, DONE)]);
        pair.submit(&[Sqe::memset(bytes, 2, 64)]);
        while states(&dsa) != [QueueState::GivenUp, QueueState::Lost] {
            assert!(pair.poll().is_empty());
        }
        let begin = Instant::now();
        while begin.elapsed() < 4 * LIMIT {
            assert_eq!(pair.poll(), [], "the device has it still");
        }
        assert_eq!(dsa.lost(), [0]);
        Box::leak(Box::new(pair));
    });
}

#[test]
fn in_a_chain_whose_first_member_had_failed() {
    must_end(|| {
        for (on_fault, status, end) in [
            (OnFault::Resume, RecordStatus::HARDWARE_ERROR, Status::JOB_CORRUPTED),
            (OnFault::Fail, RecordStatus::PAGE_FAULT, Status::FAULT),
        ] {
            let device = Script::new(100, Retires::Never);
            let mut pair = Pair::new(&hasty(&[&device]).on_fault(on_fault));
            let mut bytes = [0_u8; 24];
            let start = bytes.as_mut_ptr();
            let set = |at| Sqe::memset(start.wrapping_add(at), 1, 8);
            pair.submit(&[set(0).link(), set(8).link(), set(16)]);
            assert!(pair.poll().is_empty());
            ends_as(&members_of(&device.taken()[0])[0], status);
            let cancelled = Status::CANCELLED;
            assert_eq!(pair.poll_until(3), [(0, end), (1, cancelled), (2, cancelled)]);
            assert_eq!(bytes, [0; 24], "what is cancelled is not done");
        }
    });
}

#[test]
fn in_a_chain_whose_first_member_was_done() {
    must_end(|| {
        let device = Script::new(100, Retires::Never);
        let mut pair = Pair::new(&hasty(&[&device]));
        let mut bytes = [0_u8; 24];
        let start = bytes.as_mut_ptr();
        let copy = |at| Sqe::memcpy(start.wrapping_add(at + 8), start.wrapping_add(at), 8);
        pair.submit(&[Sqe::memset(start, 7, 8).link(), copy(0).link(), copy(8)]);
        assert!(pair.poll().is_empty());
        perform(&members_of(&device.taken()[0])[0]);
        assert_eq!(pair.poll_until(3), [(0, DONE), (1, DONE), (2, DONE)]);
        assert_eq!(bytes, [7; 24]);
    });
}

#[test]
fn that_says_for_ever_that_it_is_full() {
    must_end(|| {
        let device = Script::new(0, Retires::Late);
        let dsa = hasty(&[&device]);
        let mut pair = Pair::new(&dsa);
        let mut bytes = [0_u8; 8];
        let begin = Instant::now();
        pair.submit(&[Sqe::memset(bytes.as_mut_ptr(), 1, 8)]);
        assert_eq!(pair.poll_until(1), [(0, DONE)]);
        assert!(begin.elapsed() >= LIMIT);
        assert_eq!((bytes, states(&dsa)), ([1; 8], vec![QueueState::Closed]));
        // From now on nobody waits for it.
        pair.submit(&[Sqe::memset(bytes.as_mut_ptr(), 2, 8)]);
        assert_eq!(pair.poll(), [(0, DONE)]);
    });
}

#[test]
fn what_no_device_has_had_can_be_cancelled() {
    let device = Script::new(1, Retires::Late);
    let mut pair = Pair::new(&hasty(&[&device]).time_limit(Duration::from_secs(3600)));
    let mut bytes = [0_u8; 24];
    let start = bytes.as_mut_ptr();
    pair.submit(&[Sqe::memset(start, 1, 8)]);
    assert!(pair.poll().is_empty());
    pair.submit(&[Sqe::nop(), Sqe::memset(start.wrapping_add(8), 1, 8), Sqe::memset(start.wrapping_add(16), 1, 8)]);
    assert!(pair.poll().is_empty());
    assert_eq!((pair.cq.cancel(0), pair.cq.cancel(2), pair.cq.cancel(77)), (1, 1, 0));
    // The first had the same user data, and a device has it.
    assert_eq!(pair.poll_until(2), [(0, Status::CANCELLED), (2, Status::CANCELLED)]);
    perform(&device.taken()[0]);
    assert_eq!(pair.poll_until(1), [(0, DONE)]);
    perform(&device.taken()[1]);
    assert_eq!(pair.poll_until(1), [(1, DONE)]);
    assert_eq!((bytes[..16].to_vec(), &bytes[16..]), (vec![1; 16], &[0; 8][..]));
}

#[test]
fn that_has_taken_all_there_is_room_for() {
    must_end(|| {
        let lost = Script::new(usize::MAX, Retires::Unknown);
        let dsa = hasty(&[&lost]);
        let mut pair = Pair::new(&dsa);
        let bytes = forever(4096);
        let sets: Vec<Sqe> = (0..2048).map(|at| Sqe::memset(bytes.wrapping_add(at), 1, 1)).collect();
        pair.submit(&sets);
        while states(&dsa) != [QueueState::Lost] {
            assert!(pair.poll().is_empty());
        }
        pair.submit(&[Sqe::memset(bytes.wrapping_add(4000), 1, 8)]);
        let lost = dsa.lost().len();
        assert!((1900..2048).contains(&lost), "{lost}");
        // What had found no room, and the one that came later, the CPU does.
        assert!(pair.poll_until(2049 - lost).iter().all(|(_, status)| *status == DONE));
        assert_eq!(pair.sq.in_flight(), lost as u64);
        Box::leak(Box::new(pair));
    });
}

/// Lets nobody submit while it is shut, and says when somebody waits.
#[derive(Debug)]
struct Gate {
    device: Script,
    state: Arc<(Mutex<(bool, bool)>, Condvar)>,
}

// SAFETY: only the time of a submission changes.
unsafe impl Portal for Gate {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let (state, bell) = &*self.state;
        let mut locked = state.lock().unwrap();
        locked.1 = locked.0;
        bell.notify_all();
        drop(bell.wait_while(locked, |(is_shut, _)| *is_shut).unwrap());
        // SAFETY: the caller's contract.
        unsafe { self.device.submit(descriptors) }
    }

    fn completed(&mut self, count: usize) {
        self.device.completed(count);
    }

    fn room(&self) -> usize {
        self.device.room()
    }

    fn passes_batch(&self) -> bool {
        true
    }

    fn retire(self: Box<Self>) -> bool {
        Box::new(self.device).retire()
    }
}

#[test]
fn room_that_one_driver_leaves_another_one_finds() {
    must_end(|| {
        let device = Script::new(1, Retires::Late);
        let state = Arc::new((Mutex::new((false, false)), Condvar::new()));
        let gate = Gate { device: device.clone(), state: Arc::clone(&state) };
        let dsa = Dsa::new([Attachment { portal: Box::new(gate), ..device.attachment() }]).unwrap();
        let (mut one, mut other) = ([0_u8; 8], [0_u8; 8]);
        let mut first = Pair::new(&dsa);
        first.submit(&[Sqe::memset(one.as_mut_ptr(), 1, 8)]);
        assert!(first.poll().is_empty());
        state.0.lock().unwrap().0 = true;
        let second = thread::spawn(move || {
            let mut pair = Pair::new(&dsa);
            pair.submit(&[Sqe::memset(other.as_mut_ptr(), 2, 8)]);
            let ended = pair.poll_until(1);
            drop(pair);
            (ended, other)
        });
        drop(state.1.wait_while(state.0.lock().unwrap(), |(_, waits)| !*waits).unwrap());
        perform(&device.taken()[0]);
        // The other one has the portal now, and nothing brings this one back to it.
        let opens = thread::spawn(move || {
            // Not before this one waits for it, if it does.
            thread::yield_now();
            state.0.lock().unwrap().0 = false;
            state.1.notify_all();
        });
        assert_eq!(first.poll_until(1), [(0, DONE)]);
        opens.join().unwrap();
        while device.taken().len() < 2 {
            thread::yield_now();
        }
        perform(&device.taken()[1]);
        assert_eq!(second.join().unwrap(), (vec![(0, DONE)], [2; 8]));
        assert_eq!(one, [1; 8]);
    });
}

/// One instance for several drivers, against the rules.
struct Shared(Arc<Mutex<DsaMover>>);

// SAFETY: as of the mover that it is made of.
unsafe impl DataMover for Shared {
    fn capabilities(&self) -> Capabilities {
        self.0.lock().unwrap().capabilities()
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        self.0.lock().unwrap().poll(lane, done)
    }
}

#[test]
fn whose_mover_is_polled_for_another_queue() {
    let device = Script::new(100, Retires::Late);
    let mover = Arc::new(Mutex::new(Dsa::new([device.attachment()]).unwrap().mover()));
    let queue = || {
        let mover = Arc::clone(&mover);
        let builder = QueuePair::builder().workers(0);
        builder.mover("dsa", Drive::Caller, move || Shared(Arc::clone(&mover))).build().unwrap()
    };
    let (one, other) = (queue(), queue());
    let mover = one.mover("dsa").unwrap();
    let ((mut sq, mut cq), (_, mut other)) = (one.split(), other.split());
    let mut bytes = [0_u8; 8];
    // SAFETY: the bytes outlive the operation, which is waited for.
    unsafe { sq.push(Sqe::memset(bytes.as_mut_ptr(), 1, 8).on(mover)) }.unwrap();
    sq.submit();
    assert_eq!(cq.drain().count(), 0);
    perform(&device.taken()[0]);
    assert_eq!((other.drain().count(), other.drain().count()), (0, 0), "it is none of its own");
    assert_eq!(cq.drain().count(), 1);
    assert_eq!(bytes, [1; 8]);
}
