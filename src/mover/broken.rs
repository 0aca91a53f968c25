//! What stands in for a mover that panicked.
#![expect(unsafe_code, reason = "implements the unsafe mover contract")]

use super::{Capabilities, Completions, DataMover, Lane, Progress};
use crate::cqe::Status;
use crate::sqe::Opcode;

/// Every operation it is given ends as job corrupted.
pub(crate) struct Broken;

// SAFETY: touches no memory, and completes every token at once.
unsafe impl DataMover for Broken {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&Opcode::ALL)
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(claimed) = lane.claim() {
            done.complete(claimed, Status::JOB_CORRUPTED);
            progress = Progress::Busy;
        }
        progress
    }
}
