//! What an operation holds, from its creation to its end, and what happens when there is no more.
#![expect(unsafe_code, reason = "operations on raw addresses")]

use memring::BuildError;
use memring::dsa::Dsa;
use memring::vdm::{Notifier, OperationFuture, OperationResult, OperationType, State, Vdm};

use super::watchdog::must_end;
use super::{NONE, finish};

/// A set of a byte each, as many as there is room for, and the one that found none.
fn fill(vdm: &Vdm, bytes: &mut [u8]) -> (Vec<OperationFuture>, Option<OperationFuture>) {
    let mut made = Vec::new();
    for byte in bytes {
        // SAFETY: the callers keep the bytes until `vdm` is dropped, and leave them alone until all are complete.
        let set = unsafe { vdm.memset(byte, 7, 1, NONE) };
        if set.state() == State::Complete {
            return (made, Some(set));
        }
        made.push(set);
    }
    (made, None)
}

fn result(future: &OperationFuture) -> Option<OperationResult> {
    future.output().map(|output| output.result)
}

#[test]
fn too_many_pending_operations_are_out_of_memory() {
    for operations in [1, 2, 3, 7, 100, 400] {
        let mut bytes = vec![0; operations + 1];
        let vdm = Vdm::threads(1, operations).expect("a mover");
        let (made, lacking) = fill(&vdm, &mut bytes);
        let mut lacking = lacking.expect("one more than there is room for");
        assert_eq!(made.len(), operations, "resources are taken at creation");
        assert_eq!(result(&lacking), Some(OperationResult::OutOfMemory));
        assert_eq!(lacking.poll(&mut Notifier::none()), State::Complete);
        assert_eq!(result(&lacking), Some(OperationResult::OutOfMemory), "a poll changes nothing");
        let output = lacking.output().expect("it is complete");
        assert_eq!(output.operation_type, OperationType::Memset);
        assert_eq!(output.destination, &raw mut bytes[operations]);
        for set in made {
            assert_eq!(finish(set).result, OperationResult::Success);
        }
        drop(vdm);
        assert_eq!(bytes[..operations], vec![7; operations]);
        assert_eq!(bytes[operations], 0, "what is out of memory does nothing");
    }
}

#[test]
fn an_idle_one_that_is_dropped_makes_room() {
    let mut bytes = vec![0; 9];
    let vdm = Vdm::threads(1, 8).expect("a mover");
    let (mut made, lacking) = fill(&vdm, &mut bytes);
    assert!(lacking.is_some());
    for _ in 0..1000 {
        drop(made.pop());
        // SAFETY: the bytes outlive `vdm`; it is not polled.
        let set = unsafe { vdm.memset(bytes.as_mut_ptr(), 7, 1, NONE) };
        assert_eq!(set.state(), State::Idle, "the other's place is free");
        // SAFETY: as above.
        assert_eq!(result(&unsafe { vdm.memset(bytes.as_mut_ptr(), 7, 1, NONE) }), Some(OperationResult::OutOfMemory));
        made.push(set);
    }
    drop((made, vdm));
    assert_eq!(bytes, [0; 9], "none of them was polled");
}

#[test]
fn a_complete_one_has_made_room_already() {
    must_end(|| {
        // A queue gives credits back in portions; those of a mover come back one by one, whatever its size.
        for operations in [1, 2, 3, 8, 30, 100, 300, 1000] {
            for threads in [1, 2] {
                let mut bytes = vec![0; operations + 1];
                let vdm = Vdm::threads(threads, operations).expect("a mover");
                let (made, lacking) = fill(&vdm, &mut bytes);
                drop(lacking);
                keep_full(&vdm, made, 20_000);
            }
        }
    });
}

/// Puts another operation in the place of each that completes, and starts it at once: none may find too little room.
fn keep_full(vdm: &Vdm, mut pending: Vec<OperationFuture>, mut left: usize) {
    let operations = pending.len();
    while left > 0 {
        for set in &mut pending {
            if set.poll(&mut Notifier::none()) != State::Complete {
                continue;
            }
            assert_eq!(result(set), Some(OperationResult::Success), "{operations} operations, {left} left");
            let byte = set.output().expect("it is complete").destination;
            // SAFETY: the byte is that of the one that is complete.
            *set = unsafe { vdm.memset(byte, 7, 1, NONE) };
            assert_eq!(set.state(), State::Idle, "{operations} operations, {left} left: no room");
            set.poll(&mut Notifier::none());
            left = left.saturating_sub(1);
        }
    }
}

#[test]
fn a_running_one_that_is_dropped_makes_room_at_its_end() {
    const LONG: usize = 1 << 20;
    must_end(|| {
        let mut pages = vec![0; LONG];
        let mut byte = 0;
        let vdm = Vdm::threads(1, 1).expect("a mover");
        for _ in 0..50 {
            // SAFETY: all outlive `vdm`; there is room for one operation, so none runs beside another.
            let mut long = unsafe { vdm.memset(pages.as_mut_ptr(), 7, LONG, NONE) };
            assert_eq!(long.state(), State::Idle);
            long.poll(&mut Notifier::none());
            drop(long);
            loop {
                // SAFETY: as above.
                let next = unsafe { vdm.memset(&raw mut byte, 7, 1, NONE) };
                if next.state() == State::Idle {
                    assert_eq!(finish(next).result, OperationResult::Success);
                    break;
                }
                assert_eq!(result(&next), Some(OperationResult::OutOfMemory));
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn the_synchronous_mover_needs_no_resources() {
    let mut bytes = vec![0; 10_000];
    let vdm = Vdm::synchronous().expect("a mover");
    let (made, lacking) = fill(&vdm, &mut bytes);
    assert!(made.len() == 10_000 && lacking.is_none());
    for mut set in made {
        assert_eq!(set.poll(&mut Notifier::none()), State::Complete, "it is done by who polls");
    }
    assert_eq!(bytes, vec![7; 10_000]);
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    assert!(matches!(Vdm::threads(1, 0), Err(BuildError::Entries(0))));
    assert!(matches!(Vdm::threads(1, 65537), Err(BuildError::Entries(65537))));
    assert!(matches!(Vdm::threads(1, 4_294_967_424), Err(BuildError::Entries(4_294_967_424))));
    assert!(matches!(Vdm::threads(65, 64), Err(BuildError::Workers(65))));
    assert!(Vdm::threads(1, 65536).is_ok());
    let dsa = Dsa::software();
    assert!(matches!(Vdm::dsa(&dsa, 1, 0), Err(BuildError::Entries(0))));
    assert!(matches!(Vdm::dsa(&dsa, 65, 64), Err(BuildError::Threads(name, 65)) if name == "dsa"));
}
