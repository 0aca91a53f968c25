//! Goal: an operation that is done in parts ends once, with its last part, whoever does which in whatever order, and
//! what went wrong nearest to its start is told then.
//!
//! Method: random calls on splits and on a map of what is left, side by side, in one thread. Then four threads share
//! operations as drivers do: the right to go on travels through a lane.
#![cfg(not(memring_loom))]

#[path = "../../tests/support/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memring_ring::{Lane, Splits};
use proptest::collection::vec;
use proptest::prelude::*;
use watchdog::must_end;

#[derive(Clone, Debug)]
enum Call {
    Begin(u64),
    /// Of one of those under way.
    Blame(usize, u64, u8),
    /// Of one of those under way, so much or what is left.
    Finish(usize, u64),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        1 => prop_oneof![Just(1), 1..100_u64, Just(u64::MAX)].prop_map(Call::Begin),
        1 => (0..6_usize, prop_oneof![0..4_u64, Just(1 << 60)], any::<u8>())
            .prop_map(|(which, offset, kind)| Call::Blame(which, offset, kind)),
        3 => (0..6_usize, prop_oneof![1..60_u64, Just(u64::MAX)]).prop_map(|(which, len)| Call::Finish(which, len)),
    ]
}

/// What should be known of an operation.
struct Operation {
    number: u64,
    left: u64,
    worst: Option<(u64, u8)>,
}

/// Where operations begin: high up, and the first one low down.
fn start(number: u64) -> u64 {
    if number == 0 { 5 } else { (1 << 63) + number }
}

/// The most that is told of a distance.
const FAR: u64 = u64::MAX >> 8;

fn pick(model: &BTreeMap<u32, Operation>, which: usize) -> Option<u32> {
    model.keys().nth(which).copied()
}

proptest! {
    #[test]
    fn splits_count_down(room in 0..6_usize, calls in vec(call(), 1..80)) {
        let splits = Splits::<1>::new(room);
        let mut model = BTreeMap::new();
        for (call, number) in calls.into_iter().zip(0..) {
            match call {
                Call::Begin(len) => {
                    let key = splits.begin([number], start(number), len);
                    prop_assert_eq!(key.is_none(), model.len() == room, "there is room or there is not");
                    if let Some(key) = key {
                        let before = model.insert(key, Operation { number, left: len, worst: None });
                        prop_assert!(before.is_none(), "the key was given already");
                    }
                }
                Call::Blame(which, offset, kind) => if let Some(key) = pick(&model, which) {
                    let operation = model.get_mut(&key).expect("it is under way");
                    splits.blame(key, start(operation.number).wrapping_add(offset), kind);
                    let trouble = (offset.min(FAR), if offset < FAR { kind } else { kind.min(254) });
                    operation.worst = Some(operation.worst.map_or(trouble, |worst| worst.min(trouble)));
                },
                Call::Finish(which, len) => if let Some(key) = pick(&model, which) {
                    let operation = model.get_mut(&key).expect("it is under way");
                    let len = len.min(operation.left);
                    operation.left -= len;
                    let end = (operation.left == 0).then_some(([operation.number], operation.worst));
                    if end.is_some() {
                        model.remove(&key);
                    }
                    prop_assert_eq!(splits.finish::<[u64; 1]>(key, len), end);
                },
            }
            for (key, operation) in &model {
                prop_assert_eq!(splits.is_troubled(*key), operation.worst.is_some());
            }
        }
    }
}

const THREADS: u64 = 4;
const ROOM: usize = 6;
const PART: u64 = 10;

/// Operations that each thread begins.
fn operations() -> u64 {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 200_000 } else { 5_000 }
}

/// What belongs to an operation's number: its length, and whether something goes wrong in the part that begins here.
fn len(number: u64) -> u64 {
    1 + number % 177
}

fn is_trouble(number: u64, at: u64) -> bool {
    (number ^ (at / PART)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0
}

struct World {
    splits: Splits<1>,
    /// Operations that go on: key, number, where.
    lane: Lane<3>,
    /// By number, how much of it was done.
    done: Vec<AtomicU64>,
    left: AtomicU64,
}

impl World {
    /// Begins operations and does parts of all, until all have ended; returns the numbers of those that ended here.
    fn run(&self, thread: u64) -> Vec<u64> {
        let (mut begun, mut ended) = (0, Vec::new());
        while self.left.load(Ordering::Relaxed) > 0 {
            let number = begun * THREADS + thread;
            let key = if begun < operations() { self.splits.begin([number], start(number), len(number)) } else { None };
            if let Some(key) = key {
                self.lane.push_batch(&[[u64::from(key), number, 0]]);
                begun += 1;
            }
            let mut popped = [[0; 3]; 2];
            let (count, _) = self.lane.pop(&mut popped, u64::MAX, |_| 0);
            popped[..count].iter().for_each(|&popped| ended.extend(self.go_on(popped)));
            if count == 0 && key.is_none() {
                thread::yield_now();
            }
        }
        ended
    }

    /// Does the next part of an operation; its number if that has ended it.
    fn go_on(&self, [word, number, at]: [u64; 3]) -> Option<u64> {
        let key = u32::try_from(word).expect("a key");
        let part = PART.min(len(number) - at);
        if at + part < len(number) {
            self.lane.push_batch(&[[word, number, at + part]]);
        }
        if is_trouble(number, at) {
            self.splits.blame(key, start(number) + at, 3);
        }
        // Ordering: Relaxed; that the last one knows it is what the splits are for.
        self.done[usize::try_from(number).expect("an index")].fetch_add(part, Ordering::Relaxed);
        let (whole, worst) = self.splits.finish::<[u64; 1]>(key, part)?;
        assert_eq!(whole, [number]);
        let first = (0..len(number)).find(|&at| at % PART == 0 && is_trouble(number, at));
        assert_eq!(worst, first.map(|at| (at, 3)));
        assert_eq!(self.done[usize::try_from(number).expect("an index")].load(Ordering::Relaxed), len(number));
        self.left.fetch_sub(1, Ordering::Relaxed);
        Some(number)
    }
}

/// A count that is lost is an end that never comes.
#[test]
fn threads_share_operations() {
    let all = THREADS * operations();
    let mut ended = must_end(move || {
        let done = (0..all).map(|_| AtomicU64::new(0)).collect();
        let world = World { splits: Splits::new(ROOM), lane: Lane::new(ROOM), done, left: AtomicU64::new(all) };
        let world = &world;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || world.run(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect::<Vec<u64>>()
        })
    });
    ended.sort_unstable();
    assert!(ended.into_iter().eq(0..all), "each operation ends once");
}
