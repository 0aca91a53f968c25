//! Movers: who executes operations. [`DataMover`] is the contract; its implementations are the rest of this folder.
//!
//! A mover takes entries out of its [`Lane`] as [`Claimed`] tokens and reports each token's end to [`Completions`]. It
//! knows nothing of queues, futures or other movers, nor who drives it: a thread of its own, or the reaper's.

mod account;
mod broken;
mod budget;
mod claimed;
mod completions;
mod cpu;
pub(crate) mod dsa;
mod guard;
mod in_use;
mod lane;
mod outlet;
mod sequel;
mod station;
mod tally;
mod uring;

use core::fmt;
use std::time::Instant;

pub(crate) use account::Account;
pub(crate) use broken::Broken;
pub(crate) use budget::Budget;
pub(crate) use claimed::Held;
pub use claimed::{Claimed, Kept, Token};
pub use completions::Completions;
pub(crate) use completions::Gathered;
pub(crate) use cpu::{CpuMover, execute};
pub(crate) use guard::{Done, Guard};
pub(crate) use in_use::{InUse, Place};
pub(crate) use lane::Chunk;
pub use lane::Lane;
pub(crate) use outlet::{Hook, Outlet};
pub(crate) use sequel::{Ended, Sequel};
pub use station::Bell;
pub(crate) use station::Station;
pub(crate) use tally::Tally;
pub(crate) use uring::{UringMover, UringPlan, refusal as uring_refusal};

use crate::sqe::{OpFlags, Opcode, SqeFlags};

/// The size of a chunk, as [`Capabilities::claim_together`] counts.
const MOST_TOGETHER: u8 = 32;
const _: () = assert!(MOST_TOGETHER as usize == budget::CHUNK_ENTRIES);

/// What a mover can do. A push refuses what its mover cannot.
///
/// # Examples
///
/// ```
/// use memring::{Opcode, mover::Capabilities};
/// let can = Capabilities::new(&[Opcode::Memcpy, Opcode::Memset]).max_len(1 << 21);
/// assert!(can.supports(Opcode::Memset));
/// assert!(!can.supports(Opcode::Flush));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    opcodes: u64,
    flags: OpFlags,
    max_len: u64,
    alignment: u64,
    system_calls: bool,
    signals: bool,
    signals_reaper: bool,
    quiescent_on_panic: bool,
    claims_together: u8,
    part: u64,
    asynchronous: bool,
    durable_on_dax: bool,
}

impl Capabilities {
    /// These operations, of any length and alignment, with no options.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// assert!(Capabilities::new(&Opcode::ALL).supports(Opcode::Flush));
    /// ```
    #[must_use]
    pub const fn new(opcodes: &[Opcode]) -> Self {
        let mut set = 0;
        let mut index = 0;
        while index < opcodes.len() {
            set |= 1 << opcodes[index] as u8;
            index += 1;
        }
        Self {
            opcodes: set,
            flags: OpFlags::NONE,
            max_len: u64::MAX,
            alignment: 1,
            system_calls: false,
            signals: false,
            signals_reaper: false,
            quiescent_on_panic: false,
            claims_together: 1,
            part: 0,
            asynchronous: false,
            durable_on_dax: false,
        }
    }

    /// It honours these options (or, for hints, takes note of them). Those that this version does not know are left
    /// out.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{OpFlags, Opcode, mover::Capabilities};
    /// let _can = Capabilities::new(&[Opcode::Memcpy]).flags(OpFlags::NO_CACHE_HINT);
    /// ```
    #[must_use]
    pub const fn flags(self, flags: OpFlags) -> Self {
        Self { flags: OpFlags::from_bits(flags.bits() & OpFlags::KNOWN.bits()), ..self }
    }

    /// It moves at most this many bytes in one operation.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// let _can = Capabilities::new(&[Opcode::Memcpy]).max_len(1 << 31);
    /// ```
    #[must_use]
    pub const fn max_len(self, bytes: u64) -> Self {
        Self { max_len: bytes, ..self }
    }

    /// Addresses and lengths must be multiples of this power of two, bytes. Other values count as the next one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// let _can = Capabilities::new(&[Opcode::Memcpy]).alignment(64);
    /// ```
    #[must_use]
    pub const fn alignment(self, bytes: u64) -> Self {
        Self { alignment: bytes.next_power_of_two(), ..self }
    }

    /// Its `poll` may make system calls, so a caller-driven `drain` may too.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// assert!(Capabilities::new(&[Opcode::Memcpy]).system_calls().makes_system_calls());
    /// ```
    #[must_use]
    pub const fn system_calls(self) -> Self {
        Self { system_calls: true, ..self }
    }

    /// Its [`wait`](DataMover::wait) returns by itself when an operation under way ends.
    ///
    /// Without it, a driver thread that waits while operations are under way is woken every 100 us, to poll again.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// let _can = Capabilities::new(&[Opcode::Memcpy]).signals();
    /// ```
    #[must_use]
    pub const fn signals(self) -> Self {
        Self { signals: true, ..self }
    }

    /// Each driver takes up to this many entries from the lane together, 1 to 32. Default: 1.
    ///
    /// What is taken waits for this driver alone: right for operations that end within the poll, and wrong for a
    /// mover that has room for few at a time, whose other drivers would stand idle. Other values count as the nearest.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// let _can = Capabilities::new(&[Opcode::Memcpy]).claim_together(32);
    /// ```
    #[must_use]
    pub const fn claim_together(self, entries: u8) -> Self {
        let claims_together = match entries {
            0 => 1,
            1..=MOST_TOGETHER => entries,
            _ => MOST_TOGETHER,
        };
        Self { claims_together, ..self }
    }

    /// After a panic in `poll`, nothing touches the memory of what it had claimed: those operations may complete (as
    /// job corrupted). Otherwise they never do, and dropping the queue aborts the process rather than free their
    /// memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// let _can = Capabilities::new(&[Opcode::Memcpy]).quiescent_on_panic();
    /// ```
    #[must_use]
    pub const fn quiescent_on_panic(self) -> Self {
        Self { quiescent_on_panic: true, ..self }
    }

    /// Whether it does this operation.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// assert!(!Capabilities::new(&[Opcode::Memcpy]).supports(Opcode::Memset));
    /// ```
    #[must_use]
    pub const fn supports(&self, opcode: Opcode) -> bool {
        self.opcodes & (1 << opcode as u8) != 0
    }

    /// Whether polling it may enter the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, mover::Capabilities};
    /// assert!(!Capabilities::new(&[Opcode::Memcpy]).makes_system_calls());
    /// ```
    #[must_use]
    pub const fn makes_system_calls(&self) -> bool {
        self.system_calls
    }

    pub(crate) const fn signals_by_itself(&self) -> bool {
        self.signals
    }

    /// Without a thread, it makes the reaper's descriptor readable when an operation under way ends.
    pub(crate) const fn signals_reaper(self) -> Self {
        Self { signals_reaper: true, ..self }
    }

    pub(crate) const fn wakes_reaper(&self) -> bool {
        self.signals_reaper
    }

    pub(crate) const fn claims_together(&self) -> usize {
        self.claims_together as usize
    }

    pub(crate) const fn is_quiescent_on_panic(&self) -> bool {
        self.quiescent_on_panic
    }

    /// It does operations from twice this length on in parts of about this length, bytes, each within the poll that
    /// claims it.
    pub(crate) const fn in_parts(self, bytes: u64) -> Self {
        Self { part: bytes, ..self }
    }

    /// The length of a part, if it does operations in parts.
    pub(crate) const fn part(&self) -> Option<u64> {
        if self.part == 0 { None } else { Some(self.part) }
    }

    /// Its operations end after the poll that claims them, and take none of the poll's time: a budget counts how many
    /// they are, and not their bytes. What must be done part by part in turn it is given whole.
    pub(crate) const fn asynchronous(self) -> Self {
        Self { asynchronous: true, ..self }
    }

    pub(crate) const fn is_asynchronous(&self) -> bool {
        self.asynchronous
    }

    /// Of what is to be durable it takes copies and sets in persistent memory, and leaves the rest to the CPU.
    pub(crate) const fn durable_on_dax(self) -> Self {
        Self { durable_on_dax: true, ..self.flags(OpFlags::from_bits(self.flags.bits() | OpFlags::MEM_DURABLE.bits())) }
    }

    pub(crate) const fn is_durable_on_dax(&self) -> bool {
        self.durable_on_dax
    }

    /// The longest operation that it does in one piece.
    pub(crate) const fn longest_whole(&self) -> u64 {
        if self.part == 0 { u64::MAX } else { 2 * self.part - 1 }
    }

    /// The bits of an entry's word 0 that may be set: the opcode's low five, what holds between entries, the mover, and
    /// the options it honours.
    pub(crate) const fn allowed_head(&self) -> u64 {
        0x1f | ((SqeFlags::KNOWN.bits() as u64) << 8) | (0xff << 16) | ((self.flags.bits() as u64) << 32)
    }

    /// Its opcodes, as a set of bits.
    pub(crate) const fn opcodes(&self) -> u64 {
        self.opcodes
    }

    /// The most bytes in one operation, and the bits that must be clear in its addresses and its length.
    pub(crate) const fn limits(&self) -> (u64, u64) {
        (self.max_len, self.alignment - 1)
    }
}

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something was claimed or completed: poll again.
    Busy,
    /// Nothing could be done now, but claimed operations are under way.
    Waiting,
    /// Nothing to do: every claimed operation was completed, and the lane gave nothing.
    Idle,
}

/// A data mover: a state machine that its driver polls.
///
/// **Thread.** One driver owns an instance: a thread of the queue, or the reaper (through `drain` and `wait`). All
/// calls come from the driver, one at a time, but for a caller-driven mover not always from the same thread. Several
/// drivers of one mover have an instance each; what they share is the mover's own affair (an `Arc` inside).
///
/// **Blocking.** [`poll`](DataMover::poll) must not block: other operations wait behind it. [`wait`](DataMover::wait)
/// may.
///
/// **Allocation.** The queue allocates nothing per operation; a mover should not either.
///
/// **Memory.** The bytes that an entry names are the mover's from the claim to the completion, and the submitter's
/// before and after. On an error the destination's bytes are whatever the mover left there.
///
/// **Panics.** An instance that panics is not called again. If its mover has other driver threads, they go on without
/// it; else its driver answers what is still to come with [`JOB_CORRUPTED`](crate::Status::JOB_CORRUPTED). See
/// [`Capabilities::quiescent_on_panic`] for what it had claimed.
///
/// # Safety
///
/// Nothing of an operation's memory is touched after it was completed, nor before it was claimed, and only as the entry
/// says. An entry is completed as [`SUCCESS`](crate::Status::SUCCESS) only if all of its effect was made, so that every
/// byte of its destination is initialised. Every claimed entry is completed exactly once (a token that is dropped
/// completes itself; one that is forgotten breaks this contract).
///
/// # Examples
///
/// A mover for a device would hold its tokens while the device works; this one works at once.
///
/// ```
/// use memring::mover::{Capabilities, Completions, DataMover, Lane, Progress};
/// use memring::queue::{Drive, QueuePair};
/// use memring::{Opcode, Sqe, Status};
///
/// struct Filler;
///
/// // SAFETY: writes only the claimed entry's destination, and only before completing it.
/// unsafe impl DataMover for Filler {
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::new(&[Opcode::Memset])
///     }
///     fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
///         let mut progress = Progress::Idle;
///         while let Some(claimed) = lane.claim() {
///             let sqe = claimed.sqe();
///             for at in 0..sqe.len() as usize {
///                 // SAFETY: the entry's submitter vouched for its region.
///                 unsafe { sqe.dst().add(at).write(sqe.pattern()) };
///             }
///             done.complete(claimed, Status::SUCCESS);
///             progress = Progress::Busy;
///         }
///         progress
///     }
/// }
///
/// let pair = QueuePair::builder().mover("filler", Drive::Caller, || Filler).build()?;
/// let filler = pair.mover("filler").expect("it was just added");
/// let mut buffer = [0_u8; 32];
/// let (mut sq, mut cq) = pair.split();
/// // SAFETY: the buffer outlives `cq`, and nobody touches it until the completion was reaped.
/// unsafe { sq.push(Sqe::memset(buffer.as_mut_ptr(), 7, 32).on(filler)) }?;
/// sq.submit();
/// cq.wait(1, None)?;
/// assert!(cq.drain().all(|cqe| cqe.status().is_success() && cqe.mover() == filler));
/// assert_eq!(buffer, [7; 32]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[expect(unsafe_code, reason = "the contract about memory is what this trait is")]
pub unsafe trait DataMover: Send {
    /// What it can do. Asked once, of the first instance, when the queue is built.
    fn capabilities(&self) -> Capabilities;

    /// Claims what fits, advances what is under way, reports what is done.
    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress;

    /// Blocks until something may have changed: the bell rang, the deadline passed, or an operation under way ended.
    ///
    /// Called by driver threads when `poll` had nothing to do. A mover that waits in the kernel or on hardware
    /// overrides this and watches [`Bell::fd`] or [`Bell::is_rung`] too. Returning early is harmless.
    fn wait(&mut self, bell: &Bell<'_>, deadline: Option<Instant>) {
        bell.sleep(deadline);
    }

    /// Asks to give up the claimed operations with this user data, if that is possible; whether one was.
    ///
    /// A mover that does completes the operation as cancelled in a later poll. Called when
    /// [`CompletionQueue::cancel`](crate::queue::CompletionQueue::cancel) is, between polls.
    fn cancel(&mut self, user_data: u64) -> bool {
        let _ = user_data;
        false
    }
}

impl fmt::Debug for dyn DataMover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataMover").finish_non_exhaustive()
    }
}
