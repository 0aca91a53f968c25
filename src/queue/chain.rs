//! Chains: entries that begin when another has ended.
//!
//! ```text
//!   submit:   A link B link C, D      ->  lane: A, D        parked: B, C      A names B, B names C
//!   A ends:   under whoever drove it  ->  takes B out of the table, and does it next or sends it to its lane
//! ```
//!
//! Only the head of a chain is dispatched. Its members wait in a table, each under a key that the one before it
//! carries, so a chain crosses movers without anyone who watches over it: the driver that ends a member goes on with
//! the next, by itself if it is its own mover's. A failure cancels what is left, unless the link is a hard one. Each
//! member holds its credit until its own end, so there is a place in the table for each.
#![expect(unsafe_code, reason = "executes inline entries of chains, whose submitters vouched for their memory")]

use std::sync::Arc;

use memring_ring::Table;

use super::barrier::{Admission, Barrier};
use super::route::lane_of;
use super::stage::Stage;
use crate::memory::region::{Backing, RegionId};
use crate::mover::{Ended, Guard, Outlet, Sequel, Station, Tally, execute};
use crate::sqe::{INLINE, Sqe, URING, WORKERS};

/// What waits for something else to end: members of chains, and what a barrier holds back.
#[derive(Debug)]
pub(crate) struct Chains {
    outlet: Arc<Outlet>,
    stations: Box<[Arc<Station>]>,
    parked: Table<{ Sqe::WORDS }>,
    barrier: Barrier,
    /// What ends here: INLINE's, then those of the lanes.
    tallies: Box<[Tally]>,
    guard: Option<Guard>,
}

impl Chains {
    pub(crate) fn new(
        entries: usize,
        outlet: Arc<Outlet>,
        stations: Box<[Arc<Station>]>,
        guard: Option<Guard>,
    ) -> Self {
        let tallies = (0..=stations.len()).map(|_| Tally::default()).collect();
        let barrier = Barrier::new(entries, Arc::clone(&outlet));
        Self { outlet, stations, parked: Table::new(entries), barrier, tallies, guard }
    }

    /// Parks the members of the stage's chains, and leaves their heads in it.
    pub(super) fn park(&self, stage: &mut Stage) {
        stage.fold_chains(|member| self.parked.put(member).expect("a place for each credit"));
    }

    /// Submits a stage that has barriers in it, or has come to one.
    pub(super) fn admit(&self, stage: &mut Stage) -> Admission {
        let admission = self.barrier.admit(stage, |stage| self.park(stage));
        self.open_barrier();
        admission
    }

    /// Marks what waits under this user data, held back or parked: it will be cancelled when its turn comes. Returns
    /// how many.
    pub(super) fn cancel_waiting(&self, user_data: u64) -> u64 {
        // In the order in which entries travel, so that none slips by.
        self.barrier.cancel(user_data) + self.parked.mark(|sqe: &Sqe| sqe.data() == user_data)
    }

    /// Ends an entry that was withdrawn from its lane, as cancelled.
    pub(super) fn cancel(&self, sqe: Sqe) {
        self.send(sqe.cancelled());
    }

    /// How many entries wait: those held back, and members of chains.
    pub(super) fn waiting(&self) -> u64 {
        self.parked.held() + self.barrier.held()
    }

    /// The tallies of what ended here, by mover: INLINE's, then those of the lanes.
    pub(super) fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// Executes an entry on this thread. None: it is to be durable, and goes on as a flush.
    fn execute(&self, sqe: Sqe) -> Option<Ended> {
        // SAFETY: the entry was pushed, and the push's contract vouches for its memory.
        let end = unsafe { execute(&sqe, self.guard, || None) };
        end.stores.fence();
        let uncounted = if end.status.is_success() { sqe.len() } else { 0 };
        let ended = Ended { sqe, status: end.status, value: end.value(), uncounted };
        if ended.is_half_way() {
            self.tally(&sqe).add(0, uncounted);
            self.make_durable(sqe);
            return None;
        }
        Some(ended)
    }

    /// Counts the end of an operation and tells it at once. Whether a barrier's time has come.
    fn tell(&self, ended: Ended) -> bool {
        self.tally(&ended.sqe).add(1, ended.uncounted);
        self.outlet.tell(ended)
    }

    /// Sends an entry to where it is executed, and goes on with its chain. Whether a barrier's time has come.
    fn send_on(&self, sqe: Sqe) -> bool {
        let (mut next, mut is_time) = (Some(sqe), false);
        while let Some(sqe) = next {
            let ended = match lane_of(sqe.mover()) {
                _ if sqe.is_cancelled() => Ended::cancelled(sqe),
                None => match self.execute(sqe) {
                    Some(ended) => ended,
                    None => break,
                },
                Some(lane) => {
                    let station = &self.stations[lane];
                    station.push_batch(&[sqe]);
                    station.ring(&self.outlet);
                    break;
                }
            };
            is_time |= self.tell(ended);
            next = self.follow(ended, &mut |ended| is_time |= self.tell(ended));
        }
        is_time
    }
}

impl Sequel for Chains {
    fn follow(&self, ended: Ended, report: &mut dyn FnMut(Ended)) -> Option<Sqe> {
        let (mut last, mut is_cut_off) = (ended, false);
        while let Some(key) = last.sqe.next() {
            let (next, is_cancelled) = self.parked.take::<Sqe>(key);
            is_cut_off |= !last.status.is_success() && last.sqe.cuts_off_on_failure();
            last = if is_cut_off || is_cancelled {
                Ended::cancelled(next)
            } else if next.mover() == INLINE {
                self.execute(next)?
            } else {
                return Some(next);
            };
            report(last);
        }
        None
    }

    fn take_next(&self, sqe: &Sqe, wanted: &dyn Fn(&Sqe) -> bool) -> Option<Sqe> {
        let key = sqe.next().filter(|key| wanted(&self.parked.peek(*key)))?;
        let (next, is_cancelled) = self.parked.take::<Sqe>(key);
        Some(if is_cancelled { next.cancelled() } else { next })
    }

    fn guard(&self) -> Option<Guard> {
        self.guard
    }

    fn send(&self, sqe: Sqe) {
        if self.send_on(sqe) {
            self.open_barrier();
        }
    }

    fn make_durable(&self, sqe: Sqe) {
        // On persistent memory the CPU does that, by itself.
        let entry = RegionId::of(sqe.region()).and_then(|region| self.outlet.regions.get(region));
        let is_dax = entry.is_some_and(|entry| entry.backing() == Backing::Dax);
        let flush = sqe.flush_by(if is_dax { WORKERS } else { URING });
        self.outlet.in_use.turn_into(&sqe, &flush);
        self.send(flush);
    }

    fn open_barrier(&self) {
        while let Some(sqe) = self.barrier.next_let_in() {
            // What has ended by that is seen by the next look.
            self.send_on(sqe);
        }
    }

    fn tally(&self, sqe: &Sqe) -> &Tally {
        &self.tallies[lane_of(sqe.mover()).map_or(0, |lane| lane + 1)]
    }
}
