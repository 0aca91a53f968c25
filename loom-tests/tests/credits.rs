//! Credits: that whoever takes one knows what its giver knew, and that none is made or lost.

use loom_tests::Fault::{Ring, Step};
use loom_tests::{Model, Payload, RACE, is_faulty, play};
use memring_ring::Credits;
use memring_ring::sync::Mutant;

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "credits::knowledge",
        bound: 4,
        body: knowledge,
        catches: &[(Ring(Mutant::CreditTake), RACE), (Ring(Mutant::CreditGive), RACE)],
    },
    Model {
        name: "credits::all_or_nothing",
        bound: 4,
        body: all_or_nothing,
        catches: &[(Step(PIECEMEAL), "each holds one and waits for the other")],
    },
];

const PIECEMEAL: &str = "credits are taken one by one";

struct World {
    credits: Credits,
    payloads: [Payload; 2],
}

impl World {
    fn new(total: u64) -> Self {
        Self { credits: Credits::new(total), payloads: [Payload::new(), Payload::new()] }
    }
}

/// Hunts a credit that is taken by somebody who does not know what the one who gave it back had finished with (P2).
///
/// Two give one each. Whoever takes one of the two knows what the second of them did, since that giver's own credit may
/// have come first or last; whoever takes both knows what both did.
fn knowledge() {
    fn give(world: &World, reader: usize) {
        assert_eq!(world.payloads[reader].read(), 0);
        world.credits.give_back(1);
    }
    let take = |world: &World| {
        if world.credits.take(2) {
            world.payloads.iter().for_each(|payload| payload.write(1));
        }
    };
    let world = World::new(2);
    assert!(world.credits.take(2));
    play(world, &[|world| give(world, 0), |world| give(world, 1), take], |_| ());
}

/// Hunts two who each hold a part of what they need, and credits that appear or vanish (P3).
fn all_or_nothing() {
    let take_and_give_back = |world: &World| {
        let got = if is_faulty(PIECEMEAL) {
            let first = world.credits.take(1);
            let second = first && world.credits.take(1);
            assert_eq!(first, second, "each holds one and waits for the other");
            second
        } else {
            world.credits.take(2)
        };
        if got {
            world.credits.give_back(2);
        }
    };
    play(World::new(2), &[take_and_give_back, take_and_give_back], |world| {
        assert_eq!(world.credits.available(), 2, "no credit is made or lost");
        assert!(world.credits.take(2));
    });
}
