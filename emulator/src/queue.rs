//! A work queue of this process: what its portal answers, and what becomes of what it takes.
//!
//! ```text
//!  trap, write(2) ──offer──▶ credits ──▶ lane ──▶ device thread ──▶ Model ──▶ records
//!                    ◀── Accepted, Retry or Dropped     (device.rs)
//! ```
//!
//! [`offer`](Queue::offer) is called by signal handlers: it takes no lock, allocates nothing, and waits for nobody. An
//! entry of the queue is a credit, taken here and given back when the device begins with the descriptor, as a device
//! does it: so who has seen a completion finds the room again.
//!
//! A process has a queue to itself: room is counted in each process. What is shared is who may open a dedicated one
//! ([`node`](crate::node)), the counts, and the switch that takes the queue away.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use memring::dsa::model::{Instruction, Reply};
use memring::dsa::{Descriptor, DeviceCapabilities, Mode, WorkQueue, WorkQueueCapabilities};
use memring_ring::{Credits, Doorbell, Lane};

use crate::futex::Futex;
use crate::layout;
use crate::page::Page;

/// What of a queue is the same in every process.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// As `wq0.0`.
    pub(crate) name: String,
    /// The device and inode numbers of its file.
    pub(crate) node: (u64, u64),
    pub(crate) node_path: PathBuf,
    state_path: PathBuf,
    pub(crate) device: DeviceCapabilities,
    pub(crate) capabilities: WorkQueueCapabilities,
}

impl Identity {
    pub(crate) fn of(queue: &WorkQueue) -> Option<Self> {
        Some(Self {
            name: queue.id.to_string(),
            node: crate::node::numbers(&queue.node)?,
            node_path: queue.node.clone(),
            state_path: queue.path.join("state"),
            device: queue.device.capabilities,
            capabilities: queue.capabilities,
        })
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) identity: Identity,
    pub(crate) page: Page,
    pub(crate) settings: crate::settings::Settings,
    pub(crate) lane: Lane<8>,
    pub(crate) credits: Credits,
    pub(crate) bell: Doorbell,
    /// Taken, and not ended.
    outstanding: AtomicU64,
    has_thread: AtomicBool,
    /// Where made-up refusals come from.
    dice: AtomicU64,
    was_refused: AtomicBool,
}

impl Queue {
    /// How often a write to a shared queue asks, as `enqcmds_retries` says by default.
    const RETRIES: u32 = 32;

    pub(crate) fn new(identity: Identity, page: Page, settings: crate::settings::Settings) -> Self {
        let capabilities = identity.capabilities;
        let entries = match capabilities.mode {
            Mode::Dedicated => capabilities.size,
            Mode::Shared => capabilities.threshold.min(capabilities.size),
        };
        Self {
            lane: Lane::new(usize::try_from(entries).unwrap_or(1)),
            credits: Credits::new(entries.into()),
            bell: Doorbell::default(),
            outstanding: AtomicU64::new(0),
            has_thread: AtomicBool::new(false),
            dice: AtomicU64::new(settings.faults.unwrap_or(0)),
            was_refused: AtomicBool::new(false),
            identity,
            page,
            settings,
        }
    }

    /// A portal's answer to 64 bytes.
    pub(crate) fn offer(&self, by: Instruction, bytes: &[u8; Descriptor::BYTES]) -> Reply {
        let is_enabled = !self.page.is_disabled();
        let reply = match (by, self.identity.capabilities.mode) {
            (Instruction::Movdir64b, Mode::Dedicated) if is_enabled && self.credits.take(1) => Reply::Accepted,
            (Instruction::Movdir64b, _) => Reply::Dropped,
            (Instruction::Enqcmd, Mode::Shared) if is_enabled && !self.refuses() && self.credits.take(1) => {
                Reply::Accepted
            }
            (Instruction::Enqcmd, _) => Reply::Retry,
        };
        match reply {
            Reply::Accepted => self.accept(bytes),
            Reply::Retry => {
                self.page.add(layout::RETRIED, 1);
                // Asking takes a device's time, not an instruction's.
                thread::yield_now();
            }
            Reply::Dropped => {
                self.page.add(layout::DROPPED, 1);
            }
        }
        reply
    }

    /// The kernel's answer: false if the queue stayed full.
    pub(crate) fn offer_by_kernel(&self, mut bytes: [u8; Descriptor::BYTES]) -> bool {
        match self.identity.capabilities.mode {
            Mode::Dedicated => {
                let reply = self.offer(Instruction::Movdir64b, &bytes);
                self.page.add(layout::BY_WRITE, u64::from(reply == Reply::Accepted));
                // It cannot know.
                true
            }
            Mode::Shared => {
                // The kernel puts the process's address space there.
                bytes[..4].fill(0);
                let is_taken = (0..=Self::RETRIES).any(|_| self.offer(Instruction::Enqcmd, &bytes) == Reply::Accepted);
                self.page.add(layout::BY_WRITE, u64::from(is_taken));
                is_taken
            }
        }
    }

    fn accept(&self, bytes: &[u8; Descriptor::BYTES]) {
        self.outstanding.fetch_add(1, Ordering::Relaxed); // Ordering: Relaxed: before the lane, which publishes it.
        let accepted = self.page.add(layout::ACCEPTED, 1) + 1;
        let (words, _) = bytes.as_chunks::<8>();
        let mut entry = [0; 8];
        entry.iter_mut().zip(words).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
        self.lane.push_batch(&[entry]);
        if self.settings.disable_after == Some(accepted) {
            self.page.disable();
        }
        let _ = self.bell.ring_with(&Futex, |_, _| true, |_| false);
    }

    /// Whether it makes up that it is full: never twice in a row, as programs ask a few times only.
    fn refuses(&self) -> bool {
        // Ordering: Relaxed, all: numbers that nobody can foresee anyway.
        if self.settings.faults.is_none() || self.was_refused.swap(false, Ordering::Relaxed) {
            return false;
        }
        let number = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed); // Ordering: as above.
        let refuses = (number ^ number >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 62 == 0;
        self.was_refused.store(refuses, Ordering::Relaxed); // Ordering: as above.
        refuses
    }

    /// A descriptor has ended.
    pub(crate) fn ended(&self) {
        // Ordering: Release, partner: the Acquire in `wait_until_idle`: all that the device wrote comes before.
        self.outstanding.fetch_sub(1, Ordering::Release);
    }

    /// How many descriptors it has taken that have not ended.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::Acquire) // Ordering: Acquire, partner: the Release in `ended`.
    }

    /// Waits until the device is done with all that it has, as the driver does when a file or a portal goes.
    pub(crate) fn wait_until_idle(&self) {
        while self.outstanding() > 0 && self.has_thread() {
            thread::yield_now();
        }
    }

    /// Whether the thread was started, or is about to be.
    pub(crate) fn has_thread(&self) -> bool {
        self.has_thread.load(Ordering::Acquire) // Ordering: Acquire, partner: that of `needs_thread`.
    }

    /// True once: who gets it starts the thread.
    pub(crate) fn needs_thread(&self) -> bool {
        !self.has_thread.swap(true, Ordering::AcqRel) // Ordering: AcqRel: one gets it.
    }

    /// Shows everybody that the queue is gone: in sysfs, and by its file, which goes too.
    pub(crate) fn vanish(&self) {
        let vanish = |path: &Path| fs::remove_file(path);
        let _ = fs::write(&self.identity.state_path, "disabled\n");
        let _ = vanish(&self.identity.node_path);
    }
}
