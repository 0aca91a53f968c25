//! A mover of the user's own: when its verbs are called, and that none of its operations is left behind.
#![expect(unsafe_code, reason = "operations on raw addresses")]

use std::mem::ManuallyDrop;
use std::sync::mpsc::channel;
use std::thread;

use memring::vdm::{Notifier, OperationFuture, OperationResult, OperationType, State, Vdm};
use memring::{OpFlags, Ring};

use super::courier::{self, Courier};
use super::notifiers::counting;
use super::scripted::{Call, Hand};
use super::watchdog::must_end;
use super::{Case, NONE};

/// A mover that is led, a page for it, and the hand.
fn led() -> (Hand, Vdm) {
    let hand = Hand::default();
    let vdm = Vdm::new(hand.mover());
    (hand, vdm)
}

/// A set of eight bytes.
///
/// # Safety
///
/// The contract of `Vdm::memset`.
unsafe fn set(vdm: &Vdm, page: &mut [u8; 8]) -> OperationFuture {
    // SAFETY: the caller vouches for it.
    unsafe { vdm.memset(page.as_mut_ptr(), 7, 8, NONE) }
}

#[test]
fn verbs_are_called_in_order() {
    let mut page = [0; 8];
    for operation_type in Case::TYPES {
        let (hand, vdm) = led();
        hand.script().checks = 2;
        hand.script().result = Some(OperationResult::Success);
        let case = Case { operation_type, dst: 0, src: 4, n: 4, value: 7 };
        // SAFETY: `page` outlives `vdm`, and nobody uses it until the operation is complete.
        let mut future = unsafe { case.on(&vdm, page.as_mut_ptr(), NONE) };
        assert_eq!(hand.calls(), [Call::New(operation_type)]);
        assert_eq!(future.poll(&mut Notifier::none()), State::Running);
        assert_eq!(hand.calls(), [Call::Start, Call::Check]);
        assert_eq!(future.poll(&mut Notifier::none()), State::Running);
        assert_eq!(hand.calls(), [Call::Check]);
        assert_eq!(future.poll(&mut Notifier::none()), State::Complete);
        assert_eq!(hand.calls(), [Call::Check, Call::Delete]);
        assert_eq!(future.poll(&mut Notifier::none()), State::Complete);
        drop(future);
        assert_eq!(hand.calls(), []);
        drop(vdm);
        assert_eq!(hand.calls(), [Call::Gone]);
    }
}

#[test]
fn a_mover_tells_the_result() {
    for result in [OperationResult::Success, OperationResult::OutOfMemory, OperationResult::JobCorrupted] {
        let mut page = [0; 8];
        let (hand, vdm) = led();
        hand.script().result = Some(result);
        // SAFETY: `page` outlives `vdm`, and nobody uses it until the operation is complete.
        assert_eq!(super::finish(unsafe { set(&vdm, &mut page) }).result, result);
    }
}

#[test]
fn without_resources_it_is_complete_at_once() {
    let mut page = [0; 8];
    let (hand, vdm) = led();
    hand.script().lacking = 1;
    // SAFETY: `page` outlives `vdm`, and nobody uses it.
    let mut future = unsafe { set(&vdm, &mut page) };
    assert_eq!(future.state(), State::Complete);
    assert_eq!(future.poll(&mut Notifier::none()), State::Complete);
    let output = future.output().expect("it is complete");
    assert_eq!(output.result, OperationResult::OutOfMemory);
    assert_eq!((output.operation_type, output.destination), (OperationType::Memset, page.as_mut_ptr()));
    drop((future, vdm));
    assert_eq!(hand.calls(), [Call::New(OperationType::Memset), Call::Gone]);
}

#[test]
fn what_cannot_start_stays_idle_and_is_tried_again() {
    let mut page = [0; 8];
    let (hand, vdm) = led();
    hand.script().busy = 2;
    // SAFETY: `page` outlives `vdm`, and nobody uses it until the operation is complete.
    let mut future = unsafe { set(&vdm, &mut page) };
    assert_eq!(future.poll(&mut Notifier::none()), State::Idle);
    assert_eq!(future.poll(&mut Notifier::none()), State::Idle);
    assert_eq!(future.state(), State::Idle);
    assert_eq!(future.poll(&mut Notifier::none()), State::Complete);
    assert_eq!(hand.calls()[1..], [Call::Start, Call::Start, Call::Start, Call::Check, Call::Delete]);
    assert_eq!(page, [7; 8]);
    // Awaited, it is polled again by itself.
    let ring = Ring::builder().workers(0).build().expect("a ring");
    hand.script().busy = 3;
    hand.script().checks = 3;
    // SAFETY: as above.
    let future = unsafe { set(&vdm, &mut page) };
    must_not_sleep(&ring, future);
}

/// Awaits an operation whose mover wakes nobody.
fn must_not_sleep(ring: &Ring, future: OperationFuture) {
    let (count, waker) = counting();
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(&waker);
    for polls in 1.. {
        if Future::poll(future.as_mut(), &mut context).is_ready() {
            break;
        }
        assert_eq!(count.get(), polls, "who would poll it again?");
    }
    assert!(ring.block_on(future).is_ok());
}

#[test]
fn what_a_mover_cannot_is_refused_before_it() {
    let mut page = [0; 8];
    let at = page.as_mut_ptr();
    let (hand, vdm) = led();
    hand.script().can = OpFlags::MEM_DURABLE;
    assert!(vdm.is_supported(OpFlags::MEM_DURABLE) && !vdm.is_supported(OpFlags::NO_CACHE_HINT));
    for future in [
        // SAFETY: `page` outlives `vdm`, and it is refused.
        unsafe { vdm.memset(at, 7, 8, OpFlags::NO_CACHE_HINT) },
        // SAFETY: as above.
        unsafe { vdm.memcpy(at, at, 8, NONE) },
    ] {
        hand.calls();
        assert_eq!(super::finish(future).result, OperationResult::JobCorrupted);
        assert_eq!(hand.calls(), [Call::Delete], "it gets its resources back, and no more");
    }
    // SAFETY: as above, and nobody uses it until the operation is complete.
    super::finish(unsafe { vdm.memset(at, 7, 8, OpFlags::MEM_DURABLE) });
    assert_eq!(page, [7; 8]);
}

#[test]
fn an_idle_one_that_is_dropped_gives_back() {
    let mut page = [0; 8];
    let (hand, vdm) = led();
    // SAFETY: `page` outlives `vdm`, and it is never polled.
    drop(unsafe { set(&vdm, &mut page) });
    assert_eq!(hand.calls(), [Call::New(OperationType::Memset), Call::Delete]);
    hand.script().busy = 1;
    // SAFETY: as above, and it does not start.
    let mut future = unsafe { set(&vdm, &mut page) };
    assert_eq!(future.poll(&mut Notifier::none()), State::Idle);
    drop(future);
    assert_eq!(hand.calls(), [Call::New(OperationType::Memset), Call::Start, Call::Delete]);
    drop(vdm);
    assert_eq!(hand.calls(), [Call::Gone]);
    assert_eq!(page, [0; 8]);
}

#[test]
fn a_running_one_that_is_dropped_is_looked_after() {
    let mut pages = [[0; 8]; 2];
    let (hand, vdm) = led();
    hand.script().checks = 2;
    let [first, second] = &mut pages;
    // SAFETY: the pages outlive `vdm`, and nobody uses them until its drop has returned.
    let mut running = unsafe { set(&vdm, first) };
    assert_eq!(running.poll(&mut Notifier::none()), State::Running);
    drop(running);
    hand.calls();
    for calls in [vec![Call::Check], vec![Call::Check, Call::Delete], vec![]] {
        // SAFETY: as above; these are idle when they are dropped.
        drop(unsafe { set(&vdm, second) });
        let own = [Call::New(OperationType::Memset), Call::Delete];
        assert_eq!(hand.calls(), [&calls[..], &own].concat(), "later operations look after it");
    }
    drop(vdm);
    assert_eq!(pages, [[7; 8], [0; 8]]);
}

#[test]
fn the_drop_of_a_mover_waits_for_all_that_runs() {
    for is_forgotten in [false, true] {
        let mut pages = [[0; 8]; 3];
        let (hand, vdm) = led();
        hand.script().checks = 5;
        let mut futures: Vec<OperationFuture> = Vec::new();
        for page in &mut pages {
            // SAFETY: the pages outlive `vdm`, and nobody uses them until its drop has returned.
            futures.push(unsafe { set(&vdm, page) });
        }
        let mut idle = futures.pop().expect("there are three");
        for future in &mut futures {
            assert_eq!(future.poll(&mut Notifier::none()), State::Running);
        }
        if is_forgotten {
            let _forgotten = ManuallyDrop::new(futures);
        } else {
            drop(futures);
        }
        drop(vdm);
        assert_eq!(pages, [[7; 8], [7; 8], [0; 8]], "forgotten: {is_forgotten}");
        assert_eq!(idle.poll(&mut Notifier::none()), State::Complete);
        assert_eq!(idle.output().map(|output| output.result), Some(OperationResult::JobCorrupted));
        let deleted = hand.calls().iter().filter(|call| **call == Call::Delete).count();
        assert_eq!((deleted, pages[2]), (3, [0; 8]), "forgotten: {is_forgotten}");
    }
}

#[test]
fn who_awaits_is_woken_when_the_mover_is_dropped() {
    for wakes in [false, true] {
        must_end(move || {
            let mut page = Box::new([0; 8]);
            let (hand, vdm) = led();
            hand.script().checks = 5;
            hand.script().wakes = wakes;
            // SAFETY: `page` outlives `vdm`, whose drop is waited for.
            let mut future = unsafe { set(&vdm, &mut page) };
            assert_eq!(future.poll(&mut Notifier::none()), State::Running);
            let (count, waker) = counting();
            assert_eq!(future.poll(&mut Notifier::waker(&waker)), State::Running);
            let (gone, going) = channel();
            let ender = thread::spawn(move || {
                drop(vdm);
                gone.send(()).expect("it is waited for");
            });
            going.recv().expect("the drop ends");
            ender.join().expect("the drop does not panic");
            assert!(count.get() >= 1, "nobody was told");
            assert_eq!(future.poll(&mut Notifier::none()), State::Complete);
            assert_eq!(*page, [7; 8]);
        });
    }
}

#[test]
fn a_verb_that_panics_has_done_nothing() {
    let mut page = [0; 8];
    let (hand, vdm) = led();
    // SAFETY: `page` outlives `vdm`, and nobody uses it until the operation is complete.
    let mut future = unsafe { set(&vdm, &mut page) };
    hand.script().panics = true;
    let poll = std::panic::AssertUnwindSafe(|| future.poll(&mut Notifier::none()));
    assert!(std::panic::catch_unwind(poll).is_err());
    assert_eq!(future.poll(&mut Notifier::none()), State::Complete);
    assert_eq!(hand.calls()[1..], [Call::Start, Call::Check, Call::Check, Call::Delete]);
    assert_eq!(page, [7; 8]);
}

#[test]
fn the_example_of_a_mover_runs() {
    // One place, so that the way is full now and then.
    for places in [1, 4] {
        let copy = must_end(move || courier::run(Courier::new(places)).map_err(|error| error.to_string()));
        let copy = copy.expect("it runs");
        assert_eq!((copy.len(), &copy[..3]), (4096, &[9, 9, 7][..]), "{places}");
    }
}
