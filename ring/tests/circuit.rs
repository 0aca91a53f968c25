//! Goal: what is submitted is executed once and completes once, while the rings go round, and every credit comes back.
//!
//! Method: random steps of a submitter, two movers and a reaper in one thread, which finds errors of arithmetic by
//! property; then the same by four threads at full speed, which finds what no model was written for. Orderings are
//! loom's business (`loom-tests/`).
#![cfg(not(memring_loom))]

use std::collections::{BTreeSet, VecDeque};
use std::thread;

use memring_ring::{Credits, Lane, completion};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Submit(usize),
    Claim(usize),
    /// Completes so many of the claimed, the oldest or the newest first.
    Complete(usize, bool),
    Reap(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let count = 1..5_usize;
    prop_oneof![
        count.clone().prop_map(Step::Submit),
        count.clone().prop_map(Step::Claim),
        (count.clone(), any::<bool>()).prop_map(|(count, oldest)| Step::Complete(count, oldest)),
        count.prop_map(Step::Reap),
    ]
}

proptest! {
    #[test]
    fn every_operation_goes_round_once(entries in 1..9_usize, steps in vec(step(), 1..200)) {
        let capacity = entries as u64;
        let (lane, credits) = (Lane::<1>::new(entries), Credits::new(capacity));
        let (producer, mut consumer) = completion::ring(entries);
        let (mut submitted, mut claimed, mut reaped) = (0_u64, VecDeque::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Submit(count) => {
                    if credits.take(count as u64) {
                        let batch: Vec<[u64; 1]> = (submitted..).map(|id| [id]).take(count).collect();
                        lane.push_batch(&batch);
                        submitted += count as u64;
                    }
                }
                Step::Claim(count) => {
                    let mut into = vec![[0]; count];
                    let (taken, _) = lane.pop(&mut into, u64::MAX, |_| 1);
                    claimed.extend(into[..taken].iter().map(|&[id]| id));
                }
                Step::Complete(count, oldest) => {
                    let next = |_| if oldest { claimed.pop_front() } else { claimed.pop_back() };
                    let batch: Vec<[u64; 2]> = (0..count).map_while(next).map(|id| [id, 0]).collect();
                    producer.push_batch(&batch);
                }
                Step::Reap(count) => {
                    for _ in 0..count {
                        let Some([id, _]) = consumer.pop::<[u64; 2]>() else { break };
                        prop_assert!(reaped.insert(id), "{} completed twice", id);
                        credits.give_back(1);
                    }
                }
            }
            prop_assert_eq!(credits.available() + submitted - consumer.popped(), capacity);
            let under_way = lane.depth() + claimed.len() as u64 + (producer.pushed() - consumer.popped());
            prop_assert_eq!(under_way, submitted - consumer.popped());
        }
    }
}

#[test]
fn four_threads_lose_nothing() {
    const OPERATIONS: u64 = 20_000;
    const ENTRIES: usize = 8;
    let (lane, credits) = (Lane::<2>::new(ENTRIES), Credits::new(ENTRIES as u64));
    let (producer, mut consumer) = completion::ring(ENTRIES);
    let submit = |first: u64| {
        for id in (first..OPERATIONS).step_by(2) {
            while !credits.take(1) {
                thread::yield_now();
            }
            lane.push_batch(&[[id, !id]]);
        }
    };
    let drive = || {
        while producer.pushed() < OPERATIONS {
            let mut into = [[0; 2]; 3];
            let (taken, _) = lane.pop(&mut into, u64::MAX, |_| 1);
            let completions = into.map(|[id, check]| [id, u64::from(check == !id)]);
            producer.push_batch(&completions[..taken]);
            if taken == 0 {
                thread::yield_now();
            }
        }
    };
    let mut seen = vec![false; usize::try_from(OPERATIONS).expect("it fits")];
    thread::scope(|scope| {
        scope.spawn(|| submit(0));
        scope.spawn(|| submit(1));
        scope.spawn(drive);
        scope.spawn(drive);
        while consumer.popped() < OPERATIONS {
            let Some([id, whole]) = consumer.pop::<[u64; 2]>() else {
                thread::yield_now();
                continue;
            };
            assert_eq!(whole, 1, "operation {id} was torn");
            let place = usize::try_from(id).expect("it fits");
            assert!(!std::mem::replace(&mut seen[place], true), "operation {id} completed twice");
            credits.give_back(1);
        }
    });
    assert!(seen.iter().all(|&seen| seen), "an operation was lost");
    assert_eq!((credits.available(), lane.depth()), (ENTRIES as u64, 0));
}
