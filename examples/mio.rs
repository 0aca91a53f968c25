//! A completion queue in a mio loop, which plays ping-pong over a socket meanwhile.
//!
//! The order in a turn: drain, feed, arm, and sleep only if `arm()` said [`Arm::Armed`]. mio is edge-triggered: each
//! wake of the queue is one write to an eventfd, which is one edge, so nobody need ever read it, and the queue's own
//! event needs no answer but the next turn.
//!
//! Both ends of the socket belong to this loop, so that one of them is always about to be ready: it is as busy as a
//! loop can be, and a tick is a ping that came back.
//!
//! `cargo run --release --example mio -- [workers|caller] [mib=256] [piece_kib=4] [budget_kib=128] [rounds=7]`
#![expect(unsafe_code, reason = "pushes entries")]

pub(crate) mod gaps;

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use memring::Sqe;
use memring::queue::{Arm, PushError, QueuePair, SubmissionQueue};
use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use gaps::{Buffers, Figures, Gaps, Mode, Options, Outcome, Round, Work};

/// What can be under way, and what one turn of the loop submits at the most: pushing takes time too.
const ENTRIES: usize = 4096;
const FEED: usize = 256;

const QUEUE: Token = Token(0);
const NEAR: Token = Token(1);
const FAR: Token = Token(2);

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    for &mode in &options.modes {
        gaps::print("mio", mode, &options, &run(mode, &options)?);
    }
    Ok(())
}

pub(crate) fn run(mode: Mode, options: &Options) -> Result<Vec<Round>, Box<dyn Error>> {
    gaps::rounds(options, |buffers| copy(mode, options, buffers), without_queue)
}

/// The loop with a queue in it.
fn copy(mode: Mode, options: &Options, buffers: &mut Buffers) -> Result<Outcome, Box<dyn Error>> {
    let workers = if mode == Mode::Workers { 1 } else { 0 };
    let builder = QueuePair::builder().entries(ENTRIES).workers(workers).poll_budget(options.budget);
    let (mut sq, mut cq) = builder.build()?.split();
    let pieces = buffers.pieces(options.piece);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    poll.registry().register(&mut SourceFd(&cq.as_raw_fd()), QUEUE, Interest::READABLE)?;
    let mut game = Game::new(&poll)?;

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
        let timeout = match cq.arm() {
            Arm::Armed => None,
            // Completions, or copies that only the next drain does: look at the other events, and come back.
            Arm::NotEmpty | Arm::MustPoll => Some(Duration::ZERO),
        };
        wait(&mut poll, &mut events, timeout)?;
        gaps.look();
        for event in &events {
            // The queue's own event needs no answer: the next turn drains.
            if event.token() != QUEUE && game.play(event.token())? {
                gaps.tick();
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
fn without_queue(work: Work<'_>) -> Result<Figures, Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let mut game = Game::new(&poll)?;
    let mut gaps = Gaps::begin();
    while work(gaps.wall()) {
        wait(&mut poll, &mut events, None)?;
        gaps.look();
        for event in &events {
            if game.play(event.token())? {
                gaps.tick();
            }
        }
    }
    Ok(gaps.end())
}

fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        // A signal: the loop comes round again. The events are cleared then.
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// Ping-pong: the near end sends a byte, the far end sends it back.
struct Game {
    near: UnixStream,
    far: UnixStream,
}

impl Game {
    fn new(poll: &Poll) -> io::Result<Self> {
        let (mut near, mut far) = UnixStream::pair()?;
        poll.registry().register(&mut near, NEAR, Interest::READABLE)?;
        poll.registry().register(&mut far, FAR, Interest::READABLE)?;
        near.write_all(&[0])?;
        Ok(Self { near, far })
    }

    /// Answers whoever has come in at this end, if anyone has; whether that was a ping that came back.
    fn play(&mut self, end: Token) -> io::Result<bool> {
        let stream = if end == NEAR { &mut self.near } else { &mut self.far };
        let mut byte = [0];
        let mut has_come = false;
        // Edge-triggered: until there is no more.
        loop {
            match stream.read(&mut byte) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => has_come = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if has_come {
            stream.write_all(&byte)?;
        }
        Ok(has_come && end == NEAR)
    }
}
