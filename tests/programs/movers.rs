//! Two movers that fail what they are told to, and keep a log of what they do.
#![expect(unsafe_code, reason = "implements the unsafe mover contract")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memring::mover::{Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress, Token};
use memring::{Opcode, Sqe, Status};

use super::plan::{fate_of, number_of};
use super::random::Random;

/// Something that a mover did with the entry of this user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Began(u64),
    Ended(u64),
}

/// What all movers of one queue share.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    fn add(&self, event: Event) {
        self.lock().push(event);
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn capabilities() -> Capabilities {
    Capabilities::new(&[Opcode::Nop, Opcode::Memcpy, Opcode::Memmove, Opcode::Memset])
}

/// Does what the entry says.
///
/// # Safety
///
/// It was claimed by the caller and not completed.
unsafe fn execute(sqe: &Sqe) {
    let len = usize::try_from(sqe.len()).expect("it is in memory");
    match sqe.opcode() {
        // SAFETY: the entry's submitter vouched for its regions until it is completed.
        Some(Opcode::Memset) => unsafe { sqe.dst().write_bytes(sqe.pattern(), len) },
        // SAFETY: as above.
        Some(Opcode::Memcpy | Opcode::Memmove) => unsafe { sqe.dst().copy_from(sqe.src(), len) },
        _ => {}
    }
}

/// Ends an operation as its user data says. The end is in the log before it is told.
fn end(sqe: Sqe, token: impl Token, done: &mut Completions<'_>, log: &Log) {
    let status = fate_of(sqe.data());
    if status.is_success() {
        // SAFETY: the token in hand says that it was claimed and not completed.
        unsafe { execute(&sqe) };
    }
    log.add(Event::Ended(sqe.data()));
    if status == Status::JOB_CORRUPTED {
        drop(token);
    } else {
        done.complete_with(token, status, u32::try_from(number_of(sqe.data())).expect("16 bits"));
    }
}

/// Completes at once.
pub(crate) struct Prompt(pub(crate) Log);

// SAFETY: `end` touches what the claimed entry names, before it is completed.
unsafe impl DataMover for Prompt {
    fn capabilities(&self) -> Capabilities {
        capabilities().claim_together(4)
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(claimed) = lane.claim() {
            let sqe = *claimed.sqe();
            self.0.add(Event::Began(sqe.data()));
            end(sqe, claimed, done, &self.0);
            progress = Progress::Busy;
        }
        progress
    }
}

/// Keeps what it claims for some polls, in a pool that all instances share: any of them completes it.
pub(crate) struct Keeping {
    log: Log,
    pool: Arc<Mutex<Vec<Kept>>>,
    random: Random,
}

impl Keeping {
    pub(crate) fn new(log: Log, pool: &Arc<Mutex<Vec<Kept>>>, seed: u64) -> Self {
        Self { log, pool: Arc::clone(pool), random: Random::new(seed) }
    }
}

// SAFETY: as for `Prompt`.
unsafe impl DataMover for Keeping {
    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        // Now and then it is full.
        let room = if self.random.below(4) == 0 { 1 } else { 64 };
        while pool.len() < room
            && let Some(kept) = lane.claim().map(Claimed::keep)
        {
            self.log.add(Event::Began(kept.sqe().data()));
            pool.push(kept);
        }
        if pool.is_empty() {
            return Progress::Idle;
        }
        if self.random.below(3) == 0 {
            let at = self.random.below(pool.len());
            let kept = pool.swap_remove(at);
            end(*kept.sqe(), kept, done, &self.log);
        }
        if self.random.below(32) == 0 { Progress::Waiting } else { Progress::Busy }
    }
}
