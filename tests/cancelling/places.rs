//! Each place where an entry may be when it is cancelled, met on purpose.
#![expect(unsafe_code, reason = "pushes entries, implements a mover")]

use std::sync::mpsc::{self, Sender};
use std::time::Instant;

use memring::mover::{Bell, Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{Cqe, MoverId, Opcode, Sqe, Status, WORKERS};

use super::child::in_child;
use super::hold::Hold;
use super::watchdog::must_end;

const HELD: [Drive; 2] = [Drive::Threads(1), Drive::Caller];
const DONE: Status = Status::SUCCESS;
const CANCELLED: Status = Status::CANCELLED;

fn build(hold: &Hold, drive: Drive) -> (SubmissionQueue, CompletionQueue, MoverId) {
    let pair = QueuePair::builder().entries(8).workers(0).mover("held", drive, hold.movers()).build().expect("a queue");
    let held = pair.mover("held").expect("it was added");
    let (sq, cq) = pair.split();
    (sq, cq, held)
}

/// Nops, or entries made of them, with the user data 0, 1, and so on.
fn submit(sq: &mut SubmissionQueue, sqes: &[Sqe]) {
    let number = |(number, sqe): (usize, &Sqe)| sqe.user_data(number as u64);
    let sqes: Vec<Sqe> = sqes.iter().enumerate().map(number).collect();
    // SAFETY: nops touch no memory.
    unsafe { sq.push_batch(&sqes) }.expect("there is room");
    assert_eq!(sq.submit(), sqes.len());
}

/// Reaps so many, which must be all, and gives their statuses in the order of their user data.
fn statuses(cq: &mut CompletionQueue, count: usize) -> Vec<Status> {
    assert_eq!(cq.wait(count, None), Ok(count));
    let mut cqes: Vec<Cqe> = cq.drain().collect();
    assert_eq!((cqes.len(), cq.in_flight()), (count, 0));
    cqes.sort_by_key(Cqe::user_data);
    cqes.iter().map(Cqe::status).collect()
}

/// Makes a drain or a thread claim what a held mover can claim, until it holds one.
fn until_held(cq: &mut CompletionQueue, hold: &Hold) {
    assert_eq!(cq.drain().count(), 0);
    hold.wait_for(1);
}

#[test]
fn members_of_chains_that_wait() {
    must_end(|| {
        for drive in HELD {
            for (last_is_hard, expected) in [(false, [DONE, CANCELLED, CANCELLED]), (true, [DONE, CANCELLED, DONE])] {
                let hold = Hold::default();
                let (mut sq, mut cq, held) = build(&hold, drive);
                let hold = hold; // To be dropped before the queue.
                let nop = Sqe::nop();
                let second = if last_is_hard { nop.hard_link() } else { nop.link() };
                submit(&mut sq, &[nop.on(held).link(), second, nop]);
                until_held(&mut cq, &hold);
                assert_eq!((cq.cancel(1), cq.cancel(1)), (1, 0), "it waits; it is cancelled already");
                assert_eq!(cq.drain().count(), 0, "its turn has not come");
                hold.release(1);
                assert_eq!(statuses(&mut cq, 3), expected);
                assert_eq!((cq.cancel(1), cq.cancel(2)), (0, 0), "they have ended");
            }
        }
    });
}

#[test]
fn what_a_barrier_holds_back() {
    must_end(|| {
        for drive in HELD {
            let hold = Hold::default();
            let (mut sq, mut cq, held) = build(&hold, drive);
            let hold = hold;
            let nop = Sqe::nop();
            submit(&mut sq, &[nop.on(held), nop.drain().link(), nop.hard_link(), nop, nop, nop]);
            until_held(&mut cq, &hold);
            assert_eq!([1, 2, 4].map(|number| cq.cancel(number)), [1, 1, 1], "the barrier, a member, one behind");
            assert_eq!([1, 2, 4, 0].map(|number| cq.cancel(number)), [0, 0, 0, 0]);
            assert_eq!((cq.drain().count(), cq.in_flight()), (0, 6));
            hold.release(1);
            // The barrier's link is a soft one, so the rest of its chain is cancelled with it.
            assert_eq!(statuses(&mut cq, 6), [DONE, CANCELLED, CANCELLED, CANCELLED, CANCELLED, DONE]);
        }
    });
}

#[test]
fn what_runs_is_staged_or_unknown() {
    must_end(|| {
        for drive in HELD {
            let hold = Hold::default();
            let (mut sq, mut cq, held) = build(&hold, drive);
            let hold = hold;
            submit(&mut sq, &[Sqe::nop().on(held)]);
            until_held(&mut cq, &hold);
            assert_eq!(cq.cancel(0), 0, "it has begun, and its mover gives nothing up");
            // SAFETY: a nop touches no memory.
            unsafe { sq.push(Sqe::nop().user_data(1)) }.expect("there is room");
            assert_eq!((cq.cancel(1), cq.cancel(77)), (0, 0));
            assert_eq!(sq.submit(), 1);
            hold.release(1);
            assert_eq!(statuses(&mut cq, 2), [DONE, DONE]);
        }
    });
}

#[test]
fn what_a_small_budget_has_left_over() {
    let mut bytes = [0_u8; 6];
    let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).poll_budget(2).build().expect("a queue").split();
    let at = bytes.as_mut_ptr();
    let sqes: Vec<Sqe> = (0..6).map(|number| Sqe::memset(at.wrapping_add(number), 7, 1)).collect();
    submit(&mut sq, &sqes);
    assert_eq!(cq.drain().count(), 2);
    assert_eq!([0, 2, 5].map(|number| cq.cancel(number)), [0, 1, 1], "done; next; last");
    let mut left: Vec<(u64, Status)> = Vec::new();
    while left.len() < 4 {
        left.extend(cq.drain().map(|cqe| (cqe.user_data(), cqe.status())));
    }
    left.sort_by_key(|(number, _)| *number);
    assert_eq!(left, [(2, CANCELLED), (3, DONE), (4, DONE), (5, CANCELLED)]);
    assert_eq!(bytes, [7, 7, 0, 7, 7, 0]);
}

/// Too little is left of the first budget to begin the second entry, which the driver has taken from the lane already.
#[test]
fn what_a_driver_has_taken_and_not_begun() {
    let mut bytes = vec![0_u8; 10_000];
    let at = bytes.as_mut_ptr();
    let builder = QueuePair::builder().entries(8).workers(0).poll_budget(4100);
    let (mut sq, mut cq) = builder.build().expect("a queue").split();
    submit(&mut sq, &[Sqe::memset(at, 7, 64), Sqe::memset(at.wrapping_add(64), 7, 6000)]);
    assert_eq!(cq.drain().count(), 1);
    assert_eq!(cq.stats().mover(WORKERS).bytes, 64);
    assert_eq!((cq.cancel(1), cq.cancel(1)), (1, 0));
    assert_eq!(cq.drain().map(|cqe| (cqe.user_data(), cqe.status())).collect::<Vec<_>>(), [(1, CANCELLED)]);
    assert!(bytes[64..].iter().all(|&byte| byte == 0), "it was not touched");
}

#[test]
fn a_large_copy_that_has_begun() {
    const LEN: usize = 2 << 20;
    for (to, from) in [(LEN, 0), (4096, 0), (0, 4096)] {
        let mut bytes: Vec<u8> = (0..2 * LEN).map(|at| (at / 4096).to_le_bytes()[0]).collect();
        let mut expected = bytes.clone();
        let (mut sq, mut cq) =
            QueuePair::builder().entries(8).workers(0).poll_budget(256 << 10).build().expect("a queue").split();
        let at = bytes.as_mut_ptr();
        let sqe = Sqe::memmove(at.wrapping_add(to), at.wrapping_add(from), LEN);
        submit(&mut sq, &[sqe]);
        assert_eq!(cq.cancel(0), 1, "it has not begun");
        assert_eq!(statuses(&mut cq, 1), [CANCELLED]);
        submit(&mut sq, &[sqe]);
        assert_eq!(cq.drain().count(), 0);
        assert!(cq.stats().mover(WORKERS).bytes > 0);
        assert_eq!(cq.cancel(0), 0, "a part of it is done");
        assert_eq!(statuses(&mut cq, 1), [DONE]);
        expected.copy_within(from..from + LEN, to);
        assert!(bytes == expected, "it is done whole");
    }
}

#[test]
fn a_forked_child_cancels_nothing() {
    let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build().expect("a queue").split();
    submit(&mut sq, &[Sqe::nop()]);
    in_child(|| assert_eq!(cq.cancel(0), 0));
    assert_eq!(cq.cancel(0), 1, "the parent's entry is still there");
    assert_eq!(statuses(&mut cq, 1), [CANCELLED]);
}

/// A mover that gives operations up, and says what it does.
struct Yielding {
    kept: Vec<Kept>,
    given_up: Vec<u64>,
    say: Sender<&'static str>,
}

// SAFETY: it is given nops, and touches no memory.
unsafe impl DataMover for Yielding {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Nop])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        for user_data in self.given_up.drain(..) {
            for token in self.kept.extract_if(.., |token| token.sqe().data() == user_data) {
                done.complete(token, CANCELLED);
            }
        }
        while let Some(kept) = lane.claim().map(Claimed::keep) {
            self.kept.push(kept);
            let _ = self.say.send("claimed");
        }
        if self.kept.is_empty() { Progress::Idle } else { Progress::Waiting }
    }

    fn cancel(&mut self, user_data: u64) -> bool {
        let _ = self.say.send("asked");
        self.given_up.push(user_data);
        self.kept.iter().any(|token| token.sqe().data() == user_data)
    }
}

/// A cancel asks the movers of all drives; the answer counts where it comes at once.
#[test]
fn a_mover_is_asked_to_give_up_what_it_has_begun() {
    must_end(|| {
        for (drive, answer) in [(Drive::Caller, 1), (Drive::Threads(1), 0)] {
            let (say, said) = mpsc::channel();
            let make = move || Yielding { kept: Vec::new(), given_up: Vec::new(), say: say.clone() };
            let pair = QueuePair::builder().entries(8).workers(0).mover("yielding", drive, make).build();
            let pair = pair.expect("a queue");
            let yielding = pair.mover("yielding").expect("it was added");
            let (mut sq, mut cq) = pair.split();
            submit(&mut sq, &[Sqe::nop().on(yielding), Sqe::nop().on(yielding)]);
            assert_eq!(cq.drain().count(), 0);
            assert_eq!([said.recv(), said.recv()], [Ok("claimed"), Ok("claimed")]);
            for number in [0, 1] {
                assert_eq!(cq.cancel(number), answer);
                assert_eq!(said.recv(), Ok("asked"));
            }
            assert_eq!(statuses(&mut cq, 2), [CANCELLED, CANCELLED]);
        }
    });
}

/// A mover with room for one operation, which never ends by itself. It says when it waits for that one.
struct Single {
    kept: Option<Kept>,
    is_given_up: bool,
    say: Sender<u64>,
}

// SAFETY: it is given nops, and touches no memory.
unsafe impl DataMover for Single {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Nop]).signals()
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        if let Some(token) = self.kept.take_if(|_| self.is_given_up) {
            self.is_given_up = false;
            done.complete(token, CANCELLED);
        }
        if self.kept.is_none() {
            self.kept = lane.claim().map(Claimed::keep);
        }
        if self.kept.is_some() { Progress::Waiting } else { Progress::Idle }
    }

    fn wait(&mut self, bell: &Bell<'_>, deadline: Option<Instant>) {
        assert_eq!(deadline, None, "it signals by itself");
        if let Some(token) = &self.kept {
            let _ = self.say.send(token.sqe().data());
        }
        bell.sleep(deadline);
    }

    fn cancel(&mut self, user_data: u64) -> bool {
        self.is_given_up = self.kept.as_ref().is_some_and(|token| token.sqe().data() == user_data);
        self.is_given_up
    }
}

/// It has stepped aside, since it can take nothing, so no submit wakes it. A cancel must.
#[test]
fn a_full_mover_that_sleeps_without_a_deadline_hears_of_it() {
    must_end(|| {
        for count in [1, 3] {
            let (say, said) = mpsc::channel();
            let make = move || Single { kept: None, is_given_up: false, say: say.clone() };
            let pair = QueuePair::builder().entries(8).workers(0).mover("single", Drive::Threads(1), make).build();
            let pair = pair.expect("a queue");
            let single = pair.mover("single").expect("it was added");
            let (mut sq, mut cq) = pair.split();
            submit(&mut sq, &vec![Sqe::nop().on(single); count]);
            for number in 0..count as u64 {
                while said.recv() != Ok(number) {}
                assert_eq!(cq.cancel(number), 0, "whether it is given up is not known at once");
            }
            assert_eq!(statuses(&mut cq, count), vec![CANCELLED; count]);
        }
    });
}
