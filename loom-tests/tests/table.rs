//! Tables and splits: that a mark hits the entry it judged, that a slot has one holder, and that an operation done in
//! parts ends once, when all of them are done.

use std::cell::RefCell;

use loom_tests::Fault::{Ring, Step};
use loom_tests::{Model, Notes, Payload, RACE, is_faulty, play};
use memring_ring::sync::Mutant;
use memring_ring::{Consumer, Lane, Producer, Splits, Table, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "table::mark_against_take",
        bound: 4,
        body: mark_against_take,
        catches: &[
            (Ring(Mutant::TableGeneration), "marked by mistake"),
            (Ring(Mutant::TablePublish), "marked by mistake"),
            (Ring(Mutant::TableObserve), "marked by mistake"),
        ],
    },
    Model { name: "table::reuse", bound: 3, body: reuse, catches: &[(Ring(Mutant::TableReuse), RACE)] },
    Model { name: "table::one_holder", bound: 3, body: one_holder, catches: &[(Ring(Mutant::TableTag), RACE)] },
    Model {
        name: "split::the_last_part",
        bound: 3,
        body: the_last_part,
        catches: &[(Ring(Mutant::SplitCountDown), RACE), (Step(COUNTS_FIRST), RACE)],
    },
    Model {
        name: "split::recycled",
        bound: 3,
        body: recycled,
        catches: &[
            (Ring(Mutant::SplitCountDown), RACE),
            (Ring(Mutant::LaneClaim), "done once"),
            (Step(REMEMBERS), RACE),
        ],
    },
];

const COUNTS_FIRST: &str = "a part is counted before it is done";
const REMEMBERS: &str = "a driver goes on with the rest that it gave back";

struct Parking {
    table: Table<1>,
    marked: Notes<u64>,
}

impl Parking {
    fn new(slots: usize) -> Self {
        Self { table: Table::new(slots), marked: Notes::new() }
    }

    /// Parks an entry, and takes it out again; whether it was marked meanwhile.
    fn pass(&self, entry: u64) -> Option<bool> {
        let key = self.table.put([entry])?;
        let (taken, is_marked) = self.table.take::<[u64; 1]>(key);
        assert_eq!(taken, [entry], "a slot has two holders");
        Some(is_marked)
    }
}

/// Hunts a mark that hits another entry than the one it judged, and one that was counted and not told (P9).
///
/// Two entries pass through one slot while somebody cancels the first.
fn mark_against_take() {
    let own = |parking: &Parking| {
        if parking.pass(1) == Some(true) {
            parking.marked.add(1);
        }
        assert_eq!(parking.pass(2), Some(false), "marked by mistake");
    };
    let cancel = |parking: &Parking| {
        for _ in 0..parking.table.mark(|&[entry]: &[u64; 1]| entry == 1) {
            parking.marked.add(0);
        }
    };
    play(Parking::new(1), &[own, cancel], |parking| {
        let marked = parking.marked.all();
        assert!(marked.is_empty() || marked.len() == 2, "a mark is counted and told, or neither");
    });
}

/// Hunts a slot that is written while its last taker still reads it (P2).
fn reuse() {
    let pass = |parking: &Parking| _ = parking.pass(1);
    play(Parking::new(1), &[pass, |parking| _ = parking.pass(2), |parking| _ = parking.pass(3)], |_| ());
}

/// Hunts a free slot that two get: its list looks as it did, and is not (P2).
fn one_holder() {
    let keep_two = |parking: &Parking| {
        let _ = (parking.table.put([1]), parking.table.put([2]));
    };
    let keep_one = |parking: &Parking| {
        let (first, second) = (parking.table.put([3]), parking.table.put([4]));
        first.map(|key| parking.table.take::<[u64; 1]>(key));
        if let Some(key) = second {
            assert_eq!(parking.table.take::<[u64; 1]>(key).0, [4], "a slot has two holders");
        }
    };
    play(Parking::new(2), &[keep_two, keep_one], |_| ());
}

/// An operation has two parts: the entry `id * 2` stands for both of them, `id * 2 + 1` for the second.
struct Splitting {
    lane: Lane<2>,
    splits: Splits<1>,
    completions: Producer,
    consumer: RefCell<Consumer>,
    parts: [Payload; 2],
    done: Notes<u64>,
}

impl Splitting {
    /// With the first operation in its lane.
    fn new() -> Self {
        let (completions, consumer) = completion::ring(2);
        let splitting = Self {
            lane: Lane::new(1),
            splits: Splits::new(1),
            completions,
            consumer: RefCell::new(consumer),
            parts: Default::default(),
            done: Notes::new(),
        };
        splitting.submit(0);
        splitting
    }

    fn submit(&self, id: u64) {
        self.lane.push_batch(&[[id * 2, 0]]);
    }

    /// Claims a part, if there is one: the entry, and the key of its record, plus one.
    fn claim(&self) -> Option<[u64; 2]> {
        let mut into = [[0; 2]];
        (self.lane.pop(&mut into, 1, |_| 1).0 == 1).then_some(into[0])
    }

    /// Claims and does one part.
    fn drive(&self) {
        if let Some(part) = self.claim() {
            self.execute(part);
        }
    }

    fn execute(&self, [entry, record]: [u64; 2]) {
        let is_first = entry % 2 == 0;
        let record = match record.checked_sub(1) {
            Some(key) => u32::try_from(key).expect("a key"),
            None => self.splits.begin([entry / 2], 0, 2).expect("one operation at a time"),
        };
        let rest = [entry + 1, u64::from(record) + 1];
        if is_first {
            self.lane.push_batch(&[rest]);
        }
        if is_faulty(COUNTS_FIRST) {
            self.finish(record);
            self.parts[usize::from(!is_first)].write(entry);
        } else {
            self.parts[usize::from(!is_first)].write(entry);
            self.done.add(entry);
            self.finish(record);
        }
        if is_first && is_faulty(REMEMBERS) {
            self.execute(rest);
        }
    }

    fn finish(&self, record: u32) {
        if let Some(([id], trouble)) = self.splits.finish::<[u64; 1]>(record, 1) {
            assert_eq!(trouble, None);
            self.completions.push_batch(&[[id, 0]]);
        }
    }

    fn reap(&self, id: u64) -> bool {
        let Some([reaped, _]) = self.consumer.borrow_mut().pop::<[u64; 2]>() else { return false };
        assert_eq!(reaped, id, "each operation is done once");
        assert_eq!([self.parts[0].read(), self.parts[1].read()], [id * 2, id * 2 + 1]);
        true
    }

    fn each_part_is_done_once(&self) {
        let mut done = self.done.all();
        let all = done.len();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done.len(), all, "each part is done once");
    }
}

/// Hunts a completion that comes before the part of another driver is done (P10).
fn the_last_part() {
    let reap = |world: &Splitting| _ = world.reap(0);
    play(Splitting::new(), &[reap, Splitting::drive, Splitting::drive], |_| ());
}

/// Hunts a driver that is late: its operation has ended, and the record belongs to the next one (P10).
///
/// Two operations share one record, one after the other. Whoever has a part has claimed it, so nobody can be late.
fn recycled() {
    let own = |world: &Splitting| {
        world.drive();
        if world.reap(0) {
            world.submit(1);
        }
        world.drive();
    };
    let drive = |world: &Splitting| {
        world.drive();
        world.drive();
    };
    play(Splitting::new(), &[own, drive], |world| {
        while let Some(part) = world.claim() {
            world.execute(part);
        }
        world.each_part_is_done_once();
    });
}
