//! The submission queue: entries are checked and staged by a push, published by a submit.
#![expect(unsafe_code, reason = "declares the unsafe push, and executes inline entries under its contract")]

use std::mem::ManuallyDrop;
use std::sync::Arc;

use memring_ring::Passage;

use super::PushError;
use super::barrier::Admission;
use super::core::Core;
use super::flusher::FlushMethod;
use super::route::lane_of;
use super::stage::Stage;
use super::stats::{self, Stats};
use crate::cqe::Cqe;
use crate::memory::region::{MappedFile, Refused, Region, RegionId, RegisterError};
use crate::memory::{self, Stores};
use crate::mover::{Account, Completions, Gathered, InUse, Place, Sequel, execute};
use crate::sqe::{INLINE, MoverId, ROUTED, Sqe, SqeFlags};

/// The submitting half of a queue pair. Clones submit to the same queue, each with a stage of its own.
///
/// Nothing happens at a push; [`submit`](SubmissionQueue::submit) publishes what was staged. Dropping a submission
/// queue publishes it too (or discards it, if the queue is closed or the thread is panicking); forgetting one loses
/// only what it had staged, and the credits of that.
///
/// # Examples
///
/// ```
/// use memring::{Sqe, queue::QueuePair};
/// let src = vec![7_u8; 4096];
/// let mut dst = vec![0_u8; 4096];
/// let (mut sq, mut cq) = QueuePair::builder().entries(64).build()?.split();
/// // SAFETY: both buffers outlive `cq`, whose drop waits, and nobody touches them until the completion was reaped.
/// unsafe { sq.push(Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 4096).user_data(1)) }?;
/// assert_eq!(sq.submit(), 1);
/// cq.wait(1, None)?;
/// assert!(cq.drain().all(|cqe| cqe.status().is_success()));
/// assert_eq!(dst, src);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SubmissionQueue {
    /// Leaked in a forked child: it must touch nothing there.
    core: ManuallyDrop<Arc<Core>>,
    staged: Stage,
    /// The lanes that a submit has published to: all false between submits.
    concerned: Box<[bool]>,
    /// What this submitter executes inline.
    account: Arc<Account>,
    /// Room for the completions of what goes inline.
    gathered: Box<Gathered>,
    place: Place,
}

impl SubmissionQueue {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let staged = Stage::new(core.entries);
        // In a forked child the books may be locked for ever; it will not execute anything.
        let account = match core.birth.is_foreign() {
            true => Arc::new(stats::submitter(&core.outlet, &core.chains)),
            false => core.books.open_submitter(&core.outlet, &core.chains),
        };
        let concerned = vec![false; core.stations.len()].into_boxed_slice();
        Self {
            core: ManuallyDrop::new(core),
            staged,
            concerned,
            account,
            gathered: Box::new(Gathered::new()),
            place: Place::START,
        }
    }

    /// Checks and stages one entry, and takes a credit for it. It begins at the next
    /// [`submit`](SubmissionQueue::submit).
    ///
    /// # Errors
    ///
    /// [`PushError`], with the entry: the queue is full or closed, or the entry makes no sense. Nothing was staged.
    ///
    /// # Safety
    ///
    /// From the submit until the entry's completion is reaped (one that [skips](crate::SqeFlags::SKIP_SUCCESS) it:
    /// until that of an entry which is ordered after it is; those that [share](crate::SqeFlags::COALESCE) one: until
    /// the counts add up), or until the drop of the completion queue *returns* (dropping this submission queue is a
    /// submit, unless the queue is closed or the thread is panicking): the destination is valid for reads and writes of
    /// the entry's length (a flush: for reads), the source for reads; nobody else accesses the destination, and nobody
    /// writes the source. Unlinked entries run in any order and at the same time, so two entries under way alias each
    /// other like any two accesses. An entry that was staged and never submitted asks for nothing. Pointers given to
    /// the [`Sqe`] constructors must have had provenance over their regions; [`Sqe::from_raw`] needs addresses whose
    /// provenance was exposed.
    ///
    /// So declare the buffers *before* the queue: variables are dropped in reverse, and a panic or a `?` then drops the
    /// completion queue, which waits for what is in flight, while the buffers still live.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::{PushError, QueuePair}};
    /// let (mut sq, _cq) = QueuePair::builder().entries(1).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// // SAFETY: as above.
    /// let full = unsafe { sq.push(Sqe::nop().user_data(2)) };
    /// assert!(matches!(full, Err(PushError::Full(sqe)) if sqe.data() == 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), PushError> {
        self.is_open(&sqe)?;
        let mover = self.core.route.resolve(&sqe).map_err(|refusal| PushError::refused(refusal, sqe))?;
        if !self.core.outlet.credits.take(1) {
            return Err(PushError::Full(sqe));
        }
        if let Err((_, other)) = self.core.outlet.in_use.enter(&[sqe], &mut self.place) {
            self.core.outlet.credits.give_back(1);
            return Err(PushError::InUse(sqe, other));
        }
        self.staged.push(&sqe, mover);
        if sqe.asks_of_region() { self.enter_regions(&[sqe]) } else { Ok(()) }
    }

    /// Checks and stages all of the entries, or none: they need credits at once, and stay adjacent and in order.
    ///
    /// # Errors
    ///
    /// [`PushError`], with the entry that is at fault; the first one where it is the batch
    /// ([`Full`](PushError::Full), [`Closed`](PushError::Closed), [`Forked`](PushError::Forked),
    /// [`TooLong`](PushError::TooLong)). Nothing was staged.
    ///
    /// # Safety
    ///
    /// That of [`push`](SubmissionQueue::push), for each entry.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::{PushError, QueuePair}};
    /// let (mut sq, mut cq) = QueuePair::builder().entries(4).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push_batch(&[Sqe::nop(); 3]) }?;
    /// // SAFETY: as above.
    /// assert!(matches!(unsafe { sq.push_batch(&[Sqe::nop(); 2]) }, Err(PushError::Full(_))));
    /// // SAFETY: as above.
    /// assert!(matches!(unsafe { sq.push_batch(&[Sqe::nop(); 5]) }, Err(PushError::TooLong(_))));
    /// assert_eq!(sq.submit(), 3);
    /// # cq.wait(3, None)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn push_batch(&mut self, sqes: &[Sqe]) -> Result<(), PushError> {
        let Some(&first) = sqes.first() else { return Ok(()) };
        if sqes.len() > self.core.entries {
            return Err(PushError::TooLong(first));
        }
        self.is_open(&first)?;
        let before = self.staged.len();
        self.stage_all(sqes, first)?;
        if let Err((index, other)) = self.core.outlet.in_use.enter(sqes, &mut self.place) {
            self.staged.truncate(before);
            self.core.outlet.credits.give_back(sqes.len() as u64);
            return Err(PushError::InUse(sqes[index], other));
        }
        if self.staged.some_ask_of_region() { self.enter_regions(sqes) } else { Ok(()) }
    }

    /// Has what was staged last, which is these, hold its regions until it ends; or takes it back, if one of them is
    /// not there any more.
    #[cold]
    fn enter_regions(&mut self, sqes: &[Sqe]) -> Result<(), PushError> {
        let outlet = &self.core.outlet;
        let before = self.staged.len() - sqes.len();
        for at in before..self.staged.len() {
            let sqe = self.staged.sqes()[at];
            if !sqe.asks_of_region() {
                continue;
            }
            match outlet.regions.enter(&sqe) {
                Ok(entered) => self.staged.replace(at, entered),
                Err(Refused) => {
                    let entered = &self.staged.sqes()[before..at];
                    entered.iter().filter_map(|sqe| RegionId::of(sqe.region())).for_each(|id| outlet.regions.leave(id));
                    let all = &self.staged.sqes()[before..];
                    all.iter().for_each(|sqe| outlet.in_use.leave(sqe));
                    outlet.credits.give_back(all.len() as u64);
                    self.staged.truncate(before);
                    return Err(PushError::OutsideRegion(sqes[at - before]));
                }
            }
        }
        Ok(())
    }

    /// Stages entries and takes their credits, of all of them or of none.
    #[inline]
    fn stage_all(&mut self, sqes: &[Sqe], first: Sqe) -> Result<(), PushError> {
        let before = self.staged.len();
        let mut resolve = self.core.route.resolver();
        let mut choose = |sqe: &Sqe| resolve(sqe).map_err(|refusal| PushError::refused(refusal, *sqe));
        if before + sqes.len() > self.core.entries {
            // What is staged holds credits: too few are left for this. What is wrong with an entry is still said first.
            return sqes.iter().try_for_each(|sqe| choose(sqe).map(drop)).and(Err(PushError::Full(first)));
        }
        self.staged.extend(sqes, choose)?;
        if !self.core.outlet.credits.take(sqes.len() as u64) {
            self.staged.truncate(before);
            return Err(PushError::Full(first));
        }
        Ok(())
    }

    /// Executes one entry at once, on this thread, and returns its completion: for what is too small to be queued.
    ///
    /// It takes no credit and posts nothing, so it needs no room, and no other operation is ordered with it.
    ///
    /// # Errors
    ///
    /// [`PushError`], with the entry: it makes no sense, the queue is closed, it has flags of those that order entries
    /// ([`UnknownFlags`](PushError::UnknownFlags)), or it names another mover than [`INLINE`] or is to be durable
    /// ([`Unsupported`](PushError::Unsupported)).
    ///
    /// # Safety
    ///
    /// That of [`push`](SubmissionQueue::push), until this returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (src, mut dst) = ([7_u8; 64], [0_u8; 64]);
    /// let (sq, _cq) = QueuePair::builder().build()?.split();
    /// // SAFETY: both are ours until this returns.
    /// let cqe = unsafe { sq.execute(Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 64)) }?;
    /// assert!(cqe.status().is_success());
    /// assert_eq!(dst, src);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn execute(&self, sqe: Sqe) -> Result<Cqe, PushError> {
        self.is_open(&sqe)?;
        if sqe.sqe_flags() != SqeFlags::NONE {
            return Err(PushError::UnknownFlags(sqe));
        }
        if ![ROUTED, INLINE].contains(&sqe.mover()) {
            return Err(PushError::Unsupported(sqe));
        }
        let sqe = sqe.on(INLINE);
        self.core.route.resolve(&sqe).map_err(|refusal| PushError::refused(refusal, sqe))?;
        if sqe.is_durable() {
            return Err(PushError::Unsupported(sqe));
        }
        let in_use = &self.core.outlet.in_use;
        in_use.enter(&[sqe], &mut Place::START.clone()).map_err(|(_, other)| PushError::InUse(sqe, other))?;
        let entered = if sqe.asks_of_region() { self.core.outlet.regions.enter(&sqe) } else { Ok(sqe) };
        let entered = entered.map_err(|Refused| {
            in_use.leave(&sqe);
            PushError::OutsideRegion(sqe)
        })?;
        // SAFETY: the caller vouches for the entry's memory.
        let end = unsafe { execute(&sqe, self.core.guard, || None) };
        end.stores.fence();
        self.core.outlet.leave(&entered);
        let bytes = if end.status.is_success() { sqe.len() } else { 0 };
        self.core.chains.tally(&sqe).add(1, bytes);
        Ok(Cqe::new(sqe.data(), end.status, INLINE).with_value(end.value()))
    }

    /// Whether this process may push, and anyone would reap.
    #[inline]
    fn is_open(&self, sqe: &Sqe) -> Result<(), PushError> {
        if self.core.birth.is_foreign() {
            return Err(PushError::Forked(*sqe));
        }
        if self.core.outlet.intake.is_closed() {
            return Err(PushError::Closed(*sqe));
        }
        Ok(())
    }

    /// Publishes all that is staged, wakes at most one sleeping driver of each mover concerned, and executes what goes
    /// [`INLINE`]. Returns how many entries were submitted.
    ///
    /// That is 0 if the queue was closed, or this process forked, after the pushes: what was staged is discarded then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// assert_eq!(sq.submit(), 0, "nothing is staged");
    /// # drop(cq.drain());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(&mut self) -> usize {
        let count = self.staged.len();
        InUse::submit(&mut self.place);
        if count == 0 || self.core.birth.is_foreign() {
            self.staged.clear();
            return 0;
        }
        if self.staged.bytes() >= self.core.streams_from {
            self.go_past_cache();
        }
        let is_in = if self.staged.has(SqeFlags::ORDER) {
            self.submit_in_order(count as u64)
        } else {
            match self.core.outlet.intake.pass(count as u64) {
                Passage::Passed => {
                    self.dispatch();
                    true
                }
                Passage::Held => self.submit_in_order(count as u64),
                Passage::Closed => false,
            }
        };
        if !is_in {
            self.discard();
            return 0;
        }
        self.staged.clear();
        count
    }

    /// Has a batch that no cache holds stream past it.
    #[cold]
    fn go_past_cache(&mut self) {
        if memory::is_worth_streaming(self.staged.footprint()) {
            self.staged.go_past_cache();
        }
    }

    /// Submits what has chains or barriers in it, or comes to a barrier; whether the queue is open.
    #[cold]
    fn submit_in_order(&mut self, count: u64) -> bool {
        loop {
            if !self.staged.has(SqeFlags::DRAIN) {
                match self.core.outlet.intake.pass(count) {
                    Passage::Passed => {
                        self.core.chains.park(&mut self.staged);
                        self.dispatch();
                        return true;
                    }
                    Passage::Closed => return false,
                    Passage::Held => {}
                }
            }
            match self.core.chains.admit(&mut self.staged) {
                Admission::Admitted => return true,
                Admission::Closed => return false,
                Admission::NotHeld => {}
            }
        }
    }

    /// Sends all that is staged where it goes.
    #[inline]
    fn dispatch(&mut self) {
        match self.staged.mover().and_then(lane_of) {
            Some(lane) => {
                let station = &self.core.stations[lane];
                station.push_batch(self.staged.sqes());
                station.ring(&self.core.outlet);
            }
            None => {
                self.publish();
                self.execute_inline();
            }
        }
    }

    /// How many entries are staged.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// // SAFETY: a nop touches no memory.
    /// unsafe { sq.push(Sqe::nop()) }?;
    /// assert_eq!(sq.staged(), 1);
    /// # drop(cq.drain());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// How many operations were submitted and have not ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// assert_eq!(sq.in_flight(), 0);
    /// # drop((sq.submit(), cq.drain()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.core.outlet.in_flight()
    }

    /// Whether the completion queue is gone or shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// drop(cq);
    /// assert!(sq.is_closed());
    /// # sq.submit();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.outlet.intake.is_closed()
    }

    /// As [`CompletionQueue::abandoned`](super::CompletionQueue::abandoned).
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::queue::QueuePair;
    /// let (sq, _cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(sq.abandoned(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> u64 {
        self.core.outlet.abandoned()
    }

    /// The id of a mover that was added under this name, as [`QueuePair::mover`](super::QueuePair::mover).
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{WORKERS, queue::QueuePair};
    /// let (sq, _cq) = QueuePair::builder().build()?.split();
    /// assert_eq!(sq.mover("workers"), Some(WORKERS));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn mover(&self, name: &str) -> Option<MoverId> {
        self.core.mover(name)
    }

    /// Whether this process was forked from the one that owns the queue: it refuses everything here.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::queue::QueuePair;
    /// let (sq, _cq) = QueuePair::builder().build()?.split();
    /// assert!(!sq.is_forked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn is_forked(&self) -> bool {
        self.core.birth.is_foreign()
    }

    /// What the queue has done so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::{Sqe, queue::QueuePair};
    /// # let (mut sq, mut cq) = QueuePair::builder().entries(8).workers(0).build()?.split();
    /// assert_eq!(sq.stats().eventfd_writes, 0);
    /// # drop((sq.submit(), cq.drain()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Makes a [`Region`] of a mapped file, so that flushes of it are durable. See there for an example.
    ///
    /// The first one has the thread of the flushes begin, unless the reaper [drives](super::Builder::flush_drive) them.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], with the mapped file: it is no shared mapping of that file, or
    /// some of it is registered already; the queue is closed, or its parent process's; or the system refuses something.
    pub fn register(&self, mapped: MappedFile) -> Result<Region, RegisterError> {
        self.core.register(mapped)
    }

    /// How durable flushes reach the kernel.
    #[must_use]
    pub fn flush_method(&self) -> FlushMethod {
        self.core.flush_method()
    }

    /// Forgets what is staged, and gives its credits back.
    fn discard(&mut self) {
        self.core.outlet.credits.give_back(self.staged.len() as u64);
        self.staged.sqes().iter().for_each(|sqe| self.core.outlet.leave(sqe));
        self.staged.clear();
    }

    /// Sends each run of entries with the same mover to that mover's lane, then rings once for each lane concerned.
    fn publish(&mut self) {
        let core = &**self.core;
        for (mover, run) in self.staged.runs() {
            if let Some(lane) = lane_of(mover) {
                core.stations[lane].push_batch(run);
                self.concerned[lane] = true;
            }
        }
        for (station, concerned) in core.stations.iter().zip(&mut self.concerned) {
            if std::mem::take(concerned) {
                station.ring(&core.outlet);
            }
        }
    }

    /// Executes, on this thread, each run of entries that go inline.
    fn execute_inline(&mut self) {
        let guard = self.core.guard;
        let inline = self.staged.runs().filter(|(mover, _)| *mover == INLINE).map(|(_, run)| run);
        if InUse::IS_CHECKED || self.staged.has(SqeFlags::KNOWN) || self.staged.some_ask_of_region() {
            let mut done = Completions::new(&self.account, &mut self.gathered);
            for sqe in inline.flatten() {
                // SAFETY: the entry was pushed, and the push's contract vouches for its memory.
                let end = unsafe { execute(sqe, guard, || None) };
                done.complete_inline(end.stores, sqe, end.status, end.value());
            }
            return;
        }
        // Without flags or region, an entry's end is a completion and nothing else.
        for part in inline.flat_map(|run| run.chunks(Gathered::ROOM)) {
            let (mut bytes, mut stores) = (0, Stores::Plain);
            let cqes = &mut self.gathered.room()[..part.len()];
            for (at, (cqe, sqe)) in cqes.iter_mut().zip(part).enumerate() {
                // SAFETY: as above.
                let end = unsafe { execute(sqe, guard, || part.get(at + 1)) };
                stores = stores.and(end.stores);
                bytes = if end.status.is_success() { sqe.len() } else { 0 }.saturating_add(bytes);
                *cqe = Cqe::new(sqe.data(), end.status, INLINE).with_value(end.value());
            }
            stores.fence();
            self.account.record(part.len() as u64, part.len() as u64, bytes);
            self.account.post(cqes, 0);
        }
    }
}

impl Clone for SubmissionQueue {
    /// Another submitter of the same queue, with an empty stage of its own.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.core))
    }
}

impl Drop for SubmissionQueue {
    fn drop(&mut self) {
        if !self.core.birth.is_foreign() {
            // A panic on the way to a submit means that nobody vouches for the staged entries any more.
            if std::thread::panicking() {
                self.discard();
            } else {
                self.submit();
            }
            // SAFETY: dropped here, once, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.core) };
        }
    }
}
