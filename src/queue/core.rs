//! What the two halves of a queue pair and its driver threads share.

use std::sync::Arc;

use memring_ring::Gate;

use super::chain::Chains;
use super::flusher::{FlushMethod, Flusher};
use super::route::Route;
use super::stats::{Books, Stats};
use crate::memory::region::{MappedFile, Region, RegisterError, RegisterRefusal};
use crate::mover::{Guard, Outlet, Station};
use crate::os::Birth;
use crate::sqe::MoverId;

/// The shared part of a queue pair. Each half holds it, so it lives as long as either.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) entries: usize,
    /// Batches whose lengths add up to less are kept in the cache, bytes.
    pub(crate) streams_from: u64,
    pub(crate) route: Route,
    /// Closed when the driver threads may end: nothing is in flight then.
    pub(crate) service: Gate,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) chains: Arc<Chains>,
    /// The movers with lanes, by lane.
    pub(crate) stations: Box<[Arc<Station>]>,
    pub(crate) books: Books,
    pub(crate) birth: Birth,
    /// For what goes inline, as the CPU mover has it.
    pub(crate) guard: Option<Guard>,
    /// The thread of durable flushes.
    pub(super) flusher: Flusher,
    pub(super) uses_uring: bool,
}

impl Core {
    /// Operations that nothing can end any more: they wait for one that was abandoned. While others may end, some of
    /// those that wait for these are counted too.
    pub(crate) fn stuck(&self) -> u64 {
        if self.outlet.abandoned() == 0 { 0 } else { self.chains.waiting() }
    }

    /// Makes a region of a mapped file, and sees to it that somebody flushes it.
    pub(super) fn register(self: &Arc<Self>, mapped: MappedFile) -> Result<Region, RegisterError> {
        let refusal = if self.birth.is_foreign() {
            Some(RegisterRefusal::Forked)
        } else if self.outlet.intake.is_closed() {
            Some(RegisterRefusal::Closed)
        } else {
            self.flusher.begin(self).err()
        };
        match refusal {
            Some(reason) => Err(RegisterError { mapped, reason }),
            None => self.outlet.regions.register(mapped),
        }
    }

    pub(super) fn flush_method(&self) -> FlushMethod {
        if self.uses_uring { FlushMethod::in_use() } else { FlushMethod::Fdatasync }
    }

    /// The id of the mover of this name.
    pub(crate) fn mover(&self, name: &str) -> Option<MoverId> {
        self.stations.iter().find(|station| station.name == name).map(|station| station.mover)
    }

    /// What was done so far, and by whom.
    ///
    /// Nothing in a forked child: the parent may have held the books' lock, which is locked there for ever.
    pub(crate) fn stats(&self) -> Stats {
        if self.birth.is_foreign() {
            return Stats::default();
        }
        self.books.read(&self.stations, &self.outlet, &self.chains)
    }
}
