//! Goal: a table gives back what was put under a key, once, and says that it was marked if and only if a mark has
//! counted it.
//!
//! Method: random calls on a table and on a map, side by side, in one thread. A mark is also stopped between its look
//! at an entry and its claim, by an `is_wanted` that calls the table again: what happens there is what others could do
//! meanwhile. Then four threads hand keys to each other, and mark what they find.
#![cfg(not(memring_loom))]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memring_ring::{Lane, Table};
use proptest::collection::vec;
use proptest::prelude::*;

/// A number of its own, and a kind.
type Entry = [u64; 2];

const KINDS: u64 = 3;

#[derive(Clone, Debug)]
enum Call {
    Put,
    /// Takes one of those that are there.
    Take(usize),
    /// Marks a kind; after the first look at an entry, these calls come in between.
    Mark {
        kind: u64,
        between: Vec<Call>,
    },
}

fn call() -> impl Strategy<Value = Call> {
    let mark = 0..KINDS;
    let plain = prop_oneof![
        3 => Just(Call::Put),
        2 => (0..8_usize).prop_map(Call::Take),
        1 => mark.clone().prop_map(|kind| Call::Mark { kind, between: Vec::new() }),
    ];
    let stopped = (mark, vec(plain.clone(), 1..8)).prop_map(|(kind, between)| Call::Mark { kind, between });
    prop_oneof![4 => plain, 1 => stopped]
}

/// A table, and what should be in it: by key, the entry, and whether it is marked.
struct Pair {
    table: Table<2>,
    slots: usize,
    model: RefCell<BTreeMap<u32, (Entry, bool)>>,
    put: Cell<u64>,
}

impl Pair {
    fn new(slots: usize) -> Self {
        Self { table: Table::new(slots), slots, model: RefCell::default(), put: Cell::new(0) }
    }

    fn call(&self, call: &Call) {
        match call {
            Call::Put => self.put(),
            Call::Take(which) => self.take(*which),
            Call::Mark { kind, between } => self.mark(*kind, between),
        }
        assert_eq!(self.table.held(), self.model.borrow().len() as u64);
    }

    fn put(&self) {
        let number = self.put.get();
        let entry = [number, number % KINDS];
        let key = self.table.put(entry);
        assert_eq!(key.is_none(), self.model.borrow().len() == self.slots, "there is room or there is not");
        if let Some(key) = key {
            assert!((key as usize) < self.slots);
            assert_eq!(self.model.borrow_mut().insert(key, (entry, false)), None, "the key was given already");
            self.put.set(number + 1);
        }
    }

    fn take(&self, which: usize) {
        let key = self.model.borrow().keys().nth(which).copied();
        if let Some(key) = key {
            let expected = self.model.borrow_mut().remove(&key).expect("it is there");
            assert_eq!(self.table.peek::<Entry>(key), expected.0);
            assert_eq!(self.table.take::<Entry>(key), expected);
        }
    }

    /// Marks one in the model, just before the table claims it; whether that must succeed.
    fn mark_in_model(&self, number: u64) -> bool {
        let mut model = self.model.borrow_mut();
        let found = model.values_mut().find(|(entry, is_marked)| entry[0] == number && !is_marked);
        found.map(|(_, is_marked)| *is_marked = true).is_some()
    }

    fn mark(&self, kind: u64, between: &[Call]) {
        let (stopped, expected) = (Cell::new(between.is_empty()), Cell::new(0));
        let wanted = |model: &BTreeMap<u32, (Entry, bool)>| -> Vec<u64> {
            model.values().filter(|(entry, _)| entry[1] == kind).map(|(entry, _)| entry[0]).collect()
        };
        let before = wanted(&self.model.borrow());
        let marked = self.table.mark(|&[number, found]: &Entry| {
            if !stopped.replace(true) {
                between.iter().for_each(|call| self.call(call));
            }
            if found == kind && self.mark_in_model(number) {
                expected.set(expected.get() + 1);
            }
            found == kind
        });
        assert_eq!(marked, expected.get());
        // Whatever was there all the time is marked now, or by what came between.
        let model = self.model.borrow();
        let missed = model.values().filter(|(entry, is_marked)| before.contains(&entry[0]) && !is_marked);
        assert_eq!(missed.count(), 0);
    }
}

proptest! {
    #[test]
    fn a_table_is_a_map(slots in 0..7_usize, calls in vec(call(), 1..80)) {
        let pair = Pair::new(slots);
        calls.iter().for_each(|call| pair.call(call));
        while !pair.model.borrow().is_empty() {
            pair.take(0);
        }
        prop_assert_eq!(pair.table.held(), 0);
    }
}

#[test]
fn a_mark_misses_the_next_entry_of_its_slot() {
    let pair = Pair::new(1);
    // Both of the same kind: the second is put where the first was, under the mark's eyes.
    pair.put();
    let between = [Call::Take(0), Call::Put, Call::Take(0), Call::Put, Call::Take(0), Call::Put];
    pair.mark(0, &between);
    assert_eq!(pair.model.borrow().values().next(), Some(&([3, 0], false)));
    pair.mark(0, &[]);
    assert_eq!(pair.table.take::<Entry>(0), ([3, 0], true));
}

#[test]
#[should_panic(expected = "at most 2^20 - 2 slots")]
fn a_table_has_no_more_slots_than_keys() {
    let _ = Table::<1>::new(Table::<1>::MAX + 1);
}

const THREADS: u64 = 4;
const SLOTS: usize = 8;

/// Entries that each thread puts.
fn entries() -> u64 {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 2_000_000 } else { 50_000 }
}

/// What follows from an entry's number, so that half of one entry and half of another are found out.
fn seal(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What the threads share: keys travel in lanes, from each to the next.
struct World {
    table: Table<2>,
    /// Each word is a key and the number that was put under it.
    lanes: Vec<Lane<2>>,
    left: AtomicU64,
}

impl World {
    /// Puts, marks, and takes what the thread before has put. Returns how many it has marked, and how many it has taken
    /// as marked.
    fn run(&self, thread: u64, this: &Lane<2>, next: &Lane<2>) -> (u64, u64) {
        let (mut put, mut taken, mut marked, mut found_marked) = (0, 0, 0, 0);
        while self.left.load(Ordering::Relaxed) > 0 {
            let number = put * THREADS + thread;
            let key = if put < entries() { self.table.put([number, seal(number)]) } else { None };
            if let Some(key) = key {
                put += 1;
                next.push_batch(&[[u64::from(key), number]]);
            }
            if number.is_multiple_of(3) {
                marked +=
                    self.table.mark(|&[number, sealed]: &Entry| seal(number) == sealed && number % 5 == taken % 5);
            }
            let mut popped = [[0; 2]; 2];
            let (count, _) = this.pop(&mut popped, u64::MAX, |_| 0);
            for &[key, number] in &popped[..count] {
                let (entry, is_marked) = self.table.take::<Entry>(u32::try_from(key).expect("a key"));
                assert_eq!(entry, [number, seal(number)]);
                // A lane is a queue, so each comes once if they come in order.
                assert_eq!(number, taken * THREADS + (thread + THREADS - 1) % THREADS);
                taken += 1;
                found_marked += u64::from(is_marked);
            }
            self.left.fetch_sub(count as u64, Ordering::Relaxed);
            if count == 0 && key.is_none() {
                thread::yield_now();
            }
        }
        (marked, found_marked)
    }
}

#[test]
fn threads_take_what_others_put_and_all_mark() {
    let lanes = (0..THREADS).map(|_| Lane::new(SLOTS)).collect();
    let world = World { table: Table::new(SLOTS), lanes, left: AtomicU64::new(THREADS * entries()) };
    let world = &world;
    let counts: Vec<(u64, u64)> = thread::scope(|scope| {
        let lanes = world.lanes.iter().zip(world.lanes.iter().cycle().skip(1)).zip(0..);
        let run = |((this, next), thread)| scope.spawn(move || world.run(thread, this, next));
        let threads: Vec<_> = lanes.map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    let (marked, found_marked) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    assert_eq!((marked, world.table.held()), (found_marked, 0));
    assert!(marked > 0, "nothing was marked");
}
