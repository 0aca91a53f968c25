//! The doorbell: that the reaper never sleeps on what has come, and is woken once for what it asked for.

use std::cell::RefCell;

use loom_tests::Fault::{Ring, Step};
use loom_tests::{ASLEEP, Blocking, Event, Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::sync::Mutant;
use memring_ring::{Consumer, Doorbell, Lane, Producer, Rung, Wake, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "doorbell::no_lost_wake",
        bound: 5,
        body: no_lost_wake,
        catches: &[(Ring(Mutant::SleeperFence), ASLEEP), (Ring(Mutant::RingerFence), ASLEEP)],
    },
    Model {
        name: "doorbell::two_for_one_wake",
        bound: 3,
        body: two_for_one_wake,
        catches: &[
            (Step(PROGRESS_FIRST), ASLEEP),
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
        ],
    },
    Model {
        name: "doorbell::new_target",
        bound: 4,
        body: new_target,
        catches: &[(Ring(Mutant::SleeperFence), ASLEEP), (Ring(Mutant::RingerFence), ASLEEP)],
    },
    Model {
        name: "doorbell::armed_against_submit",
        bound: 4,
        body: armed_against_submit,
        catches: &[
            (Step(NO_SECOND_LOOK), ASLEEP),
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
        ],
    },
    Model {
        name: "doorbell::one_wake",
        bound: 4,
        body: one_wake,
        catches: &[(Step(ANNOUNCED_TWICE), "one wake for one announcement")],
    },
    Model {
        name: "doorbell::sleep_while_armed",
        bound: 3,
        body: sleep_while_armed,
        catches: &[(Step(FORGETS), ASLEEP)],
    },
    Model {
        name: "doorbell::nothing_to_come",
        bound: 3,
        body: nothing_to_come,
        catches: &[
            (Step(NO_SECOND_LOOK), ASLEEP),
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
        ],
    },
    Model {
        name: "doorbell::watcher",
        bound: 4,
        body: watcher,
        catches: &[
            (Ring(Mutant::WatcherFence), "acts once"),
            (Ring(Mutant::RingerFence), "acts once"),
            (Ring(Mutant::CompletionEnd), RACE),
            (Ring(Mutant::CompletionSkip), RACE),
            (Step(TARGET_FIRST), "acts once"),
        ],
    },
    Model {
        name: "doorbell::call_beside_a_watcher",
        bound: 4,
        body: call_beside_a_watcher,
        catches: &[(Step(TAKES_BOTH), "acts once"), (Ring(Mutant::RingerFence), "acts once")],
    },
];

const PROGRESS_FIRST: &str = "the progress is read before the fence";
const NO_SECOND_LOOK: &str = "there is no second look";
const ANNOUNCED_TWICE: &str = "the sleeper announces twice";
const TAKES_BOTH: &str = "a call takes the watcher's announcement, and does not act";
const TARGET_FIRST: &str = "the watcher does not look again";
const FORGETS: &str = "an armed announcement that was rung as a blocked one is forgotten";

struct World {
    producer: Producer,
    consumer: RefCell<Consumer>,
    lane: Lane<1>,
    bell: Doorbell,
    blocking: Blocking,
    event: Event,
    wakes: Notes<Wake>,
    payloads: [Payload; 2],
    acted: Notes<()>,
}

impl World {
    fn new() -> Self {
        let (producer, consumer) = completion::ring(2);
        Self {
            producer,
            consumer: RefCell::new(consumer),
            lane: Lane::new(1),
            bell: Doorbell::default(),
            blocking: Blocking::new(),
            event: Event::new(),
            wakes: Notes::new(),
            payloads: Default::default(),
            acted: Notes::new(),
        }
    }

    /// Publishes a completion and wakes the reaper, as movers do.
    fn complete(&self) {
        self.producer.push_batch(&[[1, 0]]);
        if is_faulty(PROGRESS_FIRST) {
            let pushed = self.producer.pushed_relaxed();
            self.ring(|target| pushed >= target);
        } else {
            self.ring(|target| self.producer.pushed_relaxed() >= target);
        }
    }

    fn ring(&self, is_reached: impl FnOnce(u64) -> bool) {
        let Rung { wake, watcher } = self.bell.ring_with(
            &self.blocking,
            |_, target| is_reached(target),
            |target| self.producer.ended() >= target,
        );
        if watcher {
            self.act();
        }
        if wake == Some(Wake::Armed) {
            self.event.signal();
        }
        wake.into_iter().for_each(|wake| self.wakes.add(wake));
    }

    /// What the watcher wants done when both operations have ended: it uses the memory of both.
    fn act(&self) {
        self.payloads.iter().for_each(|payload| payload.write(9));
        self.acted.add(());
    }

    fn is_ready(&self, count: usize) -> bool {
        self.consumer.borrow_mut().ready(count) >= count
    }

    /// Sleeps until so many completions are ready.
    fn wait(&self, count: usize) {
        while !self.is_ready(count) {
            self.bell.announce(Wake::Blocked, count as u64);
            if !self.is_ready(count) {
                self.bell.sleep(&self.blocking, None);
            }
            self.bell.retract();
        }
    }

    /// Asks for a wake by the event at the next completion; false if one is ready.
    fn arm(&self) -> bool {
        let popped = self.consumer.borrow().popped();
        self.bell.announce(Wake::Armed, popped + 1);
        if self.is_ready(1) {
            self.bell.retract();
            return false;
        }
        true
    }
}

/// Hunts a reaper that falls asleep just as the completion arrives (P6).
fn no_lost_wake() {
    play(World::new(), &[|world| world.wait(1), World::complete], |_| ());
}

/// Hunts two completers of which each believes that the other will wake the reaper, who waits for both (P6b).
fn two_for_one_wake() {
    play(World::new(), &[|world| world.wait(2), World::complete, World::complete], |world| {
        assert!(world.wakes.all().len() <= 2, "a completer wakes once at the most");
    });
}

/// Hunts a ringer that measures its progress by the target of an announcement that stands no more (P6).
///
/// The reaper announces itself for two completions, thinks better of it, and then sleeps for one.
fn new_target() {
    let reap = |world: &World| {
        world.bell.announce(Wake::Blocked, 2);
        world.bell.retract();
        world.wait(1);
    };
    play(World::new(), &[reap, World::complete], |_| ());
}

/// Hunts an entry submitted just as the reaper, who drives this lane itself, goes to sleep in epoll (P6).
fn armed_against_submit() {
    let submit = |world: &World| {
        world.lane.push_batch(&[[1]]);
        world.ring(|_| true);
    };
    let drive = |world: &World| {
        while world.lane.pop(&mut [[0]], 1, |_| 1).0 == 0 {
            world.bell.announce(Wake::Armed, 1);
            if world.lane.is_empty() || is_faulty(NO_SECOND_LOOK) {
                world.event.wait();
            }
            world.bell.retract();
        }
    };
    play(World::new(), &[drive, submit], |_| ());
}

/// Hunts system calls that wake nobody: two ringers that answer one announcement (P6).
fn one_wake() {
    let announce = |world: &World| {
        if is_faulty(ANNOUNCED_TWICE) {
            world.bell.announce(Wake::Armed, 1);
        }
    };
    let world = World::new();
    world.bell.announce(Wake::Armed, 1);
    play(world, &[World::complete, World::complete, announce], |world| {
        assert_eq!(world.wakes.all(), [Wake::Armed], "one wake for one announcement");
    });
}

/// Hunts an armed reaper that sleeps otherwise for a while, runs out of time, and is not armed any more (P6).
///
/// The second completion is published and rung before the first, which is reserved only: the ringer takes the blocked
/// announcement although nothing is ready. The armed one that it had replaced must stand again.
fn sleep_while_armed() {
    let reap = |world: &World| {
        let mut armed = world.arm();
        if armed {
            let before = world.bell.announce(Wake::Blocked, 1);
            // Here the reaper would sleep; its time is over at once.
            let unrung = world.bell.retract();
            let was_armed = before == Some(Wake::Armed) && (unrung || !is_faulty(FORGETS));
            if was_armed && !world.is_ready(1) {
                world.arm();
            }
            armed = !world.is_ready(1);
        }
        while !world.is_ready(2) {
            if armed {
                world.event.wait();
            }
            while world.consumer.borrow_mut().pop::<[u64; 2]>().is_some() {}
            if world.consumer.borrow().popped() == 2 {
                break;
            }
            armed = world.arm();
        }
    };
    play(World::new(), &[reap, World::complete, World::complete], |_| ());
}

/// Hunts an end that nobody notices although somebody watches for it, one that two notice, and one that is noticed
/// before the memory is let go (P6d, P7).
///
/// Of two operations one ends with a completion and one without. Whoever makes the second end, or the watcher if it
/// looks late, acts.
fn watcher() {
    let watch = |world: &World| {
        world.bell.watch(2);
        if !is_faulty(TARGET_FIRST) && world.producer.ended() == 2 && world.bell.unwatch() {
            world.act();
        }
    };
    let complete = |world: &World| {
        world.payloads[0].write(1);
        world.complete();
    };
    let skip = |world: &World| {
        world.payloads[1].write(1);
        world.producer.skip(1);
        world.ring(|_| false);
    };
    play(World::new(), &[watch, complete, skip], |world| {
        assert_eq!(world.acted.all().len(), 1, "somebody acts once");
    });
}

/// Hunts a reaper that sleeps for a completion although nothing can come any more: both operations end without one
/// (P6b).
fn nothing_to_come() {
    let reap = |world: &World| {
        while world.producer.skipped() < 2 {
            world.bell.announce(Wake::Blocked, 1);
            if world.producer.skipped() < 2 || is_faulty(NO_SECOND_LOOK) {
                world.bell.sleep(&world.blocking, None);
            }
            world.bell.retract();
        }
    };
    let skip = |world: &World| {
        world.producer.skip(1);
        world.ring(|target| 2 - world.producer.skipped() < target);
    };
    play(World::new(), &[reap, skip, skip], |_| ());
}

/// Hunts a barrier that nobody opens: somebody who calls the reaper for another reason took the announcement of the
/// watcher, whose time had come (P6d).
fn call_beside_a_watcher() {
    let watch = |world: &World| {
        world.bell.watch(1);
        if world.producer.ended() == 1 && world.bell.unwatch() {
            world.acted.add(());
        }
    };
    let complete = |world: &World| {
        world.producer.skip(1);
        let reached = |target| world.producer.ended() >= target;
        if world.bell.ring_with(&world.blocking, |_, _| false, reached).watcher {
            world.acted.add(());
        }
    };
    let call = |world: &World| {
        let takes = |target| is_faulty(TAKES_BOTH) && world.producer.ended() >= target;
        let _ = world.bell.ring_with(&world.blocking, |_, _| true, takes);
    };
    play(World::new(), &[watch, complete, call], |world| {
        assert_eq!(world.acted.all().len(), 1, "somebody acts once");
    });
}
