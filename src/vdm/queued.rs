//! Movers with a queue: operations go through a ring of the mover's own, to worker threads or to DSA.
//!
//! `op_new` takes a credit and opens a place, `op_start` pushes the entry, `op_check` looks at the place, `op_delete`
//! gives both back. The credits are the mover's own and exact: one comes back before anybody can know that its
//! operation is complete. Those of the queue may come back a little later, so the queue has some more of them.
#![expect(unsafe_code, reason = "begins entries, for whose memory the operations' makers vouch")]

use std::sync::Arc;
use std::task::{Poll, Waker};

use memring_ring::Credits;
use memring_ring::slot::Key;

use super::future::{BuiltIn, State};
use super::mover::{Mover, NotStarted};
use super::notifier::{Notifier, NotifierType, Word};
use super::operation::{Operation, OperationResult, OperationType};
use super::supported;
use crate::future::{RawRing, Ring, RingBuilder, Seen};
use crate::mover::dsa::Dsa;
use crate::queue::{BuildError, Drive};
use crate::sqe::{MoverId, OpFlags, WORKERS};

/// The name of the mover that is not the CPU's.
const DSA: &str = "dsa";
/// The most entries of a queue.
const MOST_ENTRIES: usize = 65536;
/// So many credits at the most are on their way back when what they were for can be seen to be complete: a queue gives
/// them back in portions of a quarter of its entries, but of no more than this.
const MOST_ON_THEIR_WAY: usize = 64;

#[derive(Debug)]
pub(super) struct Queued {
    ring: RawRing,
    mover: MoverId,
    credits: Arc<Credits>,
    can: OpFlags,
    /// Changes whenever an operation completes that was last polled with a poller.
    word: Arc<Word>,
    word_waker: Waker,
}

/// What an operation holds: a credit, and a place.
#[derive(Debug)]
pub(super) struct Placed {
    key: Key,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The place is open, and nothing has begun in it.
    Open,
    /// A mover may have the memory.
    Running(Seen),
    /// The place was closed.
    Ended(OperationResult),
}

/// Gives the credit of an operation that nobody waits for back, when it is dropped: at its end.
struct Owed(Arc<Credits>);

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

impl Queued {
    /// By worker threads, or with none of them by whoever polls.
    pub(super) fn threads(threads: usize, entries: usize) -> Result<Self, BuildError> {
        Self::new(Ring::builder().workers(threads), entries)
    }

    /// By DSA, driven by so many threads, or with none of them by whoever polls.
    pub(super) fn dsa(dsa: &Dsa, threads: usize, entries: usize) -> Result<Self, BuildError> {
        let drive = if threads == 0 { Drive::Caller } else { Drive::Threads(threads) };
        let dsa = dsa.clone();
        Self::new(Ring::builder().workers(0).mover(DSA, drive, move || dsa.mover()), entries)
    }

    fn new(builder: RingBuilder, entries: usize) -> Result<Self, BuildError> {
        if !(1..=MOST_ENTRIES).contains(&entries) {
            return Err(BuildError::Entries(entries));
        }
        let spare = (entries / 2).min(MOST_ON_THEIR_WAY).min(MOST_ENTRIES - entries);
        let ring = builder.entries(entries + spare).inline_max(0).build()?;
        let mover = ring.mover(DSA).unwrap_or(WORKERS);
        let can = supported(ring.route(), mover);
        let word = Arc::new(Word::new());
        let word_waker = Waker::from(Arc::clone(&word));
        let credits = Arc::new(Credits::new(entries as u64));
        Ok(Self { ring: RawRing::new(&ring), mover, credits, can, word, word_waker })
    }

    /// The name of its constructor.
    pub(super) fn made_by(&self) -> &'static str {
        if self.mover == WORKERS { "threads" } else { DSA }
    }

    pub(super) fn end(&self) {
        self.ring.end();
    }
}

// SAFETY: a place is complete only when its operation's memory is not touched any more, and an operation that the ring
// has begun completes.
unsafe impl Mover for Queued {
    type Data = Placed;

    fn capabilities(&self) -> OpFlags {
        self.can
    }

    fn op_new(&self, _: OperationType) -> Option<Placed> {
        if !self.credits.take(1) {
            return None;
        }
        let key = self.ring.open();
        if key.is_none() {
            self.credits.give_back(1);
        }
        key.map(|key| Placed { key, stage: Stage::Open })
    }

    unsafe fn op_start(
        &self,
        placed: &mut Placed,
        operation: &Operation,
        _: &mut Notifier<'_>,
    ) -> Result<(), NotStarted> {
        // SAFETY: the caller vouches for it, and the `Vdm` ends the ring before its drop returns.
        placed.stage = match unsafe { self.ring.begin(placed.key, operation.sqe().on(self.mover)) } {
            Ok(()) => Stage::Running(Seen::default()),
            Err(error) => Stage::Ended(OperationResult::of(error.status())),
        };
        Ok(())
    }

    fn op_check(&self, placed: &mut Placed, _: &Operation, notifier: &mut Notifier<'_>) -> State {
        if let Stage::Running(seen) = &mut placed.stage {
            let waker = match notifier.wanted() {
                NotifierType::None => Waker::noop(),
                NotifierType::Waker => notifier.use_waker().unwrap_or(Waker::noop()),
                NotifierType::Poller => {
                    notifier.use_poller(Word::poller(&self.word));
                    &self.word_waker
                }
            };
            if let Poll::Ready(failure) = self.ring.poll(placed.key, seen, waker) {
                let result = failure.map_or(OperationResult::Success, |error| OperationResult::of(error.status()));
                placed.stage = Stage::Ended(result);
            }
        }
        if let Stage::Ended(_) = placed.stage { State::Complete } else { State::Running }
    }

    fn op_delete(&self, placed: Placed, _: &Operation) -> OperationResult {
        let result = match placed.stage {
            Stage::Ended(result) => result,
            Stage::Open => {
                self.ring.close_unused(placed.key);
                OperationResult::JobCorrupted
            }
            Stage::Running(_) => {
                self.leave(placed);
                return OperationResult::JobCorrupted;
            }
        };
        self.credits.give_back(1);
        result
    }
}

impl BuiltIn for Queued {
    fn leave(&self, placed: Placed) {
        let owed = Owed(Arc::clone(&self.credits));
        if let Stage::Running(_) = placed.stage {
            self.ring.abandon(placed.key, owed);
        }
    }
}
