//! Goal: a slot completes once, with its last operation; its waker is woken or comes back, and never both; and a key
//! that has had its day does nothing.
//!
//! Method: random calls on slots and on a plain model, side by side, in one thread. A transition is also stopped while
//! it has the cell, by a closure that calls the slots again: what happens there is what another party could do
//! meanwhile. Then four threads wait for what the others complete, with cells that say when two touch them.
#![cfg(not(memring_loom))]

#[path = "../../tests/support/watchdog.rs"]
mod watchdog;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::{self, Thread};

use memring_ring::slot::{Completed, Key, Registered};
use memring_ring::{Consumer, Lane, Producer, Role, Slots, completion};
use proptest::collection::vec;
use proptest::prelude::*;
use watchdog::must_end;

const FIRST: u32 = 100;
const SLOTS: u32 = 4;

/// What the owner does while the reaper has the cell.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Register,
    Abandon,
}

#[derive(Clone, Debug)]
enum Call {
    Open(u64),
    /// Of one of those that are open; the reaper comes in between, or does not.
    Register(usize, bool),
    /// Of one of those that are open, so many operations or what is left, with this status.
    Complete(usize, u64, u64, Meanwhile),
    /// By the owner, so many or what is left.
    CountDown(usize, u64),
    Abandon(usize),
    Close(usize),
    /// Of one of those that are closed.
    CompleteLate(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let which = || 0..SLOTS as usize;
    let meanwhile = prop_oneof![
        2 => Just(Meanwhile::Nothing),
        1 => Just(Meanwhile::Register),
        1 => Just(Meanwhile::Abandon),
    ];
    let left = || prop_oneof![1..4_u64, Just(1 << 48)];
    prop_oneof![
        3 => left().prop_map(Call::Open),
        3 => (which(), any::<bool>()).prop_map(|(which, between)| Call::Register(which, between)),
        4 => (which(), left(), 0..3_u64, meanwhile)
            .prop_map(|(which, count, status, meanwhile)| Call::Complete(which, count, status, meanwhile)),
        1 => (which(), left()).prop_map(|(which, count)| Call::CountDown(which, count)),
        1 => which().prop_map(Call::Abandon),
        2 => which().prop_map(Call::Close),
        1 => (0..40_usize).prop_map(Call::CompleteLate),
    ]
}

/// What should be known of an open slot.
#[derive(Clone, Debug)]
struct Awaited {
    key: Key,
    left: u64,
    outcome: u64,
    waker: Option<u64>,
    abandoned: bool,
}

/// Slots, their cells, and what should be in them.
struct Pair {
    slots: Slots,
    cells: Vec<Cell<Option<u64>>>,
    model: RefCell<BTreeMap<u32, Awaited>>,
    closed: RefCell<Vec<Key>>,
    wakers: Cell<u64>,
}

/// The first status that is not zero.
fn first_failure(before: u64, status: u64) -> u64 {
    if before == 0 { status } else { before }
}

impl Pair {
    fn new() -> Self {
        Self {
            slots: Slots::new(FIRST, SLOTS),
            cells: (0..SLOTS).map(|_| Cell::new(None)).collect(),
            model: RefCell::default(),
            closed: RefCell::default(),
            wakers: Cell::new(0),
        }
    }

    fn cell(&self, key: Key) -> &Cell<Option<u64>> {
        &self.cells[(key.number() - FIRST) as usize]
    }

    fn pick(&self, which: usize) -> Option<Awaited> {
        self.model.borrow().values().nth(which).cloned()
    }

    fn change(&self, awaited: Awaited) {
        self.model.borrow_mut().insert(awaited.key.number(), awaited);
    }

    fn call(&self, call: &Call) {
        let awaited = match *call {
            Call::Register(which, _)
            | Call::Complete(which, ..)
            | Call::CountDown(which, _)
            | Call::Abandon(which)
            | Call::Close(which) => self.pick(which),
            Call::Open(_) | Call::CompleteLate(_) => None,
        };
        match (call, awaited) {
            (&Call::Open(left), _) => self.open(left),
            (&Call::CompleteLate(which), _) => {
                let key = self.closed.borrow().get(which).copied();
                key.into_iter().for_each(|key| self.complete_late(key));
            }
            (&Call::Register(_, between), Some(awaited)) => self.register(awaited, between),
            (&Call::Complete(_, count, status, meanwhile), Some(awaited)) => {
                self.complete(awaited, count, status, meanwhile);
            }
            (&Call::CountDown(_, count), Some(awaited)) => self.count_down(awaited, count),
            (Call::Abandon(_), Some(awaited)) => self.abandon(awaited),
            (Call::Close(_), Some(awaited)) if awaited.left == 0 => self.close(awaited.key),
            _ => {}
        }
        for awaited in self.model.borrow().values() {
            let outcome = (awaited.left == 0).then_some(awaited.outcome);
            assert_eq!(self.slots.outcome(awaited.key), outcome);
            assert_eq!(self.slots.is_complete(awaited.key), outcome.is_some());
            assert_eq!(self.cell(awaited.key).get(), awaited.waker, "the cell holds the waker that was left");
        }
    }

    fn open(&self, left: u64) {
        let number = (FIRST..FIRST + SLOTS).find(|number| !self.model.borrow().contains_key(number));
        let Some(number) = number else { return };
        let key = self.slots.open(number, left);
        assert_eq!((key.number(), Key::from_word(key.to_word())), (number, key));
        assert!(!self.closed.borrow().contains(&key), "the key was given already");
        self.change(Awaited { key, left, outcome: 0, waker: None, abandoned: false });
    }

    fn close(&self, key: Key) {
        self.slots.close(key);
        self.cell(key).set(None);
        self.model.borrow_mut().remove(&key.number());
        self.closed.borrow_mut().push(key);
    }

    fn register(&self, mut awaited: Awaited, between: bool) {
        if awaited.abandoned {
            return;
        }
        let (key, waker) = (awaited.key, self.wakers.get() + 1);
        let (was_complete, left) = (awaited.left == 0, awaited.left);
        let stored = Cell::new(false);
        let registered = self.slots.register(key, || {
            stored.set(true);
            self.cell(key).set(Some(waker));
            if between {
                let completed = self.slots.complete(key, left, |before| before, || panic!("the owner has the cell"));
                assert_eq!(completed, Completed::Nobody);
            }
        });
        assert_eq!(stored.get(), !was_complete);
        let expected = if was_complete || between { Registered::Ready } else { Registered::Stored };
        assert_eq!(registered, expected);
        if between {
            awaited.left = 0;
        }
        if registered == Registered::Ready {
            self.cell(key).set(None);
            awaited.waker = None;
        } else {
            self.wakers.set(waker);
            awaited.waker = Some(waker);
        }
        self.change(awaited);
    }

    fn complete(&self, mut awaited: Awaited, count: u64, status: u64, meanwhile: Meanwhile) {
        let key = awaited.key;
        if awaited.left == 0 {
            return self.complete_late(key);
        }
        let count = count.min(awaited.left);
        let (taken, gone) = (Cell::new(None), Cell::new(awaited.abandoned));
        let note = |before| {
            assert_eq!(before, awaited.outcome);
            first_failure(before, status)
        };
        let completed = self.slots.complete(key, count, note, || {
            taken.set(self.cell(key).take());
            match meanwhile {
                Meanwhile::Nothing => {}
                Meanwhile::Register => {
                    let registered = self.slots.register(key, || panic!("the reaper has the cell"));
                    assert_eq!(registered, Registered::Waking);
                }
                Meanwhile::Abandon => {
                    assert!(!self.slots.abandon(key, || panic!("the reaper has the cell")));
                    gone.set(true);
                }
            }
        });
        awaited.outcome = first_failure(awaited.outcome, status);
        awaited.left -= count;
        let is_last = awaited.left == 0;
        assert_eq!(taken.get(), if is_last { awaited.waker.take() } else { None });
        let expected = match (is_last, gone.get()) {
            (true, true) => Completed::Abandoned,
            (true, false) if taken.get().is_some() => Completed::Woken,
            _ => Completed::Nobody,
        };
        assert_eq!(completed, expected);
        self.change(awaited);
        if completed == Completed::Abandoned {
            self.close(key);
        }
    }

    fn complete_late(&self, key: Key) {
        let completed = self.slots.complete(key, 1, |_| panic!("it is over"), || panic!("it is over"));
        assert_eq!(completed, Completed::Stale);
    }

    fn count_down(&self, mut awaited: Awaited, count: u64) {
        if awaited.left == 0 || awaited.abandoned {
            return;
        }
        let count = count.min(awaited.left);
        awaited.left -= count;
        let is_last = self.slots.count_down(awaited.key, count);
        assert_eq!(is_last, awaited.left == 0);
        if is_last {
            let taken = Cell::new(None);
            let completed = self.slots.finish(awaited.key, || taken.set(self.cell(awaited.key).take()));
            assert_eq!(completed, if awaited.waker.is_some() { Completed::Woken } else { Completed::Nobody });
            assert_eq!(taken.get(), awaited.waker.take());
        }
        self.change(awaited);
    }

    fn abandon(&self, mut awaited: Awaited) {
        if awaited.abandoned {
            return;
        }
        let taken = Cell::new(None);
        let is_ours = self.slots.abandon(awaited.key, || taken.set(self.cell(awaited.key).take()));
        assert_eq!((is_ours, taken.get()), (awaited.left == 0, awaited.waker.take()));
        let key = awaited.key;
        awaited.abandoned = true;
        self.change(awaited);
        if is_ours {
            self.close(key);
        }
    }
}

proptest! {
    #[test]
    fn slots_are_what_the_model_says(calls in vec(call(), 1..80)) {
        let pair = Pair::new();
        calls.iter().for_each(|call| pair.call(call));
    }
}

const THREADS: u32 = 4;

/// How often each thread waits.
fn rounds() -> u64 {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 500_000 } else { 20_000 }
}

/// What the threads share: operations travel through a lane, completions through a ring with one reaper at a time.
struct World {
    slots: Slots,
    /// Wakers. A cell that is locked is touched by two.
    cells: Vec<Mutex<Option<Thread>>>,
    /// Slots that nobody has.
    free: Mutex<Vec<u32>>,
    lane: Lane<1>,
    completions: Producer,
    /// Locked by two: the role has two holders.
    consumer: Mutex<Consumer>,
    role: Role,
}

impl World {
    fn new() -> Self {
        let numbers = THREADS * 2;
        let (completions, consumer) = completion::ring(numbers as usize);
        Self {
            slots: Slots::new(0, numbers),
            cells: (0..numbers).map(|_| Mutex::new(None)).collect(),
            free: Mutex::new((0..numbers).collect()),
            lane: Lane::new(numbers as usize),
            completions,
            consumer: Mutex::new(consumer),
            role: Role::default(),
        }
    }

    fn exchange(&self, key: Key, waker: Option<Thread>) -> Option<Thread> {
        let cell = self.cells[key.number() as usize].try_lock();
        std::mem::replace(&mut *cell.expect("one at a time has the cell"), waker)
    }

    fn close(&self, key: Key) {
        self.slots.close(key);
        self.free.lock().expect("nobody panics with it").push(key.number());
    }

    /// Executes what is in the lane, whoever has submitted it, and sees to it that it is reaped.
    fn work(&self) {
        let mut popped = [[0]];
        while self.lane.pop(&mut popped, 1, |_| 1).0 == 1 {
            self.completions.push_batch(&[[popped[0][0], 0]]);
            if self.role.call() {
                self.reap();
            }
        }
    }

    fn reap(&self) {
        let mut wakers = Vec::new();
        loop {
            let mut consumer = self.consumer.try_lock().expect("one at a time has the role");
            while let Some([word, _]) = consumer.pop::<[u64; 2]>() {
                let key = Key::from_word(word);
                match self.slots.complete(key, 1, |_| word, || wakers.extend(self.exchange(key, None))) {
                    Completed::Nobody | Completed::Woken => {}
                    Completed::Abandoned => self.close(key),
                    Completed::Stale => panic!("each operation ends once"),
                }
            }
            drop(consumer);
            if self.role.release() {
                break;
            }
        }
        wakers.into_iter().for_each(|waker| waker.unpark());
    }

    /// Submits, works for all, and waits for its own or walks away.
    fn run(&self, thread: u32) {
        for round in 0..rounds() {
            // Two for each thread: one that it waits for, and one that it has left.
            let Some(number) = self.free.lock().expect("nobody panics with it").pop() else {
                self.work();
                thread::yield_now();
                continue;
            };
            let key = self.slots.open(number, 1);
            self.lane.push_batch(&[[key.to_word()]]);
            let register = || self.slots.register(key, || _ = self.exchange(key, Some(thread::current())));
            if (round + u64::from(thread)).is_multiple_of(3) {
                let is_ready = round.is_multiple_of(2) && register() == Registered::Ready;
                if is_ready || self.slots.abandon(key, || _ = self.exchange(key, None)) {
                    self.exchange(key, None);
                    self.close(key);
                }
                self.work();
                continue;
            }
            loop {
                let registered = register();
                self.work();
                match registered {
                    Registered::Ready => break,
                    Registered::Stored => thread::park(),
                    Registered::Waking => thread::yield_now(),
                }
            }
            self.exchange(key, None);
            assert_eq!(self.slots.outcome(key), Some(key.to_word()));
            self.close(key);
        }
    }
}

/// A wake that is lost is a thread that never ends.
#[test]
fn threads_wait_for_what_others_complete() {
    must_end(|| {
        let world = World::new();
        let world = &world;
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || world.run(thread));
            }
        });
        world.work();
        let mut free = world.free.lock().expect("nobody panics with it").clone();
        free.sort_unstable();
        assert!(free.into_iter().eq(0..THREADS * 2), "each slot is closed once");
    });
}
