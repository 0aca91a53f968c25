//! Movers of the test, and rings that have them.
#![expect(unsafe_code, reason = "writes what claimed entries name")]

use std::sync::{Arc, Condvar, Mutex};

use memring::mover::{Capabilities, Completions, Lane, Progress};
use memring::queue::Drive;
use memring::{MoverId, Opcode, Ring, RingBuilder, Sqe, Status};

use crate::hold::Hold;
use crate::scripted::scripted;

/// A ring with one more mover, which keeps the memsets that it is given until the test lets go. Drop the hold first.
pub(crate) fn held(builder: RingBuilder, drive: Drive) -> (Ring, MoverId, Hold) {
    let hold = Hold::default();
    let ring = builder.mover("holder", drive, hold.movers()).build().expect("the options are in range");
    let mover = ring.mover("holder").expect("it was added");
    (ring, mover, hold)
}

/// Does a memset that a mover has claimed.
pub(crate) fn execute(sqe: &Sqe) {
    assert_eq!(sqe.opcode(), Some(Opcode::Memset));
    // SAFETY: the entry was claimed and is not completed yet.
    unsafe { sqe.dst().write_bytes(sqe.pattern(), usize::try_from(sqe.len()).expect("it is in memory")) };
}

/// A ring with one more mover, which does memsets, and is given a look at each before it does it.
pub(crate) fn watched(
    builder: RingBuilder,
    drive: Drive,
    look: impl Fn(&Sqe) + Clone + Send + 'static,
) -> (Ring, MoverId) {
    let make = move || {
        let look = look.clone();
        let poll = move |lane: &mut Lane<'_>, done: &mut Completions<'_>| {
            let mut progress = Progress::Idle;
            while let Some(claimed) = lane.claim() {
                look(claimed.sqe());
                execute(claimed.sqe());
                done.complete(claimed, Status::SUCCESS);
                progress = Progress::Busy;
            }
            progress
        };
        scripted(Capabilities::new(&[Opcode::Memset]), poll, |bell, deadline| bell.sleep(deadline))
    };
    let ring = builder.mover("watched", drive, make).build().expect("the options are in range");
    let mover = ring.mover("watched").expect("it was added");
    (ring, mover)
}

/// The lengths of the operations that a mover has begun, in order.
pub(crate) type Record = Arc<Mutex<Vec<u64>>>;

/// A ring with a mover that records what it begins.
pub(crate) fn recorded(builder: RingBuilder, drive: Drive) -> (Ring, MoverId, Record) {
    let record = Record::default();
    let pen = Arc::clone(&record);
    let look = move |sqe: &Sqe| pen.lock().expect("nobody panics with it").push(sqe.len());
    let (ring, mover) = watched(builder, drive, look);
    (ring, mover, record)
}

/// A gate that a mover's poll passes: it says that somebody stands before it, and keeps him there.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Gate {
    /// Stands before it until it is open.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("nobody panics with it");
        state.0 += 1;
        changed.notify_all();
        drop(changed.wait_while(state, |(_, open)| !*open).expect("nobody panics with it"));
    }

    /// Waits until somebody stands before it.
    pub(crate) fn wait(&self) {
        let (state, changed) = &*self.0;
        let state = state.lock().expect("nobody panics with it");
        drop(changed.wait_while(state, |(came, _)| *came == 0).expect("nobody panics with it"));
    }

    /// Opens it for good.
    pub(crate) fn open(&self) {
        let (state, changed) = &*self.0;
        state.lock().expect("nobody panics with it").1 = true;
        changed.notify_all();
    }
}

/// A ring with a mover of memsets that passes a gate before each: so somebody is in its poll for as long as the test
/// wants, and if the reaper drives it, has the ring's role.
pub(crate) fn gated(builder: RingBuilder, drive: Drive) -> (Ring, MoverId, Gate) {
    let gate = Gate::default();
    let passed = gate.clone();
    let (ring, mover) = watched(builder, drive, move |_| passed.pass());
    (ring, mover, gate)
}
