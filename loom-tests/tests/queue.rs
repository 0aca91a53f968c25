//! Compositions: an operation's whole way round, and the ends of a queue, with the operations' memory in plain sight.
//!
//! The way is that of memring: credit, source written, gate, lane, roster; claimed, copied, completion, doorbell;
//! reaped, destination read, credit. Each model leaves out what it is not about.

use std::cell::RefCell;

use loom_tests::Fault::{Ring, Step};
use loom_tests::{ASLEEP, Blocking, Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::sync::Mutant;
use memring_ring::{Consumer, Credits, Doorbell, Gate, Lane, Passage, Producer, Roster, Wake, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "queue::round_trip",
        bound: 4,
        body: round_trip,
        catches: &[
            (Ring(Mutant::LanePublish), RACE),
            (Ring(Mutant::LaneObserve), RACE),
            (Ring(Mutant::CompletionPublish), RACE),
            (Ring(Mutant::CompletionObserve), RACE),
            (Ring(Mutant::CreditTake), RACE),
            (Ring(Mutant::CreditGive), RACE),
            (Step(EARLY_COMPLETION), RACE),
        ],
    },
    Model {
        name: "queue::two_movers",
        bound: 3,
        body: two_movers,
        catches: &[(Ring(Mutant::LaneClaim), RACE), (Ring(Mutant::LaneFree), RACE)],
    },
    Model {
        name: "queue::silent_return",
        bound: 4,
        body: silent_return,
        catches: &[
            (Ring(Mutant::CreditTake), RACE),
            (Ring(Mutant::CreditGive), RACE),
            (Ring(Mutant::CompletionSkip), "an end has room"),
            (Step(EARLY_END), "an end has room"),
        ],
    },
    Model {
        name: "queue::shared_return",
        bound: 5,
        body: shared_return,
        catches: &[
            (Ring(Mutant::CompletionPublish), RACE),
            (Ring(Mutant::CompletionObserve), RACE),
            (Step(EARLY_END), "an end has room"),
        ],
    },
    Model {
        name: "queue::asleep_all_around",
        bound: 3,
        body: asleep_all_around,
        catches: &[
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
            (Ring(Mutant::RosterSleeperFence), ASLEEP),
            (Ring(Mutant::RosterRingerFence), ASLEEP),
        ],
    },
    Model {
        name: "queue::submit_against_drop",
        bound: 5,
        body: submit_against_drop,
        catches: &[
            (Ring(Mutant::GatePass), "executed once"),
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
        ],
    },
    Model {
        name: "queue::drop_with_a_worker",
        bound: 3,
        body: drop_with_a_worker,
        catches: &[
            (Ring(Mutant::GatePass), RACE),
            (Step(FREES_AT_ONCE), RACE),
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
            (Ring(Mutant::RosterSleeperFence), ASLEEP),
            (Ring(Mutant::RosterRingerFence), ASLEEP),
        ],
    },
];

const EARLY_COMPLETION: &str = "the mover completes before it copies";
const EARLY_END: &str = "the end is known before its credit is back";
const FREES_AT_ONCE: &str = "the drop frees the memory of what is in flight";

/// An operation copies `src[id]` to `dst[id]`.
struct World {
    credits: Credits,
    gate: Gate,
    lane: Lane<1>,
    roster: Roster,
    completions: Producer,
    consumer: RefCell<Consumer>,
    bell: Doorbell,
    service: Gate,
    blocking: Blocking,
    src: [Payload; 3],
    dst: [Payload; 3],
    submitted: Notes<u64>,
    executed: Notes<u64>,
}

impl World {
    fn new(entries: usize) -> Self {
        let (completions, consumer) = completion::ring(entries);
        Self {
            credits: Credits::new(entries as u64),
            gate: Gate::default(),
            lane: Lane::new(entries),
            roster: Roster::new(1),
            completions,
            consumer: RefCell::new(consumer),
            bell: Doorbell::default(),
            service: Gate::default(),
            blocking: Blocking::new(),
            src: Default::default(),
            dst: Default::default(),
            submitted: Notes::new(),
            executed: Notes::new(),
        }
    }

    /// Publishes an operation that holds a credit.
    fn publish(&self, id: u64) {
        self.submitted.add(id);
        self.lane.push_batch(&[[id]]);
    }

    /// Claims one operation.
    fn claim(&self) -> Option<u64> {
        let mut into = [[0]];
        let (taken, _) = self.lane.pop(&mut into, 1, |_| 1);
        (taken == 1).then_some(into[0][0])
    }

    fn copy(&self, id: u64) {
        self.executed.add(id);
        self.dst[index(id)].write(self.src[index(id)].read());
    }

    fn complete(&self, id: u64) {
        self.completions.push_batch(&[[id, 0]]);
    }

    /// Gives an operation's credit back, and lets its end be known by this.
    fn end_silently(&self, known: impl Fn()) {
        if is_faulty(EARLY_END) {
            known();
        }
        self.credits.give_back(1);
        if !is_faulty(EARLY_END) {
            known();
        }
    }

    /// Wakes the reaper, if it sleeps and enough has come.
    fn ring_reaper(&self) {
        let _ = self.bell.ring_with(&self.blocking, |_, target| self.completions.pushed_relaxed() >= target, |_| false);
    }

    /// Claims one operation, if there is one, and executes it.
    fn execute(&self) -> bool {
        let Some(id) = self.claim() else { return false };
        if is_faulty(EARLY_COMPLETION) {
            self.complete(id);
            self.copy(id);
        } else {
            self.copy(id);
            self.complete(id);
        }
        true
    }

    /// Reaps one completion, if there is one; its credit is still to be given back.
    fn reap(&self) -> Option<u64> {
        let [id, _] = self.consumer.borrow_mut().pop()?;
        Some(id)
    }

    fn each_is_executed_once(&self) {
        let (mut submitted, mut executed) = (self.submitted.all(), self.executed.all());
        submitted.sort_unstable();
        executed.sort_unstable();
        assert_eq!(executed, submitted, "each operation is executed once");
    }
}

fn index(id: u64) -> usize {
    usize::try_from(id).expect("the models count to three")
}

/// Hunts memory that is used by two at once, anywhere on the way of an operation round a queue with one entry (P1, P2).
///
/// The submitter writes the same source again as soon as it holds the credit, the mover the same destination.
fn round_trip() {
    let submit = |world: &World| {
        let mut value = 1;
        for _ in 0..3 {
            if world.credits.take(1) {
                world.src[0].write(value);
                world.publish(0);
                value += 1;
            }
        }
    };
    let drive = |world: &World| {
        world.execute();
        world.execute();
    };
    let reap = |world: &World| {
        for value in 1..=2 {
            if world.reap().is_none() {
                break;
            }
            assert_eq!(world.dst[0].read(), value);
            world.credits.give_back(1);
        }
    };
    play(World::new(1), &[submit, drive, reap], |_| ());
}

/// Hunts an operation that two movers execute, and a slot that goes round under the slower one (P2).
///
/// The submitter reaps itself. The faster mover's completion may let it reuse the slot that the slower one has claimed.
fn two_movers() {
    let own = |world: &World| {
        for id in 0..2 {
            world.src[index(id)].write(id + 1);
            world.publish(id);
        }
        let mut next = 2;
        for _ in 0..2 {
            if let Some(id) = world.reap() {
                assert_eq!(world.dst[index(id)].read(), id + 1);
                world.credits.give_back(1);
                if next == 2 && world.credits.take(1) {
                    world.src[index(next)].write(next + 1);
                    world.publish(next);
                    next += 1;
                }
            }
        }
    };
    let drive = |world: &World| _ = world.execute();
    let world = World::new(2);
    assert!(world.credits.take(2));
    play(world, &[own, drive, drive], |world| {
        while world.execute() {}
        world.each_is_executed_once();
    });
}

/// Hunts a proof that takes credits to come back in order, by the reaper: this mover returns some by itself (P2, P4).
/// And an end that is known before its credit is back (P7).
fn silent_return() {
    let submit = |world: &World| {
        let mut taken = 0;
        for id in 0..3 {
            let has_room = taken - world.completions.skipped() < world.credits.total();
            if world.credits.take(1) {
                taken += 1;
                world.src[index(id)].write(id + 1);
                world.publish(id);
            } else {
                assert!(!has_room, "an end has room");
            }
        }
    };
    let drive = |world: &World| {
        for _ in 0..3 {
            match world.claim() {
                Some(0) => {
                    world.copy(0);
                    world.complete(0);
                }
                Some(id) => {
                    world.copy(id);
                    world.end_silently(|| world.completions.skip(1));
                }
                None => {}
            }
        }
    };
    let reap = |world: &World| {
        if let Some(id) = world.reap() {
            assert_eq!(world.dst[index(id)].read(), id + 1);
            world.credits.give_back(1);
        }
    };
    play(World::new(2), &[submit, drive, reap], |_| ());
}

/// Hunts an end within another's completion that is known before its credit is back (P7): who reaps that completion has
/// room for both.
fn shared_return() {
    let own = |world: &World| {
        for _ in 0..2 {
            if world.reap().is_some() {
                assert_eq!((world.dst[0].read(), world.dst[1].read()), (1, 2));
                world.credits.give_back(1);
                assert!(world.credits.take(2), "an end has room");
                break;
            }
        }
    };
    let drive = |world: &World| {
        let ids = [world.claim(), world.claim()];
        ids.into_iter().flatten().for_each(|id| world.copy(id));
        world.end_silently(|| world.complete(0));
    };
    let world = World::new(2);
    assert!(world.credits.take(2));
    for id in 0..2 {
        world.src[index(id)].write(id + 1);
        world.publish(id);
    }
    play(world, &[own, drive], |_| ());
}

impl World {
    /// The life of a driver thread, until it has executed so many operations or the service is closed.
    fn serve(&self, operations: usize) {
        let mut executed = 0;
        while executed < operations && !self.service.is_closed() {
            if self.execute() {
                self.ring_reaper();
                executed += 1;
                continue;
            }
            self.roster.announce(0, Wake::Blocked);
            if self.lane.is_empty() && !self.service.is_closed() {
                self.roster.sleep(0, &self.blocking, None);
            }
            self.roster.retract(0);
        }
    }

    /// Sleeps until a completion is ready, and takes it.
    fn wait(&self) -> u64 {
        loop {
            if let Some(id) = self.reap() {
                return id;
            }
            let popped = self.consumer.borrow().popped();
            self.bell.announce(Wake::Blocked, popped + 1);
            if self.consumer.borrow_mut().ready(1) == 0 {
                self.bell.sleep(&self.blocking, None);
            }
            self.bell.retract();
        }
    }
}

/// Hunts a driver and a reaper that each wait for the other (P6), twice round a queue with one entry.
fn asleep_all_around() {
    let own = |world: &World| {
        for value in 1..=2 {
            assert!(world.credits.take(1), "the reaper has given it back");
            world.src[0].write(value);
            world.publish(0);
            world.roster.ring_with(&world.blocking);
            assert_eq!((world.wait(), world.dst[0].read()), (0, value));
            world.credits.give_back(1);
        }
    };
    play(World::new(1), &[own, |world| world.serve(2)], |_| ());
}

/// Hunts an operation submitted behind the back of a drop, in a queue that the reaper drives itself (P8, P6).
///
/// The drop knows how many have passed the gate, and drives and waits until as many have ended.
fn submit_against_drop() {
    let submit = |world: &World| {
        for id in 0..2 {
            if world.gate.pass(1) == Passage::Passed {
                world.publish(id);
                let _ = world.bell.ring_with(&world.blocking, |_, _| true, |_| false);
            }
        }
    };
    let drop = |world: &World| {
        let passed = world.gate.close();
        while world.completions.pushed() < passed {
            if !world.execute() {
                world.bell.announce(Wake::Blocked, passed);
                if world.lane.is_empty() {
                    world.bell.sleep(&world.blocking, None);
                }
                world.bell.retract();
            }
        }
    };
    play(World::new(2), &[drop, submit], World::each_is_executed_once);
}

/// Hunts a drop that returns, so that the memory is freed, while a worker still copies; and one that never returns (P8,
/// P7, P6).
fn drop_with_a_worker() {
    let submit = |world: &World| {
        if world.gate.pass(1) == Passage::Passed {
            world.publish(0);
            world.roster.ring_with(&world.blocking);
        }
    };
    let drop = |world: &World| {
        let passed = world.gate.close();
        if !is_faulty(FREES_AT_ONCE) {
            while world.consumer.borrow().popped() < passed {
                world.wait();
            }
        }
        world.src[0].write(9);
        world.dst[0].write(9);
        world.service.close();
        while world.roster.ring_with(&world.blocking).is_some() {}
    };
    play(World::new(1), &[drop, |world| world.serve(1), submit], |_| ());
}
