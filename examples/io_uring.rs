//! A completion queue in an io_uring loop, which has a timer and a socket in the same ring meanwhile.
//!
//! The order in a turn: drain, feed, arm, and wait in the ring only if `arm()` said [`Arm::Armed`]; otherwise the ring
//! is entered without waiting. A *multishot* `PollAdd` on the queue's descriptor gives one completion for each wake,
//! and nobody need ever read the eventfd: it is edge-triggered. The kernel may end it at any time, by a completion
//! without the flag `MORE`; then it is pushed again. (A single-shot poll is level-triggered: `cq.clear()` comes first.)
//!
//! At each tick the loop sends a byte through a socket pair, by the ring, and receives it at the other end.
//!
//! `cargo run --release --example io_uring -- [workers|caller] [mib=256] [piece_kib=4] [budget_kib=128] [rounds=7]`
#![expect(unsafe_code, reason = "pushes entries, to memring and to io_uring")]

pub(crate) mod gaps;

use std::error::Error;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use memring::Sqe;
use memring::queue::{Arm, PushError, QueuePair, SubmissionQueue};

use gaps::{Buffers, Figures, Gaps, Mode, Options, Outcome, Round, Work};

/// What can be under way, and what one turn of the loop submits at the most: pushing takes time too.
const ENTRIES: usize = 4096;
const FEED: usize = 256;

/// What a completion of the ring is about.
const QUEUE: u64 = 0;
const TICK: u64 = 1;
const SENT: u64 = 2;
const RECEIVED: u64 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    for &mode in &options.modes {
        gaps::print("io_uring", mode, &options, &run(mode, &options)?);
    }
    Ok(())
}

pub(crate) fn run(mode: Mode, options: &Options) -> Result<Vec<Round>, Box<dyn Error>> {
    gaps::rounds(options, |buffers| copy(mode, options, buffers), |work| without_queue(options.tick, work))
}

/// The loop with a queue in it.
fn copy(mode: Mode, options: &Options, buffers: &mut Buffers) -> Result<Outcome, Box<dyn Error>> {
    let workers = if mode == Mode::Workers { 1 } else { 0 };
    let builder = QueuePair::builder().entries(ENTRIES).workers(workers).poll_budget(options.budget);
    let (mut sq, mut cq) = builder.build()?.split();
    let pieces = buffers.pieces(options.piece);
    let mut ring = Ring::new(options.tick)?;
    ring.poll(cq.as_raw_fd())?;

    let (mut pushed, mut reaped) = (0, 0);
    let mut gaps = Gaps::begin();
    loop {
        // Without workers this copies, within the budget; with workers it looks at what they have done.
        for cqe in cq.drain() {
            if !cqe.status().is_success() {
                return Err(format!("{cqe:?}").into());
            }
            reaped += 1;
        }
        // SAFETY: the buffers are borrowed for longer than `cq` lives, and used by nobody else until then.
        pushed += unsafe { feed(&mut sq, &pieces[pushed..]) }?;
        if reaped == pieces.len() {
            break;
        }
        let wanted = match cq.arm() {
            Arm::Armed => 1,
            // Completions, or copies that only the next drain does: look at the other events, and come back.
            Arm::NotEmpty | Arm::MustPoll => 0,
        };
        ring.enter(wanted)?;
        gaps.look();
        while let Some(cqe) = ring.next() {
            if cqe.user_data() != QUEUE {
                ring.serve(&cqe, &mut gaps)?;
            } else if cqe.result() < 0 {
                return Err(io::Error::from_raw_os_error(-cqe.result()).into());
            } else if !cqueue::more(cqe.flags()) {
                ring.poll(cq.as_raw_fd())?;
            }
        }
    }
    Ok(Outcome { figures: gaps.end(), reaped, stats: cq.stats() })
}

/// Pushes as many entries as the queue has room for, but not too many, and submits them; says how many.
///
/// # Safety
///
/// That of [`SubmissionQueue::push`], for each entry.
unsafe fn feed(sq: &mut SubmissionQueue, pieces: &[Sqe]) -> Result<usize, PushError> {
    for &sqe in pieces.iter().take(FEED) {
        // SAFETY: the caller's contract.
        match unsafe { sq.push(sqe) } {
            Ok(()) => {}
            Err(PushError::Full(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sq.submit())
}

/// The same loop without a queue, for comparison.
fn without_queue(tick: Duration, work: Work<'_>) -> Result<Figures, Box<dyn Error>> {
    let mut ring = Ring::new(tick)?;
    let mut gaps = Gaps::begin();
    while work(gaps.wall()) {
        ring.enter(1)?;
        gaps.look();
        while let Some(cqe) = ring.next() {
            ring.serve(&cqe, &mut gaps)?;
        }
    }
    Ok(gaps.end())
}

/// What the kernel reads and writes after an entry was pushed.
struct Shared {
    period: types::Timespec,
    ping: [u8; 1],
    pong: [u8; 1],
}

/// An io_uring with a timer and a socket pair.
struct Ring {
    ring: IoUring,
    near: UnixStream,
    far: UnixStream,
    /// Leaked: a kernel that is still cancelling what was under way may write there after the ring was closed.
    shared: *mut Shared,
}

impl Ring {
    fn new(period: Duration) -> io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        let period = types::Timespec::from(period);
        let shared = Box::into_raw(Box::new(Shared { period, ping: [0], pong: [0] }));
        let mut ring = Self { ring: IoUring::new(16)?, near, far, shared };
        ring.set_timer()?;
        ring.receive()?;
        Ok(ring)
    }

    /// Submits what was pushed, and waits until this many completions are there.
    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(wanted) {
            // A signal: the loop comes round again.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            other => other.map(drop),
        }
    }

    fn next(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Answers a completion of the ring's own.
    fn serve(&mut self, cqe: &cqueue::Entry, gaps: &mut Gaps) -> io::Result<()> {
        let is_tick = cqe.user_data() == TICK && cqe.result() == -libc::ETIME;
        if cqe.result() < 0 && !is_tick {
            return Err(io::Error::from_raw_os_error(-cqe.result()));
        }
        match cqe.user_data() {
            TICK => {
                self.set_timer()?;
                self.send()
            }
            RECEIVED => {
                gaps.tick();
                self.receive()
            }
            _ => Ok(()),
        }
    }

    /// Tells of each wake of the queue's descriptor.
    fn poll(&mut self, fd: RawFd) -> io::Result<()> {
        let poll = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN.cast_unsigned().into()).multi(true);
        // SAFETY: it names no memory. A descriptor that is closed meanwhile is an error of the entry, and no more.
        unsafe { self.push(&poll.build().user_data(QUEUE)) }
    }

    fn set_timer(&mut self) -> io::Result<()> {
        // SAFETY: the allocation was leaked, so it is there.
        let period = unsafe { &raw const (*self.shared).period };
        // SAFETY: the kernel finds it there, whenever it looks.
        unsafe { self.push(&opcode::Timeout::new(period).build().user_data(TICK)) }
    }

    fn send(&mut self) -> io::Result<()> {
        // SAFETY: as above.
        let ping = unsafe { &raw const (*self.shared).ping };
        let send = opcode::Send::new(types::Fd(self.near.as_raw_fd()), ping.cast(), 1);
        // SAFETY: as above.
        unsafe { self.push(&send.build().user_data(SENT)) }
    }

    fn receive(&mut self) -> io::Result<()> {
        // SAFETY: as above.
        let pong = unsafe { &raw mut (*self.shared).pong };
        let receive = opcode::Recv::new(types::Fd(self.far.as_raw_fd()), pong.cast(), 1);
        // SAFETY: as above.
        unsafe { self.push(&receive.build().user_data(RECEIVED)) }
    }

    /// Pushes an entry for the next `enter`.
    ///
    /// # Safety
    ///
    /// The memory that the entry names stays valid until the kernel is done with it.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        let mut queue = self.ring.submission();
        // SAFETY: the caller's contract.
        unsafe { queue.push(entry) }.map_err(io::Error::other)
    }
}
