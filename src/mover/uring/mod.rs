//! The mover of durable flushes: what lies in a file's page cache goes to stable storage.
//!
//! There is no msync in io_uring, so a flush is an fsync (of the data, and of no more of the file than is needed) of
//! the descriptor that the region's file was opened anew for. The kernel does each on a thread of its own. Flushes of
//! one file that wait together become one fsync ([`groups`]): a thousand of them that were submitted together cost one.
//!
//! Where io_uring is not allowed, fdatasync of that same descriptor does it, on the mover's thread ([`kernel`]).

mod groups;
mod kernel;

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::groups::Groups;
use self::kernel::{Kernel, Outcome};
use super::{Bell, Capabilities, Claimed, Completions, DataMover, Kept, Lane, Outlet, Progress};
use crate::cqe::Status;
use crate::memory::region::RegionId;
use crate::sqe::{OpFlags, Opcode};

/// Polls in a row that may begin nothing: enough to claim a queue of any usual length.
const MOST_PUT_OFF: u32 = 128;

/// How often it looks whether an fsync is over, where nothing tells.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// The errno with which the kernel refuses this process an io_uring, if it does. Asked once.
pub(crate) fn refusal() -> Option<i32> {
    kernel::refusal()
}

/// Syncs files.
pub(crate) struct UringMover {
    outlet: Arc<Outlet>,
    groups: Groups<Kept>,
    /// From the first flush on: an io_uring belongs to who uses it.
    kernel: Option<Kernel>,
    /// So many polls in a row have begun nothing, since more waited in the lane.
    put_off: u32,
    plan: UringPlan,
}

/// How it works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UringPlan {
    pub(crate) entries: usize,
    /// Not the fallback, where there is a choice.
    pub(crate) uses_uring: bool,
    /// It has no thread: the kernel makes the reaper's descriptor readable.
    pub(crate) is_caller_driven: bool,
}

impl UringMover {
    pub(crate) fn new(outlet: Arc<Outlet>, plan: UringPlan) -> Self {
        Self { outlet, groups: Groups::new(), kernel: None, put_off: 0, plan }
    }

    /// What it can do: of regions, which no route but that by the region leads to.
    fn capabilities(plan: UringPlan) -> Capabilities {
        let can = Capabilities::new(&[Opcode::Flush]).flags(OpFlags::MEM_DURABLE);
        let can = can.system_calls().signals().claim_together(32);
        if plan.is_caller_driven { can.signals_reaper() } else { can }
    }

    /// Takes on what the lane gives; whether it gave something.
    fn claim(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> bool {
        let mut has_claimed = false;
        while let Some(claimed) = lane.claim() {
            has_claimed = true;
            let sqe = *claimed.sqe();
            let entry = RegionId::of(sqe.region()).and_then(|region| self.outlet.regions.get(region));
            let Some(entry) = entry else {
                // The push has seen to it that there is one.
                done.complete(claimed, Status::INVALID);
                continue;
            };
            if let Some(errno) = entry.error_of(&sqe) {
                done.complete_with(claimed, Status::IO, errno.cast_unsigned());
            } else if sqe.len() == 0 {
                done.complete(claimed, Status::SUCCESS);
            } else {
                self.groups.reserve(self.plan.entries);
                let (file, bytes) = entry.in_file(sqe.dst().addr(), sqe.len());
                self.groups.join(file, bytes, Claimed::keep(claimed));
            }
        }
        has_claimed
    }

    /// Begins what may begin; whether something did.
    fn begin(&mut self, kernel: &mut Kernel) -> bool {
        let mut has_begun = false;
        while kernel.has_room()
            && let Some((group, file, bytes)) = self.groups.begin()
        {
            self.outlet.fsyncs.add(1);
            kernel.sync(group, file.file(), &bytes);
            has_begun = true;
        }
        // What the kernel did not take is tried again by the next poll.
        !kernel.submit() || has_begun
    }

    /// Ends what the kernel is done with; whether there was something.
    fn reap(&mut self, kernel: &mut Kernel, done: &mut Completions<'_>) -> bool {
        let mut has_reaped = false;
        while let Some((group, outcome)) = kernel.next_end() {
            has_reaped = true;
            let errno = match outcome {
                Outcome::NotDone(_) if self.groups.may_try_again(group) => continue,
                Outcome::Synced => None,
                Outcome::NotDone(errno) | Outcome::Failed(errno) => Some(errno),
            };
            self.groups.end(group, errno, |token, errno| match errno {
                None => done.complete(token, Status::SUCCESS),
                Some(errno) => done.complete_with(token, Status::IO, errno.cast_unsigned()),
            });
        }
        has_reaped
    }
}

// SAFETY: it touches no memory of an entry: the kernel writes back what is mapped there, and keeps pages by itself. It
// claims success of a flush only after the fsync that began after its claim.
#[expect(unsafe_code, reason = "implements the contract of movers")]
unsafe impl DataMover for UringMover {
    fn capabilities(&self) -> Capabilities {
        Self::capabilities(self.plan)
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let has_claimed = self.claim(lane, done);
        if self.groups.is_empty() {
            return if has_claimed { Progress::Busy } else { Progress::Idle };
        }
        let signal = self.plan.is_caller_driven.then(|| self.outlet.fd().as_fd());
        let mut kernel = self.kernel.take().unwrap_or_else(|| Kernel::open(self.plan.uses_uring, signal));
        let has_reaped = self.reap(&mut kernel, done);
        // As long as there is more in the lane it may join. Not for ever: what fails at once makes room for more.
        self.put_off = if lane.has_more() { self.put_off + 1 } else { 0 };
        let has_begun = (self.put_off == 0 || self.put_off > MOST_PUT_OFF) && self.begin(&mut kernel);
        // The fallback is done with it by now.
        let has_reaped = self.reap(&mut kernel, done) || has_reaped;
        self.kernel = Some(kernel);
        match has_claimed || has_begun || has_reaped {
            true => Progress::Busy,
            false if self.groups.is_empty() => Progress::Idle,
            false => Progress::Waiting,
        }
    }

    fn wait(&mut self, bell: &Bell<'_>, deadline: Option<Instant>) {
        if self.groups.is_empty() {
            return bell.sleep(deadline);
        }
        let has_waited = match (&mut self.kernel, bell.fd()) {
            (Some(kernel), Ok(fd)) => kernel.wait(fd, deadline),
            _ => false,
        };
        if !has_waited {
            // Nobody rings when an fsync is over: no descriptor is left for the bell, or this kernel cannot watch it.
            let soon = Instant::now() + LOOK_AGAIN;
            bell.sleep(Some(deadline.map_or(soon, |deadline| deadline.min(soon))));
        }
    }
}

impl fmt::Debug for UringMover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringMover").field("groups", &self.groups).finish_non_exhaustive()
    }
}
