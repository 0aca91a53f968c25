//! Chains: futures that run one after the other, as one future.
//!
//! ```text
//!   first ─output─▶ map ─▶ second ─output─▶ init ─▶ third ─▶ ...
//!              then: second was there        then_lazy: third is made
//! ```
#![expect(unsafe_code, reason = "futures lie pinned in the chain that they are part of")]

use core::fmt;
use core::future::{Ready, ready};
use core::pin::Pin;
use core::task::{Context, Poll};

/// Futures that run one after the other: the seed's chain. Each begins when the one before it has completed, and what
/// that has come to decides what it does.
///
/// | the seed | here | when the next future is made |
/// |---|---|---|
/// | `FUTURE_CHAIN_ENTRY_INIT` | [`then`](Chain::then) | before the chain; its resources are held from then on |
/// | `FUTURE_CHAIN_ENTRY_LAZY_INIT` | [`then_lazy`](Chain::then_lazy) | just before it is polled |
/// | the last entry's map | [`map`](Chain::map) | |
///
/// **Polling** it polls the first future that has not completed, once, and goes on through each that completes: a
/// chain of futures that complete at once is complete after one poll. One that is complete is dropped before the next
/// is made, and is not polled again.
///
/// **Properties.** A chain is as asynchronous as the future that it has come to. It wakes as that one does. It can be
/// sent and shared if all its parts can, and allocates nothing. It works with any futures, those of a
/// [`Vdm`](super::Vdm), of a [`Ring`](crate::Ring) and your own. Once it has given its output, polling it again does
/// nothing and stays pending.
///
/// **Dropping it** drops what has not completed. An operation that runs goes on, and those after it never begin. A
/// chain does not stop at a failure by itself: what follows is told, and decides.
///
/// # Examples
///
/// ```
/// use memring::OpFlags;
/// use memring::vdm::{Chain, OperationResult, Vdm};
/// # let ring = memring::Ring::new()?;
/// let src = [7_u8; 64];
/// let (mut middle, mut dst) = ([0_u8; 64], [0_u8; 64]);
/// let (there, back) = (middle.as_mut_ptr(), dst.as_mut_ptr());
/// let vdm = Vdm::threads(1, 64)?;
/// // SAFETY: the arrays outlive `vdm`, and nobody uses them until the chain is complete.
/// let first = unsafe { vdm.memcpy(there, src.as_ptr(), 64, OpFlags::NONE) };
/// let chain = Chain::new(first)
///     .then_lazy(|copied| {
///         assert_eq!(copied.result, OperationResult::Success);
///         // SAFETY: as above; the first copy is complete.
///         unsafe { vdm.memcpy(back, there, 64, OpFlags::NONE) }
///     })
///     .map(|copied| copied.result);
/// assert_eq!(ring.block_on(chain)?, OperationResult::Success);
/// assert_eq!(dst, src);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a chain does nothing until it is polled"]
pub struct Chain<F>(F);

impl<F: Future> Chain<F> {
    /// A chain of one future.
    ///
    /// # Examples
    ///
    /// See [`Chain`].
    pub fn new(first: F) -> Self {
        Self(first)
    }

    /// Goes on with a future that is there already. `map` is called just before it is polled, with the output of the
    /// one before it, and may change it.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::vdm::Chain;
    /// use std::future::{Ready, ready};
    /// # let ring = memring::Ring::new()?;
    /// let add = |two: u32, three: &mut Ready<u32>| *three = ready(two + 3);
    /// assert_eq!(ring.block_on(Chain::new(ready(2)).then(add, ready(0)))?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn then<G, M>(self, map: M, next: G) -> Chain<impl Future<Output = G::Output>>
    where
        G: Future,
        M: FnOnce(F::Output, &mut G),
    {
        self.then_lazy(move |output| {
            let mut next = next;
            map(output, &mut next);
            next
        })
    }

    /// Goes on with a future that `init` makes of the output of the one before it.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::vdm::Chain;
    /// # let ring = memring::Ring::new()?;
    /// let chain = Chain::new(async { 2 }).then_lazy(|two| async move { two + 3 });
    /// assert_eq!(ring.block_on(chain)?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn then_lazy<G, I>(self, init: I) -> Chain<impl Future<Output = G::Output>>
    where
        G: Future,
        I: FnOnce(F::Output) -> G,
    {
        Chain(Then::First(self.0, Some(init)))
    }

    /// Makes the chain's output of that of its last future.
    ///
    /// # Examples
    ///
    /// See [`Chain`].
    pub fn map<T>(self, map: impl FnOnce(F::Output) -> T) -> Chain<impl Future<Output = T>> {
        self.then_lazy(move |output| -> Ready<T> { ready(map(output)) })
    }
}

impl<F: Future> Future for Chain<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is pinned as the chain is: nothing moves it out, and a chain has no drop of its own.
        let future = unsafe { self.map_unchecked_mut(|chain| &mut chain.0) };
        future.poll(context)
    }
}

impl<F> fmt::Debug for Chain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").finish_non_exhaustive()
    }
}

/// Two futures, the second of which is made when the first has completed. Both are pinned as this is; `I` is not.
enum Then<F, G, I> {
    First(F, Option<I>),
    Second(G),
    Done,
}

impl<F: Future, G: Future, I: FnOnce(F::Output) -> G> Future for Then<F, G, I> {
    type Output = G::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<G::Output> {
        // SAFETY: of what is in it, the futures are not moved: they are polled where they lie, and dropped there when
        // another stage is assigned.
        let this = unsafe { self.get_unchecked_mut() };
        if let Self::First(first, init) = this {
            // SAFETY: pinned as this is, see above.
            let first = unsafe { Pin::new_unchecked(first) };
            let Poll::Ready(output) = first.poll(context) else { return Poll::Pending };
            let init = init.take();
            *this = Self::Done;
            if let Some(init) = init {
                *this = Self::Second(init(output));
            }
        }
        let Self::Second(second) = this else { return Poll::Pending };
        // SAFETY: as above.
        let second = unsafe { Pin::new_unchecked(second) };
        let Poll::Ready(output) = second.poll(context) else { return Poll::Pending };
        *this = Self::Done;
        Poll::Ready(output)
    }
}
