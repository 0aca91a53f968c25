//! Operations: futures that own their buffers.
//!
//! ```text
//!   Idle ──first poll──▶ Running ──the mover is done──▶ Complete ──polled──▶ (given out)
//!     └───────────────── inline, or refused ───────────▶
//! ```
//!
//! The buffers lie in the operation as a `MaybeUninit`. While it runs a mover has their bytes, and nobody here claims
//! otherwise: the operation can be moved, but the buffers are not looked at. An operation that is dropped while it runs
//! leaves them to the reaper; one that is forgotten leaves them where they are, for ever.
#![expect(unsafe_code, reason = "holds buffers that a mover may touch, and vouches for them to the queue")]

use core::fmt;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use memring_ring::slot::Key;

use super::entrance::{Begun, Patience};
use super::failed::{Failed, OpError};
use super::shared::{Parts, Shared};
use super::turns::Seen;
use super::verb::Verb;
use crate::sqe::{INLINE, MoverId, OpFlags, Sqe};

/// How far an operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was done: it begins when it is first polled.
    Idle,
    /// It waits for its turn, or a mover has it.
    Running,
    /// It has ended, and its result was or can be taken.
    Complete,
}

/// An operation that has begun; or was refused, with its buffers.
pub type Started<V> = Result<Operation<V>, Failed<<V as Verb>::Buffers>>;

/// Where the buffers are.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Here.
    Idle,
    /// A mover may have their bytes.
    Running(Key, Seen),
    /// Here, with what became of them.
    Complete(Option<OpError>),
    /// Given out.
    Spent,
}

/// One operation, as a future. It is lazy: it begins when it is first polled, or by
/// [`try_start`](Operation::try_start).
///
/// Its output is the buffers; or [`Failed`], with the buffers. It works in any executor, and moves between threads.
/// Once it has given its output, polling it again does nothing and stays pending.
///
/// **Dropping it** lets a running operation run to its end (in a ring without workers when somebody drives it, at the
/// latest the last drop); its buffers are dropped then, by whoever sees the end. **Forgetting it** leaks the buffers
/// and its place in the ring, and nothing else. It keeps the ring alive: the last handle or operation of a ring that is
/// dropped waits for what is in flight.
///
/// # Cancel safety
///
/// A dropped operation may have been done or not, and its buffers are gone. To have them back,
/// [cancel](Operation::cancel) it.
///
/// # Examples
///
/// ```
/// use memring::{Ring, State};
/// let ring = Ring::new()?;
/// let mut copy = ring.memcpy(vec![0; 1 << 20], vec![7; 1 << 20]).no_cache();
/// assert_eq!(copy.state(), State::Idle);
/// let (dst, src) = ring.block_on(&mut copy)??;
/// assert_eq!(copy.state(), State::Complete);
/// assert_eq!(dst, src);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an operation does nothing until it is polled"]
pub struct Operation<V: Verb> {
    shared: Arc<Shared>,
    verb: MaybeUninit<V>,
    stage: Stage,
    flags: OpFlags,
    mover: MoverId,
}

/// The buffers move as the operation does, and what they own does not.
impl<V: Verb> Unpin for Operation<V> {}

// SAFETY: a shared reference gives access to the stage only, never to the buffers.
unsafe impl<V: Verb> Sync for Operation<V> {}

impl<V: Verb> Operation<V> {
    pub(super) fn new(shared: Arc<Shared>, verb: V) -> Self {
        let verb = MaybeUninit::new(verb);
        Self { shared, verb, stage: Stage::Idle, flags: OpFlags::NONE, mover: crate::sqe::ROUTED }
    }

    /// Has it store past the cache: for much memory that is not read again soon. Without effect once it has begun.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// let ring = Ring::new()?;
    /// let big = ring.block_on(ring.memset(vec![0; 1 << 20], 1).no_cache())??;
    /// # assert_eq!(big[77], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn no_cache(mut self) -> Self {
        self.flags = self.flags | OpFlags::NO_CACHE_HINT;
        self
    }

    /// Has it complete only when the bytes are durable, which must be in a [`Region`](crate::Region) of the ring, by a
    /// [`Span`](crate::Span) for one: else it fails as [`NotDurable`](OpError::NotDurable). Without effect once it has
    /// begun.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{OpError, Ring};
    /// let ring = Ring::new()?;
    /// let failed = ring.block_on(ring.memset(vec![0; 64], 1).durable())?.unwrap_err();
    /// assert_eq!(failed.error, OpError::NotDurable, "a vector is in no file");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn durable(mut self) -> Self {
        self.flags = self.flags | OpFlags::MEM_DURABLE;
        self
    }

    /// Has this mover do it, whatever the route says. Without effect once it has begun.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{INLINE, OpError, MoverId, Ring};
    /// let ring = Ring::new()?;
    /// assert_eq!(ring.block_on(ring.memset(vec![0; 4096], 1).on(INLINE))??, [1; 4096]);
    /// let failed = ring.block_on(ring.memset(vec![0], 1).on(MoverId::from_u8(99)))?.unwrap_err();
    /// assert_eq!(failed.error, OpError::UnknownMover);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on(mut self, mover: MoverId) -> Self {
        self.mover = mover;
        self
    }

    /// How far it has come. One that nobody polls is seen to complete when it is next polled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Ring, State};
    /// let ring = Ring::new()?;
    /// assert_eq!(ring.memset(vec![0; 4096], 1).state(), State::Idle);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> State {
        match self.stage {
            Stage::Idle => State::Idle,
            Stage::Running(..) => State::Running,
            Stage::Complete(_) | Stage::Spent => State::Complete,
        }
    }

    /// Begins it now, without a poll, if there is room for it; does nothing if it has begun.
    ///
    /// # Errors
    ///
    /// [`Failed`], with the buffers: [`OpError::Full`], whose status is
    /// [`OUT_OF_MEMORY`](crate::Status::OUT_OF_MEMORY), if there is no room or others wait for it, and whatever is
    /// wrong with the operation. An operation that goes inline is done when this returns, and tells its failure when it
    /// is polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{OpError, Ring, State};
    /// let ring = Ring::builder().entries(1).workers(0).build()?;
    /// let first = ring.memset(vec![0; 4096], 1).try_start()?;
    /// assert_eq!(first.state(), State::Running);
    /// let failed = ring.memset(vec![0; 4096], 2).try_start().unwrap_err();
    /// assert_eq!(failed.error, OpError::Full);
    /// assert_eq!(failed.buffers, [0; 4096], "the buffer comes back");
    /// assert_eq!(ring.block_on(first)??, [1; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_start(mut self) -> Started<V> {
        if matches!(self.stage, Stage::Idle) {
            self.start(Patience::Leaves);
            if let Stage::Complete(Some(error)) = self.stage {
                return Err(Failed { error, buffers: self.take_buffers(false) });
            }
        }
        Ok(self)
    }

    /// Asks for it to be cancelled, and returns it to be awaited, which gives the buffers back: an error with the
    /// status [`CANCELLED`](crate::Status::CANCELLED) if it had not begun, else whatever it came to. What a mover has
    /// runs to its end.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, Status};
    /// let ring = Ring::builder().workers(0).build()?;
    /// let copy = ring.memcpy(vec![0; 4096], vec![7; 4096]).try_start()?;
    /// let failed = ring.block_on(copy.cancel())?.unwrap_err();
    /// assert_eq!(failed.error.status(), Status::CANCELLED);
    /// assert_eq!(failed.buffers.0, [0; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(mut self) -> Self {
        match self.stage {
            Stage::Idle => self.stage = Stage::Complete(Some(OpError::Cancelled)),
            Stage::Running(key, _) => self.shared.cancel(key),
            Stage::Complete(_) | Stage::Spent => {}
        }
        self
    }

    /// What it came to, if it has been seen to complete, as after [`Ring::wait_all`](super::Ring::wait_all); else the
    /// operation.
    ///
    /// # Errors
    ///
    /// The operation: it has not completed, or its result was taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Ring;
    /// let ring = Ring::new()?;
    /// let mut sets = [ring.memset(vec![0; 4096], 1), ring.memset(vec![0; 4096], 2)];
    /// ring.wait_all(&mut sets)?;
    /// for (set, value) in sets.into_iter().zip(1..) {
    ///     assert_eq!(set.into_result().expect("it was waited for")?, [value; 4096]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_result(mut self) -> Result<Result<V::Buffers, Failed<V::Buffers>>, Self> {
        match self.stage {
            Stage::Complete(outcome) => Ok(self.take_result(outcome)),
            Stage::Idle | Stage::Running(..) | Stage::Spent => Err(self),
        }
    }

    /// Leaves the idle stage: for the running one, or the last.
    fn start(&mut self, patience: Patience) {
        let (shared, mover, flags) = (&**self.shared, self.mover, self.flags);
        // SAFETY: in the idle stage the buffers are here.
        let verb = unsafe { self.verb.assume_init_mut() };
        let begun = verb.with_entries(|sqes| {
            sqes.iter_mut().for_each(|sqe| *sqe = sqe.on(mover).flags(flags));
            // SAFETY: the buffers own the bytes, and stay in `verb` untouched, or go to the reaper, or are leaked,
            // until the operation is complete.
            unsafe { begin(shared, sqes, patience) }
        });
        match begun {
            Ok(Start::Begun(begun)) => {
                // First the stage: from here on a mover may have the buffers, whatever the call comes to.
                self.stage = Stage::Running(begun.key, Seen::default());
                if begun.is_called {
                    self.shared.answer_call();
                }
            }
            Ok(Start::Done(outcome)) => self.stage = Stage::Complete(outcome),
            Err(error) => self.stage = Stage::Complete(Some(error)),
        }
    }

    /// Gets it to its end, if that can be now.
    #[inline]
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<OpError>> {
        self.start_in_turn();
        if let Stage::Running(key, seen) = &mut self.stage
            && let Poll::Ready(outcome) = self.shared.poll(*key, seen, context.waker())
        {
            self.shared.finish(*key);
            self.stage = Stage::Complete(outcome);
        }
        match self.stage {
            Stage::Complete(outcome) => Poll::Ready(outcome),
            Stage::Idle | Stage::Running(..) | Stage::Spent => Poll::Pending,
        }
    }

    /// Begins it, if it has not begun: it takes its turn.
    pub(super) fn start_in_turn(&mut self) {
        if matches!(self.stage, Stage::Idle) {
            self.start(Patience::Waits);
        }
    }

    /// Gets it to its end and leaves the result in it.
    pub(super) fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.stage {
            Stage::Spent => Poll::Ready(()),
            _ => self.poll_end(context).map(drop),
        }
    }

    fn take_result(&mut self, outcome: Option<OpError>) -> Result<V::Buffers, Failed<V::Buffers>> {
        let buffers = self.take_buffers(outcome.is_none());
        match outcome {
            None => Ok(buffers),
            Some(error) => Err(Failed { error, buffers }),
        }
    }

    /// Gives the buffers out, in the complete stage.
    fn take_buffers(&mut self, is_written: bool) -> V::Buffers {
        debug_assert!(matches!(self.stage, Stage::Complete(_)), "the buffers are not here");
        self.stage = Stage::Spent;
        // SAFETY: in the complete stage the buffers are here, and they are read once, since the stage has changed.
        let mut verb = unsafe { self.verb.assume_init_read() };
        if is_written {
            // SAFETY: the operation has succeeded.
            unsafe { verb.set_written() };
        }
        verb.into_buffers()
    }
}

impl<V: Verb> Future for Operation<V> {
    type Output = Result<V::Buffers, Failed<V::Buffers>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_end(context) {
            Poll::Ready(outcome) => Poll::Ready(self.take_result(outcome)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<V: Verb> Drop for Operation<V> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Spent => {}
            // SAFETY: the buffers are here, and not used again.
            Stage::Idle | Stage::Complete(_) => unsafe { self.verb.assume_init_drop() },
            Stage::Running(key, _) => {
                let verb = &self.verb;
                // SAFETY: a copy of the bytes, which is not looked at as a buffer; the original is not used again.
                let owned = || -> Box<dyn Send> { Box::new(Owned(unsafe { core::ptr::read(verb) })) };
                if self.shared.abandon(key, owned).is_some() {
                    // SAFETY: the place was complete, so the buffers are here; they were not left to anybody.
                    unsafe { self.verb.assume_init_drop() };
                }
            }
        }
    }
}

/// How an operation began.
enum Start {
    Begun(Begun),
    /// It went inline, and this is what it came to.
    Done(Option<OpError>),
}

/// Begins the entries of an operation: what goes inline is done at once, unless it is linked or to be durable.
///
/// # Safety
///
/// The push's contract holds for each until the operation is complete.
#[inline]
unsafe fn begin(shared: &Parts, sqes: &mut [Sqe], patience: Patience) -> Result<Start, OpError> {
    if shared.direct.is_forked() {
        return Err(OpError::Forked);
    }
    // What waits in line is refused one by one, so all that is wrong is said first.
    let mut goes_inline = true;
    for sqe in &*sqes {
        let mover = shared.route.choose(sqe).map_err(|error| OpError::refused(&error))?;
        goes_inline &= mover == INLINE && !sqe.is_linked() && !sqe.is_durable();
    }
    if goes_inline {
        let mut outcome = None;
        for sqe in sqes {
            // SAFETY: the caller vouches for it.
            let cqe = unsafe { shared.direct.execute(*sqe) };
            let failure = match cqe {
                Ok(cqe) => OpError::of(cqe.status(), cqe.value()),
                Err(error) => Some(OpError::refused(&error)),
            };
            outcome = outcome.or(failure);
        }
        return Ok(Start::Done(outcome));
    }
    if let [_, _, ..] = sqes {
        let longest = sqes.split_inclusive(|sqe| !sqe.is_linked()).map(<[Sqe]>::len).max().unwrap_or(0);
        if longest > shared.plan.entries {
            return Err(OpError::TooLong(longest));
        }
    }
    // SAFETY: as above.
    unsafe { shared.entrance.begin(&shared.places, sqes, patience) }.map(Start::Begun)
}

/// Buffers whose bytes a mover may have, until this is dropped.
struct Owned<V>(MaybeUninit<V>);

impl<V> Drop for Owned<V> {
    fn drop(&mut self) {
        // SAFETY: dropped by who has seen the end of the operation; it holds what `Operation` held.
        unsafe { self.0.assume_init_drop() };
    }
}

impl<V: Verb> fmt::Debug for Operation<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("state", &self.state()).finish_non_exhaustive()
    }
}
