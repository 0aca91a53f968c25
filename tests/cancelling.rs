//! Goal: what is cancelled in time is not done, what is not is done whole, nothing is both, and the count that a cancel
//! returns is exact: wherever the entry was at that moment.
//!
//! Method: random batches of memsets, each to a place of its own, with links and barriers between them, on every drive;
//! between their submit and their end, random cancels. A cancel of one entry answers 0 or 1, so the fate of each is
//! known: cancelled if it answered 1 or if the chain was cut off before it, done otherwise. Completions and bytes must
//! say the same. Then each place where an entry may wait is met on purpose: with movers that are held, budgets that are
//! small, and copies that have begun.
//!
//! By default some thousand cancels; `MEMRING_STRESS=full` makes it a million.
#![expect(unsafe_code, reason = "pushes entries")]
#![expect(clippy::print_stdout, reason = "the figures of a run, seen when it fails or with --nocapture")]

#[path = "support/child.rs"]
mod child;
#[path = "support/hold.rs"]
mod hold;
#[path = "cancelling/places.rs"]
mod places;
#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::thread;
use std::time::Instant;

use memring::queue::{CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Sqe, SqeFlags, Status, WORKERS};

use hold::Hold;
use random::{Random, seed};
use watchdog::must_end;

const ENTRIES: usize = 64;
const BYTES: usize = 64;

/// Who drives: the CPU mover by so many threads, the held mover like this.
type Drives = (usize, Drive);

const DRIVES: [Drives; 5] =
    [(0, Drive::Caller), (1, Drive::Caller), (2, Drive::Threads(1)), (0, Drive::Threads(2)), (1, Drive::Threads(2))];

fn cancels() -> u64 {
    let is_full = std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full");
    if is_full { 1_000_000 / DRIVES.len() as u64 } else { 2_000 }
}

struct Machine {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    other: MoverId,
    random: Random,
    cancels: u64,
    cancelled: u64,
    places: Vec<[u8; BYTES]>,
}

impl Machine {
    fn new((workers, drive): Drives, seed: u64) -> Self {
        let hold = Hold::default();
        hold.release(usize::MAX);
        let builder = QueuePair::builder().entries(ENTRIES).workers(workers).poll_budget(300);
        let pair = builder.mover("other", drive, hold.movers()).build().expect("a queue");
        let other = pair.mover("other").expect("it was added");
        let (sq, cq) = pair.split();
        let places = vec![[0; BYTES]; ENTRIES];
        Self { sq, cq, other, random: Random::new(seed), cancels: 0, cancelled: 0, places }
    }

    /// Submits a batch, cancels at random, reaps and judges.
    fn round(&mut self, shared: bool) {
        let count = 1 + self.random.below(ENTRIES);
        self.places.fill([0; BYTES]);
        let links = if shared { 0 } else { self.random.below(6) };
        let barriers = self.random.below(2);
        let memory = self.places.as_mut_ptr().cast::<u8>();
        let mut batch = Vec::new();
        for number in 0..count {
            let mut sqe = Sqe::memset(memory.wrapping_add(number * BYTES), 7, BYTES);
            if self.random.below(8) < links {
                sqe = if self.random.below(2) == 0 { sqe.link() } else { sqe.hard_link() };
            }
            if self.random.below(12) < barriers {
                sqe = sqe.drain();
            }
            let mover = [INLINE, WORKERS, WORKERS, self.other][self.random.below(4)];
            let user_data = if shared { number as u64 % 4 } else { number as u64 };
            batch.push(sqe.on(mover).user_data(user_data));
        }
        let cut = self.random.below(count + 1);
        let (mut answers, mut statuses) = (vec![0; count], vec![Vec::new(); count]);
        for part in [&batch[..cut], &batch[cut..]] {
            // SAFETY: each entry has a place of its own, which nobody touches until all have ended.
            unsafe { self.sq.push_batch(part) }.expect("there is room");
            assert_eq!(self.sq.submit(), part.len());
            self.cancel_some(&batch, &mut answers);
            self.drain(&mut statuses);
        }
        // Not until nothing is in flight: what has ended may be on its way into the ring.
        while statuses.iter().map(Vec::len).sum::<usize>() < count {
            self.cancel_some(&batch, &mut answers);
            self.drain(&mut statuses);
        }
        assert_eq!((self.cq.in_flight(), self.cq.drain().count()), (0, 0), "a completion too many");
        if shared {
            self.judge_shared(&batch, &answers, &statuses);
        } else {
            self.judge(&batch, cut, &answers, &statuses);
        }
    }

    fn cancel_some(&mut self, batch: &[Sqe], answers: &mut [usize]) {
        for _ in 0..self.random.below(6) {
            let user_data = batch[self.random.below(batch.len())].data();
            let answer = self.cq.cancel(user_data);
            self.cancels += 1;
            self.cancelled += answer as u64;
            answers[usize::try_from(user_data).expect("small")] += answer;
        }
    }

    fn drain(&mut self, statuses: &mut [Vec<Status>]) {
        match self.random.below(8) {
            0 => drop(self.cq.wait(1, None)),
            1 => thread::yield_now(),
            _ => {}
        }
        for cqe in self.cq.drain() {
            statuses[usize::try_from(cqe.user_data()).expect("small")].push(cqe.status());
        }
    }

    fn judge(&self, batch: &[Sqe], cut: usize, answers: &[usize], statuses: &[Vec<Status>]) {
        let mut is_cut_off = false;
        for (number, sqe) in batch.iter().enumerate() {
            let is_cancelled = is_cut_off || answers[number] == 1;
            let status = if is_cancelled { Status::CANCELLED } else { Status::SUCCESS };
            let place = if is_cancelled { [0; BYTES] } else { [7; BYTES] };
            assert!(answers[number] <= 1, "entry {number} was cancelled {} times", answers[number]);
            assert_eq!(statuses[number], [status], "entry {number}: {answers:?} {statuses:?} {batch:?}");
            assert_eq!(self.places[number], place, "entry {number} as {status:?}");
            let (is_soft, is_hard) =
                (sqe.sqe_flags().contains(SqeFlags::LINK), sqe.sqe_flags().contains(SqeFlags::HARD_LINK));
            // A chain ends with its submit.
            is_cut_off = is_cancelled && (is_soft || is_hard && is_cut_off) && number + 1 != cut;
        }
    }

    /// Of entries with the same user data only the numbers are known.
    fn judge_shared(&self, batch: &[Sqe], answers: &[usize], statuses: &[Vec<Status>]) {
        for user_data in 0..4_usize.min(batch.len()) {
            let places = self.places[..batch.len()].iter().skip(user_data).step_by(4);
            let untouched = places.clone().filter(|place| **place == [0; BYTES]).count();
            let done = places.clone().filter(|place| **place == [7; BYTES]).count();
            let cancelled = statuses[user_data].iter().filter(|status| **status == Status::CANCELLED).count();
            let succeeded = statuses[user_data].iter().filter(|status| status.is_success()).count();
            assert_eq!((cancelled, succeeded), (untouched, done), "{statuses:?}");
            assert_eq!((answers[user_data], cancelled + succeeded), (cancelled, places.len()));
        }
    }
}

#[test]
fn random_cancels() {
    for drives in DRIVES {
        let (begin, seed, count) = (Instant::now(), seed(), cancels());
        println!("{drives:?}: MEMRING_SEED={seed}");
        let (mut random, mut left, mut cancelled) = (Random::new(seed), count, 0);
        while left > 0 {
            let (seed, most) = (random.next(), left.min(10_000));
            let (cancels, hits) = must_end(move || {
                let mut machine = Machine::new(drives, seed);
                while machine.cancels < most {
                    let shared = machine.random.below(4) == 0;
                    machine.round(shared);
                }
                (machine.cancels, machine.cancelled)
            });
            left = left.saturating_sub(cancels);
            cancelled += hits;
        }
        println!("{drives:?}: {count} cancels, {cancelled} operations cancelled, {:.1?}", begin.elapsed());
    }
}
