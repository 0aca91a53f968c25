//! Slots: that no wake is lost, that one party at a time touches the cell, that what was left is freed once, and that
//! a slot completes once, with its last operation.

use std::cell::RefCell;
use std::sync::PoisonError;

use loom::sync::Mutex;
use loom_tests::Fault::{Ring, Step};
use loom_tests::{ASLEEP, Event, Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::slot::{Completed, Key, Registered};
use memring_ring::sync::Mutant;
use memring_ring::{Consumer, Lane, Producer, Role, Slots, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "slot::two_wakers",
        bound: 5,
        body: two_wakers,
        catches: &[
            (Ring(Mutant::SlotRegister), RACE),
            (Ring(Mutant::SlotObserve), RACE),
            (Ring(Mutant::SlotComplete), RACE),
            (Ring(Mutant::SlotWaking), RACE),
            (Step(TRUSTS), ASLEEP),
            (Step(KEEPS), ASLEEP),
        ],
    },
    Model {
        name: "slot::abandoned",
        bound: 5,
        body: abandoned,
        catches: &[
            (Ring(Mutant::SlotAbandon), RACE),
            (Ring(Mutant::SlotComplete), RACE),
            (Step(LEAVES_LATE), RACE),
            (Step(FREES_AT_ONCE), RACE),
            (Step(CLOSES_LATE), "an open slot is opened"),
        ],
    },
    Model {
        name: "slot::cancelled",
        bound: 5,
        body: cancelled,
        catches: &[(Ring(Mutant::LaneClaim), RACE), (Ring(Mutant::SlotComplete), RACE), (Step(UNCLAIMED), "ends once")],
    },
    Model {
        name: "slot::the_last_of_a_scope",
        bound: 3,
        body: the_last_of_a_scope,
        catches: &[
            (Ring(Mutant::SlotCountDown), RACE),
            (Ring(Mutant::RoleTake), "first failure"),
            (Step(WAITS), ASLEEP),
            (Step(LAST_FAILURE), "first failure"),
        ],
    },
    Model {
        name: "slot::next_owner",
        bound: 4,
        body: next_owner,
        catches: &[(Ring(Mutant::SlotGeneration), "hits the next owner"), (Ring(Mutant::SlotObserve), RACE)],
    },
];

const TRUSTS: &str = "the owner trusts an older waker that is being woken";
const KEEPS: &str = "the owner keeps its older waker";
const LEAVES_LATE: &str = "the owner leaves its buffers after it has walked away";
const FREES_AT_ONCE: &str = "the owner frees its buffers as it walks away";
const CLOSES_LATE: &str = "a slot's number is handed on before it is closed";
const UNCLAIMED: &str = "a cancel ends what it has not claimed";
const WAITS: &str = "the owner waits although it was the last to count down";
const LAST_FAILURE: &str = "a later failure takes the place of the first";

/// Slots, and beside each a cell for its owner's waker. Waker `i` wakes event `i`; 0 is none.
pub(crate) struct Tasks<const N: usize> {
    pub(crate) slots: Slots,
    cells: [Payload; N],
    events: [Event; 4],
}

impl<const N: usize> Tasks<N> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slots::new(0, u32::try_from(N).expect("a few")),
            cells: std::array::from_fn(|_| Payload::new()),
            events: Default::default(),
        }
    }

    fn cell(&self, key: Key) -> &Payload {
        &self.cells[key.number() as usize]
    }

    /// Takes the waker out of the slot's cell.
    fn take(&self, key: Key) -> usize {
        let waker = self.cell(key).read();
        self.cell(key).write(0);
        usize::try_from(waker).expect("a few")
    }

    /// For the owner: whether the slot is complete. Else the waker is left, or an older one is on its way.
    pub(crate) fn poll(&self, key: Key, waker: usize) -> Registered {
        let registered = self.slots.register(key, || {
            let older = self.take(key);
            self.cell(key).write(if is_faulty(KEEPS) && older != 0 { older } else { waker } as u64);
        });
        if registered == Registered::Ready {
            self.take(key);
        }
        registered
    }

    /// For the owner: sleeps until the slot is complete.
    pub(crate) fn wait(&self, key: Key, waker: usize) {
        loop {
            match self.poll(key, waker) {
                Registered::Ready => return,
                Registered::Waking if !is_faulty(TRUSTS) => loom::thread::yield_now(), // It has woken itself.
                Registered::Stored | Registered::Waking => self.events[waker].wait(),
            }
        }
    }

    /// For the owner: whether the slot was complete as it walked away.
    pub(crate) fn abandon(&self, key: Key) -> bool {
        self.slots.abandon(key, || _ = self.take(key))
    }

    /// For the reaper: counts one operation down. If there is a waker, it is given to `taken`, who wakes it afterwards.
    pub(crate) fn complete(&self, key: Key, note: impl FnOnce(u64) -> u64, taken: impl FnOnce(usize)) -> Completed {
        self.slots.complete(key, 1, note, || {
            let waker = self.take(key);
            assert_ne!(waker, 0, "there is a waker to take");
            taken(waker);
        })
    }

    /// As [`complete`](Tasks::complete), with status 5; wakes the waker.
    fn complete_and_wake(&self, key: Key) -> Completed {
        let mut waker = None;
        let completed = self.complete(key, |_| 5, |taken| waker = Some(taken));
        waker.into_iter().for_each(|waker| self.wake(waker));
        completed
    }

    pub(crate) fn sleep(&self, waker: usize) {
        self.events[waker].wait();
    }

    pub(crate) fn wake(&self, waker: usize) {
        self.events[waker].signal();
    }
}

/// A task, the memory of its operations, and what becomes of both.
struct World {
    tasks: Tasks<1>,
    key: Key,
    memory: Payload,
    /// What the owner leaves for whoever frees it.
    left: Payload,
    freed: Notes<()>,
    numbers: Mutex<Vec<u32>>,
}

impl World {
    fn new() -> Self {
        let tasks = Tasks::new();
        let key = tasks.slots.open(0, 1);
        Self {
            tasks,
            key,
            memory: Payload::new(),
            left: Payload::new(),
            freed: Notes::new(),
            numbers: Mutex::new(Vec::new()),
        }
    }

    /// Does the operation, and completes the slot: a mover and the reaper in one.
    fn execute(&self) -> Completed {
        self.memory.write(7);
        self.tasks.complete_and_wake(self.key)
    }

    /// Frees the memory, closes the slot, and hands its number on.
    fn free(&self) {
        assert_eq!(self.left.read(), 1, "there is something to free");
        self.left.write(0);
        self.memory.write(9);
        self.freed.add(());
        if !is_faulty(CLOSES_LATE) {
            self.tasks.slots.close(self.key);
        }
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).push(0);
        if is_faulty(CLOSES_LATE) {
            self.tasks.slots.close(self.key);
        }
    }

    /// Opens the slot for another owner, if it is free.
    fn open_again(&self) {
        let number = self.numbers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(number) = number {
            let key = self.tasks.slots.open(number, 1);
            assert_eq!(self.tasks.poll(key, 2), Registered::Stored, "the slot is as new");
        }
    }
}

/// Hunts a wake that is lost between two wakers, a cell that two touch, and memory that is read too early (P13, P14).
///
/// The task moves: it is polled with one waker, and then with another.
fn two_wakers() {
    let own = |world: &World| {
        let is_complete = world.tasks.slots.is_complete(world.key);
        if !is_complete && world.tasks.poll(world.key, 1) != Registered::Ready {
            world.tasks.wait(world.key, 2);
        }
        assert_eq!((world.memory.read(), world.tasks.slots.outcome(world.key)), (7, Some(5)));
        world.tasks.slots.close(world.key);
    };
    let complete = |world: &World| {
        assert!(matches!(world.execute(), Completed::Nobody | Completed::Woken));
    };
    play(World::new(), &[own, complete], |_| ());
}

/// Hunts buffers that nobody frees or two do, that are freed while the mover still writes, and that whoever frees them
/// does not find (P14). The task is polled once more before it goes; another takes the slot as soon as it is free.
fn abandoned() {
    let abandon = |world: &World| {
        if !is_faulty(LEAVES_LATE) {
            world.left.write(1);
        }
        let is_ours = world.tasks.poll(world.key, 2) == Registered::Ready || world.tasks.abandon(world.key);
        if is_faulty(LEAVES_LATE) {
            world.left.write(1);
        }
        if is_ours || is_faulty(FREES_AT_ONCE) {
            world.free();
        }
    };
    let complete = |world: &World| {
        if world.execute() == Completed::Abandoned {
            world.free();
        }
    };
    let world = World::new();
    assert_eq!(world.tasks.poll(world.key, 1), Registered::Stored);
    play(world, &[abandon, complete, World::open_again], |world| {
        assert_eq!(world.freed.all().len(), 1, "the buffers are freed once");
        world.open_again();
    });
}

/// Operations of one slot on their way: a lane, movers, a completion ring, and a reaper who is one by its role.
struct Flow {
    tasks: Tasks<1>,
    key: Key,
    lane: Lane<1>,
    completions: Producer,
    consumer: RefCell<Consumer>,
    role: Role,
    memory: [Payload; 2],
    reaped: Notes<u64>,
}

const CANCELLED: u64 = 1;
const DONE: u64 = 2;
/// More operations than a scope will have.
const BIAS: u64 = 1 << 48;

impl Flow {
    fn new(left: u64) -> Self {
        let tasks = Tasks::new();
        let key = tasks.slots.open(0, left);
        let (completions, consumer) = completion::ring(2);
        Self {
            tasks,
            key,
            lane: Lane::new(1),
            completions,
            consumer: RefCell::new(consumer),
            role: Role::default(),
            memory: Default::default(),
            reaped: Notes::new(),
        }
    }

    fn claim(&self) -> bool {
        self.lane.pop(&mut [[0]], 1, |_| 1).0 == 1
    }

    /// Publishes a completion, and sees to it that it is reaped.
    fn complete(&self, status: u64) {
        self.completions.push_batch(&[[self.key.to_word(), status]]);
        if self.role.call() {
            self.reap();
        }
    }

    fn reap(&self) {
        let mut wakers = Vec::new();
        loop {
            loop {
                let popped = self.consumer.borrow_mut().pop::<[u64; 2]>();
                let Some([word, status]) = popped else { break };
                self.reaped.add(status);
                let is_first = |before| before == 0 || is_faulty(LAST_FAILURE);
                let note = |before| if is_first(before) { status } else { before };
                let completed = self.tasks.complete(Key::from_word(word), note, |waker| wakers.push(waker));
                assert_ne!(completed, Completed::Stale, "each operation ends once");
            }
            if self.role.release() {
                break;
            }
        }
        wakers.into_iter().for_each(|waker| self.tasks.wake(waker));
    }
}

/// Hunts an operation that is done and cancelled, or neither (P2, P14).
///
/// It lies in a lane. Whoever claims it ends it: a worker by doing it, its owner by a cancel.
fn cancelled() {
    let own = |flow: &Flow| {
        if flow.claim() || is_faulty(UNCLAIMED) {
            flow.complete(CANCELLED);
        }
        flow.tasks.wait(flow.key, 1);
        let was_done = flow.memory[0].read() == 7;
        assert_eq!(flow.tasks.slots.outcome(flow.key), Some(if was_done { DONE } else { CANCELLED }));
        flow.memory[0].write(9);
    };
    let work = |flow: &Flow| {
        if flow.claim() {
            flow.memory[0].write(7);
            flow.complete(DONE);
        }
    };
    let flow = Flow::new(1);
    flow.lane.push_batch(&[[flow.key.to_word()]]);
    play(flow, &[own, work], |flow| assert_eq!(flow.reaped.all().len(), 1, "each operation ends once"));
}

/// Hunts a scope that ends before its operations do, or never, and one that does not know how it ended (P15).
///
/// It was opened with more operations than it has; its owner counts the difference down in the end.
fn the_last_of_a_scope() {
    let own = |flow: &Flow| {
        if flow.tasks.slots.count_down(flow.key, BIAS - 2) && !is_faulty(WAITS) {
            assert_eq!(flow.tasks.slots.finish(flow.key, || unreachable!("nobody left one")), Completed::Nobody);
        }
        flow.tasks.wait(flow.key, 1);
        assert_eq!([flow.memory[0].read(), flow.memory[1].read()], [7, 8]);
        let reaped = flow.reaped.all();
        assert_eq!(reaped.len(), 2);
        assert_eq!(flow.tasks.slots.outcome(flow.key), Some(reaped[0]), "the outcome is the first failure");
    };
    let fail = |flow: &Flow| {
        flow.memory[0].write(7);
        flow.complete(3);
    };
    let fail_otherwise = |flow: &Flow| {
        flow.memory[1].write(8);
        flow.complete(4);
    };
    play(Flow::new(BIAS), &[own, fail, fail_otherwise], |_| ());
}

/// Hunts a completion too many that hits the next owner of its slot (P14).
///
/// The reaper comes twice for the first owner. The next one's operation reaches it by way of a lane.
fn next_owner() {
    let own = |flow: &Flow| {
        flow.tasks.wait(flow.key, 1);
        assert_eq!(flow.memory[0].read(), 7);
        flow.tasks.slots.close(flow.key);
        let next = flow.tasks.slots.open(0, 1);
        flow.lane.push_batch(&[[next.to_word()]]);
        if flow.tasks.poll(next, 2) == Registered::Ready {
            assert_eq!(flow.memory[0].read(), 8, "a late completion hits the next owner");
        }
    };
    let reap = |flow: &Flow| {
        flow.memory[0].write(7);
        let in_time = flow.tasks.complete_and_wake(flow.key);
        assert!(matches!(in_time, Completed::Nobody | Completed::Woken));
        let late = flow.tasks.complete_and_wake(flow.key);
        assert_eq!(late, Completed::Stale, "a late completion hits the next owner");
        let mut into = [[0]];
        if flow.lane.pop(&mut into, 1, |_| 1).0 == 1 {
            flow.memory[0].write(8);
            let in_time = flow.tasks.complete_and_wake(Key::from_word(into[0][0]));
            assert!(matches!(in_time, Completed::Nobody | Completed::Woken));
        }
    };
    play(Flow::new(1), &[own, reap], |_| ());
}
