//! Goal: a lane behaves like a queue. Method: random calls on a lane and on a `VecDeque`, side by side, in one thread.
//!
//! A popper is also stopped between its copy and its claim, by a `cost` that calls the lane again; what happens there
//! is what another popper and a producer could do meanwhile.
#![cfg(not(memring_loom))]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use memring_ring::Lane;
use proptest::collection::vec;
use proptest::prelude::*;

type Entry = [u64; 2];

#[derive(Clone, Debug)]
enum Call {
    /// Pushes so many entries, or as many as there are credits for.
    Push(usize),
    /// Pops with this much room and budget; after the first copy, these calls come in between.
    Pop { room: usize, budget: u64, between: Vec<Call> },
}

fn call() -> impl Strategy<Value = Call> {
    let push = (0..6_usize).prop_map(Call::Push);
    let pop = (0..6_usize, 0..9_u64);
    let plain = prop_oneof![
        push.clone(),
        pop.clone().prop_map(|(room, budget)| Call::Pop { room, budget, between: Vec::new() })
    ];
    let stopped = (pop, vec(plain.clone(), 1..6));
    prop_oneof![3 => plain, 1 => stopped.prop_map(|((room, budget), between)| Call::Pop { room, budget, between })]
}

fn cost(entry: &Entry) -> u64 {
    entry[1]
}

/// A lane and what it should hold. Credits return as soon as an entry is popped.
struct Pair {
    lane: Lane<2>,
    model: RefCell<VecDeque<Entry>>,
    pushed: Cell<u64>,
    popped: Cell<u64>,
}

impl Pair {
    fn new(slots: usize) -> Self {
        Self { lane: Lane::new(slots), model: RefCell::default(), pushed: Cell::new(0), popped: Cell::new(0) }
    }

    fn call(&self, call: &Call) {
        match call {
            Call::Push(count) => self.push(*count),
            Call::Pop { room, budget, between } => self.pop(*room, *budget, between),
        }
        assert_eq!(self.lane.is_empty(), self.model.borrow().is_empty());
        assert_eq!(self.lane.depth(), self.model.borrow().len() as u64);
    }

    fn push(&self, count: usize) {
        let free = self.lane.capacity() - self.model.borrow().len();
        let first = self.pushed.get();
        let entries: Vec<Entry> = (first..).map(|number| [number, number % 4]).take(count.min(free)).collect();
        self.lane.push_batch(&entries);
        self.pushed.set(first + entries.len() as u64);
        self.model.borrow_mut().extend(entries);
    }

    fn pop(&self, room: usize, budget: u64, between: &[Call]) {
        let (found, head) = (self.model.borrow().len(), self.popped.get());
        let stopped = Cell::new(between.is_empty());
        let mut into = vec![[u64::MAX; 2]; room];
        let (taken, spent) = self.lane.pop(&mut into, budget, |entry| {
            if !stopped.replace(true) {
                between.iter().for_each(|call| self.call(call));
            }
            cost(entry)
        });
        // The claim stands if nobody claimed meanwhile, and then what was pushed meanwhile is not in it.
        let visible = if self.popped.get() == head { found } else { self.model.borrow().len() };
        let mut expected = (0, 0);
        while expected.0 < visible.min(room) && (expected.0 == 0 || expected.1 < budget) {
            let entry = self.model.borrow_mut().pop_front().expect("the model holds what is visible");
            assert_eq!(into[expected.0], entry);
            expected = (expected.0 + 1, expected.1 + cost(&entry));
        }
        assert_eq!((taken, spent), expected);
        self.popped.set(self.popped.get() + taken as u64);
    }
}

proptest! {
    #[test]
    fn a_lane_is_a_queue(slots in 1..9_usize, calls in vec(call(), 1..60)) {
        let pair = Pair::new(slots);
        prop_assert_eq!(pair.lane.capacity(), slots.next_power_of_two());
        calls.iter().for_each(|call| pair.call(call));
    }
}

#[test]
fn a_stopped_popper_holds_nothing() {
    let pair = Pair::new(2);
    pair.push(2);
    let take_all = || Call::Pop { room: 2, budget: u64::MAX, between: Vec::new() };
    // While the popper is stopped the lane goes round twice; it then finds the entries of the third lap.
    pair.pop(2, u64::MAX, &[take_all(), Call::Push(2), take_all(), Call::Push(2)]);
    assert_eq!((pair.popped.get(), pair.pushed.get()), (6, 6));
}
