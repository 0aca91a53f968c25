//! Group commit: flushes that are acknowledged by an fsync which began after they had come.
//!
//! Two submitters store a page each, and push a flush. The mover gathers what has come into a group, hands it to the
//! kernel, which reads the pages and writes the disk, and acknowledges the group when that is done. The pages are
//! atomics here: the kernel may read one while it is stored to, as it does.

use loom::sync::Mutex;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use loom_tests::Fault::{Ring, Step};
use loom_tests::{Event, Model, RACE, is_faulty, lock, play};
use memring_ring::Lane;
use memring_ring::sync::Mutant;

pub(crate) const MODELS: &[Model] = &[Model {
    name: "group::commit",
    bound: 2,
    body: commit,
    catches: &[
        (Step(JOINS_LATE), NOT_THERE),
        (Step(ENDS_MORE), NOT_THERE),
        (Ring(Mutant::LanePublish), RACE),
        (Ring(Mutant::LaneObserve), RACE),
    ],
}];

const JOINS_LATE: &str = "a flush joins the fsync that is under way";
const ENDS_MORE: &str = "an fsync that is over acknowledges those who wait for the next";
const NOT_THERE: &str = "acknowledged, and not on the disk";

struct World {
    pages: [AtomicU64; 2],
    disk: [AtomicU64; 2],
    lane: Lane<1>,
    /// For the mover: something has come, or is over.
    news: Event,
    /// For the kernel: an fsync, or nothing more.
    fsync: Event,
    is_over: Mutex<bool>,
    is_end: Mutex<bool>,
}

impl World {
    fn new() -> Self {
        Self {
            pages: [AtomicU64::new(0), AtomicU64::new(0)],
            disk: [AtomicU64::new(0), AtomicU64::new(0)],
            lane: Lane::new(2),
            news: Event::new(),
            fsync: Event::new(),
            is_over: Mutex::new(false),
            is_end: Mutex::new(false),
        }
    }

    fn submit(&self, id: usize) {
        self.pages[id].store(1, Relaxed); // Ordering: the lane's publication orders it.
        self.lane.push_batch(&[[id as u64]]);
        self.news.signal();
    }

    fn kernel(&self) {
        loop {
            self.fsync.wait();
            if *lock(&self.is_end) {
                return;
            }
            for (page, disk) in self.pages.iter().zip(&self.disk) {
                disk.store(page.load(Relaxed), Relaxed); // Ordering: who has begun the fsync has claimed the flush.
            }
            *lock(&self.is_over) = true;
            self.news.signal();
        }
    }

    fn mover(&self) {
        let (mut open, mut syncing, mut acknowledged) = (Vec::new(), Vec::new(), 0);
        while acknowledged < 2 {
            self.news.wait();
            let mut entries = [[0]; 2];
            let (count, _) = self.lane.pop(&mut entries, u64::MAX, |_| 1);
            for [id] in &entries[..count] {
                let joins_late = is_faulty(JOINS_LATE) && !syncing.is_empty();
                if joins_late { &mut syncing } else { &mut open }.push(usize::try_from(*id).expect("a few"));
            }
            if std::mem::take(&mut *lock(&self.is_over)) {
                if is_faulty(ENDS_MORE) {
                    syncing.append(&mut open);
                }
                for id in syncing.drain(..) {
                    assert_eq!(self.disk[id].load(Relaxed), 1, "{NOT_THERE}"); // Ordering: the lock of `is_over`.
                    acknowledged += 1;
                }
            }
            if syncing.is_empty() && !open.is_empty() {
                syncing.append(&mut open);
                self.fsync.signal();
            }
        }
        *lock(&self.is_end) = true;
        self.fsync.signal();
    }
}

/// Hunts a flush that is acknowledged though the fsync had passed its page before the store (hard: the fsync under way
/// looks as if it would do).
fn commit() {
    play(World::new(), &[World::mover, World::kernel, |world| world.submit(0), |world| world.submit(1)], |_| ());
}
