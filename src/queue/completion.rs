//! The completion queue: reaping, waiting, arming, and driving what no thread drives.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memring_ring::{Consumer, Wake};

use super::core::Core;
use super::drive::{Driver, WAITING_POLL};
use super::stats::Stats;
use super::{Reaping, WaitError};
use crate::cqe::Cqe;
use crate::mover::{Budget, Progress};
use crate::os::Futex;

/// What [`CompletionQueue::arm`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only Armed promises a wake"]
pub enum Arm {
    /// Nothing waits: the next completion makes the descriptor readable, once.
    Armed,
    /// Completions wait already, or work that this thread must drive: drain instead of sleeping.
    NotEmpty,
    /// A mover that this thread drives has operations under way, and nobody signals their end: drain again soon.
    MustPoll,
}

/// The reaping half of a queue pair: one owner, who may move it between threads.
///
/// Dropping it closes the queue and waits until nothing is in flight; completions not reaped are discarded.
/// Forgetting it leaves the workers running and the memory allocated; nothing else happens.
///
/// See [`SubmissionQueue`](super::SubmissionQueue) for an example of both halves.
#[derive(Debug)]
pub struct CompletionQueue {
    /// Leaked in a forked child: it must touch nothing there.
    inner: ManuallyDrop<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    consumer: Consumer,
    /// Completions reaped whose credits were not given back yet.
    owed: u64,
    /// So many are given back together, so that a long drain does not starve a submitter.
    portion: u64,
    /// What this thread drives whenever it reaps.
    drivers: Vec<Driver>,
    /// Which of them is polled first.
    first_driver: usize,
    /// The CPU mover of a queue with workers: driven only while waiting.
    helper: Option<Driver>,
    threads: Vec<JoinHandle<()>>,
    budget: Budget,
    spin: Duration,
}

impl CompletionQueue {
    pub(super) fn new(core: Arc<Core>, reaping: Reaping) -> Self {
        let Reaping { consumer, drivers, helper, threads, poll_budget, spin } = reaping;
        let budget = Budget::strict(poll_budget, core.entries as u64);
        let portion = (core.entries as u64 / 4).clamp(1, 64);
        let inner = Inner { core, consumer, owed: 0, portion, drivers, first_driver: 0, helper, threads, budget, spin };
        Self { inner: ManuallyDrop::new(inner) }
    }

    /// Drives once what this thread drives, within the poll budget, and yields the completions there are now.
    ///
    /// At most as many as the queue has entries; what is not taken stays. Makes no system call with CPU movers.
    /// In a forked child it yields nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push_batch(&[Sqe::nop().user_data(3); 2]) }?;
    /// sq.submit();
    /// for cqe in cq.drain() {
    ///     assert_eq!(cqe.user_data(), 3);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&mut self) -> Drain<'_> {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            inner.consumer.forget_seen();
            return Drain { inner };
        }
        inner.settle();
        let mut budget = inner.budget;
        inner.drive(&mut budget);
        inner.consumer.ready(inner.core.entries);
        Drain { inner }
    }

    /// How many bytes a [`drain`](CompletionQueue::drain) may move from now on; what the builder's
    /// [`poll_budget`](super::Builder::poll_budget) says until then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::queue::QueuePair;
    /// let (_sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// cq.set_poll_budget(64 << 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_poll_budget(&mut self, bytes: usize) {
        let entries = self.inner.core.entries as u64;
        self.inner.budget = Budget::strict((bytes as u64).max(1), entries);
    }

    /// Waits until `min` completions are ready or the timeout passes, and returns how many are ready; none are taken.
    ///
    /// While it waits it helps to execute what the workers have not begun. It returns early when fewer than `min`
    /// operations are outstanding, since it would wait for nobody knows what. `None` waits without limit. Since it
    /// helps, it may return late by one operation, however long that is; `drain` alone never helps the workers.
    ///
    /// # Errors
    ///
    /// [`WaitError::Forked`] in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use memring::queue::QueuePair;
    /// let (_sq, mut cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(cq.wait(1, Some(Duration::from_secs(60)))?, 0, "nothing is outstanding");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&mut self, min: usize, timeout: Option<Duration>) -> Result<usize, WaitError> {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return Err(WaitError::Forked);
        }
        inner.settle();
        Ok(inner.wait(min, timeout))
    }

    /// Asks for one wake, through [`as_fd`](AsFd::as_fd), at the next completion.
    ///
    /// Call it before sleeping in a reactor, and sleep only if the answer is [`Arm::Armed`]. After the wake, drain and
    /// arm again. While nobody is armed, completions cost no system call.
    /// In caller-driven mode a submission by another thread counts as an event too. Operations that end without a
    /// completion ([`SKIP_SUCCESS`](crate::SqeFlags::SKIP_SUCCESS)) wake nobody, though their credits return.
    /// In a forked child the answer is [`Arm::MustPoll`], and nothing will come.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::{Arm, QueuePair};
    /// let (_sq, mut cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(cq.arm(), Arm::Armed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm(&mut self) -> Arm {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return Arm::MustPoll;
        }
        inner.settle();
        if inner.has_something() {
            return Arm::NotEmpty;
        }
        if inner.drivers.iter().any(Driver::is_waiting) {
            return Arm::MustPoll;
        }
        inner.announce_armed();
        // A failed retraction means that the announcement was taken: the wake is on its way, and it is this arm's.
        if inner.has_something() && inner.core.outlet.bell().retract() {
            return Arm::NotEmpty;
        }
        Arm::Armed
    }

    /// Makes the descriptor unreadable again: for level-triggered loops, after a wake. Edge-triggered ones need not.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// assert_eq!(cq.arm(), memring::queue::Arm::Armed);
    /// // ... epoll says that the descriptor is readable:
    /// cq.clear();
    /// # drop(sq);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&mut self) {
        if !self.inner.core.birth.is_foreign() {
            self.inner.core.outlet.fd().clear();
        }
    }

    /// How many completions could be drained now, of at most as many as the queue has entries: a look, which drives
    /// nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.ready(), 0, "nobody has driven it yet");
    /// cq.drain();
    /// assert_eq!(cq.ready(), 1, "the drain did, and its completion was not taken");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ready(&mut self) -> usize {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() { 0 } else { inner.consumer.ready(inner.core.entries) }
    }

    /// How many operations never complete, since their mover broke down and may touch their memory for ever. Dropping
    /// the queue aborts the process if there are any.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::queue::QueuePair;
    /// let (_sq, cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(cq.abandoned(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> u64 {
        self.inner.core.outlet.abandoned()
    }

    /// How many operations were submitted and have not ended. Completions that wait to be reaped are not counted, and
    /// the last of them may be visible a moment later than this says: to reap all, count what was reaped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.in_flight(), 1);
    /// assert_eq!(cq.drain().count(), 1);
    /// assert_eq!(cq.in_flight(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.inner.core.outlet.in_flight()
    }

    /// Closes the intake and waits until nothing is in flight, or the timeout passes; returns how many still are.
    ///
    /// It waits as [`wait`](CompletionQueue::wait) does. Completions stay and can be drained afterwards; pushes are
    /// refused as [`Closed`](super::PushError::Closed) from now on. Called again, it waits again.
    ///
    /// # Errors
    ///
    /// [`WaitError::Forked`] in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// sq.submit();
    /// assert_eq!(cq.shutdown(None)?, 0);
    /// assert_eq!(cq.drain().count(), 1);
    /// // SAFETY: as above.
    /// assert!(unsafe { sq.push(Sqe::nop()) }.is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&mut self, timeout: Option<Duration>) -> Result<u64, WaitError> {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return Err(WaitError::Forked);
        }
        inner.core.outlet.intake.close();
        inner.settle();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let outstanding = inner.outstanding();
            inner.wait(outstanding, deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
            // What ended without a completion meanwhile, or a mover that broke down, has made fewer outstanding: the
            // rest is still waited for.
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if inner.outstanding() == outstanding || is_late {
                return Ok(inner.core.outlet.in_flight());
            }
        }
    }

    /// Cancels the operations with this user data that have not begun, and returns how many: each of them completes, as
    /// [`CANCELLED`](crate::Status::CANCELLED).
    ///
    /// What has begun, or was taken by a worker together with what it does now (up to 32 entries), runs to its end, a
    /// large copy of which a part was done too; a mover of your own is [asked](crate::mover::DataMover::cancel) to give
    /// it up. Entries that wait for others (members of chains, and what a barrier holds back) are cancelled as well,
    /// and their completions come when it would have been their turn. Staged entries are not found, nor are those of a
    /// submit that is under way in another thread. It looks at all that waits in the queue's lanes.
    ///
    /// What a thread of yours drives is counted if its mover could give it up; what a mover of yours does on threads is
    /// not, since it answers later, by its completion.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, Status, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push_batch(&[Sqe::nop().user_data(1), Sqe::nop().user_data(2)]) }?;
    /// sq.submit();
    /// assert_eq!(cq.cancel(2), 1);
    /// assert_eq!(cq.cancel(2), 0, "it is cancelled already");
    /// for cqe in cq.drain() {
    ///     assert_eq!(cqe.status(), if cqe.user_data() == 2 { Status::CANCELLED } else { Status::SUCCESS });
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&mut self, user_data: u64) -> usize {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return 0;
        }
        usize::try_from(inner.cancel(user_data)).unwrap_or(usize::MAX)
    }

    /// What the queue has done so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// assert_eq!(cq.stats().reaper_wakes, 0);
    /// # drop((sq, cq.drain()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }
}

impl Inner {
    /// Gives back the credits of what was reaped.
    #[inline]
    fn settle(&mut self) {
        if self.owed > 0 {
            self.core.outlet.credits.give_back(std::mem::take(&mut self.owed));
        }
    }

    /// Polls the drivers of this thread once; whether one of them got on.
    #[inline]
    fn drive(&mut self, budget: &mut Budget) -> bool {
        let mut busy = false;
        // Another one is first each time, so that none spends every budget before the others are asked.
        self.first_driver = (self.first_driver + 1) % self.drivers.len().max(1);
        let (later, first) = self.drivers.split_at_mut(self.first_driver);
        for driver in first.iter_mut().chain(later) {
            if budget.is_spent() {
                break;
            }
            busy |= driver.poll(budget) == Progress::Busy;
        }
        busy
    }

    /// As [`drive`](Inner::drive), one chunk each, and the workers' lane too.
    fn help(&mut self) -> bool {
        let mut busy = false;
        for driver in self.drivers.iter_mut().chain(&mut self.helper) {
            busy |= driver.poll(&mut Budget::CHUNK.clone()) == Progress::Busy;
        }
        busy
    }

    /// Looks in the order in which entries travel, so that none slips by: held, parked, in a lane, taken by a driver.
    fn cancel(&mut self, user_data: u64) -> u64 {
        let chains = &self.core.chains;
        let mut cancelled = chains.cancel_waiting(user_data);
        for station in &self.core.stations {
            cancelled += station.withdraw(user_data, |sqe| chains.cancel(sqe));
        }
        for driver in self.drivers.iter_mut().chain(&mut self.helper) {
            cancelled += driver.cancel(user_data, |sqe| chains.cancel(sqe));
        }
        // The CPU mover has nothing to give up.
        for station in self.core.stations.iter().skip(1).filter(|station| !station.is_caller_driven) {
            station.ask_to_cancel(user_data);
        }
        cancelled
    }

    /// Operations that were submitted and not reaped, except those that never complete or did without a completion.
    fn outstanding(&self) -> usize {
        let gone = self.consumer.popped() + self.core.stuck();
        usize::try_from(self.core.outlet.most_to_come().saturating_sub(gone)).unwrap_or(usize::MAX)
    }

    /// Whether a reaper should not sleep: completions, or work that no thread will do.
    fn has_something(&mut self) -> bool {
        self.consumer.ready(1) > 0 || self.drivers.iter().any(Driver::has_work)
    }

    fn announce_armed(&mut self) -> Option<Wake> {
        self.core.outlet.bell().announce(Wake::Armed, self.consumer.popped() + 1)
    }

    fn wait(&mut self, min: usize, timeout: Option<Duration>) -> usize {
        // A timeout beyond the clock's range is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut idle_since = None;
        let mut was_armed = false;
        while self.consumer.ready(min) < min && self.outstanding() >= min {
            let helped = self.help();
            if helped {
                idle_since = None;
                if deadline.is_none() {
                    continue;
                }
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            if helped {
                continue;
            }
            if now.duration_since(*idle_since.get_or_insert(now)) < self.spin {
                std::hint::spin_loop();
                continue;
            }
            was_armed |= self.sleep(min, deadline.map(|deadline| deadline - now));
        }
        // What the helper has taken on would wait for the next wait.
        self.helper.iter_mut().for_each(Driver::hand_over);
        if was_armed {
            self.arm_again();
        }
        self.consumer.ready(self.core.entries)
    }

    /// Restores the armed state that a sleep has replaced. What came in between is signalled now.
    fn arm_again(&mut self) {
        self.announce_armed();
        if self.has_something() && self.core.outlet.bell().retract() {
            self.core.outlet.signal();
        }
    }

    /// Sleeps until `min` completions are ready or there is something to do; whether that replaced an armed state.
    fn sleep(&mut self, min: usize, timeout: Option<Duration>) -> bool {
        let target = self.consumer.popped() + min as u64;
        let before = self.core.outlet.bell().announce(Wake::Blocked, target);
        let worthless = self.consumer.ready(min) >= min
            || self.outstanding() < min
            || self.drivers.iter().chain(&self.helper).any(Driver::has_work);
        if !worthless {
            // Nobody else looks at what this thread's movers have under way.
            let look_again = self.drivers.iter().any(Driver::is_waiting).then_some(WAITING_POLL);
            let timeout = [timeout, look_again].into_iter().flatten().min();
            self.core.outlet.bell().sleep(&Futex, timeout);
        }
        self.core.outlet.bell().retract();
        before == Some(Wake::Armed)
    }

    /// Ends the driver threads. Nothing is in flight.
    fn dismiss(&mut self) {
        self.core.service.close();
        self.core.stations.iter().for_each(|station| station.rouse_all());
        let me = thread::current().id();
        for thread in self.threads.drain(..) {
            // A thread that is itself the last owner cannot wait for its own end: it is detached.
            if thread.thread().id() != me {
                // A driver catches its mover's panics; there is nothing to hear from a join.
                let _ = thread.join();
            }
        }
    }
}

impl AsFd for CompletionQueue {
    /// The descriptor that [`arm`](CompletionQueue::arm) makes readable: an eventfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.core.outlet.fd().as_fd()
    }
}

impl AsRawFd for CompletionQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        let inner = &mut *self.inner;
        if inner.core.birth.is_foreign() {
            return;
        }
        inner.core.outlet.intake.close();
        loop {
            while inner.consumer.pop::<Cqe>().is_some() {}
            if inner.outstanding() == 0 {
                break;
            }
            inner.wait(1, None);
        }
        if inner.core.outlet.in_flight() > 0 {
            abort_over_memory_in_use(inner.core.outlet.in_flight());
        }
        inner.dismiss();
        drop_inner(&mut self.inner);
    }
}

/// A mover broke down while it may still touch memory: returning would let the submitter free that memory.
#[cold]
fn abort_over_memory_in_use(operations: u64) -> ! {
    eprintln!("memring: a mover panicked with {operations} operations under way that may still touch memory; aborting");
    std::process::abort()
}

#[expect(unsafe_code, reason = "ends a ManuallyDrop that exists for the sake of forked children")]
fn drop_inner(inner: &mut ManuallyDrop<Inner>) {
    // SAFETY: called once, at the end of the owner's drop, which does not use it again.
    unsafe { ManuallyDrop::drop(inner) }
}

/// The completions that were there when [`CompletionQueue::drain`] was called.
///
/// Each is taken as it is yielded; dropping or forgetting the rest leaves it in the queue.
#[derive(Debug)]
pub struct Drain<'a> {
    inner: &'a mut Inner,
}

impl Iterator for Drain<'_> {
    type Item = Cqe;

    #[inline]
    fn next(&mut self) -> Option<Cqe> {
        let cqe = self.inner.consumer.pop_seen()?;
        self.inner.owed += 1;
        if self.inner.owed == self.inner.portion {
            self.inner.settle();
        }
        Some(cqe)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.inner.consumer.seen();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.inner.settle();
    }
}
