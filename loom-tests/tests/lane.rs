//! Lanes: that an entry is seen whole, once, and in order, and that a slot is reused only when its last reader is gone.

use loom_tests::Fault::{Ring, Step};
use loom_tests::{Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::sync::{AtomicU64, Mutant, Ordering, fence};
use memring_ring::{Credits, Lane};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "lane::publication",
        bound: 4,
        body: publication,
        catches: &[(Ring(Mutant::LanePublish), RACE), (Ring(Mutant::LaneObserve), RACE)],
    },
    Model { name: "lane::contiguity", bound: 3, body: contiguity, catches: &[(Step(ONE_BY_ONE), "a batch is torn")] },
    Model {
        name: "lane::reuse",
        bound: 4,
        body: reuse,
        catches: &[(Ring(Mutant::CreditTake), RACE), (Ring(Mutant::CreditGive), RACE)],
    },
    Model {
        name: "lane::two_poppers",
        bound: 3,
        body: two_poppers,
        catches: &[(Ring(Mutant::LaneClaim), "taken once"), (Ring(Mutant::LaneFree), RACE)],
    },
    Model {
        name: "lane::reservation_chain",
        bound: 3,
        body: reservation_chain,
        catches: &[(Ring(Mutant::LaneReserve), RACE)],
    },
    Model {
        name: "lane::push_back",
        bound: 3,
        body: push_back,
        catches: &[(Ring(Mutant::LaneClaim), "taken once"), (Ring(Mutant::LaneFree), RACE)],
    },
    Model {
        name: "lane::push_back_and_reserve",
        bound: 3,
        body: push_back_and_reserve,
        catches: &[(Ring(Mutant::LaneReserve), RACE)],
    },
    Model {
        name: "lane::never_empty",
        bound: 4,
        body: never_empty,
        catches: &[(Ring(Mutant::LaneObserve), "is taken for empty")],
    },
    Model { name: "lane::second_look", bound: 4, body: second_look, catches: &[(Step(NO_FENCE), "is overlooked")] },
];

const ONE_BY_ONE: &str = "a batch is pushed one by one";
const NO_FENCE: &str = "the second look has no fence";

struct World {
    lane: Lane<1>,
    credits: Credits,
    /// The memory behind the entries: the one with ticket `t` names `payloads[t % 2]`, unless a model says otherwise.
    payloads: [Payload; 2],
    pushed: Notes<u64>,
    taken: Notes<u64>,
    told: AtomicU64,
}

impl World {
    fn new(slots: usize) -> Self {
        Self {
            lane: Lane::new(slots),
            credits: Credits::new(slots as u64),
            payloads: [Payload::new(), Payload::new()],
            pushed: Notes::new(),
            taken: Notes::new(),
            told: AtomicU64::new(0),
        }
    }

    fn push(&self, entries: &[u64]) {
        entries.iter().for_each(|&entry| self.pushed.add(entry));
        let entries: Vec<[u64; 1]> = entries.iter().map(|&entry| [entry]).collect();
        self.lane.push_batch(&entries);
    }

    fn push_credited(&self, entry: u64) {
        if self.credits.take(1) {
            self.push(&[entry]);
        }
    }

    fn pop(&self, most: usize) -> Vec<u64> {
        let mut into = vec![[0]; most];
        let (taken, _) = self.lane.pop(&mut into, u64::MAX, |_| 1);
        into[..taken].iter().for_each(|&[entry]| self.taken.add(entry));
        into[..taken].iter().map(|&[entry]| entry).collect()
    }

    fn pop_and_give_back(&self) {
        self.credits.give_back(self.pop(1).len() as u64);
    }
}

/// Hunts an entry that is seen before its words, or before the memory it names (P1).
fn publication() {
    let produce = |world: &World| {
        world.payloads[0].write(7);
        world.push(&[5]);
    };
    let consume = |world: &World| {
        if let [entry] = world.pop(1)[..] {
            assert_eq!((entry, world.payloads[0].read()), (5, 7));
        }
    };
    play(World::new(1), &[produce, consume], |_| ());
}

/// Hunts a batch of one producer with another's entry inside, and entries of one producer out of order (P5).
fn contiguity() {
    fn batch(world: &World, entries: [u64; 2]) {
        if is_faulty(ONE_BY_ONE) {
            entries.iter().for_each(|&entry| world.push(&[entry]));
        } else {
            world.push(&entries);
        }
    }
    let consume = |world: &World| {
        world.pop(4);
        world.pop(4);
    };
    play(World::new(4), &[|world| batch(world, [11, 12]), |world| batch(world, [21, 22]), consume], |world| {
        world.pop(4);
        let taken = world.taken.all();
        assert!(taken == [11, 12, 21, 22] || taken == [21, 22, 11, 12], "a batch is torn: {taken:?}");
    });
}

/// Hunts a slot, or the memory that its entry names, that is written while its last reader still reads (P2, P3).
///
/// The one popper gives credits back in order, so each credit vouches for the payload two tickets earlier.
fn reuse() {
    let produce = |world: &World| {
        for _ in 0..3 {
            if world.credits.take(1) {
                let ticket = world.pushed.all().len();
                world.payloads[ticket % 2].write(ticket as u64);
                world.push(&[ticket as u64]);
            }
        }
    };
    let consume = |world: &World| {
        for ticket in 0..2 {
            if let [entry] = world.pop(1)[..] {
                assert_eq!((entry, world.payloads[ticket].read()), (ticket as u64, ticket as u64));
                world.credits.give_back(1);
            } else {
                break;
            }
        }
    };
    play(World::new(2), &[produce, consume], |_| ());
}

/// Hunts an entry that two poppers take, or none; and a slot rewritten under a popper that still copies, when the
/// credit that let it be rewritten came by way of the *other* popper's entry (P2).
///
/// Loom stops each popper between its copy and its claim, while the lane goes round.
fn two_poppers() {
    let produce = |world: &World| (1..=3).for_each(|entry| world.push_credited(entry));
    play(World::new(2), &[produce, World::pop_and_give_back, World::pop_and_give_back], |world| {
        world.pop(2);
        let (mut taken, pushed) = (world.taken.all(), world.pushed.all());
        taken.sort_unstable();
        assert_eq!(taken, pushed, "each entry is taken once");
    });
}

/// Hunts a producer that took its credit early and reserves late, in a slot that it does not know to be free (P4).
///
/// Its credit was there from the beginning, so it has learnt nothing from it. What it must know, the other producer's
/// credit has brought; the reservation before its own passes it on.
fn reservation_chain() {
    let early = |world: &World| world.push_credited(10);
    let late = |world: &World| (1..=2).for_each(|entry| world.push_credited(entry));
    let consume = |world: &World| (0..2).for_each(|_| world.pop_and_give_back());
    play(World::new(2), &[early, late, consume], |_| ());
}

/// Hunts a look that takes a lane for empty because it began at a `head` of long ago (P6).
///
/// The one slot has gone round. Who looks after its fence finds the entry published before the other's fence, however
/// old the `head` it first reads.
fn second_look() {
    let produce = |world: &World| {
        world.push_credited(1);
        if world.credits.take(1) {
            world.push(&[2]);
            fence(Ordering::SeqCst); // Ordering: partner: the looker's fence.
            world.told.store(1, Ordering::Relaxed); // Ordering: the fence has ordered it.
        }
    };
    let look = |world: &World| {
        // Ordering: Relaxed; the fence below orders it.
        if world.told.load(Ordering::Relaxed) == 1 {
            if !is_faulty(NO_FENCE) {
                fence(Ordering::SeqCst); // Ordering: partner: the producer's fence.
            }
            assert!(!world.lane.is_empty(), "the second entry is overlooked");
        }
    };
    play(World::new(1), &[produce, World::pop_and_give_back, look], |_| ());
}

/// Hunts a popper that meets a slot of a later lap, and does not look for the `head` that let it go round (P2).
///
/// Two entries wait, somebody takes one, somebody adds one: at no time is the lane empty.
fn never_empty() {
    let world = World::new(2);
    assert!(world.credits.take(2));
    world.push(&[1, 2]);
    let pop = |world: &World| assert!(!world.pop(1).is_empty(), "a lane that never was is taken for empty");
    play(world, &[pop, World::pop_and_give_back, |world| world.push_credited(3)], |_| ());
}

impl World {
    /// Pops an entry, and pushes it again if it is not the wanted one, with the credit that it holds.
    fn withdraw(&self, wanted: u64) {
        let mut into = [[0]];
        if self.lane.pop(&mut into, 1, |_| 1).0 == 1 {
            if into[0] == [wanted] {
                self.taken.add(wanted);
                self.credits.give_back(1);
            } else {
                self.lane.push_batch(&into);
            }
        }
    }
}

/// Hunts an entry that a canceller and a driver both take, or that is lost on its way back into the lane (P4, P5).
fn push_back() {
    let world = World::new(2);
    assert!(world.credits.take(2));
    world.push(&[1, 2]);
    let cancel = |world: &World| (0..2).for_each(|_| world.withdraw(2));
    play(world, &[cancel, World::pop_and_give_back, |world| world.push_credited(3)], |world| {
        world.pop(2);
        let (mut taken, pushed) = (world.taken.all(), world.pushed.all());
        taken.sort_unstable();
        assert_eq!(taken, pushed, "each entry is taken once");
    });
}

/// Hunts a slot that is written before its last reader is known to be gone, when what came between was pushed back
/// (P4).
///
/// The entry holds one credit all the way, and has the lane's one slot twice. Who pushes next got a credit that brought
/// nothing.
fn push_back_and_reserve() {
    let world = World::new(2);
    assert!(world.credits.take(1));
    world.push(&[1]);
    let cancel = |world: &World| (0..2).for_each(|_| world.withdraw(9));
    play(world, &[cancel, |world| world.push_credited(3)], |world| {
        world.pop(2);
        let (mut taken, pushed) = (world.taken.all(), world.pushed.all());
        taken.sort_unstable();
        assert_eq!(taken, pushed, "each entry is taken once");
    });
}
