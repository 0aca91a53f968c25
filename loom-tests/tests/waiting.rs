//! Compositions of roles, slots and doorbells: those who wait for what the holder of a role does, or leaves.
//!
//! Threads that block are heirs: the holder calls one of them if he leaves work. Tasks leave a waker, and are roused by
//! who passes by. A reactor hears how many operations have completed, and looks.

use std::cell::RefCell;

use loom::sync::Mutex;
use loom_tests::Fault::{Ring, Step};
use loom_tests::{ASLEEP, Blocking, Event, Model, Payload, RACE, is_faulty, lock, play};
use memring_ring::slot::{Completed, Key, Registered};
use memring_ring::sync::Mutant;
use memring_ring::{Doorbell, Progress, Role, Wake};

use crate::slot::Tasks;

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "waiting::heirs",
        bound: 3,
        body: heirs,
        catches: &[
            (Step(LISTED_LATE), ASLEEP),
            (Step(LOOKS_FIRST), ASLEEP),
            (Step(GOES), ASLEEP),
            (Ring(Mutant::RoleTake), RACE),
            (Ring(Mutant::RoleRelease), RACE),
        ],
    },
    Model {
        name: "waiting::passers_by",
        bound: 3,
        body: passers_by,
        catches: &[
            (Step(LOOKS_BEFORE_LIST), ASLEEP),
            (Step(ROUSES_NOBODY), ASLEEP),
            (Step(ONLY_TRIES), ASLEEP),
            (Ring(Mutant::RoleTake), RACE),
            (Ring(Mutant::RoleRelease), RACE),
        ],
    },
    Model {
        name: "waiting::a_reactor_that_only_looks",
        bound: 3,
        body: a_reactor_that_only_looks,
        catches: &[
            (Step(COUNTS_FIRST), ASLEEP),
            (Ring(Mutant::ProgressAdvance), ASLEEP),
            (Ring(Mutant::ProgressObserve), ASLEEP),
            (Ring(Mutant::SleeperFence), ASLEEP),
            (Ring(Mutant::RingerFence), ASLEEP),
        ],
    },
];

const ONLY_TRIES: &str = "who finds the role held leaves no call";
const LISTED_LATE: &str = "the heir calls before it is on the list";
const LOOKS_FIRST: &str = "the holder looks for an heir before it releases the role";
const GOES: &str = "an heir that was chosen goes away";
const LOOKS_BEFORE_LIST: &str = "a task looks, and then comes on the list of those who sleep";
const ROUSES_NOBODY: &str = "who leaves something and goes away rouses nobody";
const COUNTS_FIRST: &str = "an operation is counted before it is complete";

/// Three that wait, each for its own operation, of a ring without workers: who has the role does operations, in the
/// order in which they were submitted, until its own is done.
struct Help {
    tasks: Tasks<3>,
    keys: [Key; 3],
    role: Role,
    queue: RefCell<Vec<usize>>,
    /// What only the holder touches: the queue.
    driving: Payload,
    memory: [Payload; 3],
    heirs: Mutex<Vec<usize>>,
}

impl Help {
    fn new(queue: Vec<usize>) -> Self {
        let tasks = Tasks::new();
        let keys = [0, 1, 2].map(|number| tasks.slots.open(number, 1));
        Self {
            tasks,
            keys,
            role: Role::default(),
            queue: RefCell::new(queue),
            driving: Payload::new(),
            memory: Default::default(),
            heirs: Mutex::new(Vec::new()),
        }
    }

    fn block_on(&self, id: usize) {
        let waker = id + 1;
        while self.tasks.poll(self.keys[id], waker) != Registered::Ready {
            if !is_faulty(LISTED_LATE) {
                lock(&self.heirs).push(id);
            }
            let is_holder = self.role.call();
            if !is_holder {
                if is_faulty(LISTED_LATE) {
                    lock(&self.heirs).push(id);
                }
                self.tasks.sleep(waker);
            }
            let was_chosen = self.is_off_the_list(id);
            if is_holder {
                self.hold(id);
            } else if was_chosen && self.tasks.slots.is_complete(self.keys[id]) && !is_faulty(GOES) {
                self.choose();
            }
        }
        assert_eq!(self.memory[id].read(), 7);
    }

    /// Takes a waiter from the list; true: somebody has chosen it before.
    fn is_off_the_list(&self, id: usize) -> bool {
        let mut heirs = lock(&self.heirs);
        let place = heirs.iter().position(|&heir| heir == id);
        place.map(|place| heirs.remove(place)).is_none()
    }

    /// Wakes the first heir, if there is one.
    fn choose(&self) {
        let mut heirs = lock(&self.heirs);
        let heir = (!heirs.is_empty()).then(|| heirs.remove(0));
        drop(heirs);
        heir.into_iter().for_each(|heir| self.tasks.wake(heir + 1));
    }

    fn hold(&self, id: usize) {
        let mut wakers = Vec::new();
        let mut work_remains = true;
        let mut looks = is_faulty(LOOKS_FIRST);
        loop {
            while work_remains && !self.tasks.slots.is_complete(self.keys[id]) {
                self.do_one(&mut wakers);
                work_remains = !self.queue.borrow().is_empty();
            }
            if looks {
                looks = false;
                self.choose();
            }
            if self.role.release() {
                break;
            }
        }
        if work_remains && !is_faulty(LOOKS_FIRST) {
            self.choose();
        }
        wakers.into_iter().for_each(|waker| self.tasks.wake(waker));
    }

    fn do_one(&self, wakers: &mut Vec<usize>) {
        self.driving.write(1);
        let id = self.queue.borrow_mut().remove(0);
        self.memory[id].write(7);
        let completed = self.tasks.complete(self.keys[id], |_| 0, |waker| wakers.push(waker));
        assert!(matches!(completed, Completed::Nobody | Completed::Woken));
    }
}

/// Hunts one that sleeps although there is something to do and nobody does it (P12).
fn heirs() {
    let actors: [fn(&Help); 3] = [|help| help.block_on(0), |help| help.block_on(1), |help| help.block_on(2)];
    play(Help::new(vec![1, 0, 2]), &actors, |help| assert!(help.queue.borrow().is_empty()));
}

/// A task whose operation comes late to a lane that only callers drive, and those who pass by.
struct Passing {
    tasks: Tasks<1>,
    key: Key,
    role: Role,
    /// It may come now: set by a mover.
    is_let_in: Mutex<bool>,
    /// It is in the lane.
    is_there: RefCell<bool>,
    /// What only the holder touches: the lane.
    driving: Payload,
    sleepers: Mutex<Vec<usize>>,
}

impl Passing {
    fn new() -> Self {
        let tasks = Tasks::new();
        let key = tasks.slots.open(0, 1);
        Self {
            tasks,
            key,
            role: Role::default(),
            is_let_in: Mutex::new(false),
            is_there: RefCell::new(false),
            driving: Payload::new(),
            sleepers: Mutex::new(Vec::new()),
        }
    }

    /// A look, with the role: does what is there, if that is wanted, and then lets in what may come. Whether something
    /// is left.
    fn look(&self, drives: bool) -> bool {
        self.driving.write(1);
        if drives && self.is_there.take() {
            assert_eq!(self.tasks.complete(self.key, |_| 0, |_| ()), Completed::Nobody);
        }
        if std::mem::take(&mut *lock(&self.is_let_in)) {
            *self.is_there.borrow_mut() = true;
        }
        *self.is_there.borrow()
    }

    /// Looks, with the role, until nobody has called meanwhile, and gives it up. Whether something is left.
    fn hold(&self, drives: bool) -> bool {
        let mut left = self.look(drives);
        while !self.role.release() {
            left = self.look(false);
        }
        left
    }

    /// Somebody who sees to it that what has come is reaped, and goes away.
    fn pass_by(&self) {
        let is_holder = if is_faulty(ONLY_TRIES) { self.role.try_take() } else { self.role.call() };
        if is_holder && self.hold(false) && !is_faulty(ROUSES_NOBODY) {
            let sleepers = std::mem::take(&mut *lock(&self.sleepers));
            sleepers.into_iter().for_each(|waker| self.tasks.wake(waker));
        }
    }

    fn let_in(&self) {
        *lock(&self.is_let_in) = true;
        self.pass_by();
    }

    fn task(&self) {
        const WAKER: usize = 1;
        while !self.tasks.slots.is_complete(self.key) {
            if !self.role.try_take() {
                loom::thread::yield_now();
                continue;
            }
            if self.hold(true) || self.tasks.slots.is_complete(self.key) {
                continue;
            }
            if !is_faulty(LOOKS_BEFORE_LIST) {
                lock(&self.sleepers).push(WAKER);
            }
            if self.role.call() && self.hold(false) {
                continue;
            }
            if is_faulty(LOOKS_BEFORE_LIST) {
                lock(&self.sleepers).push(WAKER);
            }
            self.tasks.sleep(WAKER);
        }
    }
}

/// Hunts a task that sleeps although its operation has come to where only callers drive (P12).
fn passers_by() {
    play(Passing::new(), &[Passing::task, Passing::let_in, Passing::pass_by], |_| ());
}

/// A reactor that leaves no waker: it hears how many have completed, and looks.
struct Reactor {
    tasks: Tasks<1>,
    key: Key,
    completed: Progress,
    bell: Doorbell,
    blocking: Blocking,
    fd: Event,
}

impl Reactor {
    fn new() -> Self {
        let tasks = Tasks::new();
        let key = tasks.slots.open(0, 1);
        Self {
            tasks,
            key,
            completed: Progress::default(),
            bell: Doorbell::default(),
            blocking: Blocking::new(),
            fd: Event::new(),
        }
    }

    /// Whoever reaps: completes it, counts it, and tells the reactor.
    fn reap(&self) {
        if is_faulty(COUNTS_FIRST) {
            self.completed.advance(1);
        }
        assert_eq!(self.tasks.complete(self.key, |_| 0, |_| ()), Completed::Nobody);
        if !is_faulty(COUNTS_FIRST) {
            self.completed.advance(1);
        }
        let is_reached = |_, target| self.completed.done() >= target;
        if self.bell.ring_with(&self.blocking, is_reached, |_| false).wake == Some(Wake::Armed) {
            self.fd.signal();
        }
    }

    /// Looks, and sleeps until it hears of more than it has heard of.
    fn watch(&self) {
        let mut heard = 0;
        while !self.tasks.slots.is_complete(self.key) {
            self.bell.announce(Wake::Armed, heard + 1);
            let now = self.completed.done();
            if now > heard && self.bell.retract() {
                heard = now;
            } else {
                self.fd.wait();
            }
        }
    }
}

/// Hunts a reactor that has heard of a completion, looks too early, and sleeps until the next one (P6b, P16).
fn a_reactor_that_only_looks() {
    play(Reactor::new(), &[Reactor::reap, Reactor::watch], |_| ());
}
