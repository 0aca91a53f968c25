//! Futures that are dropped or forgotten at any moment, and movers that are dropped before their futures.
#![expect(unsafe_code, reason = "operations on raw addresses")]

use std::mem::ManuallyDrop;
use std::sync::Barrier;
use std::thread;

use memring::vdm::{Notifier, OperationResult, State};

use super::random::{Random, seed};
use super::watchdog::must_end;
use super::{NONE, each_kind, finish};

/// Of each operation.
const BYTES: usize = 300 << 10;
const OPERATIONS: usize = 6;

#[test]
fn what_was_started_is_done_when_the_mover_is_gone() {
    must_end(|| {
        let first = seed();
        for round in 0..40 {
            let mut random = Random::new(first.wrapping_add(round));
            for (name, vdm) in each_kind() {
                let mut buffers = vec![vec![0_u8; BYTES]; OPERATIONS];
                let mut expected = Vec::new();
                for buffer in &mut buffers {
                    // SAFETY: `vdm` is dropped before the buffers below, and nobody uses them before that.
                    let mut set = unsafe { vdm.memset(buffer.as_mut_ptr(), 7, BYTES, NONE) };
                    let polls = random.below(4);
                    for _ in 0..polls {
                        set.poll(&mut Notifier::none());
                    }
                    // The courier's way may have been full.
                    expected.push(if set.state() == State::Idle { 0 } else { 7 });
                    assert!(polls > 0 || set.state() == State::Idle);
                    if random.below(3) == 0 {
                        let _forgotten = ManuallyDrop::new(set);
                    } else {
                        drop(set);
                    }
                }
                drop(vdm);
                for (buffer, value) in buffers.iter().zip(expected) {
                    let wrong = buffer.iter().position(|byte| *byte != value);
                    assert_eq!(wrong, None, "{name}, seed {first}, round {round}: not {value}");
                }
            }
        }
    });
}

#[test]
fn futures_outlive_their_mover() {
    must_end(|| {
        for (name, vdm) in each_kind() {
            let mut buffers = vec![vec![0_u8; BYTES]; 2];
            let [first, second] = &mut buffers[..] else { unreachable!("there are two") };
            // SAFETY: the buffers are not used before the drop of `vdm` has returned.
            let mut started = unsafe { vdm.memset(first.as_mut_ptr(), 7, BYTES, NONE) };
            started.poll(&mut Notifier::none());
            // SAFETY: as above.
            let idle = unsafe { vdm.memset(second.as_mut_ptr(), 7, BYTES, NONE) };
            drop(vdm);
            assert!(buffers[0].iter().all(|byte| *byte == 7), "{name}: its drop has waited");
            assert_eq!(finish(started).result, OperationResult::Success, "{name}");
            assert_eq!(finish(idle).result, OperationResult::JobCorrupted, "{name}");
            assert!(buffers[1].iter().all(|byte| *byte == 0), "{name}: nothing begins after it");
        }
    });
}

#[test]
fn a_mover_is_dropped_while_others_poll() {
    must_end(|| {
        for round in 0..100 {
            for (name, vdm) in each_kind() {
                let mut pages = vec![0_u8; 4 * 4096];
                let futures: Vec<_> = pages
                    .chunks_mut(4096)
                    // SAFETY: the pages are not used before the drop of `vdm` has returned.
                    .map(|page| unsafe { vdm.memset(page.as_mut_ptr(), 7, 4096, NONE) })
                    .collect();
                let start = Barrier::new(futures.len() + 1);
                let outputs: Vec<_> = thread::scope(|scope| {
                    let poll = |future| {
                        let start = &start;
                        scope.spawn(move || {
                            start.wait();
                            finish(future).result
                        })
                    };
                    let polling: Vec<_> = futures.into_iter().map(poll).collect();
                    start.wait();
                    drop(vdm);
                    // From here on the pages are this thread's.
                    let wrote: Vec<u8> = pages.chunks(4096).map(|page| page[4095]).collect();
                    assert!(pages.chunks(4096).zip(&wrote).all(|(page, last)| page.iter().all(|byte| byte == last)));
                    let results = polling.into_iter().map(|thread| thread.join().expect("it ends"));
                    results.zip(wrote).collect()
                });
                for (result, wrote) in outputs {
                    let is_done = result == OperationResult::Success;
                    assert_eq!(wrote, if is_done { 7 } else { 0 }, "{name}, round {round}: {result:?}");
                    assert!(is_done || result == OperationResult::JobCorrupted, "{name}: {result:?}");
                }
            }
        }
    });
}
