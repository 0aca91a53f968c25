//! A mover whose `poll` and `wait` are closures of the test, or the usual ones.
#![expect(unsafe_code, reason = "implements the unsafe mover contract")]

use std::time::Instant;

use memring::Status;
use memring::mover::{Bell, Capabilities, Completions, DataMover, Lane, Progress};

/// Polls by a closure, waits by another.
pub(crate) struct Scripted<P, W> {
    capabilities: Capabilities,
    poll: P,
    wait: W,
}

/// A mover that polls and waits like this.
pub(crate) fn scripted<P, W>(capabilities: Capabilities, poll: P, wait: W) -> Scripted<P, W>
where
    P: FnMut(&mut Lane<'_>, &mut Completions<'_>) -> Progress + Send,
    W: FnMut(&Bell<'_>, Option<Instant>) + Send,
{
    Scripted { capabilities, poll, wait }
}

/// A poll that ends all that it is given, at once and as a success, and touches no memory.
pub(crate) fn promptly(lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
    let mut progress = Progress::Idle;
    while let Some(claimed) = lane.claim() {
        done.complete(claimed, Status::SUCCESS);
        progress = Progress::Busy;
    }
    progress
}

// SAFETY: touches no memory by itself; a closure that does must say in an unsafe block of its own why it may.
// Tokens that a closure drops complete themselves, and no test forgets one.
unsafe impl<P, W> DataMover for Scripted<P, W>
where
    P: FnMut(&mut Lane<'_>, &mut Completions<'_>) -> Progress + Send,
    W: FnMut(&Bell<'_>, Option<Instant>) + Send,
{
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        (self.poll)(lane, done)
    }

    fn wait(&mut self, bell: &Bell<'_>, deadline: Option<Instant>) {
        (self.wait)(bell, deadline);
    }
}
