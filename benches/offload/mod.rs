//! Having a second thread copy: memring's way, and those of its peers.
//!
//! The work of a round is a list of [`Piece`]s; what cannot be cut (one large copy) is one piece, which the peers get
//! in halves. Everybody may use two threads, and everybody but memring and the streamed ones copies by libc's routines.
//!
//! | contestant | what a round does |
//! |---|---|
//! | loop | one thread, piece by piece: what all are compared to |
//! | memring, one worker | `push_batch`, `submit`, `wait` for all, which helps: two threads; `drain` |
//! | memring, no thread | the same by the caller alone: `workers(0)` |
//! | memring, inline | likewise, and all goes to [`INLINE`]: `submit` has done it when it returns |
//! | rayon | `par_chunks` on a pool of two threads, up to 32 pieces a chunk |
//! | crossbeam | an `ArrayQueue` of pieces that a spinning thread empties, and the caller; another for the answers |
//! | two halves | one spinning thread does the second half, the caller the first: nothing is shared, nothing balanced |
//! | two halves, streamed | the same past the cache, where no cache holds it: about what two threads can do here |
//! | loop, streamed | likewise by one thread |
//! | tokio | a `spawn_blocking` a piece, on at most two threads; all are awaited |
#![expect(unsafe_code, reason = "copies between addresses, on several threads")]

#[cfg(target_arch = "x86_64")]
mod streamed;

use std::hint::{black_box, spin_loop};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_queue::ArrayQueue;
use memring::queue::{CompletionQueue, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Sqe, WORKERS};
use rayon::prelude::*;

use crate::contest::{Contestant, Entry};

const PAGE: usize = 4096;
/// Between the end of the sources and the destinations: an odd number of cache lines, so that no low bits are equal.
const GAP: usize = 65 * PAGE + 33 * 64;
/// Pieces that a thread of rayon takes together at the most: as many as a driver of memring.
const CHUNK: usize = 32;
/// What is written over the destination before a contestant begins, where its work is checked.
const SPOILT: u8 = 0xee;

/// A part of the work: a copy, or a set where there is no source.
#[derive(Clone, Copy, Debug)]
struct Piece {
    dst: *mut u8,
    src: Option<*const u8>,
    value: u8,
    len: usize,
}

// SAFETY: it is two addresses; using them is unsafe by itself.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

/// How a thread does a piece. Unsafe: as [`Piece::execute`].
type Execute = unsafe fn(&Piece);

impl Piece {
    /// Does it by the plain routine.
    ///
    /// # Safety
    ///
    /// Its memory is there, and nobody else uses it now.
    #[inline]
    unsafe fn execute(&self) {
        // Nobody knows a length before it runs, so nobody's copy becomes a few vector moves.
        let len = black_box(self.len);
        match self.src {
            // SAFETY: the caller's contract; a source lies apart from its destination.
            Some(src) => unsafe { self.dst.copy_from_nonoverlapping(src, len) },
            // SAFETY: the caller's contract.
            None => unsafe { self.dst.write_bytes(black_box(self.value), len) },
        }
    }

    fn sqe(&self, mover: MoverId) -> Sqe {
        let sqe = match self.src {
            Some(src) => Sqe::memcpy(self.dst, src, self.len),
            None => Sqe::memset(self.dst, self.value, self.len),
        };
        sqe.on(mover)
    }

    /// This piece in two.
    fn halves(self) -> [Self; 2] {
        let (first, second) = (self.len / 2, self.len - self.len / 2);
        let at = |at: usize, len| Self {
            dst: self.dst.wrapping_add(at),
            src: self.src.map(|src| src.wrapping_add(at)),
            len,
            ..self
        };
        [at(0, first), at(first, second)]
    }
}

/// Memory that was written all over, so that every page is there: a source, and a destination off its low bits.
///
/// It is never freed: a benchmark ends with its process.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    src: *const u8,
    dst: *mut u8,
    len: usize,
}

impl Memory {
    pub(crate) fn new(len: usize) -> Self {
        let memory = (0..=250).cycle().take(PAGE + 2 * len + GAP).collect::<Vec<u8>>().leak();
        let begin = memory.as_ptr().align_offset(PAGE);
        // One pointer for both, so that making the second does not end the first.
        let src = memory[begin..].as_mut_ptr();
        Self { src, dst: src.wrapping_add(len + GAP), len }
    }
}

/// The work of a round. Contestants do it in turns, one at a time.
pub(crate) struct Work {
    /// As memring gets it.
    pieces: Vec<Piece>,
    /// As its peers get it.
    cut: Vec<Piece>,
}

impl Work {
    /// Copies all of the memory, so many bytes at a time; or sets it to a value, if there is one.
    ///
    /// A single piece is what cannot be cut: the peers get it in halves.
    pub(crate) fn new(memory: Memory, len: usize, value: Option<u8>) -> Self {
        let piece = |at| Piece {
            dst: memory.dst.wrapping_add(at),
            src: value.is_none().then(|| memory.src.wrapping_add(at)),
            value: value.unwrap_or_default(),
            len,
        };
        let pieces: Vec<Piece> = (0..memory.len).step_by(len).map(piece).collect();
        let cut = if let [piece] = pieces[..] { piece.halves().to_vec() } else { pieces.clone() };
        Self { pieces, cut }
    }

    /// Bytes whose arrival is checked, and what they must become.
    fn probes(&self) -> impl Iterator<Item = (*mut u8, u8)> {
        let pieces = [0, self.cut.len() / 2, self.cut.len() - 1].map(|index| self.cut[index]);
        pieces.into_iter().flat_map(|piece| [0, piece.len / 2, piece.len - 1].map(|at| (piece, at))).map(
            |(piece, at)| {
                // SAFETY: it lies in leaked memory, and no contestant is at work.
                let source = piece.src.map(|src| unsafe { src.wrapping_add(at).read() });
                (piece.dst.wrapping_add(at), source.unwrap_or(piece.value))
            },
        )
    }

    /// Makes sure that [`check`](Work::check) fails until the work was done again.
    fn spoil(&self) {
        for (byte, _) in self.probes() {
            // SAFETY: it lies in leaked memory, and no contestant is at work.
            unsafe { byte.write(SPOILT) };
        }
    }

    fn check(&self) {
        for (byte, expected) in self.probes() {
            // SAFETY: as above.
            assert_eq!(unsafe { byte.read() }, expected, "not done");
        }
    }
}

/// All contestants for this work. The first is the one that the others are compared to.
pub(crate) fn contestants(first: &'static str, work: Work) -> Vec<Entry> {
    let work = Rc::new(work);
    let entry = |name, start: fn(&Rc<Work>) -> Box<dyn Round>| {
        let work = Rc::clone(&work);
        Entry::new(name, move || {
            work.spoil();
            Offload { rounds: start(&work), work: Rc::clone(&work) }
        })
    };
    Vec::from([
        entry(first, |work| Box::new(Loop(work.pieces.clone(), Piece::execute))),
        entry("memring, one worker", |work| Box::new(Memring::new(&work.pieces, 1, WORKERS))),
        entry("memring, no thread", |work| Box::new(Memring::new(&work.pieces, 0, WORKERS))),
        entry("memring, inline", |work| Box::new(Memring::new(&work.pieces, 0, INLINE))),
        entry("rayon", |work| Box::new(Rayon::new(&work.cut))),
        entry("crossbeam", |work| Box::new(Crossbeam::new(&work.cut))),
        entry("two halves", |work| Box::new(Halves::new(&work.cut, Piece::execute))),
        #[cfg(target_arch = "x86_64")]
        entry("two halves, streamed", |work| Box::new(Halves::new(&work.cut, streamed::execute))),
        #[cfg(target_arch = "x86_64")]
        entry("loop, streamed", |work| Box::new(Loop(work.pieces.clone(), streamed::execute))),
        entry("tokio", |work| Box::new(Tokio::new(&work.cut))),
    ])
}

/// A way to do the work.
trait Round {
    fn round(&mut self);

    /// Panics if memring says that somebody else did it.
    fn check(&self) {}
}

struct Offload {
    rounds: Box<dyn Round>,
    work: Rc<Work>,
}

impl Contestant for Offload {
    fn round(&mut self) {
        self.rounds.round();
    }

    fn check(&mut self) {
        self.rounds.check();
        self.work.check();
    }
}

struct Loop(Vec<Piece>, Execute);

impl Round for Loop {
    fn round(&mut self) {
        for piece in &self.0 {
            // SAFETY: leaked memory, and nobody else is at work.
            unsafe { (self.1)(piece) };
        }
    }
}

struct Memring {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    batch: Vec<Sqe>,
    mover: MoverId,
    rounds: u64,
}

impl Memring {
    fn new(pieces: &[Piece], workers: usize, mover: MoverId) -> Self {
        let pair = QueuePair::builder().entries(pieces.len()).workers(workers).build();
        let (sq, cq) = pair.expect("a queue pair").split();
        Self { sq, cq, batch: pieces.iter().map(|piece| piece.sqe(mover)).collect(), mover, rounds: 0 }
    }
}

impl Round for Memring {
    fn round(&mut self) {
        let count = self.batch.len();
        // SAFETY: leaked memory, in pieces that do not overlap, and nobody else is at work until all is reaped.
        unsafe { self.sq.push_batch(&self.batch) }.expect("room for a batch");
        self.sq.submit();
        assert_eq!(self.cq.wait(count, None), Ok(count));
        for cqe in self.cq.drain() {
            assert!(cqe.status().is_success());
        }
        self.rounds += 1;
    }

    fn check(&self) {
        let stats = self.cq.stats();
        assert_eq!(stats.mover(self.mover).operations, self.rounds * self.batch.len() as u64, "lost: {stats:?}");
    }
}

struct Rayon {
    pool: rayon::ThreadPool,
    pieces: Vec<Piece>,
}

impl Rayon {
    fn new(pieces: &[Piece]) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
        Self { pool, pieces: pieces.to_vec() }
    }
}

impl Round for Rayon {
    fn round(&mut self) {
        let pieces = &self.pieces;
        let chunk = (pieces.len() / 2).clamp(1, CHUNK);
        self.pool.install(|| {
            pieces.par_chunks(chunk).flat_map_iter(|chunk| chunk).for_each(|piece| {
                // SAFETY: leaked memory, in pieces that do not overlap, and nobody else is at work.
                unsafe { piece.execute() };
            });
        });
    }
}

/// A thread of a peer, which is told to end before it is joined.
struct Peer(Option<JoinHandle<()>>);

impl Peer {
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(thread::spawn(body)))
    }

    fn join(&mut self) {
        if let Some(thread) = self.0.take() {
            thread.join().expect("the peer's thread");
        }
    }
}

/// What a peer's thread is told: work on this, or, if nothing, end.
type Told<T> = Option<T>;

struct Crossbeam {
    there: Arc<ArrayQueue<Told<Piece>>>,
    back: Arc<ArrayQueue<()>>,
    pieces: Vec<Piece>,
    peer: Peer,
}

impl Crossbeam {
    fn new(pieces: &[Piece]) -> Self {
        let (there, back) = (Arc::new(ArrayQueue::new(pieces.len())), Arc::new(ArrayQueue::new(pieces.len())));
        let (inbox, outbox) = (Arc::clone(&there), Arc::clone(&back));
        let peer = Peer::spawn(move || {
            loop {
                let told: Option<Told<Piece>> = inbox.pop();
                match told {
                    None => spin_loop(),
                    Some(None) => return,
                    Some(Some(piece)) => {
                        // SAFETY: leaked memory, in pieces that do not overlap; each is popped once.
                        unsafe { piece.execute() };
                        outbox.push(()).expect("room for all answers");
                    }
                }
            }
        });
        Self { there, back, pieces: pieces.to_vec(), peer }
    }
}

impl Round for Crossbeam {
    fn round(&mut self) {
        for piece in &self.pieces {
            self.there.push(Some(*piece)).expect("room for all pieces");
        }
        let mut done = 0;
        while done < self.pieces.len() {
            if let Some(piece) = self.there.pop().flatten() {
                // SAFETY: leaked memory, in pieces that do not overlap; each is popped once.
                unsafe { piece.execute() };
                done += 1;
            } else if self.back.pop().is_some() {
                done += 1;
            } else {
                spin_loop();
            }
        }
    }
}

impl Drop for Crossbeam {
    fn drop(&mut self) {
        while self.there.push(None).is_err() {
            spin_loop();
        }
        self.peer.join();
    }
}

struct Halves {
    execute: Execute,
    there: Arc<ArrayQueue<Told<()>>>,
    back: Arc<ArrayQueue<()>>,
    first: Vec<Piece>,
    peer: Peer,
}

impl Halves {
    fn new(pieces: &[Piece], execute: Execute) -> Self {
        let (first, second) = pieces.split_at(pieces.len() / 2);
        let (first, second) = (first.to_vec(), second.to_vec());
        let (there, back) = (Arc::new(ArrayQueue::new(1)), Arc::new(ArrayQueue::new(1)));
        let (inbox, outbox) = (Arc::clone(&there), Arc::clone(&back));
        let peer = Peer::spawn(move || {
            loop {
                let told: Option<Told<()>> = inbox.pop();
                match told {
                    None => spin_loop(),
                    Some(None) => return,
                    Some(Some(())) => {
                        for piece in &second {
                            // SAFETY: leaked memory, and the other half is another's.
                            unsafe { execute(piece) };
                        }
                        outbox.push(()).expect("room for the answer");
                    }
                }
            }
        });
        Self { execute, there, back, first, peer }
    }
}

impl Round for Halves {
    fn round(&mut self) {
        self.there.push(Some(())).expect("the last round has ended");
        for piece in &self.first {
            // SAFETY: leaked memory, and the other half is another's.
            unsafe { (self.execute)(piece) };
        }
        while self.back.pop().is_none() {
            spin_loop();
        }
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.there.push(None).expect("the last round has ended");
        self.peer.join();
    }
}

struct Tokio {
    runtime: tokio::runtime::Runtime,
    pieces: Vec<Piece>,
}

impl Tokio {
    fn new(pieces: &[Piece]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(2).build();
        Self { runtime: runtime.expect("a runtime"), pieces: pieces.to_vec() }
    }
}

impl Round for Tokio {
    fn round(&mut self) {
        let spawn = |piece: Piece| {
            self.runtime.spawn_blocking(move || {
                // SAFETY: leaked memory, in pieces that do not overlap; the round ends after all of them.
                unsafe { piece.execute() };
            })
        };
        let spawned: Vec<_> = self.pieces.iter().copied().map(spawn).collect();
        self.runtime.block_on(async {
            for done in spawned {
                done.await.expect("a copy does not panic");
            }
        });
    }
}
