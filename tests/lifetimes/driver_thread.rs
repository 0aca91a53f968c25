//! A completion queue that is dropped by a driver thread of its own.
#![expect(unsafe_code, reason = "pushes a nop")]

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use memring::mover::{Capabilities, Completions, Lane, Progress};
use memring::queue::{CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue};
use memring::{MoverId, Opcode, Sqe};

use super::scripted::{promptly, scripted};
use super::watchdog::must_end;
use super::{ENTRIES, push_nops};

/// Says so when it is dropped.
struct Farewell(Sender<()>);

impl Drop for Farewell {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Where a test leaves a completion queue for a mover to find.
type Shelf = Arc<Mutex<Option<CompletionQueue>>>;

/// Where in its driver's life a mover looks at the shelf, and drops what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DropsIn {
    Poll,
    Wait,
}

/// A queue one of whose movers, on threads, drops what is on the shelf.
fn build_owner(threads: usize, place: DropsIn) -> (SubmissionQueue, CompletionQueue, Shelf, MoverId, Receiver<()>) {
    let shelf: Shelf = Arc::default();
    let (farewell, farewells) = mpsc::channel();
    let found = Arc::clone(&shelf);
    let make = move || {
        let (shelf, farewell) = (Arc::clone(&found), Arc::new(Farewell(farewell.clone())));
        let look = move || {
            let _ = &farewell;
            // In a statement of its own, so that the lock is not held while the queue is dropped.
            let found = shelf.try_lock().ok().and_then(|mut shelf| shelf.take());
            drop(found);
        };
        let look_too = look.clone();
        let poll = move |lane: &mut Lane<'_>, done: &mut Completions<'_>| {
            let progress = promptly(lane, done);
            if progress == Progress::Idle && place == DropsIn::Poll {
                look();
            }
            progress
        };
        scripted(Capabilities::new(&[Opcode::Nop]), poll, move |bell, deadline| {
            if place == DropsIn::Wait {
                look_too();
            }
            bell.sleep(deadline);
        })
    };
    let pair = QueuePair::builder().entries(ENTRIES).workers(1).mover("owner", Drive::Threads(threads), make);
    let pair = pair.build().expect("the options are in range");
    let mover = pair.mover("owner").expect("it was added");
    let (sq, cq) = pair.split();
    (sq, cq, shelf, mover, farewells)
}

#[test]
fn a_driver_thread_may_drop_the_queue_that_it_belongs_to() {
    must_end(|| {
        for (threads, place) in (1..4).flat_map(|threads| [(threads, DropsIn::Poll), (threads, DropsIn::Wait)]) {
            let (mut sq, cq, shelf, mover, farewells) = build_owner(threads, place);
            *shelf.lock().expect("nobody panics") = Some(cq);
            // The entry brings a driver round to its next look, which finds the shelf full.
            push_nops(&mut sq, 1, mover);
            sq.submit();
            while !sq.is_closed() {
                thread::yield_now();
            }
            assert!(matches!(push_after_close(&mut sq), Err(PushError::Closed(_))));
            for _ in 0..threads {
                farewells.recv().expect("every driver ends, the one that dropped the queue too");
            }
        }
    });
}

fn push_after_close(sq: &mut SubmissionQueue) -> Result<(), PushError> {
    // SAFETY: a nop touches no memory.
    unsafe { sq.push(Sqe::nop()) }
}
