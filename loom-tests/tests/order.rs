//! Order between operations: chains across movers, and barriers, with the operations' memory in plain sight.

use std::cell::RefCell;
use std::sync::PoisonError;

use loom::sync::Mutex;
use loom_tests::Fault::{Ring, Step};
use loom_tests::{Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::sync::Mutant;
use memring_ring::{Doorbell, Gate, Lane, Passage, Producer, Table, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "order::chain_across_movers",
        bound: 4,
        body: chain_across_movers,
        catches: &[
            (Ring(Mutant::LanePublish), RACE),
            (Ring(Mutant::LaneObserve), RACE),
            (Ring(Mutant::TableGeneration), "ends once"),
            (Step(FOLLOWS_FIRST), RACE),
        ],
    },
    Model {
        name: "order::barrier",
        bound: 3,
        body: barrier,
        catches: &[
            (Ring(Mutant::RingerFence), "is left behind"),
            (Ring(Mutant::WatcherFence), "is left behind"),
            (Ring(Mutant::CompletionEnd), RACE),
            (Step(ONE_WAY), RACE),
            (Step(NO_HOLD), RACE),
        ],
    },
];

const FOLLOWS_FIRST: &str = "the next member is sent before the one before it has ended";
const ONE_WAY: &str = "nothing waits for the barrier";
const NO_HOLD: &str = "the gate is not held";

/// A chain of two: the head stores what the second member reads. The second is parked, and then another chain's.
struct Chain {
    table: Table<1>,
    lanes: [Lane<1>; 2],
    memory: Payload,
    ended: Notes<&'static str>,
    marked: Notes<()>,
}

impl Chain {
    /// Takes the member of this key out: whether it was cancelled.
    fn follow(&self, key: u32) {
        let (member, is_cancelled) = self.table.take::<[u64; 1]>(key);
        if is_cancelled {
            self.ended.add("cancelled");
        } else {
            self.lanes[1].push_batch(&[member]);
        }
    }

    fn drive(&self, lane: usize) -> Option<u64> {
        let mut into = [[0]];
        (self.lanes[lane].pop(&mut into, 1, |_| 1).0 == 1).then_some(into[0][0])
    }
}

/// Hunts a member that begins before what it waits for has ended, that a cancel and a driver both end, or that nobody
/// does (P1, P9).
fn chain_across_movers() {
    let lead = |chain: &Chain| {
        let Some(key) = chain.drive(0) else { return };
        let key = u32::try_from(key).expect("a key");
        if is_faulty(FOLLOWS_FIRST) {
            chain.follow(key);
        }
        chain.memory.write(7);
        if !is_faulty(FOLLOWS_FIRST) {
            chain.follow(key);
        }
        // The place is used again, by an entry that nobody cancels.
        let other = chain.table.put([2]).expect("there is a place");
        let (_, is_cancelled) = chain.table.take::<[u64; 1]>(other);
        assert!(!is_cancelled, "each member ends once");
    };
    let second = |chain: &Chain| {
        if chain.drive(1) == Some(1) {
            assert_eq!(chain.memory.read(), 7);
            chain.ended.add("done");
        }
    };
    let cancel = |chain: &Chain| {
        for _ in 0..chain.table.mark(|&[member]: &[u64; 1]| member == 1) {
            chain.marked.add(());
        }
    };
    let chain = Chain {
        table: Table::new(1),
        lanes: [Lane::new(1), Lane::new(1)],
        memory: Payload::new(),
        ended: Notes::new(),
        marked: Notes::new(),
    };
    let key = chain.table.put([1]).expect("there is a place");
    chain.lanes[0].push_batch(&[[u64::from(key)]]);
    play(chain, &[lead, second, cancel], |chain| {
        while chain.drive(1).is_some() {
            chain.ended.add("done");
        }
        let is_cancelled = !chain.marked.all().is_empty();
        let expected = if is_cancelled { "cancelled" } else { "done" };
        assert_eq!(chain.ended.all(), [expected], "each member ends once");
    });
}

const BARRIER: u64 = 1;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Released,
    Flowing,
    Running,
}

struct Hold {
    phase: Phase,
    queue: Vec<u64>,
}

/// Operations are executed by whoever lets them in. All but the barrier write words of their own; it writes both.
struct Barrier {
    gate: Gate,
    completions: RefCell<Producer>,
    bell: Doorbell,
    hold: Mutex<Hold>,
    words: [Payload; 2],
    ended: Notes<u64>,
}

impl Barrier {
    fn new() -> Self {
        Self {
            gate: Gate::default(),
            completions: RefCell::new(completion::ring(4).0),
            bell: Doorbell::default(),
            hold: Mutex::new(Hold { phase: Phase::Released, queue: Vec::new() }),
            words: Default::default(),
            ended: Notes::new(),
        }
    }

    fn ended(&self) -> u64 {
        self.completions.borrow().ended()
    }

    fn submit(&self, id: u64) {
        loop {
            if id != BARRIER {
                match self.gate.pass(1) {
                    Passage::Passed => return self.execute(id),
                    Passage::Held => {}
                    Passage::Closed => unreachable!("nobody closes"),
                }
            }
            if self.admit(id) {
                return self.open();
            }
        }
    }

    fn admit(&self, id: u64) -> bool {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if hold.phase == Phase::Released {
            if id != BARRIER {
                return false;
            }
            if !is_faulty(NO_HOLD) {
                self.gate.hold();
            }
            hold.phase = Phase::Flowing;
        }
        assert!(self.gate.pass_held(1));
        hold.queue.push(id);
        true
    }

    fn open(&self) {
        while let Some(id) = self.next_let_in() {
            self.execute(id);
        }
    }

    fn execute(&self, id: u64) {
        match id {
            BARRIER => self.words.iter().for_each(|word| word.write(id)),
            id => self.words[usize::from(id != 0)].write(id),
        }
        self.ended.add(id);
        self.completions.borrow().push_batch(&[[id, 0]]);
        let rung = self.bell.ring(|_, _| false, |target| self.ended() >= target);
        if rung.watcher {
            self.open();
        }
    }

    fn next_let_in(&self) -> Option<u64> {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match hold.phase {
                Phase::Released => return None,
                Phase::Flowing => match hold.queue.first() {
                    None => {
                        hold.phase = Phase::Released;
                        self.gate.release();
                        return None;
                    }
                    Some(&id) if id != BARRIER => {
                        hold.queue.remove(0);
                        return Some(id);
                    }
                    Some(_) => {
                        self.is_all_else_ended(&hold).then_some(())?;
                        hold.phase = if is_faulty(ONE_WAY) { Phase::Flowing } else { Phase::Running };
                        return Some(hold.queue.remove(0));
                    }
                },
                Phase::Running => {
                    self.is_all_else_ended(&hold).then_some(())?;
                    hold.phase = Phase::Flowing;
                }
            }
        }
    }

    fn is_all_else_ended(&self, hold: &Hold) -> bool {
        let held = hold.queue.len() as u64;
        self.bell.watch(self.gate.passed() - held);
        let ended = self.ended();
        self.gate.passed() - ended == held && self.bell.unwatch()
    }
}

/// Hunts an operation that runs beside a barrier, in either direction, and one that is held for ever (P6d, P7, P11).
fn barrier() {
    let barrier = |world: &Barrier| world.submit(BARRIER);
    play(Barrier::new(), &[barrier, |world| world.submit(0), |world| world.submit(2)], |world| {
        let mut ended = world.ended.all();
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2], "an operation is left behind");
    });
}
