//! The handle: which work queues a mover uses, and how.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use super::model::{ModelPortal, Settings};
use super::mover::queue::Queue;
use super::mover::{DsaMover, OnFault, Policy, QueueState};
use super::{
    Allowance, Mode, Opened, Portal, Preset, Roots, Unusable, Way, WorkQueue, WorkQueueCapabilities, discover, open,
};

/// How long a device may take for one submission, unless said otherwise: beyond what any queue full of the longest
/// transfers takes.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Of a device in software: as many work queues as devices have groups, and their entries.
const SOFTWARE_QUEUES: usize = 4;
const SOFTWARE_ENTRIES: u32 = 64;

/// Work queues of Intel DSA, as a mover for a queue pair or a ring.
///
/// A handle is shared by its clones and by all movers that it [makes](Dsa::mover). Each driver of a queue pair has one
/// of them; they share the work queues, so that a dedicated one, which can be opened once, serves several.
///
/// # What goes where
///
/// | operation | goes |
/// |---|---|
/// | what waits in the lane together | as a batch of up to 32, if the queue takes batches; a single one alone |
/// | more than 32 KiB | alone |
/// | more than the queues' limit | in parts; a copy over its own source, part after part |
/// | linked ones | as one batch with fences, as far as they are LINKed, fit, and are all this mover's |
/// | what no near device does | to the CPU |
/// | to the page cache of a registered region | to the CPU |
///
/// What the CPU did in place of a device is counted: [`fallbacks`](crate::queue::MoverStats::fallbacks).
///
/// Of the devices that can be used, those nearest to the CPU that built the queue take all, the one with least to do
/// first. The cache gets the destination ([cache control](super::Flags::CACHE_CONTROL)) unless the entry has
/// [`NO_CACHE_HINT`](crate::OpFlags::NO_CACHE_HINT). Nothing is ever cancelled once a device may have it.
///
/// # Faults
///
/// A device stops at a page that is not mapped; [`on_fault`](Dsa::on_fault) says what then. Memory that is not there
/// at all ends its operation with [`FAULT`](crate::Status::FAULT), and the process lives, whether the queue has a
/// fault guard or not, as long as a device does the operation and the kernel is 5.14 or newer. What the CPU does in
/// place of a device is covered by the queue's fault guard, as all that the CPU does.
///
/// # Budgets
///
/// What devices move does not count for a queue's [`poll_budget`](crate::queue::Builder::poll_budget): that costs a
/// drain no time. What the CPU moves in their place does, but the last operation, or the last part of one, is done
/// whole; it is no longer than what the work queues take in one descriptor.
///
/// # Examples
///
/// ```
/// use memring::dsa::Dsa;
/// use memring::queue::{Drive, QueuePair};
/// use memring::Sqe;
///
/// // A device in software: see `Dsa::open` for those of the machine.
/// let dsa = Dsa::software();
/// let pair = QueuePair::builder().mover("dsa", Drive::Caller, move || dsa.mover()).build()?;
/// let to_dsa = pair.mover("dsa").expect("it was just added");
/// let (src, mut dst) = ([7_u8; 4096], [0_u8; 4096]);
/// let (mut sq, mut cq) = pair.split();
/// // SAFETY: both outlive `cq`, and nobody uses them until the completion was reaped.
/// unsafe { sq.push(Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 4096).on(to_dsa)) }?;
/// sq.submit();
/// cq.wait(1, None)?;
/// assert!(cq.drain().all(|cqe| cqe.status().is_success()));
/// assert_eq!(dst, src);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Dsa {
    queues: Arc<[Queue]>,
    policy: Policy,
}

/// A work queue that is open, for [`Dsa::new`].
#[derive(Debug)]
pub struct Attachment {
    /// The way to it, which nobody else uses.
    pub portal: Box<dyn Portal>,
    /// What may be submitted to it.
    pub allowance: Allowance,
    /// The NUMA node of its device, if it has one.
    pub numa_node: Option<u32>,
}

impl Attachment {
    /// A queue of this machine, opened.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Attachment, Dsa, Roots, Way, discover, open};
    /// let queues = discover(&Roots::system()).usable.into_iter();
    /// let shared = queues.filter(|queue| queue.name == "memring");
    /// let attached = shared.filter_map(|queue| Some(Attachment::of(&queue, open(&queue, Way::Write).ok()?)));
    /// match Dsa::new(attached) {
    ///     Some(dsa) => println!("{dsa:?}"),
    ///     None => println!("no queue named memring"),
    /// }
    /// ```
    #[must_use]
    pub fn of(queue: &WorkQueue, opened: Opened) -> Self {
        Self { portal: opened.portal, allowance: queue.allowance(), numa_node: queue.device.numa_node }
    }
}

/// A device in software, told of as it is.
///
/// # Examples
///
/// ```
/// use memring::dsa::model::{ModelPortal, Settings};
/// use memring::dsa::{Dsa, Mode, Preset, WorkQueueCapabilities};
/// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 16);
/// let portal = ModelPortal::new(Preset::V1Early.capabilities(), queue, Settings::hostile(7));
/// let dsa = Dsa::new([portal.into()]).expect("there is one");
/// ```
impl From<ModelPortal> for Attachment {
    fn from(portal: ModelPortal) -> Self {
        let allowance = portal.allowance();
        Self { portal: Box::new(portal), allowance, numa_node: None }
    }
}

/// Why there is no DSA to use.
#[derive(Debug)]
#[non_exhaustive]
pub struct NoQueue {
    /// What was found, and why each of it cannot be used.
    pub unusable: Vec<Unusable>,
}

impl fmt::Display for NoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no work queue of DSA can be used")?;
        for (index, unusable) in self.unusable.iter().enumerate() {
            write!(f, "{}{unusable}", if index == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

impl core::error::Error for NoQueue {}

impl Dsa {
    /// Opens every work queue of the machine that can be used, each in the best way that works.
    ///
    /// A process opens them after its forks: they belong to who has opened them.
    ///
    /// # Errors
    ///
    /// There is none: the error says why, of each that there is.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Dsa, Roots};
    /// match Dsa::open(&Roots::from_env()) {
    ///     Ok(dsa) => println!("{} work queues", dsa.queues().count()),
    ///     Err(none) => println!("{none}"),
    /// }
    /// ```
    pub fn open(roots: &Roots) -> Result<Self, NoQueue> {
        let found = discover(roots);
        let mut unusable = found.unusable;
        let mut attached = Vec::new();
        for queue in found.usable {
            match open(&queue, Way::from_env()) {
                Ok(opened) => attached.push(Attachment::of(&queue, opened)),
                Err(reason) => unusable.push(reason),
            }
        }
        Self::new(attached).ok_or(NoQueue { unusable })
    }

    /// A device in software: the strict [model](super::model), as the best of devices, with four work queues.
    ///
    /// It has no thread: it works while its movers are polled, so it is slower than the CPU mover, and a drain that
    /// polls one copies up to 2 MiB for each of the queues, whatever its budget. It is for trying out what a program
    /// does with DSA on a machine that has none.
    ///
    /// # Examples
    ///
    /// See [`Dsa`].
    #[must_use]
    pub fn software() -> Self {
        let device = Preset::V2Full.capabilities();
        let queue = WorkQueueCapabilities::new(Mode::Shared, SOFTWARE_ENTRIES);
        let portal = || ModelPortal::new(device, queue, Settings::default()).with_turn(1);
        Self::of(std::iter::repeat_with(|| portal().into()).take(SOFTWARE_QUEUES))
    }

    /// Uses these work queues. None: there are none.
    ///
    /// # Examples
    ///
    /// See [`Attachment::of`].
    #[must_use]
    pub fn new(queues: impl IntoIterator<Item = Attachment>) -> Option<Self> {
        let mut queues = queues.into_iter().peekable();
        queues.peek().is_some().then(|| Self::of(queues))
    }

    fn of(queues: impl Iterator<Item = Attachment>) -> Self {
        let queue = |Attachment { portal, allowance, numa_node }| Queue::new(portal, allowance, numa_node);
        let policy = Policy { on_fault: OnFault::default(), time_limit: TIME_LIMIT, page_cache: false };
        Self { queues: queues.map(queue).collect(), policy }
    }

    /// What movers made from now on do when a device stops at a page that is not mapped. Default:
    /// [`OnFault::Resume`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Dsa, OnFault};
    /// let dsa = Dsa::software().on_fault(OnFault::Cpu);
    /// ```
    #[must_use]
    pub fn on_fault(mut self, on_fault: OnFault) -> Self {
        self.policy.on_fault = on_fault;
        self
    }

    /// How long a device may take for one submission before it is given up. Default: 30 seconds.
    ///
    /// Until it is known that the device touches nothing any more, nothing that it has completes: see
    /// [`QueueState`]. What completes then was done by the CPU, or is
    /// [`JOB_CORRUPTED`](crate::Status::JOB_CORRUPTED), if it was a copy over its own source.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use memring::dsa::Dsa;
    /// let dsa = Dsa::software().time_limit(Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.policy.time_limit = limit;
        self
    }

    /// Has devices write to the page cache of registered regions too. By default the CPU does: after each fsync the
    /// kernel protects those pages anew, and a device stops at every one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Dsa;
    /// let dsa = Dsa::software().writes_page_cache(true);
    /// ```
    #[must_use]
    pub fn writes_page_cache(mut self, does: bool) -> Self {
        self.policy.page_cache = does;
        self
    }

    /// A mover, for one driver: what [`Builder::mover`](crate::queue::Builder::mover) asks for. Polled for another
    /// driver while it has something under way, it does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Dsa;
    /// use memring::queue::{Drive, QueuePair};
    /// let dsa = Dsa::software();
    /// let pair = QueuePair::builder().mover("dsa", Drive::Threads(2), move || dsa.mover()).build()?;
    /// # drop(pair);
    /// # Ok::<(), memring::BuildError>(())
    /// ```
    #[must_use]
    pub fn mover(&self) -> DsaMover {
        DsaMover::new(Arc::clone(&self.queues), self.policy)
    }

    /// The work queues: what may be submitted to each, and how it is doing.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Dsa, QueueState};
    /// assert!(Dsa::software().queues().all(|(_, state)| state == QueueState::Open));
    /// ```
    pub fn queues(&self) -> impl Iterator<Item = (Allowance, QueueState)> {
        self.queues.iter().map(|queue| (queue.allowance, queue.state()))
    }

    /// The user data of the operations that a [lost](QueueState::Lost) device has: none of them ever completes.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(memring::dsa::Dsa::software().lost().is_empty());
    /// ```
    #[must_use]
    pub fn lost(&self) -> Vec<u64> {
        self.queues.iter().flat_map(Queue::lost).collect()
    }
}

impl fmt::Debug for Dsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsa").field("queues", &self.queues).field("policy", &self.policy).finish()
    }
}
