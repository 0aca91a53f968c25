//! The four verbs: what a data mover is, one operation at a time. The built-in movers have the same ones.
#![expect(unsafe_code, reason = "declares the contract of movers about memory")]

use super::future::State;
use super::notifier::Notifier;
use super::operation::{Operation, OperationResult, OperationType};
use crate::sqe::OpFlags;

/// An operation could not start now; it may at the next poll.
///
/// # Examples
///
/// See [`Mover`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStarted;

/// A data mover: `struct vdm`. Its four verbs are called for each operation in this order:
///
/// ```text
///   op_new ──▶ op_start ──▶ op_check ... op_check ──▶ op_delete
///    at the     at polls, until      at polls, until     frees, and tells
///    creation   it has started       it is complete      the result
///      └─────────── idle, and dropped ───────────────────▶ op_delete
/// ```
///
/// [`Vdm::new`](super::Vdm::new) makes a [`Vdm`](super::Vdm) of one, and its operations are the same futures as those
/// of the built-in movers. Operations of different futures come from different threads at once; the calls for one
/// operation come one at a time.
///
/// The verbs are those of the seed, in Rust terms: what `op_new` returns is owned by the future in between, and
/// `op_check` is offered a notifier as `op_start` is, since a Rust future may be polled by another task each time. A
/// mover that does not say in the [`Notifier`] what it will do is polled again and again.
///
/// **Dropped futures.** If a future is dropped or forgotten while its operation runs, the operation goes on.
/// [`op_check`](Mover::op_check) is called for it when later operations are created, and at last by the drop of the
/// `Vdm`, again and again until it is complete.
///
/// **Panics.** A panic in a verb goes on in whoever polls, and the verb has done nothing. In the drop of the `Vdm` it
/// ends the process: the operation's memory may be in use.
///
/// # Safety
///
/// Nothing of an operation's memory is touched before `op_start` is called nor after [`op_check`](Mover::op_check) has
/// answered [`Complete`](State::Complete), and only as the [`Operation`] says. An operation that has started completes,
/// if it is checked often enough. If `op_start` answers [`NotStarted`] or panics, nothing is touched after it.
///
/// # Examples
///
/// A mover that sets memory in `op_start`, and has room for one operation at a time. `examples/vdm_mover.rs` has one
/// that does its work on a thread.
///
/// ```
/// use std::sync::Mutex;
/// use memring::OpFlags;
/// use memring::vdm::{Mover, NotStarted, Notifier, Operation, OperationResult, OperationType, State, Vdm};
///
/// struct Filler {
///     is_free: Mutex<bool>,
/// }
///
/// /// What an operation holds from its creation to its end.
/// struct Place;
///
/// // SAFETY: writes only the destination of a set, inside `op_start`.
/// unsafe impl Mover for Filler {
///     type Data = Place;
///
///     fn op_new(&self, _: OperationType) -> Option<Place> {
///         let mut is_free = self.is_free.lock().expect("nobody panics with it");
///         std::mem::take(&mut *is_free).then_some(Place)
///     }
///
///     unsafe fn op_start(&self, _: &mut Place, op: &Operation, _: &mut Notifier<'_>) -> Result<(), NotStarted> {
///         if op.operation_type() == OperationType::Memset {
///             // SAFETY: whoever made the operation vouches for its destination.
///             unsafe { op.dst().write_bytes(op.value(), op.len()) };
///         }
///         Ok(())
///     }
///
///     fn op_check(&self, _: &mut Place, _: &Operation, _: &mut Notifier<'_>) -> State {
///         State::Complete
///     }
///
///     fn op_delete(&self, _: Place, op: &Operation) -> OperationResult {
///         *self.is_free.lock().expect("nobody panics with it") = true;
///         match op.operation_type() {
///             OperationType::Memset => OperationResult::Success,
///             _ => OperationResult::JobCorrupted,
///         }
///     }
/// }
///
/// let mut page = [0; 64];
/// let vdm = Vdm::new(Filler { is_free: Mutex::new(true) });
/// // SAFETY: nobody else uses `page` until the operations are complete.
/// let mut set = unsafe { vdm.memset(page.as_mut_ptr(), 7, 64, OpFlags::NONE) };
/// // SAFETY: as above.
/// let other = unsafe { vdm.memset(page.as_mut_ptr(), 8, 64, OpFlags::NONE) };
/// assert_eq!(other.output().map(|output| output.result), Some(OperationResult::OutOfMemory));
/// assert_eq!(set.poll(&mut Notifier::none()), State::Complete);
/// assert_eq!(page, [7; 64]);
/// ```
pub unsafe trait Mover: Send + Sync + 'static {
    /// What an operation needs, from `op_new` to `op_delete`: the seed's `void *data`.
    type Data: Send + 'static;

    /// The flags that it honours, or takes note of: the seed's `capabilities`. An operation with others is refused, as
    /// [`JobCorrupted`](OperationResult::JobCorrupted), and does not come here.
    fn capabilities(&self) -> OpFlags {
        OpFlags::NONE
    }

    /// Takes all resources that an operation of this type will need. None: there are not enough, and the future is
    /// complete as [`OutOfMemory`](OperationResult::OutOfMemory).
    fn op_new(&self, operation_type: OperationType) -> Option<Self::Data>;

    /// Starts the operation; or says that this is not possible now, and is called again at the next poll.
    ///
    /// # Errors
    ///
    /// [`NotStarted`]. A failure that no later attempt would mend is no such error: start, and tell it by
    /// [`op_delete`](Mover::op_delete).
    ///
    /// # Safety
    ///
    /// The contract of [`Vdm::memcpy`](super::Vdm::memcpy) holds for the operation until it is complete.
    unsafe fn op_start(
        &self,
        data: &mut Self::Data,
        operation: &Operation,
        notifier: &mut Notifier<'_>,
    ) -> Result<(), NotStarted>;

    /// Whether a started operation is complete. Called right after `op_start` has succeeded, and at each later poll;
    /// once it has answered [`Complete`](State::Complete), not again.
    fn op_check(&self, data: &mut Self::Data, operation: &Operation, notifier: &mut Notifier<'_>) -> State;

    /// Gives the resources back, and tells what the operation came to. It is complete; or has never started, since its
    /// future was dropped, and then nobody hears the answer.
    fn op_delete(&self, data: Self::Data, operation: &Operation) -> OperationResult;
}
