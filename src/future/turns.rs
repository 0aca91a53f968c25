//! Turns: which poll drives, where polls do.
//!
//! An executor polls every task that is ready before it looks at its sockets again. If each of these polls drove a
//! budget, the sockets would wait for as many budgets as there are tasks. So of all futures of a ring that come again
//! one drives, a budget at each of its polls, and the others pass:
//!
//! ```text
//!   one round of the executor:   A drives | B passes | C passes | .. | the sockets
//! ```
//!
//! Nobody waits for A. It is B's turn if nobody has driven since B was polled last: A has its end, or is not polled any
//! more (one round may lie between in which nobody drives). The first poll of each drives, so that what it has begun is
//! handed to its mover. And where many pass, one of them drives after so many, or else the passing would take longer
//! than the driving.

use std::sync::Mutex;

use crate::os::lock;

/// So many polls pass before one drives although it is not its turn.
const MOST_PASSES: u32 = 16;

/// The turns of a ring.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    turns: u64,
    /// Polls that have passed since the last one.
    passes: u32,
}

/// How many turns had been taken when a future was polled last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(Option<u64>);

impl Turns {
    /// Whether it is the turn of a future that has seen so many: then it is taken.
    pub(super) fn take(&self, seen: &mut Seen) -> bool {
        let mut taken = lock(&self.0);
        let is_its_turn = seen.0.is_none_or(|turns| turns == taken.turns) || taken.passes >= MOST_PASSES;
        if is_its_turn {
            *taken = Taken { turns: taken.turns + 1, passes: 0 };
        } else {
            taken.passes += 1;
        }
        *seen = Seen(Some(taken.turns));
        is_its_turn
    }
}
