//! The completion ring: that a completion is seen with the bytes it announces, that its slot is reused only when it was
//! reaped, and that whoever sees the count sees that the operations have ended.

use std::cell::RefCell;

use loom_tests::Fault::{Ring, Step};
use loom_tests::{Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::sync::Mutant;
use memring_ring::{Consumer, Credits, PHASE_BIT, Producer, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "completion::publication",
        bound: 4,
        body: publication,
        catches: &[(Ring(Mutant::CompletionPublish), RACE), (Ring(Mutant::CompletionObserve), RACE)],
    },
    Model {
        name: "completion::contiguity",
        bound: 4,
        body: contiguity,
        catches: &[(Step(ONE_BY_ONE), "a batch is torn")],
    },
    Model {
        name: "completion::reuse",
        bound: 4,
        body: reuse,
        catches: &[(Ring(Mutant::CreditTake), RACE), (Ring(Mutant::CreditGive), RACE)],
    },
    Model {
        name: "completion::reservation_chain",
        bound: 3,
        body: reservation_chain,
        catches: &[(Ring(Mutant::CompletionReserve), RACE)],
    },
    Model {
        name: "completion::the_end",
        bound: 4,
        body: the_end,
        catches: &[(Ring(Mutant::CompletionReserve), RACE), (Ring(Mutant::CompletionEnd), RACE)],
    },
];

const ONE_BY_ONE: &str = "a batch is pushed one by one";

struct World {
    producer: Producer,
    /// The reaper's alone, whatever thread it is.
    consumer: RefCell<Consumer>,
    credits: Credits,
    payloads: [Payload; 2],
    popped: Notes<u64>,
}

impl World {
    fn new(slots: usize) -> Self {
        let (producer, consumer) = completion::ring(slots);
        Self {
            producer,
            consumer: RefCell::new(consumer),
            credits: Credits::new(slots as u64),
            payloads: [Payload::new(), Payload::new()],
            popped: Notes::new(),
        }
    }

    /// Pushes completions whose words are all ones but for the phase.
    fn push(&self, completions: &[u64]) {
        let completions: Vec<[u64; 2]> = completions.iter().map(|&user_data| [user_data, u64::MAX]).collect();
        self.producer.push_batch(&completions);
    }

    fn push_credited(&self, user_data: u64) {
        if self.credits.take(1) {
            self.push(&[user_data]);
        }
    }

    fn pop(&self) -> Option<u64> {
        let [user_data, word] = self.consumer.borrow_mut().pop()?;
        assert_eq!(word, !PHASE_BIT, "the phase bit is the ring's");
        self.popped.add(user_data);
        Some(user_data)
    }

    fn pop_and_give_back(&self) {
        if self.pop().is_some() {
            self.credits.give_back(1);
        }
    }
}

/// Hunts a completion that is seen before its words, or before the bytes that it announces (P1).
fn publication() {
    let complete = |world: &World| {
        world.payloads[0].write(7);
        world.push(&[5]);
    };
    let reap = |world: &World| {
        if let Some(user_data) = world.pop() {
            assert_eq!((user_data, world.payloads[0].read()), (5, 7));
        }
    };
    play(World::new(1), &[complete, reap], |_| ());
}

/// Hunts a batch with another's completion inside, and a count of ready ones that runs ahead of publication (P1, P5).
fn contiguity() {
    fn batch(world: &World, completions: [u64; 2]) {
        if is_faulty(ONE_BY_ONE) {
            completions.iter().for_each(|&user_data| world.push(&[user_data]));
        } else {
            world.push(&completions);
        }
    }
    let reap = |world: &World| {
        let ready = world.consumer.borrow_mut().ready(4);
        for _ in 0..ready {
            assert!(world.pop().is_some(), "what is ready can be popped");
        }
    };
    play(World::new(4), &[|world| batch(world, [11, 12]), |world| batch(world, [21, 22]), reap], |world| {
        while world.pop().is_some() {}
        let popped = world.popped.all();
        assert!(popped == [11, 12, 21, 22] || popped == [21, 22, 11, 12], "a batch is torn: {popped:?}");
    });
}

/// Hunts a slot that is overwritten before it was reaped, and a lap that is taken for the one before (P2, P3).
fn reuse() {
    let complete = |world: &World| (1..=4).for_each(|user_data| world.push_credited(user_data));
    let reap = |world: &World| (0..3).for_each(|_| world.pop_and_give_back());
    play(World::new(1), &[complete, reap], |world| {
        world.pop();
        let popped = world.popped.all();
        assert!(popped.is_sorted_by(|a, b| a < b), "completions come once and in order: {popped:?}");
    });
}

/// Hunts a producer that took its credit early and reserves late, in a slot that it does not know to be reaped (P4).
fn reservation_chain() {
    let early = |world: &World| world.push_credited(10);
    let late = |world: &World| (1..=2).for_each(|user_data| world.push_credited(user_data));
    let reap = |world: &World| (0..2).for_each(|_| world.pop_and_give_back());
    play(World::new(2), &[early, late, reap], |_| ());
}

/// Hunts an owner that counts all operations as ended and frees memory that one of them still uses (P7).
///
/// The owner looks at the count only, not at the completions.
fn the_end() {
    fn execute(world: &World, operation: usize) {
        world.payloads[operation].write(7);
        world.push(&[operation as u64]);
    }
    let free = |world: &World| {
        if world.producer.pushed() == 2 {
            world.payloads.iter().for_each(|payload| payload.write(0));
        }
    };
    play(World::new(2), &[|world| execute(world, 0), |world| execute(world, 1), free], |_| ());
}
