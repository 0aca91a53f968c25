//! Goal: credits and the gate count right and refuse right. Method: random calls on them and on plain numbers, side by
//! side.
#![cfg(not(memring_loom))]

use memring_ring::{Credits, Gate, Passage};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn credits_are_taken_whole_or_not_at_all(total in 0..20_u64, calls in vec((any::<bool>(), 0..12_u64), 1..60)) {
        let credits = Credits::new(total);
        let mut available = total;
        for (takes, count) in calls {
            if takes {
                prop_assert_eq!(credits.take(count), count <= available);
                available -= if count <= available { count } else { 0 };
            } else {
                let count = count.min(total - available);
                credits.give_back(count);
                available += count;
            }
            prop_assert_eq!((credits.available(), credits.total()), (available, total));
        }
    }

    #[test]
    fn the_gate_counts_until_it_closes(calls in vec(gate_call(), 1..40)) {
        let gate = Gate::default();
        let (mut passed, mut held, mut closed) = (0, false, false);
        for call in calls {
            match call {
                GateCall::Pass(count) => {
                    let expected = match (closed, held) {
                        (true, _) => Passage::Closed,
                        (false, true) => Passage::Held,
                        (false, false) => Passage::Passed,
                    };
                    prop_assert_eq!(gate.pass(count), expected);
                    passed += if expected == Passage::Passed { count } else { 0 };
                }
                GateCall::PassHeld(count) => {
                    prop_assert_eq!(gate.pass_held(count), !closed);
                    passed += if closed { 0 } else { count };
                }
                GateCall::Hold(hold) => {
                    if hold { gate.hold() } else { gate.release() }
                    held = hold;
                }
                GateCall::Close => {
                    prop_assert_eq!(gate.close(), passed);
                    closed = true;
                }
            }
            prop_assert_eq!((gate.passed(), gate.is_closed()), (passed, closed));
        }
    }
}

#[derive(Clone, Debug)]
enum GateCall {
    Pass(u64),
    PassHeld(u64),
    Hold(bool),
    Close,
}

fn gate_call() -> impl Strategy<Value = GateCall> {
    prop_oneof![
        5 => (0..9_u64).prop_map(GateCall::Pass),
        3 => (0..9_u64).prop_map(GateCall::PassHeld),
        3 => any::<bool>().prop_map(GateCall::Hold),
        1 => Just(GateCall::Close),
    ]
}
