//! The ring: the handle that operations begin at.

use core::fmt;
use core::ops::Range;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use super::batch::Batch;
use super::buffer::{IoBuf, IoBufMut};
use super::builder::RingBuilder;
use super::failed::BlockError;
use super::operation::{Operation, Started};
use super::scope::{Scope, ScopeError};
use super::shared::Shared;
use super::verb::{Flush, FlushIn, Memcpy, Memmove, Memset, Verb};
use crate::memory::region::{MappedFile, Region, RegisterError};
use crate::queue::{Arm, BuildError, FlushMethod, Route, Stats};
use crate::sqe::MoverId;

/// Memory operations as futures: owned buffers in, owned buffers out.
///
/// A handle, cheap to clone; clones are the same ring. When the last handle or operation of a ring is dropped, that
/// drop waits for what is in flight, and does it if nobody else will. (On a driver thread, which cannot wait for
/// itself, another thread is started to wait.)
///
/// # Examples
///
/// ```
/// use memring::Ring;
/// let ring = Ring::new()?;
/// ring.block_on(async {
///     let (dst, src) = ring.memcpy(vec![0; 1 << 16], vec![7; 1 << 16]).await?;
///     assert_eq!(dst, src);
///     let page = ring.memset(dst, 0).await?;
///     assert_eq!(page, vec![0; 1 << 16]);
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Ring {
    pub(super) shared: Arc<Shared>,
}

impl Ring {
    /// A ring with the options of [`Ring::builder`] at their defaults.
    ///
    /// # Errors
    ///
    /// [`BuildError::Os`]: the kernel refused a thread or an eventfd.
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = memring::Ring::new()?;
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// The options of a ring.
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = memring::Ring::builder().entries(64).workers(1).build()?;
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    pub fn builder() -> RingBuilder {
        RingBuilder::new()
    }

    fn operation<V: Verb>(&self, verb: V) -> Operation<V> {
        Operation::new(Arc::clone(&self.shared), verb)
    }

    /// Copies a source to a destination of the same length. Gives both back.
    ///
    /// If the lengths differ, it fails as [`OpError::Lengths`](super::OpError::Lengths).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let page: Arc<[u8]> = Arc::from([7; 4096]);
    /// let (copy, _page) = ring.block_on(ring.memcpy(vec![0; 4096], Arc::clone(&page)))??;
    /// assert_eq!(copy, *page);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memcpy<D: IoBufMut, S: IoBuf>(&self, dst: D, src: S) -> Operation<Memcpy<D, S>> {
        self.operation(Memcpy { dst, src })
    }

    /// As [`memcpy`](Ring::memcpy), begun at once, if there is room.
    ///
    /// # Errors
    ///
    /// As [`Operation::try_start`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let copy = ring.try_memcpy(vec![0; 4096], vec![7; 4096])?;
    /// assert_eq!(ring.block_on(copy)??.0, [7; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_memcpy<D: IoBufMut, S: IoBuf>(&self, dst: D, src: S) -> Started<Memcpy<D, S>> {
        self.memcpy(dst, src).try_start()
    }

    /// Copies a range of a buffer to another place in it, as [`slice::copy_within`] does; the two may overlap.
    ///
    /// If either is not in the buffer, it fails as [`OpError::Range`](super::OpError::Range).
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let buffer = ring.block_on(ring.memmove(b"123456".to_vec(), 0..4, 2))??;
    /// assert_eq!(buffer, b"121234");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memmove<B: IoBuf + IoBufMut>(&self, buffer: B, from: Range<usize>, to: usize) -> Operation<Memmove<B>> {
        self.operation(Memmove { buffer, from, to })
    }

    /// As [`memmove`](Ring::memmove), begun at once, if there is room.
    ///
    /// # Errors
    ///
    /// As [`Operation::try_start`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let moved = ring.try_memmove(b"123456".to_vec(), 0..4, 2)?;
    /// assert_eq!(ring.block_on(moved)??, b"121234");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_memmove<B: IoBuf + IoBufMut>(&self, buffer: B, from: Range<usize>, to: usize) -> Started<Memmove<B>> {
        self.memmove(buffer, from, to).try_start()
    }

    /// Sets every byte of a buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// assert_eq!(ring.block_on(ring.memset(vec![0; 4096], 7))??, [7; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memset<B: IoBufMut>(&self, buffer: B, value: u8) -> Operation<Memset<B>> {
        self.operation(Memset { buffer, value })
    }

    /// As [`memset`](Ring::memset), begun at once, if there is room.
    ///
    /// # Errors
    ///
    /// As [`Operation::try_start`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let set = ring.try_memset(vec![0; 4096], 7)?;
    /// assert_eq!(ring.block_on(set)??, [7; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_memset<B: IoBufMut>(&self, buffer: B, value: u8) -> Started<Memset<B>> {
        self.memset(buffer, value).try_start()
    }

    /// Makes a buffer as durable as its memory can be: a [`Span`](crate::Span) of a region is on stable storage when
    /// this is complete; of other memory the cache lines are written back.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let page = ring.block_on(ring.flush(vec![7; 4096]))??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush<B: IoBuf>(&self, buffer: B) -> Operation<Flush<B>> {
        self.operation(Flush { buffer })
    }

    /// As [`flush`](Ring::flush), begun at once, if there is room.
    ///
    /// # Errors
    ///
    /// As [`Operation::try_start`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let page = ring.block_on(ring.try_flush(vec![7; 4096])?)??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_flush<B: IoBuf>(&self, buffer: B) -> Started<Flush<B>> {
        self.flush(buffer).try_start()
    }

    /// Many operations as one future: one place in the ring, one wake.
    ///
    /// # Examples
    ///
    /// See [`Batch`].
    pub fn batch<D: IoBufMut, S: IoBuf>(&self) -> Batch<D, S> {
        Batch::new(Arc::clone(&self.shared))
    }

    /// Runs `body`, which may begin operations on memory that it *borrows*, and returns when all of them are done: as
    /// [`std::thread::scope`] does, also if `body` panics. This thread helps, once `body` has returned.
    ///
    /// Operations begin 32 at a time, the last ones when `body` returns. One that has touched more memory than the
    /// caches hold goes on past them.
    ///
    /// # Errors
    ///
    /// The first failure among the operations; what `body` has returned is dropped then. Or, before anything is run,
    /// [`ScopeError::Block`]: this thread must not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let src = vec![7; 1 << 20];
    /// let mut dst = vec![0; 1 << 20];
    /// ring.scope(|s| {
    ///     for (to, from) in dst.chunks_mut(4096).zip(src.chunks(4096)) {
    ///         s.memcpy(to, from);
    ///     }
    /// })?;
    /// assert_eq!(dst, src);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scope<'env, R>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    ) -> Result<R, ScopeError> {
        super::scope::run(&self.shared, body)
    }

    /// Polls any future until it is ready, on this thread, which meanwhile reaps and helps.
    ///
    /// # Errors
    ///
    /// [`BlockError`], before the future is polled: this thread must not block, or it is in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// # let ring = Ring::new()?;
    /// let sum = ring.block_on(async {
    ///     let page = ring.memset(vec![0_u8; 100], 2).await.map_err(|failed| failed.error)?;
    ///     Ok::<u32, memring::OpError>(page.iter().map(|&byte| u32::from(byte)).sum())
    /// })??;
    /// assert_eq!(sum, 200);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, BlockError> {
        self.shared.block_on(future)
    }

    /// Begins all of the operations, and returns when all are complete; take each one's result with
    /// [`into_result`](Operation::into_result), or by awaiting it.
    ///
    /// # Errors
    ///
    /// As [`block_on`](Ring::block_on). A failure of an operation is in its result.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, State};
    /// # let ring = Ring::new()?;
    /// let mut sets: Vec<_> = (0..100).map(|value| ring.memset(vec![0; 4096], value)).collect();
    /// ring.wait_all(&mut sets)?;
    /// assert!(sets.iter().all(|set| set.state() == State::Complete));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_all<V: Verb>(&self, operations: &mut [Operation<V>]) -> Result<(), BlockError> {
        self.shared.wait_all(operations)
    }

    /// Reaps what has completed, and wakes who awaits it; without workers, does at most `budget` bytes of what waits.
    /// Returns how many operations have completed since this was last asked, whoever has reaped them.
    ///
    /// For a reactor that drives a ring without workers, and for one that polls.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::Ring;
    /// let ring = Ring::builder().workers(0).build()?;
    /// let set = ring.try_memset(vec![0; 1 << 20], 1)?;
    /// let mut turns = 0;
    /// while ring.drive(64 << 10) == 0 {
    ///     turns += 1; // the reactor's other work
    /// }
    /// assert!(turns > 4);
    /// assert_eq!(ring.block_on(set)??[77], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drive(&self, budget: usize) -> usize {
        if self.shared.direct.is_forked() {
            return 0;
        }
        self.shared.drive(budget);
        self.shared.news()
    }

    /// Asks for one wake, through [`as_fd`](Ring::as_fd), when the next operation completes, or there is something to
    /// drive.
    ///
    /// Call it before sleeping in a reactor, and sleep only if the answer is [`Arm::Armed`]; else
    /// [`drive`](Ring::drive), and look at your futures. For one reactor at a time. A loop whose futures wake it by
    /// their wakers needs none of this, if the ring has workers.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, queue::Arm};
    /// let ring = Ring::new()?;
    /// assert_eq!(ring.arm(), Arm::Armed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm(&self) -> Arm {
        if self.shared.direct.is_forked() { Arm::MustPoll } else { self.shared.arm() }
    }

    /// Makes the descriptor unreadable again: for level-triggered loops, after a wake.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// ring.clear();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&self) {
        if !self.shared.direct.is_forked() {
            self.shared.clear_fd();
        }
    }

    /// Refuses new operations from now on, and completes when nothing is in flight. What waits for its turn fails as
    /// [`ShutDown`](super::OpError::ShutDown).
    ///
    /// Dropping it leaves the ring closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{OpError, Ring};
    /// # let ring = Ring::new()?;
    /// ring.block_on(ring.shutdown())?;
    /// let failed = ring.block_on(ring.memset(vec![0; 4096], 1))?.unwrap_err();
    /// assert_eq!(failed.error, OpError::ShutDown);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self) -> Shutdown {
        Shutdown { shared: Arc::clone(&self.shared) }
    }

    /// The routing table.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// println!("{}", ring.route().explain(&memring::Sqe::nop()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn route(&self) -> &Route {
        &self.shared.route
    }

    /// Makes a [`Region`] of a mapped file, so that flushes of it, and operations that are to be
    /// [durable](crate::Operation::durable), are on stable storage when they are complete. See there for an example.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], with the mapped file: as of a [queue](crate::queue::SubmissionQueue::register).
    pub fn register(&self, mapped: MappedFile) -> Result<Region, RegisterError> {
        self.shared.register(mapped)
    }

    /// How durable flushes reach the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, queue::FlushMethod};
    /// assert_eq!(Ring::new()?.flush_method(), FlushMethod::in_use());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush_method(&self) -> FlushMethod {
        self.shared.direct.flush_method()
    }

    /// Makes durable what a part of a region holds, whoever has stored it: nobody need have its bytes for himself, as
    /// of a [`flush`](Ring::flush) of a span. What is stored there meanwhile may or may not be among it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memmap2")] {
    /// # use memring::{MappedFile, Ring};
    /// # let file = tempfile::tempfile()?;
    /// # file.set_len(1 << 20)?;
    /// # // SAFETY: nobody else maps the file, or cuts it short.
    /// # let mapping = unsafe { memmap2::MmapMut::map_mut(&file)? };
    /// let ring = Ring::new()?;
    /// let region = ring.register(MappedFile::new(&file, mapping, 0))?;
    /// for page in 0..8 {
    ///     region.span(page * 4096..(page + 1) * 4096)?.fill(7);
    /// }
    /// ring.block_on(ring.flush_in(&region, 0..8 * 4096))??;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush_in(&self, region: &Region, range: Range<usize>) -> Operation<FlushIn> {
        self.operation(FlushIn { region: region.clone(), range })
    }

    /// The id of a mover that was added under this name.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, WORKERS};
    /// assert_eq!(Ring::new()?.mover("workers"), Some(WORKERS));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mover(&self, name: &str) -> Option<MoverId> {
        self.shared.direct.mover(name)
    }

    /// What the ring's queue pair has done so far. Its `eventfd_writes` are always 0: the ring signals by itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Ring, WORKERS};
    /// let ring = Ring::new()?;
    /// ring.block_on(ring.memset(vec![0; 4096], 1))??;
    /// assert_eq!(ring.stats().mover(WORKERS).operations, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.shared.direct.stats()
    }
}

impl AsFd for Ring {
    /// The descriptor that [`arm`](Ring::arm) makes readable: an eventfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("entries", &self.shared.plan.entries).finish_non_exhaustive()
    }
}

/// Waits until nothing is in flight; see [`Ring::shutdown`].
#[must_use = "a future does nothing until it is polled"]
pub struct Shutdown {
    shared: Arc<Shared>,
}

impl Future for Shutdown {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.poll_shutdown(context.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").finish_non_exhaustive()
    }
}
