//! Roles: that one thread at a time has one, and that its holder sees what was published before every call.

use std::cell::RefCell;

use loom_tests::Fault::{Ring, Step};
use loom_tests::{Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::sync::Mutant;
use memring_ring::{Consumer, Producer, Role, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "role::one_holder",
        bound: 4,
        body: one_holder,
        catches: &[(Ring(Mutant::RoleTake), RACE), (Ring(Mutant::RoleRelease), RACE)],
    },
    Model {
        name: "role::no_call_is_lost",
        bound: 5,
        body: no_call_is_lost,
        catches: &[
            (Ring(Mutant::RoleTake), RACE),
            (Ring(Mutant::RoleRelease), "left behind"),
            (Step(LOOKS_ONCE), "left behind"),
            (Step(CALLS_FIRST), "left behind"),
            (Step(ONLY_TRIES), "left behind"),
        ],
    },
    Model {
        name: "role::called_by_many",
        bound: 2,
        body: called_by_many,
        catches: &[
            (Ring(Mutant::RoleCall), "left behind"),
            (Ring(Mutant::RoleTake), "left behind"),
            (Ring(Mutant::RoleRelease), "left behind"),
        ],
    },
];

const LOOKS_ONCE: &str = "the holder does not look once more for who has called";
const CALLS_FIRST: &str = "the call comes before the publication";
const ONLY_TRIES: &str = "who finds the role held leaves no call";

/// The role is that of who takes what was published.
struct World {
    role: Role,
    /// What only the holder touches.
    held: Payload,
    published: Producer,
    taken: RefCell<Consumer>,
    done: Notes<u64>,
}

impl World {
    fn new(slots: usize) -> Self {
        let (published, taken) = completion::ring(slots);
        Self { role: Role::default(), held: Payload::new(), published, taken: RefCell::new(taken), done: Notes::new() }
    }

    /// Publishes one thing, and sees to it that somebody takes it.
    fn publish(&self) {
        if !is_faulty(CALLS_FIRST) {
            self.published.push_batch(&[[1, 0]]);
        }
        let is_holder = if is_faulty(ONLY_TRIES) { self.role.try_take() } else { self.role.call() };
        if is_faulty(CALLS_FIRST) {
            self.published.push_batch(&[[1, 0]]);
        }
        if is_holder {
            self.hold();
        }
    }

    fn hold(&self) {
        loop {
            while let Some([one, _]) = self.taken.borrow_mut().pop::<[u64; 2]>() {
                self.done.add(one);
            }
            if self.role.release() || (is_faulty(LOOKS_ONCE) && self.role.release()) {
                break;
            }
        }
    }

    fn nothing_is_left_behind(&self, count: usize) {
        assert_eq!(self.done.all().len(), count, "something is left behind");
    }
}

/// Hunts two who have the role at once, and one who takes it and does not know what the last one did (P12).
fn one_holder() {
    let call = |world: &World| {
        if world.role.call() {
            world.held.write(1);
            while !world.role.release() {
                world.held.write(2);
            }
        }
    };
    let try_take = |world: &World| {
        if world.role.try_take() {
            world.held.write(3);
            while !world.role.release() {}
        }
    };
    play(World::new(1), &[call, call, try_take], |world| {
        assert!(world.role.try_take(), "the role is free in the end");
    });
}

/// Hunts something published that its holder does not see, although who published it has called (P12).
fn no_call_is_lost() {
    play(World::new(2), &[World::publish, World::publish], |world| world.nothing_is_left_behind(2));
}

/// Hunts a call that counts for two: it says that something was published, but not what (P12).
fn called_by_many() {
    play(World::new(4), &[World::publish, World::publish, World::publish], |world| world.nothing_is_left_behind(3));
}
