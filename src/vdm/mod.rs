//! Virtual data movers: the words of miniasync's page over this library, one operation a future.
//!
//! ```text
//!  Vdm ─memcpy, ...─▶ OperationFuture ─poll─▶ op_start ─▶ op_check ─▶ op_delete ─▶ OperationOutput
//!   └─ op_new ────────▶ Idle                  synchronous │ threads │ dsa │ your Mover
//! ```
//!
//! A program that was written for miniasync finds here what it knows: `docs/VDM.md` goes through its page sentence by
//! sentence. Futures are made on raw addresses and borrow nothing, so making one is `unsafe`; [`Ring`](crate::Ring) has
//! the same operations with buffers that are owned, in safe code. [`Chain`] joins futures to one.
#![expect(unsafe_code, reason = "declares operations on raw addresses")]

mod chain;
mod future;
mod mover;
mod notifier;
mod operation;
mod plugged;
mod queued;
mod synchronous;

pub use self::chain::Chain;
pub use self::future::{OperationFuture, State};
pub use self::mover::{Mover, NotStarted};
pub use self::notifier::{Notifier, NotifierType, Poller, Word};
pub use self::operation::{Operation, OperationOutput, OperationResult, OperationType};
pub use crate::queue::BuildError;

use core::fmt;
use std::sync::Arc;

use self::future::{Own, Run, Task};
use self::plugged::{Desk, Movers};
use self::queued::Queued;
use self::synchronous::Synchronous;
use crate::mover::dsa::Dsa;
use crate::queue::Route;
use crate::sqe::{MoverId, OpFlags, Sqe};

/// A virtual data mover: who makes operations, and does them.
///
/// | made by | operations run | resources |
/// |---|---|---|
/// | [`synchronous`](Vdm::synchronous) | inside the first poll, on the thread that polls | none are needed |
/// | [`threads`](Vdm::threads) | on worker threads | as many operations at once as were asked for |
/// | [`dsa`](Vdm::dsa) | on Intel DSA, or its model in software | likewise |
/// | [`new`](Vdm::new) | where a [`Mover`] of your own does them | what it says |
///
/// It is shared by reference, or in an `Arc`. **Its drop** waits until no operation's memory is touched any more, also
/// of those whose futures were dropped or forgotten. A future that is left can be polled: it completes, one that was
/// idle as [`JobCorrupted`](OperationResult::JobCorrupted). (A driver thread of a queue, on which wakers may run,
/// cannot wait: dropped there with operations under way, it ends the process.)
///
/// # Examples
///
/// ```
/// use memring::OpFlags;
/// use memring::vdm::{OperationResult, Vdm};
/// let src = vec![7; 1 << 20];
/// let mut dst = vec![0; 1 << 20];
/// // After the buffers, so that it is dropped before them: its drop waits.
/// let vdm = Vdm::threads(1, 64)?;
/// // SAFETY: both outlive `vdm`, and nobody uses them until the operation is complete.
/// let copy = unsafe { vdm.memcpy(dst.as_mut_ptr(), src.as_ptr(), 1 << 20, OpFlags::NONE) };
/// // Any executor does; a ring has one at hand.
/// let ring = memring::Ring::new()?;
/// assert_eq!(ring.block_on(copy)?.result, OperationResult::Success);
/// assert_eq!(dst, src);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Vdm(Kind);

enum Kind {
    Synchronous(Arc<Synchronous>),
    Queued(Arc<Queued>),
    Plugged(Arc<dyn Movers>),
}

impl Vdm {
    /// A mover that does each operation inside the poll that starts it: `data_mover_sync_new`.
    ///
    /// # Errors
    ///
    /// [`BuildError::Os`]: the kernel refused an eventfd.
    ///
    /// # Examples
    ///
    /// ```
    /// let vdm = memring::vdm::Vdm::synchronous()?;
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    pub fn synchronous() -> Result<Self, BuildError> {
        Ok(Self(Kind::Synchronous(Arc::new(Synchronous::new()?))))
    }

    /// A mover with so many threads, for so many operations at once: `data_mover_threads_new`. An operation counts from
    /// its creation until it was seen to complete.
    ///
    /// With 0 threads whoever polls does the work, at most 1 MiB at a time.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: more than 64 threads; fewer operations than one, or more than 65536; or the kernel refused a
    /// thread or an eventfd.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::BuildError;
    /// use memring::vdm::Vdm;
    /// let vdm = Vdm::threads(2, 128)?;
    /// assert!(matches!(Vdm::threads(2, 0), Err(BuildError::Entries(0))));
    /// assert!(matches!(Vdm::threads(65, 128), Err(BuildError::Workers(65))));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn threads(threads: usize, operations: usize) -> Result<Self, BuildError> {
        Ok(Self(Kind::Queued(Arc::new(Queued::threads(threads, operations)?))))
    }

    /// Intel DSA, driven by so many threads, for so many operations at once, each of which counts as for
    /// [`threads`](Vdm::threads): `data_mover_dml_new`.
    ///
    /// With 0 threads whoever polls drives it; no poll waits for a device.
    ///
    /// # Errors
    ///
    /// As for [`threads`](Vdm::threads); [`BuildError::Threads`], if the threads are too many.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Dsa;
    /// use memring::vdm::Vdm;
    /// // Where there is the hardware: `Dsa::open`.
    /// let vdm = Vdm::dsa(&Dsa::software(), 1, 128)?;
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    pub fn dsa(dsa: &Dsa, threads: usize, operations: usize) -> Result<Self, BuildError> {
        Ok(Self(Kind::Queued(Arc::new(Queued::dsa(dsa, threads, operations)?))))
    }

    /// A mover of your own: whoever has the four verbs of [`Mover`].
    ///
    /// # Examples
    ///
    /// See [`Mover`].
    pub fn new(mover: impl Mover) -> Self {
        Self(Kind::Plugged(Arc::new(Desk::new(mover))))
    }

    /// Whether the mover honours these flags, or takes note of them: `vdm_is_supported`. An operation with others is
    /// refused: it completes at its first poll as [`JobCorrupted`](OperationResult::JobCorrupted), and touches nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::OpFlags;
    /// let vdm = memring::vdm::Vdm::synchronous()?;
    /// assert!(vdm.is_supported(OpFlags::NO_CACHE_HINT));
    /// assert!(!vdm.is_supported(OpFlags::MEM_DURABLE));
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    #[must_use]
    pub fn is_supported(&self, flags: OpFlags) -> bool {
        self.capabilities().contains(flags)
    }

    fn capabilities(&self) -> OpFlags {
        match &self.0 {
            Kind::Synchronous(mover) => mover.capabilities(),
            Kind::Queued(mover) => mover.capabilities(),
            Kind::Plugged(movers) => movers.capabilities(),
        }
    }

    /// Copies `n` bytes from `src` to `dst`, which must not overlap: `vdm_memcpy`.
    ///
    /// Nothing is touched before the first poll. The future is complete at once, as
    /// [`OutOfMemory`](OperationResult::OutOfMemory), if the mover has no resources for it. If the regions overlap, an
    /// address is null or a region leaves the address space, it completes at the first poll, as
    /// [`JobCorrupted`](OperationResult::JobCorrupted), and touches nothing; so do all four operations.
    ///
    /// # Safety
    ///
    /// From the first poll until the future is complete, or until the drop of this `Vdm` has *returned*: the
    /// destination is valid for reads and writes of `n` bytes, the source for reads; nobody else accesses the
    /// destination, and nobody writes the source. This holds if the future is dropped or forgotten, too, unless it was
    /// never polled. Both pointers have provenance over their regions.
    ///
    /// So declare the buffers *before* the `Vdm`: variables are dropped in reverse.
    ///
    /// # Examples
    ///
    /// See [`Vdm`].
    pub unsafe fn memcpy(&self, dst: *mut u8, src: *const u8, n: usize, flags: OpFlags) -> OperationFuture {
        let operation = Operation::new(OperationType::Memcpy, Sqe::memcpy(dst, src, n).flags(flags), dst, src);
        // SAFETY: the caller vouches for it.
        unsafe { self.operation(operation) }
    }

    /// Copies `n` bytes from `src` to `dst`, which may overlap: `vdm_memmove`.
    ///
    /// # Safety
    ///
    /// That of [`memcpy`](Vdm::memcpy); what the two regions share counts as destination.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::OpFlags;
    /// use memring::vdm::{Notifier, State, Vdm};
    /// let mut bytes = *b"123456";
    /// let start = bytes.as_mut_ptr();
    /// let vdm = Vdm::synchronous()?;
    /// // SAFETY: both lie in `bytes`, which nobody else uses until the operation is complete.
    /// let mut shift = unsafe { vdm.memmove(start.wrapping_add(2), start, 4, OpFlags::NONE) };
    /// assert_eq!(shift.poll(&mut Notifier::none()), State::Complete);
    /// assert_eq!(&bytes, b"121234");
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    pub unsafe fn memmove(&self, dst: *mut u8, src: *const u8, n: usize, flags: OpFlags) -> OperationFuture {
        let operation = Operation::new(OperationType::Memmove, Sqe::memmove(dst, src, n).flags(flags), dst, src);
        // SAFETY: the caller vouches for it.
        unsafe { self.operation(operation) }
    }

    /// Sets `n` bytes at `dst` to `c`: `vdm_memset`.
    ///
    /// # Safety
    ///
    /// That of [`memcpy`](Vdm::memcpy), for the destination.
    ///
    /// # Examples
    ///
    /// See [`OperationOutput`].
    pub unsafe fn memset(&self, dst: *mut u8, c: u8, n: usize, flags: OpFlags) -> OperationFuture {
        let operation =
            Operation::new(OperationType::Memset, Sqe::memset(dst, c, n).flags(flags), dst, core::ptr::null());
        // SAFETY: the caller vouches for it.
        unsafe { self.operation(operation) }
    }

    /// Writes the cache lines of `n` bytes at `dst` back to memory: `vdm_flush`. The bytes do not change.
    ///
    /// # Safety
    ///
    /// That of [`memcpy`](Vdm::memcpy), for the destination, which need not be writable and is not written.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::OpFlags;
    /// use memring::vdm::{Notifier, State, Vdm};
    /// let page = [7; 64];
    /// let vdm = Vdm::synchronous()?;
    /// // SAFETY: `page` is there until the operation is complete.
    /// let mut flush = unsafe { vdm.flush(page.as_ptr(), 64, OpFlags::NONE) };
    /// assert_eq!(flush.poll(&mut Notifier::none()), State::Complete);
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    pub unsafe fn flush(&self, dst: *const u8, n: usize, flags: OpFlags) -> OperationFuture {
        let sqe = Sqe::flush(dst, n).flags(flags);
        let operation = Operation::new(OperationType::Flush, sqe, dst.cast_mut(), core::ptr::null());
        // SAFETY: the caller vouches for it.
        unsafe { self.operation(operation) }
    }

    /// Takes the resources of an operation.
    ///
    /// # Safety
    ///
    /// The contract of [`memcpy`](Vdm::memcpy) holds for it.
    unsafe fn operation(&self, operation: Operation) -> OperationFuture {
        let lacking = operation.output(OperationResult::OutOfMemory);
        let made = match &self.0 {
            // SAFETY: the caller vouches for it.
            Kind::Synchronous(mover) => unsafe { own(mover, operation) }.map(Task::Synchronous),
            // SAFETY: as above.
            Kind::Queued(mover) => unsafe { own(mover, operation) }.map(Task::Queued),
            // SAFETY: as above.
            Kind::Plugged(movers) => unsafe { Arc::clone(movers).make(operation) }.map(Task::Plugged),
        };
        OperationFuture::new(made.unwrap_or(Task::Complete(lacking)))
    }
}

/// An operation of a mover of memring's own.
///
/// # Safety
///
/// The contract of [`Vdm::memcpy`] holds for it.
unsafe fn own<M: future::BuiltIn>(mover: &Arc<M>, operation: Operation) -> Option<Own<M>> {
    let data = mover.op_new(operation.operation_type())?;
    // SAFETY: the caller vouches for it.
    let run = unsafe { Run::new(operation, data) };
    Some(Own::new(Arc::clone(mover), run))
}

impl Drop for Vdm {
    fn drop(&mut self) {
        match &self.0 {
            Kind::Synchronous(mover) => mover.end(),
            Kind::Queued(mover) => mover.end(),
            Kind::Plugged(movers) => movers.end(),
        }
    }
}

impl fmt::Debug for Vdm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Synchronous(_) => "synchronous",
            Kind::Queued(mover) => mover.made_by(),
            Kind::Plugged(_) => "new",
        };
        f.debug_struct("Vdm").field("made_by", &kind).field("capabilities", &self.capabilities()).finish()
    }
}

/// The flags that a mover of a queue supports.
fn supported(route: &Route, mover: MoverId) -> OpFlags {
    let both = [OpFlags::MEM_DURABLE, OpFlags::NO_CACHE_HINT];
    let takes = |flag: &OpFlags| route.choose(&Sqe::nop().flags(*flag).on(mover)).is_ok();
    both.into_iter().filter(takes).fold(OpFlags::NONE, |all, flag| all | flag)
}
