//! Compositions of roles and slots: movers that complete, tasks that sleep, and a reaper that is whoever comes by.
//!
//! The way is that of a ring: a mover completes, and rings; if the bell was armed, the mover reaps, unless somebody
//! does already. A reaper takes what is there, arms the bell, looks again, gives the role up, and wakes whom it found.

use std::cell::RefCell;

use loom::sync::Mutex;
use loom_tests::Fault::{Ring, Step};
use loom_tests::{ASLEEP, Blocking, Event, Model, Notes, Payload, RACE, is_faulty, lock, play};
use memring_ring::slot::{Completed, Key, Registered};
use memring_ring::sync::Mutant;
use memring_ring::{Consumer, Doorbell, Gate, Passage, Producer, Role, Wake, completion};

use crate::slot::Tasks;

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "reaper::left_behind",
        bound: 3,
        body: left_behind,
        catches: &[(Ring(Mutant::RoleTake), RACE), (Step(ONLY_TRIES), ASLEEP), (Step(LOOKS_ONCE), ASLEEP)],
    },
    Model {
        name: "reaper::two_workers",
        bound: 3,
        body: two_workers,
        catches: &[
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
            (Ring(Mutant::RoleTake), RACE),
            (Step(ONLY_TRIES), ASLEEP),
            (Step(NO_SECOND_LOOK), ASLEEP),
            (Step(ARMS_LATE), ASLEEP),
        ],
    },
    Model {
        name: "reaper::a_waker_comes_back",
        bound: 3,
        body: a_waker_comes_back,
        catches: &[(Step(WAKES_EARLY), "before it is complete"), (Ring(Mutant::RoleTake), RACE)],
    },
    Model {
        name: "reaper::the_last_handle",
        bound: 3,
        body: the_last_handle,
        catches: &[(Ring(Mutant::RoleRelease), RACE), (Step(CALLS_FIRST), "let go once"), (Step(WAITS), ASLEEP)],
    },
    Model {
        name: "reaper::drop_in_flight",
        bound: 3,
        body: drop_in_flight,
        catches: &[
            (Ring(Mutant::SlotAbandon), RACE),
            (Step(FREES_AT_ONCE), RACE),
            (Step(NO_HEIR), ASLEEP),
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
        ],
    },
];

const ONLY_TRIES: &str = "who finds the role held leaves no call";
const NO_SECOND_LOOK: &str = "the reaper does not look again after it has armed the bell";
const LOOKS_ONCE: &str = "the reaper does not look again when it was called";
const ARMS_LATE: &str = "the reaper arms the bell after its last look";
const WAKES_EARLY: &str = "the reaper wakes as it takes the waker";
const CALLS_FIRST: &str = "the last handle calls before it closes";
const WAITS: &str = "the last handle waits for the end on a driver's thread";
const FREES_AT_ONCE: &str = "the drop frees the memory of what is in flight";
const NO_HEIR: &str = "the reaper does not look for an heir";

/// A waker that does not wake a thread.
const RUNS: usize = 3;

/// Operation `i` writes `memory[i]`.
struct World {
    tasks: Tasks<2>,
    keys: [Key; 2],
    memory: [Payload; 2],
    gate: Gate,
    completions: Producer,
    consumer: RefCell<Consumer>,
    /// What only the reaper touches: its consumer.
    reaping: Payload,
    role: Role,
    bell: Doorbell,
    blocking: Blocking,
    /// Who waits for the role, and how it is woken.
    heirs: Mutex<Vec<()>>,
    heir: Event,
    ended: Event,
    /// What a task that walked away has left.
    left: Payload,
    ends: Notes<()>,
    /// What the waker `RUNS` does, in the thread that wakes.
    runs: fn(&World),
}

impl World {
    /// Both operations are submitted: of two slots, or of one. The bell is armed.
    fn new(slots: u64, runs: fn(&Self)) -> Self {
        let tasks = Tasks::new();
        let first = tasks.slots.open(0, 3 - slots);
        let keys = [first, if slots == 1 { first } else { tasks.slots.open(1, 1) }];
        let (completions, consumer) = completion::ring(2);
        let world = Self {
            tasks,
            keys,
            memory: Default::default(),
            gate: Gate::default(),
            completions,
            consumer: RefCell::new(consumer),
            reaping: Payload::new(),
            role: Role::default(),
            bell: Doorbell::default(),
            blocking: Blocking::new(),
            heirs: Mutex::new(Vec::new()),
            heir: Event::new(),
            ended: Event::new(),
            left: Payload::new(),
            ends: Notes::new(),
            runs,
        };
        assert_eq!(world.gate.pass(2), Passage::Passed);
        assert!(world.arm());
        world
    }

    /// A mover does an operation, and reaps if the bell is armed.
    fn execute(&self, id: usize) {
        self.memory[id].write(id as u64 + 1);
        self.completions.push_batch(&[[self.keys[id].to_word(), 0]]);
        let is_reached = |_, target| self.completions.pushed_relaxed() >= target;
        if self.bell.ring_with(&self.blocking, is_reached, |_| false).wake == Some(Wake::Armed) {
            self.reap();
        }
    }

    /// Sees to it that what has come is reaped.
    fn reap(&self) {
        let is_holder = if is_faulty(ONLY_TRIES) { self.role.try_take() } else { self.role.call() };
        if is_holder {
            self.hold();
        }
    }

    fn hold(&self) {
        let mut wakers = Vec::new();
        loop {
            self.drain(&mut wakers);
            if !is_faulty(ARMS_LATE) && !self.arm() {
                continue;
            }
            if self.role.release() || (is_faulty(LOOKS_ONCE) && self.role.release()) {
                break;
            }
        }
        if is_faulty(ARMS_LATE) {
            let popped = self.consumer.borrow().popped();
            self.bell.announce(Wake::Armed, popped + 1);
        }
        if !is_faulty(NO_HEIR) && lock(&self.heirs).pop().is_some() {
            self.heir.signal();
        }
        wakers.into_iter().for_each(|waker| self.wake(waker));
    }

    /// Reaps what is there. The memory of an abandoned operation is freed here.
    fn drain(&self, wakers: &mut Vec<usize>) {
        while let Some(word) = self.pop() {
            let key = Key::from_word(word);
            let completed = self.tasks.complete(
                key,
                |before| before,
                |waker| {
                    if is_faulty(WAKES_EARLY) { self.wake(waker) } else { wakers.push(waker) }
                },
            );
            if completed == Completed::Abandoned {
                self.free(key);
            }
        }
        // Who has closed the gate has called, too.
        if self.gate.is_closed() && self.consumer.borrow().popped() == self.gate.passed() && self.ends.all().is_empty()
        {
            self.memory.iter().for_each(|memory| memory.write(9));
            self.ends.add(());
            self.ended.signal();
        }
    }

    /// Frees what an abandoned operation has left.
    fn free(&self, key: Key) {
        assert_eq!(self.left.read(), 1, "there is something to free");
        self.left.write(0);
        self.tasks.slots.close(key);
    }

    fn pop(&self) -> Option<u64> {
        self.reaping.write(1);
        self.consumer.borrow_mut().pop::<[u64; 2]>().map(|[word, _]| word)
    }

    fn is_ready(&self) -> bool {
        self.reaping.write(2);
        self.consumer.borrow_mut().ready(1) > 0
    }

    /// Arms the bell; false if something has come.
    fn arm(&self) -> bool {
        let popped = self.consumer.borrow().popped();
        self.bell.announce(Wake::Armed, popped + 1);
        if !is_faulty(NO_SECOND_LOOK) && self.is_ready() {
            self.bell.retract();
            return false;
        }
        true
    }

    fn wake(&self, waker: usize) {
        match waker {
            RUNS => (self.runs)(self),
            waker => self.tasks.wake(waker),
        }
    }

    /// For a task: reads what its operation has written, and is done with it.
    fn finish(&self, id: usize) {
        assert_eq!(self.memory[id].read(), id as u64 + 1);
        self.memory[id].write(0);
        self.tasks.slots.close(self.keys[id]);
    }
}

/// Hunts a completion that waits while its task sleeps: the mover and the task both reap, each believes that the other
/// does (P6, P12, P13).
fn left_behind() {
    let poll = |world: &World| {
        for id in 0..2 {
            world.reap();
            world.tasks.wait(world.keys[id], 1);
            world.finish(id);
        }
    };
    let work = |world: &World| {
        world.execute(0);
        world.execute(1);
    };
    play(World::new(2, |_| ()), &[poll, work], |_| ());
}

/// Hunts the same between two movers, whose operations belong to one batch (P12, P15).
fn two_workers() {
    let own = |world: &World| {
        world.tasks.wait(world.keys[0], 1);
        assert_eq!([world.memory[0].read(), world.memory[1].read()], [1, 2]);
        world.tasks.slots.close(world.keys[0]);
    };
    play(World::new(1, |_| ()), &[own, |world| world.execute(0), |world| world.execute(1)], |_| ());
}

/// Hunts a waker that finds its task incomplete, or the role held by its own thread for ever (P12, P13).
///
/// It runs the task at once, in the thread that reaps; the task begins its next operation there, does it itself, and so
/// comes to reap.
fn a_waker_comes_back() {
    let run = |world: &World| {
        let registered = world.tasks.poll(world.keys[0], RUNS);
        assert_eq!(registered, Registered::Ready, "a task is run before it is complete");
        world.finish(0);
        world.execute(1);
    };
    let own = |world: &World| {
        world.reap();
        world.tasks.wait(world.keys[1], 1);
        world.finish(1);
    };
    let world = World::new(2, run);
    assert_eq!(world.tasks.poll(world.keys[0], RUNS), Registered::Stored);
    play(world, &[|world| world.execute(0), own], |_| ());
}

/// Hunts a ring that nobody lets go, or that two do: a waker drops its last handle, in a thread that has still to do
/// the other operation (P12, P14).
///
/// Such a drop cannot wait. It closes, calls, and goes; whoever reaps the last operation lets go of the memory.
fn the_last_handle() {
    let drop = |world: &World| {
        if is_faulty(CALLS_FIRST) {
            world.reap();
        }
        world.gate.close();
        if !is_faulty(CALLS_FIRST) {
            world.reap();
        }
        if is_faulty(WAITS) {
            world.ended.wait();
        }
    };
    let work = |world: &World| {
        world.execute(0);
        world.execute(1);
    };
    let world = World::new(2, drop);
    assert_eq!(world.tasks.poll(world.keys[0], RUNS), Registered::Stored);
    world.left.write(1);
    assert!(!world.tasks.abandon(world.keys[1]));
    play(world, &[work, World::reap], |world| {
        assert_eq!(world.ends.all().len(), 1, "the ring is let go once");
        assert_eq!(world.left.read(), 0, "what was left is freed");
    });
}

/// Hunts a drop that returns while a mover still writes, or never, and orphans that nobody frees (P7, P12, P14).
///
/// The drop keeps the role until all has ended. If a mover has the role, the drop waits for it as an heir.
fn drop_in_flight() {
    let drop = |world: &World| {
        world.left.write(1);
        if world.tasks.abandon(world.keys[0]) {
            world.free(world.keys[0]);
        }
        let passed = world.gate.close();
        if !is_faulty(FREES_AT_ONCE) {
            world.take_role();
            while world.consumer.borrow().popped() < passed {
                world.bell.announce(Wake::Blocked, passed);
                if !world.is_ready() {
                    world.bell.sleep(&world.blocking, None);
                }
                world.bell.retract();
                world.drain(&mut Vec::new());
            }
            while !world.role.release() {}
        }
        world.memory.iter().for_each(|memory| memory.write(10));
    };
    let work = |world: &World| {
        world.execute(0);
        world.execute(1);
    };
    play(World::new(1, |_| ()), &[drop, work], |world| {
        assert_eq!(world.left.read(), 0, "what was left is freed");
    });
}

impl World {
    /// Waits for the role.
    fn take_role(&self) {
        loop {
            lock(&self.heirs).push(());
            if self.role.call() {
                return;
            }
            self.heir.wait();
        }
    }
}
