//! Goal: a role has one holder, and a call that its holder has not answered keeps it from going.
//!
//! Method: random calls on a role and on a plain word, side by side, in one thread.
#![cfg(not(memring_loom))]

use memring_ring::Role;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Call {
    Make,
    TryTake,
    /// By the holder, if there is one.
    Release,
}

proptest! {
    #[test]
    fn a_role_goes_when_nobody_has_called(
        calls in vec(prop_oneof![Just(Call::Make), Just(Call::TryTake), Just(Call::Release)], 1..60),
    ) {
        let role = Role::default();
        let (mut held, mut called) = (false, false);
        for call in calls {
            match call {
                Call::Make => {
                    prop_assert_eq!(role.call(), !held);
                    called |= held;
                    held = true;
                }
                Call::TryTake => {
                    prop_assert_eq!(role.try_take(), !held);
                    held = true;
                }
                Call::Release if held => {
                    prop_assert_eq!(role.release(), !called);
                    held = called;
                    called = false;
                }
                Call::Release => {}
            }
        }
    }
}
