//! Portals: the way of descriptors from this process to a work queue.
//!
//! ```text
//!  mmap.rs    a page of the device: MOVDIR64B (dedicated) or ENQCMD (shared), no system call
//!  write.rs   the queue's file: one write(2) of many descriptors, and never a batch on a device of version 1
//!  (model/portal.rs: to a device in software)
//! ```
//!
//! The kernel refuses to map devices that it holds for unsafe (INTEL-SA-01084: all of version 1) unless the process may
//! do raw I/O; then [`open`] falls back to writing. Whoever submits need not know: both take descriptors, both say how
//! many were accepted and what stopped them, both refuse beforehand what a kernel would refuse.
//!
//! **What a dedicated queue is sent while it is full vanishes**, by either way and with no word of it. So a portal of
//! a dedicated queue counts what is outstanding, and says [`Busy`](Stopped::Busy) by itself; whoever submits tells it
//! what has [completed](Portal::completed). A shared queue answers for itself, to one process as to many.
//!
//! **Order.** Submissions are not ordered behind older stores (`instructions.rs`), so each call fences once before its
//! first descriptor, and again before a DRAIN, which is meant to find what was submitted before it.
//!
//! **Forks.** A portal belongs to the process that opened it. In a child the mapping is not there, and newer kernels
//! let it not write either; so it refuses, and its drop leaves the address alone, where something else may be by now.
//!
//! Sources: Intel DSA Architecture Specification 341204-006US, 3 (portals); Linux `drivers/dma/idxd/cdev.c`.
#![expect(unsafe_code, reason = "declares the submission, whose contract is about memory")]

#[cfg(target_arch = "x86_64")]
mod instructions;
#[cfg(target_arch = "x86_64")]
mod mmap;
mod opening;
mod terms;
mod write;

use core::fmt;
use std::io;

#[cfg(target_arch = "x86_64")]
pub use self::mmap::MmapPortal;
pub use self::opening::{Opened, UnknownWay, Way, open};
pub(super) use self::terms::Terms;
pub use self::write::WritePortal;
use super::Descriptor;

/// Takes descriptors to one work queue.
///
/// # Safety
///
/// What is accepted is executed as its bytes say, touches no memory that they do not name, and none after its record
/// says that it has ended. [`retire`](Portal::retire) tells the truth.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Descriptor, Portal, Submitted};
///
/// /// Submits what there is, and says how many descriptors are left.
/// ///
/// /// # Safety
/// ///
/// /// As [`Portal::submit`].
/// unsafe fn submit_some(portal: &mut dyn Portal, waiting: &[Descriptor]) -> usize {
///     // SAFETY: the caller's contract.
///     let Submitted { accepted, .. } = unsafe { portal.submit(waiting) };
///     waiting.len() - accepted
/// }
/// ```
pub unsafe trait Portal: fmt::Debug + Send {
    /// Submits descriptors in this order, up to the first that is not accepted.
    ///
    /// Two descriptors are executed in any order and at the same time, unless a batch with fences, or waiting for the
    /// first one's completion, says otherwise.
    ///
    /// # Safety
    ///
    /// Of each descriptor that is accepted, and of each in the list of a batch: the memory that it reads stays as it
    /// is, and the memory that it writes is accessed by nobody else, until its completion record (or, for a member of a
    /// batch without one, the batch's) says that it has ended. The list of a batch and the records are such memory too.
    /// All of it belongs to this process's address space until then, and the addresses are of pointers whose provenance
    /// was exposed, as `as u64` does.
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted;

    /// Gives the device a turn: called by whoever looks for completions, before it looks. A device in software
    /// ([`ModelPortal`](super::model::ModelPortal)) executes here some of what it was given; hardware needs none of
    /// this thread's time, and then there is nothing to do.
    fn attend(&mut self) {}

    /// So many of the accepted descriptors have ended, as their completion records say.
    fn completed(&mut self, count: usize);

    /// How many descriptors may be submitted before others complete: of a dedicated queue, what is left of its entries.
    /// A shared queue has no such number: `usize::MAX`.
    fn room(&self) -> usize;

    /// Whether a BATCH gets through. Whether the device then knows batches is another question:
    /// [`Allowance::allows_batch`](super::Allowance::allows_batch).
    ///
    /// It may turn out during a submission that none does ([`Stopped::Batch`]); from then on this says so.
    fn passes_batch(&self) -> bool;

    /// Ends the way to a device that is given up: whether nothing that was accepted touches memory from now on. Their
    /// records are as they will stay then, written or not.
    fn retire(self: Box<Self>) -> bool;
}

/// How far a submission got.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Stopped, Submitted};
/// let submitted = Submitted { accepted: 3, stopped: Some(Stopped::Busy) };
/// assert_eq!(submitted.to_string(), "3 descriptors accepted, then: the queue is full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not accepted will never complete"]
pub struct Submitted {
    /// So many descriptors are the device's now: the first ones.
    pub accepted: usize,
    /// Why the next was not accepted; nothing, if there was no next.
    pub stopped: Option<Stopped>,
}

impl fmt::Display for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} descriptors accepted", self.accepted)?;
        match self.stopped {
            Some(stopped) => write!(f, ", then: {stopped}"),
            None => Ok(()),
        }
    }
}

/// Why a descriptor was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The queue is full: wait for completions, try another queue, or do it without the device.
    Busy,
    /// It is a BATCH, and none gets through this portal: submit its members one by one.
    Batch,
    /// The address of its completion record is no multiple of 32.
    RecordAddress,
    /// It names an address space or a privilege, which are not a program's to name.
    Privileged,
    /// This process was forked from the one that opened the portal.
    Forked,
    /// The kernel refused it with this errno; EIO, if it took half of it.
    Os(i32),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the queue is full"),
            Self::Batch => f.write_str("the portal takes no batch"),
            Self::RecordAddress => f.write_str("the address of the completion record is no multiple of 32"),
            Self::Privileged => f.write_str("the descriptor names an address space or a privilege"),
            Self::Forked => f.write_str("the portal belongs to the parent process"),
            Self::Os(errno) => write!(f, "the kernel refused it: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl core::error::Error for Stopped {}

/// Orders all stores of this thread, also those past the cache, before the submission that follows.
///
/// A release fence would be no instruction on x86-64, and these submissions are not ordered as stores are.
#[inline]
fn store_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of SSE, which every x86-64 CPU has; it touches no memory.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}
