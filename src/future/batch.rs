//! Batches: many operations as one future.
#![expect(unsafe_code, reason = "tells buffers that they were written")]

use core::future::IntoFuture;
use core::ops::Range;
use std::sync::Arc;

use super::buffer::{IoBuf, IoBufMut};
use super::failed::OpError;
use super::operation::Operation;
use super::shared::Shared;
use super::verb::{Memcpy, Memmove, Memset, Single, Steps, Verb};
use crate::sqe::{MoverId, Sqe};

/// Operations that are begun together and awaited as one; made by [`Ring::batch`](super::Ring::batch).
///
/// They run in any order and at the same time, unless they are [linked](Batch::linked). It may have more operations
/// than the ring has entries, and they take their turns then. A place in the ring and one wake serve all of them, so
/// a failure is that of the first that was seen to fail; the others run nevertheless, unless they are linked.
///
/// Its output is the buffers, in the order in which they were given: of each operation the destination, and of a copy
/// its source.
///
/// A batch without a copy must be told what its sources would be: `ring.batch::<_, Vec<u8>>()`.
///
/// # Examples
///
/// ```
/// use memring::Ring;
/// let ring = Ring::new()?;
/// let pages = (0..1000_u32).map(|_| (vec![0; 4096], vec![7; 4096]));
/// let batch = pages.fold(ring.batch(), |batch, (dst, src)| batch.memcpy(dst, src));
/// let copied = ring.block_on(batch.into_future())??;
/// assert!(copied.iter().all(|(dst, src)| Some(dst) == src.as_ref()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a batch does nothing until it is awaited"]
#[derive(Debug)]
pub struct Batch<D: IoBufMut, S: IoBuf> {
    shared: Arc<Shared>,
    many: Many<D, S>,
    mover: MoverId,
    no_cache: bool,
}

/// A batch that can be polled: an [`Operation`] like any other, which can be cancelled and started.
pub type Batched<D, S> = Operation<Many<D, S>>;

/// What a batch does.
#[derive(Debug)]
pub struct Many<D, S> {
    items: Vec<Item<D, S>>,
    /// What is done to which item, in order. The first step of an item is its own.
    steps: Vec<(Step, usize)>,
    sqes: Vec<Sqe>,
    is_linked: bool,
}

#[derive(Debug)]
enum Item<D, S> {
    Copy(Memcpy<D, S>),
    Set(Memset<D>),
    Move(Memmove<D>, fn(&mut Memmove<D>) -> Result<Sqe, OpError>),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Do,
    Flush,
}

impl<D: IoBufMut, S: IoBuf> Batch<D, S> {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let many = Many { items: Vec::new(), steps: Vec::new(), sqes: Vec::new(), is_linked: false };
        Self { shared, many, mover: crate::sqe::ROUTED, no_cache: false }
    }

    fn with(mut self, item: Item<D, S>) -> Self {
        self.many.steps.push((Step::Do, self.many.items.len()));
        self.many.items.push(item);
        self
    }

    /// Adds a copy, as [`Ring::memcpy`](super::Ring::memcpy).
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let done = ring.block_on(ring.batch().memcpy(vec![0; 4], b"four".to_vec()).into_future())??;
    /// assert_eq!(done, [(b"four".to_vec(), Some(b"four".to_vec()))]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memcpy(self, dst: D, src: S) -> Self {
        self.with(Item::Copy(Memcpy { dst, src }))
    }

    /// Adds a set, as [`Ring::memset`](super::Ring::memset).
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let batch = ring.batch::<_, Vec<u8>>().memset(vec![0; 4], 7).memset(vec![0; 2], 8);
    /// let done = ring.block_on(batch.into_future())??;
    /// assert_eq!(done, [(vec![7; 4], None), (vec![8; 2], None)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memset(self, buffer: D, value: u8) -> Self {
        self.with(Item::Set(Memset { buffer, value }))
    }

    /// Adds a flush of the last destination, which runs after what was added before it, and only if that succeeds. As
    /// the first of a batch it is nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let batch = ring.batch().memcpy(vec![0; 4], b"four".to_vec()).flush();
    /// assert_eq!(ring.block_on(batch.into_future())??.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(mut self) -> Self {
        if let Some(last) = self.many.items.len().checked_sub(1) {
            self.many.steps.push((Step::Flush, last));
        }
        self
    }

    /// Has the operations run one after the other; when one fails, those after it are cancelled. They are submitted
    /// together, so there may be no more of them than the ring has entries.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{OpError, Ring};
    /// let ring = Ring::builder().entries(2).build()?;
    /// let too_long = (0..3).fold(ring.batch::<_, Vec<u8>>(), |batch, value| batch.memset(vec![0; 4096], value));
    /// let failed = ring.block_on(too_long.linked().into_future())?.unwrap_err();
    /// assert_eq!(failed.error, OpError::TooLong(3));
    /// assert_eq!(failed.buffers.len(), 3, "the buffers come back");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn linked(mut self) -> Self {
        self.many.is_linked = true;
        self
    }

    /// Has all of them store past the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let batch = ring.batch().memcpy(vec![0; 1 << 20], vec![1; 1 << 20]).no_cache();
    /// # ring.block_on(batch.into_future())??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn no_cache(mut self) -> Self {
        self.no_cache = true;
        self
    }

    /// Has this mover do all of them.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let batch = ring.batch().memcpy(vec![0; 4], b"four".to_vec()).on(memring::INLINE);
    /// assert_eq!(ring.block_on(batch.into_future())??[0].0, b"four");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on(mut self, mover: MoverId) -> Self {
        self.mover = mover;
        self
    }
}

impl<D: IoBuf + IoBufMut, S: IoBuf> Batch<D, S> {
    /// Adds a move inside a buffer, as [`Ring::memmove`](super::Ring::memmove).
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let batch = ring.batch::<_, Vec<u8>>().memmove(b"123456".to_vec(), 0..4, 2);
    /// assert_eq!(ring.block_on(batch.into_future())??[0].0, b"121234");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memmove(self, buffer: D, from: Range<usize>, to: usize) -> Self {
        self.with(Item::Move(Memmove { buffer, from, to }, Single::entry))
    }
}

impl<D: IoBufMut, S: IoBuf> IntoFuture for Batch<D, S> {
    type Output = <Batched<D, S> as Future>::Output;
    type IntoFuture = Batched<D, S>;

    /// The batch as an operation: to be polled, started or cancelled.
    fn into_future(self) -> Batched<D, S> {
        let Self { shared, mut many, mover, no_cache } = self;
        // All that is allocated for it is allocated here.
        many.sqes.reserve_exact(many.steps.len());
        let operation = Operation::new(shared, many).on(mover);
        if no_cache { operation.no_cache() } else { operation }
    }
}

impl<D: IoBufMut, S: IoBuf> Steps for Many<D, S> {
    fn with_entries<R>(&mut self, with: impl FnOnce(&mut [Sqe]) -> Result<R, OpError>) -> Result<R, OpError> {
        // A buffer may have panicked half-way, the last time.
        self.sqes.clear();
        for &(step, of) in &self.steps {
            let entry = match (step, &mut self.items[of]) {
                // The step before it is that of the item, or another flush of it.
                (Step::Flush, _) => {
                    let last = self.sqes.last_mut().expect("an item comes before its flush");
                    *last = last.link();
                    Sqe::flush(last.dst(), usize::try_from(last.len()).unwrap_or(usize::MAX))
                }
                (Step::Do, Item::Copy(copy)) => copy.entry()?,
                (Step::Do, Item::Set(set)) => set.entry()?,
                (Step::Do, Item::Move(moved, entry)) => entry(moved)?,
            };
            self.sqes.push(entry);
        }
        if self.is_linked
            && let Some((_, linked)) = self.sqes.split_last_mut()
        {
            linked.iter_mut().for_each(|sqe| *sqe = sqe.link());
        }
        with(&mut self.sqes)
    }

    unsafe fn set_written(&mut self) {
        for item in &mut self.items {
            match item {
                // SAFETY: all operations have succeeded, as the caller vouches.
                Item::Copy(copy) => unsafe { Single::set_written(copy) },
                // SAFETY: as above.
                Item::Set(set) => unsafe { Single::set_written(set) },
                Item::Move(..) => {}
            }
        }
    }
}

impl<D: IoBufMut, S: IoBuf> Verb for Many<D, S> {
    type Buffers = Vec<(D, Option<S>)>;

    fn into_buffers(self) -> Self::Buffers {
        let give_back = |item| match item {
            Item::Copy(Memcpy { dst, src }) => (dst, Some(src)),
            Item::Set(Memset { buffer, .. }) | Item::Move(Memmove { buffer, .. }, _) => (buffer, None),
        };
        self.items.into_iter().map(give_back).collect()
    }
}
