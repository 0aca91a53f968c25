//! Goal: credits and the gate count right and refuse right. Method: random calls on them and on plain numbers, side by
//! side.
#![cfg(not(memring_loom))]

use memring_ring::{Credits, Gate};
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

    /// A call with a count passes, one without closes.
    #[test]
    fn the_gate_counts_until_it_closes(
        calls in vec(prop_oneof![5 => (0..9_u64).prop_map(Some), 1 => Just(None)], 1..40),
    ) {
        let gate = Gate::default();
        let (mut passed, mut closed) = (0, false);
        for call in calls {
            match call {
                Some(count) => {
                    prop_assert_eq!(gate.pass(count), !closed);
                    passed += if closed { 0 } else { count };
                }
                None => {
                    prop_assert_eq!(gate.close(), passed);
                    closed = true;
                }
            }
            prop_assert_eq!((gate.passed(), gate.is_closed()), (passed, closed));
        }
    }
}
