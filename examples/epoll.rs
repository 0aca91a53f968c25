//! A completion queue in a plain epoll loop, which serves a timer meanwhile.
//!
//! The order in a turn: drain, feed, arm, and sleep only if `arm()` said [`Arm::Armed`]. On any other answer there is
//! something to do at once; the loop still looks at its other events, with a timeout of zero.
//!
//! The queue's descriptor is edge-triggered here: each wake is one write to an eventfd, which is one edge, so nobody
//! need ever read it. A level-triggered loop would call `cq.clear()` at each wake, before it drains: one system call
//! more. The timer is level-triggered, since reading it is how it is served.
//!
//! `cargo run --release --example epoll -- [workers|caller] [mib=256] [piece_kib=4] [budget_kib=128] [rounds=7]`
#![expect(unsafe_code, reason = "epoll and timerfd have no safe wrapper in std; pushes entries")]

pub(crate) mod gaps;

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use memring::Sqe;
use memring::queue::{Arm, PushError, QueuePair, SubmissionQueue};

use gaps::{Buffers, Figures, Gaps, Mode, Options, Outcome, Round, Work};

/// What can be under way, and what one turn of the loop submits at the most: pushing takes time too.
const ENTRIES: usize = 4096;
const FEED: usize = 256;

/// Who is ready, in the events of epoll.
const TIMER: u64 = 0;
const QUEUE: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    for &mode in &options.modes {
        gaps::print("epoll", mode, &options, &run(mode, &options)?);
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
    let mut timer = Timer::new(options.tick)?;
    let epoll = Epoll::new()?;
    epoll.add(timer.0.as_fd(), TIMER, libc::EPOLLIN)?;
    epoll.add(cq.as_fd(), QUEUE, libc::EPOLLIN | libc::EPOLLET)?;

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
        let timeout_ms = match cq.arm() {
            Arm::Armed => -1,
            // Completions, or copies that only the next drain does: look at the other events, and come back.
            Arm::NotEmpty | Arm::MustPoll => 0,
        };
        let ready = epoll.wait(timeout_ms)?;
        gaps.look();
        for event in ready {
            if event.u64 == TIMER {
                timer.serve()?;
                gaps.tick();
            }
            // The queue's own event needs no answer: the next turn drains.
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
    let mut timer = Timer::new(tick)?;
    let epoll = Epoll::new()?;
    epoll.add(timer.0.as_fd(), TIMER, libc::EPOLLIN)?;
    let mut gaps = Gaps::begin();
    while work(gaps.wall()) {
        let ready = epoll.wait(-1)?;
        gaps.look();
        for _ in ready {
            timer.serve()?;
            gaps.tick();
        }
    }
    Ok(gaps.end())
}

/// The number that a system call returned, or its error.
fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes a number.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn add(&self, fd: BorrowedFd<'_>, who: u64, events: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: who };
        let (epoll, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: both descriptors are open, and `event` lives during the call.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
    }

    /// The events there are, or the first to come within the timeout; -1 is none.
    fn wait(&self, timeout_ms: libc::c_int) -> io::Result<impl Iterator<Item = libc::epoll_event>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: `events` has as much room as is said.
        let ready = check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 8, timeout_ms) });
        let count = match ready {
            Ok(count) => count.cast_unsigned() as usize,
            // A signal: the loop comes round again.
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(events.into_iter().take(count))
    }
}

/// A timerfd that is readable once a period.
struct Timer(File);

impl Timer {
    fn new(period: Duration) -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: timerfd_create takes numbers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        let timer = Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        let period = libc::timespec {
            tv_sec: libc::time_t::try_from(period.as_secs()).map_err(io::Error::other)?,
            tv_nsec: period.subsec_nanos().into(),
        };
        let setting = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: the descriptor is open, and `setting` lives during the call.
        check(unsafe { libc::timerfd_settime(fd, 0, &raw const setting, ptr::null_mut()) })?;
        Ok(timer)
    }

    fn serve(&mut self) -> io::Result<()> {
        match self.0.read(&mut [0; 8]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}
