//! The completion queue as a task of tokio awaits it; only with the feature `tokio`.
//!
//! The handshake is that of any reactor: arm, and sleep only if the answer is [`Arm::Armed`]. The sleep is one of
//! tokio's: its driver watches the queue's descriptor, edge-triggered, so nobody ever reads the eventfd. What is left
//! to do here is to give way to other tasks where there is no sleep, and to leave the runtime's epoll alone in a forked
//! child.
#![expect(unsafe_code, reason = "registers a descriptor with the runtime")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::task::yield_now;

use crate::os::Birth;
use crate::queue::{Arm, CompletionQueue, Drain, WaitError};

/// A completion queue that a task awaits.
///
/// The loop is `ready().await`, then `drain()`. While copies are under way and the task has something to drain, nothing
/// here makes a system call of its own; tokio looks at its other events at each turn, as always.
///
/// In a queue of [`workers(0)`](crate::queue::Builder::workers) the task itself copies, inside `drain()`, at most
/// [`poll_budget`](crate::queue::Builder::poll_budget) bytes at a time. `ready` gives way to the other tasks between
/// any two drains, so they wait for one such portion at the most: choose it by how long they may wait.
///
/// Dropping it drops the queue, which waits, blocking the thread, until nothing is in flight. To wait without blocking,
/// drain until all is reaped first. In a forked child it refuses to work and, dropped, touches nothing, like the queue
/// itself.
///
/// # Examples
///
/// ```
/// use memring::{Sqe, queue::QueuePair, tokio::AsyncCompletionQueue};
///
/// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
/// let src = vec![7_u8; 1 << 20];
/// let mut dst = vec![0_u8; 1 << 20];
/// // After the buffers, so that it is dropped before them: its drop waits for what is in flight.
/// let (mut sq, cq) = QueuePair::builder().workers(1).build()?.split();
/// let mut cq = AsyncCompletionQueue::new(cq)?;
/// for (to, from) in dst.chunks_mut(4096).zip(src.chunks(4096)) {
///     // SAFETY: both buffers outlive `cq`, and nobody touches them until all completions were reaped.
///     unsafe { sq.push(Sqe::memcpy(to.as_mut_ptr(), from.as_ptr(), from.len())) }?;
/// }
/// let mut left = sq.submit();
/// while left > 0 {
///     cq.ready().await?;
///     for cqe in cq.drain() {
///         assert!(cqe.status().is_success());
///         left -= 1;
///     }
/// }
/// assert_eq!(dst, src);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncCompletionQueue {
    /// The first, so that the driver has let go of the descriptor before the queue closes it.
    watch: Watch,
    cq: CompletionQueue,
    /// Whether the task may have drained since it last gave way.
    owes_a_turn: bool,
}

impl AsyncCompletionQueue {
    /// Has the runtime of this context watch the queue's descriptor.
    ///
    /// # Errors
    ///
    /// What the kernel says to one more descriptor, and to watching it. The queue is dropped then.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio, and in one without I/O (`enable_io`).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{queue::QueuePair, tokio::AsyncCompletionQueue};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let (_sq, cq) = QueuePair::builder().build()?.split();
    /// let _cq = AsyncCompletionQueue::new(cq)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(cq: CompletionQueue) -> io::Result<Self> {
        let watch = Watch::new(&cq)?;
        Ok(Self { watch, cq, owes_a_turn: false })
    }

    /// Waits until a drain has something to do, and returns how many completions are ready.
    ///
    /// That may be none: where the drain itself has to do the work, and where a mover of yours has operations under way
    /// whose end nobody signals ([`Arm::MustPoll`]). In both cases it has given way to the other tasks; in the second,
    /// a loop of `ready` and `drain` does not sleep until those have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropped halfway, it has taken nothing: completions stay in the queue until they are drained, and an arm that was
    /// not waited for is good for the next `ready`. So it may stand in a `select!`, or under a timeout.
    ///
    /// # Errors
    ///
    /// In a forked child, where no completion would ever come; and when the runtime is shutting down.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair, tokio::AsyncCompletionQueue};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let (mut sq, cq) = QueuePair::builder().workers(1).build()?.split();
    /// let mut cq = AsyncCompletionQueue::new(cq)?;
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.ready().await?, 1);
    /// assert_eq!(cq.drain().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn ready(&mut self) -> io::Result<usize> {
        loop {
            let arm = self.cq.arm();
            if arm == Arm::Armed {
                self.watch.woken().await?;
                self.owes_a_turn = false;
                continue;
            }
            // A forked child hears nothing but MustPoll, and its runtime would never wake it.
            self.watch.check_home()?;
            if arm == Arm::MustPoll || self.owes_a_turn {
                yield_now().await;
                self.owes_a_turn = false;
            }
            // Waits for none: it only counts.
            return Ok(self.cq.wait(0, None)?);
        }
    }

    /// [`CompletionQueue::drain`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair, tokio::AsyncCompletionQueue};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let (mut sq, cq) = QueuePair::builder().workers(0).build()?.split();
    /// let mut cq = AsyncCompletionQueue::new(cq)?;
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop().user_data(5)) }?;
    /// sq.submit();
    /// assert_eq!(cq.ready().await?, 0, "without workers the drain does the work");
    /// assert_eq!(cq.drain().map(|cqe| cqe.user_data()).collect::<Vec<_>>(), [5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&mut self) -> Drain<'_> {
        self.owes_a_turn = true;
        self.cq.drain()
    }

    /// The queue, for all else that it can do. (`wait` and `shutdown` block the thread.)
    ///
    /// Putting another queue in its place leaves `ready` watching the wrong descriptor.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{queue::QueuePair, tokio::AsyncCompletionQueue};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let (_sq, cq) = QueuePair::builder().build()?.split();
    /// let mut cq = AsyncCompletionQueue::new(cq)?;
    /// assert_eq!(cq.get_mut().cancel(7), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_mut(&mut self) -> &mut CompletionQueue {
        self.owes_a_turn = true;
        &mut self.cq
    }

    /// The queue, which the runtime watches no longer. Its descriptor may be readable still, from the last wake: a
    /// level-triggered loop calls [`clear`](CompletionQueue::clear) first.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{queue::QueuePair, tokio::AsyncCompletionQueue};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let (_sq, cq) = QueuePair::builder().build()?.split();
    /// let cq = AsyncCompletionQueue::new(cq)?.into_inner();
    /// assert_eq!(cq.in_flight(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_inner(self) -> CompletionQueue {
        self.cq
    }
}

/// The runtime's interest in the queue's descriptor.
#[derive(Debug)]
struct Watch {
    /// A descriptor of its own, so that it is open for as long as it is watched, whatever becomes of the queue. Shared
    /// only with a leak: see the drop.
    fd: Arc<AsyncFd<OwnedFd>>,
    birth: Birth,
}

impl Watch {
    fn new(cq: &CompletionQueue) -> io::Result<Self> {
        let fd = cq.as_fd().try_clone_to_owned()?;
        // SAFETY: the `AsyncFd` owns this open descriptor, so it stays open, and the same, until that is dropped:
        // nobody borrows it mutably.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd: Arc::new(fd), birth: Birth::now() })
    }

    /// Waits for a write to the descriptor that came after the last one that was seen here.
    ///
    /// The readiness is taken back before the caller arms again, so a write for that arm is always new to the driver.
    async fn woken(&self) -> io::Result<()> {
        self.fd.readable().await?.clear_ready();
        Ok(())
    }

    fn check_home(&self) -> Result<(), WaitError> {
        if self.birth.is_foreign() { Err(WaitError::Forked) } else { Ok(()) }
    }
}

impl Drop for Watch {
    /// A forked child shares the parent's epoll: to withdraw the descriptor there would make the parent deaf. So a
    /// child keeps one reference for ever.
    fn drop(&mut self) {
        if self.birth.is_foreign() {
            let _forever = std::mem::ManuallyDrop::new(Arc::clone(&self.fd));
        }
    }
}
