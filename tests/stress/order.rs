//! Chains of copies, each from where the one before it copied to, among barriers and cancels, some of them in parts.
//!
//! The buffers are plain memory here, too: that the second copy of a chain reads what the first one wrote, on whatever
//! thread, and all its parts, is ordered by memring alone.
//!
//! Under ThreadSanitizer there are no barriers: what they hold back is handed on under a lock of std, which comes
//! compiled, so that ThreadSanitizer takes each use of it for a race. `.ci/sanitizers` says which sanitizer it is.
#![expect(unsafe_code, reason = "pushes entries, shares their buffers among threads")]
#![expect(clippy::disallowed_types, reason = "a flag hands each buffer from the reaper to its submitter")]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memring::queue::{CompletionQueue, PushError, QueuePair, SubmissionQueue};
use memring::{INLINE, Sqe, Status, WORKERS};

use super::random::{Random, seed};
use super::{PATIENCE, THREADS, lost, scale};

/// Chains that one thread may have under way. The first of them is long.
const CHAINS: usize = 6;
const SHORT: usize = 700;
/// Long enough to be done in parts.
const LONG: usize = (3 << 20) / 2;

fn has_barriers() -> bool {
    std::env::var("MEMRING_SANITIZER").map_or(true, |sanitizer| sanitizer != "thread")
}

/// The buffers of a chain: the submitter's while `free`, the operations' until both have ended, then the reaper's.
struct Chain {
    free: AtomicBool,
    number: UnsafeCell<u64>,
    buffers: [UnsafeCell<Vec<u8>>; 3],
}

// SAFETY: the buffers have one owner at a time, as said above. That memring keeps to this is what the test is about.
unsafe impl Sync for Chain {}

/// The bytes that are copied in a chain of this number; or none, where nothing was copied.
fn content(number: Option<u64>, len: usize) -> Vec<u8> {
    let Some(number) = number else { return vec![0; len] };
    let [first, second, ..] = number.to_le_bytes();
    let mut bytes = vec![first | 1; len];
    bytes.chunks_mut(4096).zip(0_u8..=255).for_each(|(page, at)| page[0] = at ^ second);
    bytes
}

impl Chain {
    fn new(len: usize) -> Self {
        let buffers = [(); 3].map(|()| UnsafeCell::new(vec![0; len]));
        Self { free: AtomicBool::new(true), number: UnsafeCell::new(0), buffers }
    }

    /// Makes a free chain ready. The user data of its entries follow from its index.
    fn prepare(&self, index: usize, number: u64, random: &mut Random) -> [Sqe; 2] {
        // SAFETY: the caller is the submitter, and has seen the chain free.
        unsafe { *self.number.get() = number };
        let [a, b, c] = self.buffers.each_ref().map(|buffer| {
            // SAFETY: as above.
            let bytes = unsafe { &mut *buffer.get() };
            bytes.fill(0);
            bytes
        });
        *a = content(Some(number), a.len());
        let mut mover = || [INLINE, WORKERS, WORKERS][random.below(3)];
        let user_data = 2 * index as u64;
        let first = Sqe::memcpy(b.as_mut_ptr(), a.as_ptr(), a.len()).on(mover()).user_data(user_data);
        let second = Sqe::memcpy(c.as_mut_ptr(), b.as_ptr(), b.len()).on(mover()).user_data(user_data + 1);
        let first = if random.below(2) == 0 { first.link() } else { first.hard_link() };
        [first, second]
    }

    /// Judges a chain that has ended like this, and gives it back.
    fn judge(&self, is_done: [bool; 2]) {
        // SAFETY: both operations have ended, says memring.
        let number = unsafe { *self.number.get() };
        for (step, buffer) in self.buffers.iter().enumerate() {
            // SAFETY: as above.
            let found = unsafe { &mut *buffer.get() };
            let [first, second] = is_done;
            // Of a hard link the second may be done alone: it copies what was there before.
            let is_filled = [true, first, first && second][step];
            assert!(*found == content(is_filled.then_some(number), found.len()), "step {step} as {is_done:?}");
            found.fill(1);
        }
        self.free.store(true, Ordering::Release);
    }
}

/// One of the submitting threads.
struct Submitter<'a> {
    sq: SubmissionQueue,
    chains: &'a [Chain],
    first: usize,
    has_barriers: bool,
    random: Random,
}

impl Submitter<'_> {
    fn run(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let at = self.free_chain();
            self.chains[at].free.store(false, Ordering::Relaxed);
            let mut batch = self.chains[at].prepare(self.first + at, number, &mut self.random);
            if self.has_barriers && self.random.below(12) == 0 {
                batch[0] = batch[0].drain();
            }
            // SAFETY: the chain is the operations' until both were reaped.
            while let Err(error) = unsafe { self.sq.push_batch(&batch) } {
                assert!(matches!(error, PushError::Full(_)), "{error}");
                self.sq.submit();
                thread::yield_now();
            }
            if self.random.below(3) > 0 {
                self.sq.submit();
            }
        }
        self.sq.submit();
    }

    fn free_chain(&mut self) -> usize {
        loop {
            let from = self.random.below(CHAINS);
            let mut places = (0..CHAINS).map(|at| (from + at) % CHAINS);
            if let Some(at) = places.find(|&at| self.chains[at].free.load(Ordering::Acquire)) {
                return at;
            }
            self.sq.submit();
            assert!(!self.sq.is_closed(), "the reaper has failed");
            thread::yield_now();
        }
    }
}

/// Reaps so many chains, and cancels at random meanwhile.
fn reap(cq: &mut CompletionQueue, chains: &[Chain], count: u64, random: &mut Random) {
    let mut statuses = vec![[None; 2]; chains.len()];
    let (mut left, mut last) = (count, Instant::now());
    let (mut granted, mut cancelled, mut heads) = (0, 0, 0);
    while left > 0 {
        match random.below(8) {
            0 => drop(cq.wait(1 + random.below(4), Some(Duration::from_micros(50)))),
            1..4 => granted += (0..8).map(|_| cq.cancel(random.below(2 * chains.len()) as u64)).sum::<usize>(),
            _ => thread::yield_now(),
        }
        for cqe in cq.drain() {
            last = Instant::now();
            let user_data = usize::try_from(cqe.user_data()).expect("an index");
            let ends = &mut statuses[user_data / 2];
            assert_eq!(ends[user_data % 2].replace(cqe.status()), None, "it completes twice");
            let is_cancelled = cqe.status() == Status::CANCELLED;
            assert!(is_cancelled || cqe.status().is_success(), "{cqe:?}");
            cancelled += usize::from(is_cancelled);
            heads += usize::from(is_cancelled && user_data.is_multiple_of(2));
            if let [Some(first), Some(second)] = *ends {
                *ends = [None; 2];
                chains[user_data / 2].judge([first, second].map(Status::is_success));
                left -= 1;
            }
        }
        if last.elapsed() > PATIENCE {
            lost(left, &cq.stats());
        }
    }
    assert_eq!(cq.in_flight(), 0);
    // The second of a chain is cancelled with the first, or by itself.
    let is_right = (granted..=granted + heads).contains(&cancelled);
    assert!(is_right, "{granted} cancels granted, {cancelled} cancelled, {heads} of them heads of chains");
}

/// Four threads submit, this one reaps, judges and cancels.
pub(super) fn ordered(workers: usize, entries: usize) {
    let per_thread = 150 * scale();
    let (seed, has_barriers) = (seed(), has_barriers());
    let chain = |at| Chain::new(if at % CHAINS == 0 { LONG } else { SHORT });
    let chains: Vec<Chain> = (0..CHAINS * THREADS).map(chain).collect();
    let (sq, mut cq) = QueuePair::builder().entries(entries).workers(workers).build().expect("a queue").split();
    thread::scope(|scope| {
        let threads: Vec<_> = (chains.chunks(CHAINS).zip(0_u64..))
            .map(|(chains, thread)| {
                let (sq, random) = (sq.clone(), Random::new(seed ^ thread));
                let first = usize::try_from(thread).expect("small") * CHAINS;
                let numbers = thread * per_thread..(thread + 1) * per_thread;
                scope.spawn(move || Submitter { sq, chains, first, has_barriers, random }.run(numbers))
            })
            .collect();
        reap(&mut cq, &chains, per_thread * THREADS as u64, &mut Random::new(!seed));
        threads.into_iter().for_each(|thread| thread.join().expect("a submitter"));
    });
}
