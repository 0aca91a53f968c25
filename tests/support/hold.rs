//! A mover that keeps what it claims until the test lets go: operations are in flight for as long as a test needs.
#![expect(unsafe_code, reason = "implements the unsafe mover contract")]

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use memring::mover::{Capabilities, Completions, DataMover, Kept, Lane, Progress};
use memring::{Opcode, Status};

/// The test's hand on its [`Holder`]s. Lets go of everything when it is dropped, so that a test that fails does not
/// hang: declare it after the queue, to be dropped before it.
#[derive(Default)]
pub(crate) struct Hold(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    kept: Vec<Kept>,
    /// How many may complete; the oldest first.
    released: usize,
}

impl Hold {
    /// Makes movers that this hand holds. They do nops and memsets.
    pub(crate) fn movers(&self) -> impl Fn() -> Holder + 'static {
        let shared = Arc::clone(&self.0);
        move || Holder(Arc::clone(&shared))
    }

    /// Waits until so many operations are held.
    pub(crate) fn wait_for(&self, count: usize) {
        let held = self.0.changed.wait_while(self.0.state(), |state| state.kept.len() < count);
        assert_eq!(held.expect("nobody panics with it").kept.len(), count);
    }

    /// Lets so many operations complete, now or when they come.
    pub(crate) fn release(&self, count: usize) {
        self.0.state().released += count;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.state().released = usize::MAX;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A failed test may have poisoned it; what it holds must be let go all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mover. It says nothing of its own accord when it is released: its driver looks again.
pub(crate) struct Holder(Arc<Shared>);

// SAFETY: the destination of a memset is written when it is let go, before it is completed; nothing else is touched.
unsafe impl DataMover for Holder {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Nop, Opcode::Memset])
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut state = self.0.state();
        let mut busy = false;
        while let Some(claimed) = lane.claim() {
            state.kept.push(claimed.keep());
            busy = true;
        }
        while state.released > 0 && !state.kept.is_empty() {
            state.released -= 1;
            busy = true;
            let kept = state.kept.remove(0);
            let sqe = kept.sqe();
            if sqe.opcode() == Some(Opcode::Memset) {
                let len = usize::try_from(sqe.len()).expect("it is in memory");
                // SAFETY: the submitter vouched for the region until the completion, which comes below.
                unsafe { sqe.dst().write_bytes(sqe.pattern(), len) };
            }
            done.complete(kept, Status::SUCCESS);
        }
        self.0.changed.notify_all();
        match (busy, state.kept.is_empty()) {
            (true, _) => Progress::Busy,
            (false, true) => Progress::Idle,
            (false, false) => Progress::Waiting,
        }
    }
}
