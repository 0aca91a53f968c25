//! Goal: with the feature `check-overlap`, a push finds an entry that uses memory which another one uses at the same
//! time, names both, and refuses nothing else. Method: thousands of entries in flight, held by a mover that ends them
//! when the test says so, with overlaps planted among them; and every way in which two entries may share memory.
#![expect(unsafe_code, reason = "pushes are unsafe")]

#[path = "support/random.rs"]
mod random;

use std::sync::{Arc, Mutex, PoisonError};

use memring::mover::{Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue};
use memring::{INLINE, MoverId, Opcode, Sqe, Status};
use random::{Random, seed};

const PIECES: usize = 10_000;
const PIECE: usize = 64;

/// Keeps what it claims until it may end it. It touches no memory.
struct Holder {
    held: Vec<Kept>,
    may_end: Arc<Mutex<bool>>,
}

// SAFETY: it touches no memory, and ends every token once.
unsafe impl DataMover for Holder {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&Opcode::ALL).claim_together(32)
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        while let Some(claimed) = lane.claim().map(Claimed::keep) {
            self.held.push(claimed);
        }
        if *self.may_end.lock().expect("nobody panics") {
            self.held.drain(..).for_each(|token| done.complete(token, Status::SUCCESS));
        }
        if self.held.is_empty() { Progress::Idle } else { Progress::Waiting }
    }
}

/// A queue whose operations are in flight until they may end, and two areas of memory that they name.
struct Scene {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    holder: MoverId,
    may_end: Arc<Mutex<bool>>,
    areas: [Vec<u8>; 2],
}

impl Scene {
    fn new() -> Self {
        let may_end = Arc::new(Mutex::new(false));
        let handle = Arc::clone(&may_end);
        let make = move || Holder { held: Vec::new(), may_end: Arc::clone(&handle) };
        let builder = QueuePair::builder().entries(16_384).workers(0).mover("holder", Drive::Caller, make);
        let pair = builder.build().expect("a queue");
        let holder = pair.mover("holder").expect("it was just added");
        let (sq, cq) = pair.split();
        Self { sq, cq, holder, may_end, areas: [vec![0; PIECES * PIECE], vec![0; PIECES * PIECE]] }
    }

    /// The address of an offset in an area.
    fn at(&mut self, area: usize, offset: usize) -> *mut u8 {
        self.areas[area].as_mut_ptr().wrapping_add(offset)
    }

    fn copy(&mut self, dst: usize, src: usize, len: usize) -> Sqe {
        Sqe::memcpy(self.at(0, dst), self.at(1, src), len)
    }

    fn push(&mut self, sqe: Sqe) -> Result<(), PushError> {
        // SAFETY: the areas live as long as the queue, and the mover touches no memory.
        unsafe { self.sq.push(sqe.on(self.holder)) }
    }

    fn accepts(&mut self, sqe: Sqe) {
        self.push(sqe).expect("it uses nothing that is in use");
    }

    fn refuses(&mut self, sqe: Sqe, because_of: u64) {
        let refused = self.push(sqe).expect_err("it uses what is in use");
        let PushError::InUse(refused_sqe, other) = refused else { panic!("another error: {refused}") };
        assert_eq!((refused_sqe.data(), other.data()), (sqe.data(), because_of), "{refused}");
        assert_eq!(refused.into_sqe().len(), sqe.len());
    }

    fn submit(&mut self) {
        self.sq.submit();
        assert_eq!(self.cq.drain().count(), 0, "all are held");
    }

    fn end_all(&mut self) {
        *self.may_end.lock().expect("nobody panics") = true;
        while self.cq.in_flight() > 0 {
            self.cq.drain().for_each(drop);
        }
        self.cq.drain().for_each(drop);
        *self.may_end.lock().expect("nobody panics") = false;
    }
}

/// A test that fails must not hang: the queue waits for what is held.
impl Drop for Scene {
    fn drop(&mut self) {
        *self.may_end.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

#[test]
fn planted_among_ten_thousand() {
    let mut scene = Scene::new();
    for index in 0..PIECES {
        let sqe = scene.copy(index * PIECE, index * PIECE, PIECE).user_data(index as u64);
        scene.accepts(sqe);
        if index % 1000 == 0 {
            scene.submit();
        }
    }
    scene.submit();
    assert_eq!(scene.cq.in_flight(), PIECES as u64);

    let mut random = Random::new(seed());
    for _ in 0..500 {
        let piece = random.below(PIECES);
        let (within, data) = (piece * PIECE + random.below(PIECE), piece as u64);
        let byte = scene.at(0, within);
        scene.refuses(Sqe::memset(byte, 1, 1).user_data(50_000), data);
        // Read where it is written, and written where it is read.
        let elsewhere = vec![0_u8; 1].leak().as_mut_ptr();
        scene.refuses(Sqe::memcpy(elsewhere, byte, 1).user_data(50_001), data);
        let source = scene.at(1, within);
        scene.refuses(Sqe::memcpy(source, elsewhere, 1).user_data(50_002), data);
        scene.refuses(Sqe::flush(byte, 1).user_data(50_003), data);
        // Two that read do no harm to each other.
        scene.accepts(Sqe::memcpy(elsewhere, source, 1).user_data(50_004));
    }
    scene.submit();

    scene.end_all();
    let all = scene.at(0, 0);
    scene.accepts(Sqe::memset(all, 1, PIECES * PIECE));
    scene.submit();
    scene.end_all();
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let mut scene = Scene::new();
    let [first, second, third] = [0, 64, 96].map(|at| scene.copy(at, at, PIECE).user_data(at as u64).on(scene.holder));
    // SAFETY: the areas live as long as the queue, and the mover touches no memory.
    let refused = unsafe { scene.sq.push_batch(&[first, second, third]) }.expect_err("the last two overlap");
    assert!(matches!(refused, PushError::InUse(sqe, other) if (sqe.data(), other.data()) == (96, 64)), "{refused}");
    assert_eq!(scene.sq.staged(), 0);
    // Nothing of it is in use, and no credit is lost.
    for _ in 0..3 {
        // SAFETY: as above.
        unsafe { scene.sq.push_batch(&[second, first]) }.expect("nothing is in use");
        scene.submit();
        scene.end_all();
    }
}

#[test]
fn what_a_chain_or_a_barrier_orders_may_share() {
    let mut scene = Scene::new();
    let entry = |scene: &mut Scene, data| scene.copy(0, 0, PIECE).user_data(data);
    let sqe = entry(&mut scene, 1);
    scene.accepts(sqe.link());
    scene.accepts(sqe.user_data(2).hard_link());
    scene.accepts(sqe.user_data(3));
    // Not of the chain any more.
    scene.refuses(sqe.user_data(4), 1);
    scene.accepts(sqe.user_data(5).drain());
    scene.accepts(sqe.user_data(6));
    scene.refuses(sqe.user_data(7), 6);
    scene.submit();
    scene.refuses(sqe.user_data(8), 6);
    scene.end_all();
    // A chain does not reach over a submit.
    let sqe = entry(&mut scene, 9);
    scene.accepts(sqe.link());
    scene.submit();
    scene.refuses(sqe.user_data(10), 9);
    scene.end_all();
    // A chain that is a barrier parts what is before it from what is after it.
    let sqe = entry(&mut scene, 11);
    scene.accepts(sqe);
    scene.accepts(sqe.user_data(12).drain().link());
    scene.accepts(sqe.user_data(13));
    scene.accepts(sqe.user_data(14));
    scene.refuses(sqe.user_data(15), 14);
    scene.submit();
    scene.end_all();
}

#[test]
fn a_barrier_parts_what_other_queues_push_too() {
    let mut scene = Scene::new();
    let sqe = scene.copy(0, 0, PIECE);
    let mut other = scene.sq.clone();
    scene.accepts(sqe.user_data(1));
    scene.accepts(sqe.user_data(2).drain());
    scene.submit();
    // SAFETY: the same memory, which the barrier parts.
    unsafe { other.push(sqe.user_data(3).on(scene.holder)) }.expect("it is behind the barrier");
    scene.refuses(sqe.user_data(4), 3);
    other.submit();
    scene.end_all();
}

#[test]
fn ends_of_every_kind_give_the_memory_back() {
    let mut scene = Scene::new();
    let sqe = scene.copy(0, 0, PIECE);
    let (holder, kinds) = (scene.holder, [sqe, sqe.skip_success(), sqe.coalesce(), sqe.link(), sqe.drain()]);
    for on in [INLINE, memring::WORKERS, holder] {
        for kind in kinds {
            // SAFETY: the areas live as long as the queue, and nobody else touches them.
            unsafe { scene.sq.push(kind.on(on)) }.expect("nothing is in use");
            scene.sq.submit();
            scene.end_all();
        }
    }
    // Cancelled, discarded, and done in parts.
    scene.accepts(sqe.user_data(70));
    scene.sq.submit();
    assert_eq!(scene.cq.cancel(70), 1);
    scene.end_all();
    let mut long = [vec![0_u8; 3 << 20], vec![7_u8; 3 << 20]];
    let [dst, src] = &mut long;
    let whole = Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 3 << 20);
    for _ in 0..2 {
        // SAFETY: both buffers live until the operation has ended.
        unsafe { scene.sq.push(whole) }.expect("nothing is in use");
        scene.sq.submit();
        scene.end_all();
    }
    assert_eq!(long[0], long[1]);
    scene.accepts(sqe);
    scene.cq.shutdown(None).expect("this process owns it");
    assert_eq!(scene.sq.submit(), 0, "discarded");
}

#[test]
fn what_touches_and_does_not_overlap_is_fine() {
    let mut scene = Scene::new();
    let mut random = Random::new(seed());
    for round in 0..20 {
        let mut at = 0;
        while at < 4096 {
            let len = random.below(64);
            let sqe = scene.copy(at, at, len).user_data(round);
            scene.accepts(sqe);
            at += len;
        }
        scene.submit();
        scene.end_all();
    }
}

#[test]
fn a_refused_batch_leaves_no_barrier_behind() {
    let mut scene = Scene::new();
    let (sqe, holder) = (scene.copy(0, 0, PIECE).user_data(1), scene.holder);
    scene.accepts(sqe);
    scene.refuses(sqe.user_data(2), 1);
    let twice = scene.copy(PIECE, PIECE, PIECE).user_data(3).on(holder);
    // SAFETY: the areas live as long as the queue, and the mover touches no memory.
    unsafe { scene.sq.push_batch(&[Sqe::nop().on(holder).drain(), twice, twice]) }.expect_err("the last two overlap");
    scene.refuses(sqe.user_data(4), 1);
    scene.submit();
    scene.end_all();
}
