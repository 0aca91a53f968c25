//! The roster: that what is published is driven although all drivers were about to sleep, and that a close wakes them
//! all.

use loom_tests::Fault::{Ring, Step};
use loom_tests::{ASLEEP, Blocking, Event, Model, is_faulty, play};
use memring_ring::sync::{AtomicU64, Mutant, Ordering};
use memring_ring::{Gate, Lane, Roster, Wake};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "roster::one_sleeper_two_ringers",
        bound: 3,
        body: one_sleeper_two_ringers,
        catches: &[(Ring(Mutant::RosterSleeperFence), ASLEEP), (Ring(Mutant::RosterRingerFence), ASLEEP)],
    },
    Model {
        name: "roster::two_sleepers_one_ringer",
        bound: 3,
        body: two_sleepers_one_ringer,
        catches: &[
            (Step(KEEPS_IT), ASLEEP),
            (Ring(Mutant::RosterRetract), ASLEEP),
            (Ring(Mutant::RosterSleeperFence), ASLEEP),
            (Ring(Mutant::RosterRingerFence), ASLEEP),
        ],
    },
    Model {
        name: "roster::two_sleepers_two_ringers",
        bound: 2,
        body: two_sleepers_two_ringers,
        catches: &[(Ring(Mutant::RosterSleeperFence), ASLEEP), (Ring(Mutant::RosterRingerFence), ASLEEP)],
    },
    Model {
        name: "roster::close_wakes_all",
        bound: 3,
        body: close_wakes_all,
        catches: &[
            (Step(WAKES_ONE), ASLEEP),
            (Ring(Mutant::RosterSleeperFence), ASLEEP),
            (Ring(Mutant::RosterRingerFence), ASLEEP),
        ],
    },
    Model {
        name: "roster::armed_member",
        bound: 4,
        body: armed_member,
        catches: &[
            (Step(WAITS_ANYWAY), ASLEEP),
            (Ring(Mutant::RosterSleeperFence), ASLEEP),
            (Ring(Mutant::RosterRingerFence), ASLEEP),
        ],
    },
    Model {
        name: "roster::roused",
        bound: 4,
        body: roused,
        catches: &[(Ring(Mutant::RosterRouse), ASLEEP), (Step(NO_SECOND_LOOK), ASLEEP)],
    },
];

const NO_SECOND_LOOK: &str = "a driver that steps aside does not look again";
const KEEPS_IT: &str = "a driver that leaves something wakes nobody for it";
const WAKES_ONE: &str = "the close wakes one driver only";
const WAITS_ANYWAY: &str = "a member that was rung before it could arm waits all the same";

struct World {
    lane: Lane<1>,
    roster: Roster,
    service: Gate,
    blocking: Blocking,
    event: Event,
    told: AtomicU64,
}

impl World {
    fn new(drivers: usize) -> Self {
        Self {
            lane: Lane::new(2),
            roster: Roster::new(drivers),
            service: Gate::default(),
            blocking: Blocking::new(),
            event: Event::new(),
            told: AtomicU64::new(0),
        }
    }

    fn submit(&self, entries: usize) {
        self.lane.push_batch(&vec![[1]; entries]);
        self.wake_one();
    }

    fn wake_one(&self) -> bool {
        let Some((_, how)) = self.roster.ring_with(&self.blocking) else { return false };
        if how == Wake::Armed {
            self.event.signal();
        }
        true
    }

    fn take_one(&self) -> bool {
        self.lane.pop(&mut [[0]], 1, |_| 1).0 == 1
    }

    /// One sleep of a driver that has found nothing.
    fn sleep(&self, member: usize) {
        self.roster.announce(member, Wake::Blocked);
        if self.lane.is_empty() && !self.service.is_closed() {
            self.roster.sleep(member, &self.blocking, None);
        }
        self.roster.retract(member);
    }

    /// The life of a driver that ends after so many entries.
    fn drive(&self, member: usize, entries: usize) {
        for _ in 0..entries {
            while !self.take_one() {
                self.sleep(member);
            }
            if !self.lane.is_empty() && !is_faulty(KEEPS_IT) {
                self.wake_one();
            }
        }
    }
}

/// Hunts a driver that sleeps while an entry waits, and a late ringer that takes a newer announcement and wakes nobody
/// (P6).
fn one_sleeper_two_ringers() {
    play(World::new(1), &[|world| world.drive(0, 2), |world| world.submit(1), |world| world.submit(1)], |_| ());
}

/// Hunts a batch of which the second half is left to a driver that nobody wakes (P6).
fn two_sleepers_one_ringer() {
    play(World::new(2), &[|world| world.drive(0, 1), |world| world.drive(1, 1), |world| world.submit(2)], |_| ());
}

/// Hunts a wake that goes to the wrong one: each entry has its ringer, each driver takes one (P6).
///
/// A driver's look may stop at an entry that is reserved and not published, or begin at a `head` of long ago; whoever
/// publishes that entry rings later.
fn two_sleepers_two_ringers() {
    let drivers: [fn(&World); 2] = [|world| world.drive(0, 1), |world| world.drive(1, 1)];
    play(World::new(2), &[drivers[0], drivers[1], |world| world.submit(1), |world| world.submit(1)], |_| ());
}

/// Hunts a driver that sleeps on after the service was closed (P6).
fn close_wakes_all() {
    fn serve(world: &World, member: usize) {
        while !world.service.is_closed() {
            world.sleep(member);
        }
    }
    let close = |world: &World| {
        world.service.close();
        while world.wake_one() && !is_faulty(WAKES_ONE) {}
    };
    play(World::new(2), &[|world| serve(world, 0), |world| serve(world, 1), close], |_| ());
}

/// Hunts a driver that turns its sleep into one in the kernel just as it is rung (P6).
fn armed_member() {
    let drive = |world: &World| {
        while !world.take_one() {
            world.roster.announce(0, Wake::Blocked);
            if world.lane.is_empty() && (world.roster.arm(0) || is_faulty(WAITS_ANYWAY)) {
                world.event.wait();
                assert!(!world.roster.is_announced(0), "the event was signalled for this announcement");
            }
            world.roster.retract(0);
        }
    };
    play(World::new(1), &[drive, |world| world.submit(1)], |_| ());
}

/// Hunts a driver that steps aside, since it can take nothing, and sleeps on although it is told to come (P6e).
///
/// What it is told of stands in a word that nothing else orders. Entries arrive meanwhile, and ring for nobody.
fn roused() {
    let drive = |world: &World| {
        while world.told.load(Ordering::Relaxed) == 0 {
            world.roster.step_aside(0);
            // Ordering: Relaxed, both; the member's word has ordered it.
            if world.told.load(Ordering::Relaxed) == 0 || is_faulty(NO_SECOND_LOOK) {
                world.roster.sleep(0, &world.blocking, None);
            }
            world.roster.retract(0);
        }
    };
    let tell = |world: &World| {
        world.told.store(1, Ordering::Relaxed); // Ordering: published by the rousing.
        world.roster.rouse(0, &world.blocking);
    };
    play(World::new(1), &[drive, tell, |world| world.submit(1)], |_| ());
}
