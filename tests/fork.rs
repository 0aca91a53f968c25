//! Goal: a forked child can neither use its parent's queue nor harm it, and the parent notices nothing.
//!
//! Method: a queue of each drive is brought into a busy state: entries staged, operations in flight in a mover that the
//! test holds, completions that wait. Then the process forks. The child uses both halves in every way
//! and drops them; an alarm ends a child that hangs. Afterwards the parent finishes all it had begun, and every buffer,
//! completion and credit must be there. The child's verdict comes back by a pipe (`support/child.rs`).
//! `fork/rings.rs` does the same with rings and their operations.
#![expect(unsafe_code, reason = "pushes entries")]

#[path = "support/child.rs"]
mod child;
#[path = "support/hold.rs"]
mod hold;
#[path = "fork/rings.rs"]
mod rings;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use memring::queue::{Arm, CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue, WaitError};
use memring::{INLINE, MoverId, Sqe, WORKERS};

use child::in_child;
use hold::Hold;
use watchdog::must_end;

const ENTRIES: usize = 16;
/// With workers and without, and the holding mover on a thread and in the caller.
const CONFIGURATIONS: [(usize, Drive); 4] =
    [(2, Drive::Threads(1)), (2, Drive::Caller), (0, Drive::Threads(1)), (0, Drive::Caller)];

/// A queue amid its work: two operations held, three completions unreaped, two entries staged, nine credits left.
struct Busy {
    /// The first, so that it is dropped first.
    hold: Hold,
    /// An option, so that a child can drop it while the parent keeps its own copy.
    halves: Option<(SubmissionQueue, CompletionQueue)>,
    holder: MoverId,
    buffer: Vec<u8>,
}

impl Busy {
    const PART: usize = 1000;

    fn new(workers: usize, drive: Drive) -> Self {
        let hold = Hold::default();
        let builder = QueuePair::builder().entries(ENTRIES).workers(workers);
        let pair = builder.mover("holder", drive, hold.movers()).build().expect("the options are in range");
        let holder = pair.mover("holder").expect("it was added");
        let mut busy = Self { hold, halves: Some(pair.split()), holder, buffer: vec![0; 7 * Self::PART] };
        busy.begin();
        busy
    }

    fn begin(&mut self) {
        let entries = self.memsets();
        let (sq, cq) = self.halves.as_mut().expect("nobody has dropped them");
        // SAFETY: here and below, the buffer is looked at when everything was reaped.
        unsafe { sq.push_batch(&entries[..2]) }.expect("there is room");
        assert_eq!(sq.submit(), 2);
        // A caller-driven holder claims in these drains.
        assert_eq!(cq.drain().count(), 0);
        self.hold.wait_for(2);
        // SAFETY: as above.
        unsafe { sq.push_batch(&entries[2..5]) }.expect("there is room");
        assert_eq!(sq.submit(), 3);
        assert_eq!(cq.wait(3, None), Ok(3));
        // SAFETY: as above.
        unsafe { sq.push_batch(&entries[5..]) }.expect("there is room");
        assert_eq!((sq.staged(), cq.in_flight()), (2, 2));
    }

    /// Memsets of a part of the buffer each: two for the holder, two for the workers, one inline, two to be staged.
    fn memsets(&mut self) -> Vec<Sqe> {
        let movers = [self.holder, self.holder, WORKERS, WORKERS, INLINE, WORKERS, INLINE];
        let parts = self.buffer.chunks_mut(Self::PART).zip(movers).zip(1..);
        parts
            .map(|((part, on), id)| Sqe::memset(part.as_mut_ptr(), id, part.len()).user_data(id.into()).on(on))
            .collect()
    }

    /// What the child does with its copy, to the end.
    fn abuse(&mut self) {
        let (mut sq, mut cq) = self.halves.take().expect("nobody has dropped them");
        refuses(&mut sq);
        refuses(&mut sq.clone());
        drop(sq.clone());
        assert_eq!(cq.drain().count(), 0, "the completions are the parent's");
        assert_eq!(cq.wait(1, None), Err(WaitError::Forked));
        assert_eq!(cq.wait(0, Some(Duration::ZERO)), Err(WaitError::Forked));
        assert_eq!(cq.shutdown(None), Err(WaitError::Forked));
        assert_eq!(cq.shutdown(Some(Duration::ZERO)), Err(WaitError::Forked));
        assert_eq!(cq.arm(), Arm::MustPoll);
        cq.clear();
        assert_eq!(cq.drain().size_hint(), (0, Some(0)));
        drop(cq);
        refuses(&mut sq);
        drop(sq);
    }

    /// What the parent does with its own, to the end.
    fn finish(self, dropped_last: bool) {
        let Self { buffer, halves, hold, .. } = self;
        let ((mut sq, mut cq), hold) = (halves.expect("the child had a copy"), hold);
        assert_eq!((sq.is_closed(), sq.staged(), cq.in_flight()), (false, 2, 2));
        let mut reaped: Vec<u64> = cq.drain().map(|cqe| cqe.user_data()).collect();
        reaped.sort_unstable();
        assert_eq!(reaped, [3, 4, 5]);
        assert_eq!(sq.submit(), 2, "what was staged before the fork is staged still");
        assert_eq!(cq.wait(2, None), Ok(2));
        assert_eq!(cq.wait(3, Some(Duration::ZERO)), Ok(2));
        hold.release(2);
        if dropped_last {
            drop((cq, sq));
        } else {
            assert_eq!(cq.wait(4, None), Ok(4));
            assert!(cq.drain().all(|cqe| cqe.status().is_success()));
            // SAFETY: nops touch no memory.
            unsafe { sq.push_batch(&[Sqe::nop(); ENTRIES]) }.expect("every credit is back");
            assert_eq!(sq.submit(), ENTRIES);
            assert_eq!(cq.wait(ENTRIES, None), Ok(ENTRIES));
        }
        for (part, value) in buffer.chunks(Self::PART).zip(1..) {
            assert!(part.iter().all(|&byte| byte == value), "operation {value}");
        }
    }
}

/// Nothing can be pushed or submitted through it, and what comes back is what was given.
fn refuses(sq: &mut SubmissionQueue) {
    let batch = [Sqe::nop().user_data(40), Sqe::nop().user_data(41).on(INLINE)];
    // SAFETY: nops touch no memory.
    assert_eq!(unsafe { sq.push(batch[1]) }, Err(PushError::Forked(batch[1])));
    // SAFETY: as above.
    assert_eq!(unsafe { sq.push_batch(&batch) }, Err(PushError::Forked(batch[0])));
    assert_eq!(sq.submit(), 0);
    assert_eq!(sq.staged(), 0, "what was staged is not the child's to submit");
    assert_eq!(sq.submit(), 0);
}

#[test]
fn a_child_is_refused_and_the_parent_goes_on() {
    must_end(|| {
        for ((workers, drive), dropped_last) in
            CONFIGURATIONS.into_iter().flat_map(|configuration| [(configuration, false), (configuration, true)])
        {
            let mut busy = Busy::new(workers, drive);
            in_child(|| busy.abuse());
            in_child(|| busy.abuse());
            busy.finish(dropped_last);
        }
    });
}

#[test]
fn a_child_that_drops_everything_at_once_returns() {
    must_end(|| {
        for (workers, drive) in CONFIGURATIONS {
            let mut busy = Busy::new(workers, drive);
            in_child(|| drop(busy.halves.take()));
            in_child(|| {
                let (sq, cq) = busy.halves.take().expect("the other child had a copy");
                drop(cq);
                drop(sq);
            });
            busy.finish(false);
        }
    });
}

#[test]
fn an_unsplit_pair_may_be_dropped_in_a_child() {
    must_end(|| {
        for workers in [0, 2] {
            let pair = QueuePair::builder().entries(ENTRIES).workers(workers).build().expect("in range");
            let mut pair = Some(pair);
            let (sq, _) = pair.as_mut().expect("it is there").halves();
            // SAFETY: nops touch no memory.
            unsafe { sq.push_batch(&[Sqe::nop(); 3]) }.expect("there is room");
            in_child(|| drop(pair.take()));
            let (mut sq, mut cq) = pair.expect("the child had a copy").split();
            assert_eq!(sq.submit(), 3);
            assert_eq!(cq.wait(3, None), Ok(3));
        }
    });
}

#[test]
fn a_grandchild_is_a_stranger_too_and_may_have_a_queue_of_its_own() {
    must_end(|| {
        for (workers, drive) in CONFIGURATIONS {
            let mut busy = Busy::new(workers, drive);
            in_child(|| {
                let mut own = Busy::new(workers, drive);
                in_child(|| {
                    own.abuse();
                    busy.abuse();
                    Busy::new(workers, drive).finish(false);
                });
                busy.abuse();
                own.finish(true);
            });
            busy.finish(true);
        }
    });
}

/// Whether the descriptor is readable now.
fn is_readable(cq: &CompletionQueue) -> bool {
    let mut wanted = libc::pollfd { fd: cq.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    let ready = unsafe { libc::poll(&raw mut wanted, 1, 0) };
    assert!(ready >= 0, "poll: {}", io::Error::last_os_error());
    ready == 1
}

#[test]
fn the_parents_arming_survives() {
    must_end(|| {
        let (mut sq, mut cq) = QueuePair::builder().entries(ENTRIES).workers(0).build().expect("in range").split();
        assert_eq!(cq.arm(), Arm::Armed);
        // SAFETY: nops touch no memory.
        unsafe { sq.push(Sqe::nop().on(INLINE)) }.expect("there is room");
        let mut halves = Some((sq, cq));
        let mut in_a_child = |body: fn(&mut SubmissionQueue, &mut CompletionQueue)| {
            in_child(|| {
                let (mut sq, mut cq) = halves.take().expect("each child has a copy");
                body(&mut sq, &mut cq);
            });
        };
        in_a_child(|sq, cq| assert_eq!((sq.submit(), cq.arm()), (0, Arm::MustPoll)));
        let (mut sq, mut cq) = halves.take().expect("the child had a copy");
        assert!(!is_readable(&cq), "a child has signalled");
        assert_eq!(sq.submit(), 1);
        assert!(is_readable(&cq), "a child has taken the arming back");

        // The eventfd is shared with the child: it must not read it.
        let mut halves = Some((sq, cq));
        in_child(|| {
            let (sq, mut cq) = halves.take().expect("the parent has its own");
            cq.clear();
            drop((sq, cq));
        });
        (sq, cq) = halves.expect("the child had a copy");
        assert!(is_readable(&cq), "a child has read it");
        cq.clear();
        assert!(!is_readable(&cq));
        assert_eq!((cq.drain().count(), sq.in_flight()), (1, 0));
    });
}

#[test]
fn a_drain_that_was_begun_before_the_fork_takes_nothing_from_the_parent() {
    must_end(|| {
        let (mut sq, mut cq) = QueuePair::builder().entries(ENTRIES).workers(0).build().expect("in range").split();
        // SAFETY: nops touch no memory.
        unsafe { sq.push_batch(&[Sqe::nop(); ENTRIES]) }.expect("there is room");
        sq.submit();
        let mut drain = cq.drain();
        assert!(drain.next().is_some());
        in_child(|| while drain.next().is_some() {});
        assert_eq!(drain.count(), ENTRIES - 1);
        // SAFETY: as above.
        unsafe { sq.push_batch(&[Sqe::nop(); ENTRIES]) }.expect("every credit is back");
    });
}
