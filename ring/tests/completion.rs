//! Goal: the completion ring behaves like a queue with a cursor over what was seen. Method: random calls on the ring
//! and on a `VecDeque`, side by side, in one thread, over many laps.
#![cfg(not(memring_loom))]

use std::collections::VecDeque;

use memring_ring::{PHASE_BIT, completion};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Call {
    /// Pushes completions with these words, or as many as there is room for.
    Push(Vec<u64>),
    Ready(usize),
    Pop,
    PopSeen,
    Skip(u64),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => vec(any::<u64>(), 0..5).prop_map(Call::Push),
        2 => (0..10_usize).prop_map(Call::Ready),
        3 => Just(Call::Pop),
        3 => Just(Call::PopSeen),
        1 => (0..5_u64).prop_map(Call::Skip),
    ]
}

proptest! {
    #[test]
    fn the_ring_is_a_queue(slots in 1..9_usize, calls in vec(call(), 1..120)) {
        let (producer, mut consumer) = completion::ring(slots);
        let capacity = slots.next_power_of_two();
        let mut waiting = VecDeque::new();
        let (mut pushed, mut popped, mut seen, mut skipped) = (0, 0, 0, 0);
        for call in calls {
            match call {
                Call::Push(words) => {
                    let room = capacity - waiting.len();
                    let numbered = (pushed..).zip(words).map(|(number, word)| [number, word]);
                    let completions: Vec<[u64; 2]> = numbered.take(room).collect();
                    producer.push_batch(&completions);
                    pushed += completions.len() as u64;
                    waiting.extend(completions.iter().map(|&[n, word]| [n, word & !PHASE_BIT]));
                }
                Call::Skip(count) => {
                    producer.skip(count);
                    skipped += count;
                }
                Call::Ready(wanted) => {
                    seen = seen.max(wanted.min(waiting.len()));
                    prop_assert_eq!(consumer.ready(wanted), seen);
                }
                Call::Pop => {
                    let expected = waiting.pop_front();
                    prop_assert_eq!(consumer.pop::<[u64; 2]>(), expected);
                    popped += u64::from(expected.is_some());
                    seen = seen.saturating_sub(1);
                }
                Call::PopSeen => {
                    let expected = if seen > 0 { waiting.pop_front() } else { None };
                    prop_assert_eq!(consumer.pop_seen::<[u64; 2]>(), expected);
                    popped += u64::from(expected.is_some());
                    seen = seen.saturating_sub(1);
                }
            }
            prop_assert_eq!((consumer.seen(), consumer.popped()), (seen, popped));
            prop_assert_eq!((producer.skipped(), producer.ended()), (skipped, pushed + skipped));
            prop_assert_eq!((producer.pushed(), producer.clone().pushed_relaxed()), (pushed, pushed));
        }
    }
}
