//! What an operation is, and what becomes of it: the seed's `vdm_operation` and its output.
#![expect(unsafe_code, reason = "addresses travel between threads, as values")]

use crate::cqe::Status;
use crate::sqe::{OpFlags, Sqe};

/// What an operation does: `enum vdm_operation_type`.
///
/// # Examples
///
/// ```
/// use memring::vdm::OperationType;
/// assert_eq!(OperationType::Memcpy as u32, 0, "values as in the seed");
/// assert_eq!(OperationType::Flush as u32, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum OperationType {
    /// Copy between regions that do not overlap.
    Memcpy = 0,
    /// Copy between regions that may overlap.
    Memmove = 1,
    /// Set every byte to one value.
    Memset = 2,
    /// Write the region's cache lines back to memory.
    Flush = 3,
}

/// What became of an operation: `enum vdm_operation_result`.
///
/// # Examples
///
/// ```
/// use memring::vdm::OperationResult;
/// assert_eq!(OperationResult::JobCorrupted as u32, 2, "values as in the seed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum OperationResult {
    /// It was done.
    Success = 0,
    /// There were no resources for it: too many operations are pending.
    OutOfMemory = 1,
    /// It could not be done, or not wholly.
    JobCorrupted = 2,
}

impl OperationResult {
    /// What a status is in these three words.
    pub(super) const fn of(status: Status) -> Self {
        match status {
            Status::SUCCESS => Self::Success,
            Status::OUT_OF_MEMORY => Self::OutOfMemory,
            _ => Self::JobCorrupted,
        }
    }
}

/// One operation: `struct vdm_operation`. What a [`Mover`](super::Mover) is told to do.
///
/// It makes sense: its addresses are not null unless its length is zero, its regions lie in the address space, those of
/// a memcpy do not overlap, and the mover has declared its flags. Only a [`Vdm`](super::Vdm) makes one.
#[derive(Debug)]
pub struct Operation {
    operation_type: OperationType,
    sqe: Sqe,
    dst: *mut u8,
    src: *const u8,
}

// SAFETY: it holds addresses and touches nothing; whoever does has the constructor's contract.
unsafe impl Send for Operation {}
// SAFETY: as above.
unsafe impl Sync for Operation {}

impl Operation {
    pub(super) fn new(operation_type: OperationType, sqe: Sqe, dst: *mut u8, src: *const u8) -> Self {
        Self { operation_type, sqe, dst, src }
    }

    pub(super) fn sqe(&self) -> Sqe {
        self.sqe
    }

    /// Whether it makes no sense, or asks for more than `can`.
    pub(super) fn is_refused(&self, can: OpFlags) -> bool {
        self.sqe.check().is_err() || !can.contains(self.flags())
    }

    pub(super) fn output(&self, result: OperationResult) -> OperationOutput {
        OperationOutput { operation_type: self.operation_type, result, destination: self.dst }
    }

    /// What it does.
    ///
    /// # Examples
    ///
    /// See [`Mover`](super::Mover), for this and the other members.
    #[must_use]
    pub fn operation_type(&self) -> OperationType {
        self.operation_type
    }

    /// Where it writes; what it flushes.
    #[must_use]
    pub fn dst(&self) -> *mut u8 {
        self.dst
    }

    /// Where a copy or a move reads; null for the others.
    #[must_use]
    pub fn src(&self) -> *const u8 {
        self.src
    }

    /// The byte that a set stores: the seed's `c`. Zero for the others.
    #[must_use]
    pub fn value(&self) -> u8 {
        if self.operation_type == OperationType::Memset { self.sqe.pattern() } else { 0 }
    }

    /// How many bytes: the seed's `n`. May be zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an operation is no container; zero is a legal length")]
    pub fn len(&self) -> usize {
        // It was made of a usize.
        usize::try_from(self.sqe.len()).unwrap_or(usize::MAX)
    }

    /// Its flags, all of which the mover has declared.
    #[must_use]
    pub fn flags(&self) -> OpFlags {
        self.sqe.op_flags()
    }
}

/// What an operation came to: `struct vdm_operation_output`.
///
/// # Examples
///
/// ```
/// use memring::OpFlags;
/// use memring::vdm::{Notifier, OperationResult, OperationType, State, Vdm};
/// let mut page = [0; 64];
/// let vdm = Vdm::synchronous()?;
/// // SAFETY: nobody else uses `page` until the operation is complete.
/// let mut set = unsafe { vdm.memset(page.as_mut_ptr(), 7, 64, OpFlags::NONE) };
/// assert_eq!(set.output(), None, "it is idle");
/// assert_eq!(set.poll(&mut Notifier::none()), State::Complete);
/// let output = set.output().expect("it is complete");
/// assert_eq!((output.operation_type, output.result), (OperationType::Memset, OperationResult::Success));
/// assert_eq!(output.destination, page.as_mut_ptr());
/// # Ok::<(), memring::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationOutput {
    /// What it did: the seed's `type`.
    pub operation_type: OperationType,
    /// Whether it did it.
    pub result: OperationResult,
    /// Where: the seed's `output.memcpy.dest` and its like. Of a flush, what was flushed.
    pub destination: *mut u8,
}

// SAFETY: an address is a value; whoever uses it vouches for that.
unsafe impl Send for OperationOutput {}
// SAFETY: as above.
unsafe impl Sync for OperationOutput {}
