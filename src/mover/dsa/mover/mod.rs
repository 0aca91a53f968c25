//! The mover: what waits in a lane goes to devices in flights, and what comes back is reported, or goes on.
//!
//! ```text
//!  lane ─claim─▶ job ─┬─▶ flight (batch, singles, chain) ─depart─▶ portal ─▶ device
//!                     └─▶ the CPU, for what no device does                      │
//!  completions ◀─ judge ◀─────────────────── reap ◀──────────────── records ◀───┘
//!                   └─ stopped at a page fault, or more pieces: once more
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `job` | an operation, and which piece of it a device has |
//! | `flight` | operations that go together |
//! | `arena` | the memory that devices read and write of them |
//! | `queue` | the work queues, as all drivers and as one sees them |
//! | `intake` | from the lane into flights: which device, which kind, or the CPU |
//! | `departure` | from flights to portals |
//! | `arrival` | what a record means: done, once more, by the CPU, or failed |
//! | `loss` | a device that does not answer |
//! | `on_cpu` | what is done in place of the device |
//!
//! **A flight** is up to 32 operations that wait in the lane together: small ones become one batch, which costs a queue
//! one entry; long ones go each by itself, since a batch reports when all of it is done. A single one goes unwrapped.
//! A chain is alone in its flight, as a batch with fences: a fence abandons what follows on *any* failure before it.
//!
//! **Nothing here knows which portal it talks to**, nor whether a device is behind it.
#![expect(unsafe_code, reason = "keeps the contract of `DataMover`")]

mod arena;
mod arrival;
mod departure;
mod flight;
mod intake;
mod job;
mod loss;
mod on_cpu;
pub(super) mod queue;

use core::fmt;
use core::hint::spin_loop;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use self::arena::{Arena, MEMBERS};
use self::flight::Flight;
use self::loss::Watch;
pub use self::queue::QueueState;
use self::queue::{Line, Queue};
use super::DsaOpcode;
use crate::memory::can_flush;
use crate::mover::{Bell, Capabilities, Completions, DataMover, Lane, Progress};
use crate::os::{distance, this_node};
use crate::sqe::{OpFlags, Opcode};

/// Flights of one driver that can be under way: more than keep any device busy.
const FLIGHTS: usize = 64;
/// How often a driver that has something under way looks for its end before it sleeps: some microseconds, which is
/// what a device takes.
const LOOKS: u32 = 256;

/// What to do when a device stops at a page that is not mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFault {
    /// Have the kernel map the page, and the device go on; if that brings nothing, the CPU does it. The default.
    #[default]
    Resume,
    /// The CPU does what is left of the piece.
    Cpu,
    /// The operation ends with [`FAULT`](crate::Status::FAULT).
    Fail,
}

/// What a mover does when there is a choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) on_fault: OnFault,
    pub(super) time_limit: Duration,
    pub(super) page_cache: bool,
}

/// The DSA mover of one driver: made by [`Dsa::mover`](super::Dsa::mover).
pub struct DsaMover {
    queues: Arc<[Queue]>,
    policy: Policy,
    /// The nearest first.
    lines: Box<[Line]>,
    /// The longest piece that every queue takes, bytes.
    longest: u32,
    arena: Arena,
    flights: Box<[Flight]>,
    /// Flights that are not empty, in the order in which they began.
    under_way: Vec<usize>,
    free: Vec<usize>,
    watch: Watch,
    /// Bytes that the CPU may still do in this poll.
    cpu_bytes: u64,
    /// Whose driver it is.
    home: Option<usize>,
}

impl DsaMover {
    pub(super) fn new(queues: Arc<[Queue]>, policy: Policy) -> Self {
        let (here, now) = (this_node(), Instant::now());
        let mut lines: Box<[_]> = queues.iter().enumerate().map(|(index, queue)| line(index, queue, here)).collect();
        lines.sort_by_key(|line| line.distance);
        let longest = queues.iter().map(|queue| queue.allowance.max_transfer_bytes).min().unwrap_or(1);
        Self {
            queues,
            policy,
            lines,
            // More than 2 GiB no device takes; the number is even, for halves.
            longest: u32::try_from(longest).unwrap_or(1 << 31).max(2) & !1,
            arena: Arena::new(FLIGHTS),
            flights: (0..FLIGHTS).map(|_| Flight::new(now)).collect(),
            under_way: Vec::with_capacity(FLIGHTS),
            free: (0..FLIGHTS).rev().collect(),
            watch: Watch::default(),
            cpu_bytes: 0,
            home: None,
        }
    }

    /// Whether a device has something of this driver's.
    fn is_out(&self) -> bool {
        self.under_way.iter().any(|flight| self.flights[*flight].is_out())
    }

    /// Whether this is the lane of the driver whose operations it has: those of another one would end in the wrong
    /// queue.
    fn is_at_home(&mut self, lane: &Lane<'_>) -> bool {
        if self.under_way.is_empty() {
            self.home = Some(lane.driver());
        }
        self.home == Some(lane.driver())
    }

    /// Whether something that a device had has come back.
    fn has_news(&mut self) -> bool {
        self.attend();
        self.under_way.iter().any(|flight| self.has_landed(*flight))
    }

    /// Gives the devices that have something of ours a turn.
    fn attend(&mut self) {
        for line in 0..self.lines.len() {
            if self.lines[line].flights == 0 {
                continue;
            }
            let queue = &self.queues[self.lines[line].queue];
            let state = queue.visit(|way| {
                if let Some(portal) = &mut way.portal {
                    portal.attend();
                }
                way.state
            });
            if let Some(state) = state.filter(|state| *state != self.lines[line].state) {
                self.hear(line, state);
            }
        }
    }
}

/// How this driver sees a queue.
fn line(index: usize, queue: &Queue, here: Option<u32>) -> Line {
    let far = match (here, queue.numa_node) {
        (Some(here), Some(there)) if here != there => distance(here, there).unwrap_or(u32::MAX),
        _ => 0,
    };
    Line::new(index, queue, far, MEMBERS)
}

impl fmt::Debug for DsaMover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DsaMover").field("lines", &self.lines).field("under_way", &self.under_way.len()).finish()
    }
}

// SAFETY: a token is completed when its record says that the device is done with it, when the CPU has done it after
// that, or without a device that has it; otherwise it stays. Success means that all pieces were done.
unsafe impl DataMover for DsaMover {
    fn capabilities(&self) -> Capabilities {
        let flushes =
            can_flush() || self.queues.iter().any(|queue| queue.allowance.operations.contains(DsaOpcode::CFLUSH));
        let opcodes =
            if flushes { &Opcode::ALL[..] } else { &[Opcode::Nop, Opcode::Memcpy, Opcode::Memmove, Opcode::Memset] };
        let can = Capabilities::new(opcodes).flags(OpFlags::NO_CACHE_HINT);
        let can = if can_flush() { can.durable_on_dax() } else { can };
        // Faults and the writing portal enter the kernel.
        can.asynchronous().in_parts(u64::from(self.longest / 2)).claim_together(32).system_calls()
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        if !self.is_at_home(lane) {
            return Progress::Waiting;
        }
        self.cpu_bytes = lane.cpu_bytes();
        self.attend();
        let mut has_done = self.reap(done);
        has_done |= self.take_on(lane, done);
        has_done |= self.depart(done);
        self.look_at_clock(has_done);
        lane.leave_cpu_bytes(self.cpu_bytes);
        if has_done {
            Progress::Busy
        } else if self.under_way.is_empty() {
            Progress::Idle
        } else {
            Progress::Waiting
        }
    }

    /// Gives up what no device has had yet.
    fn cancel(&mut self, user_data: u64) -> bool {
        let Self { flights, under_way, .. } = self;
        under_way.iter().fold(false, |found, flight| found | flights[*flight].cancel(user_data))
    }

    fn wait(&mut self, bell: &Bell<'_>, deadline: Option<Instant>) {
        if self.is_out() {
            for _ in 0..LOOKS {
                if bell.is_rung() || self.has_news() {
                    return;
                }
                spin_loop();
            }
        }
        bell.sleep(deadline);
    }
}
