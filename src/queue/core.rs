//! What the two halves of a queue pair and its driver threads share.

use std::sync::Arc;

use memring_ring::{Credits, Gate};

use super::route::Route;
use super::stats::{Books, Stats};
use crate::mover::{Guard, Outlet, Station};
use crate::os::Birth;

/// The shared part of a queue pair. Each half holds it, so it lives as long as either.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) entries: usize,
    pub(crate) route: Route,
    /// One for each entry: taken by a push, given back when the completion was reaped.
    pub(crate) credits: Credits,
    /// Where submissions are counted, until the reaper closes it.
    pub(crate) intake: Gate,
    /// Closed when the driver threads may end: nothing is in flight then.
    pub(crate) service: Gate,
    pub(crate) outlet: Arc<Outlet>,
    /// The movers with lanes, by lane.
    pub(crate) stations: Box<[Arc<Station>]>,
    /// Which of them the reaper drives, by lane.
    pub(crate) caller_driven: Box<[bool]>,
    pub(crate) books: Books,
    pub(crate) birth: Birth,
    /// For what goes inline, as the CPU mover has it.
    pub(crate) guard: Option<Guard>,
}

impl Core {
    /// Operations that were submitted and have not ended.
    pub(crate) fn in_flight(&self) -> u64 {
        // The ends first: they never overtake what was submitted, so the difference cannot wrap.
        let ended = self.outlet.ended();
        self.intake.passed().saturating_sub(ended)
    }

    /// What was done so far, and by whom.
    ///
    /// Nothing in a forked child: the parent may have held the books' lock, which is locked there for ever.
    pub(crate) fn stats(&self) -> Stats {
        if self.birth.is_foreign() {
            return Stats::default();
        }
        self.books.read(&self.stations, &self.outlet)
    }
}
