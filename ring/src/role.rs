//! Roles: work that one thread does for all, and that nobody may find undone.
//!
//! Whoever wants the work done *calls*. If nobody has the role, the caller takes it and does the work. If somebody has
//! it, the call is noted, and the holder looks once more before the role is free. So no thread ever waits for the role,
//! two never hold it, and what was published before a call is seen by a look that begins after it (P12).
//!
//! ```text
//!   call:      compare-and-swap  FREE -> HELD             true: the caller holds it
//!                                HELD, CALLED -> CALLED   false: the holder looks again
//!   try_take:  compare-and-swap  FREE -> HELD             leaves nothing behind
//!   release:   compare-and-swap  HELD -> FREE             true: it is free
//!                                CALLED -> HELD           false: still held; look again
//! ```
//!
//! | word | written by | ordering and partner |
//! |---|---|---|
//! | the word | callers and the holder, read-modify-writes | AcqRel: each acquires from all before it (P12) |
//!
//! All writes are read-modify-writes of one word, so a call and a release stand in one order and no fence is needed: a
//! call that comes first makes the release fail, and one that comes later finds the role free. A call that finds a
//! call already noted must write all the same: it is its own publication that the holder has to acquire.
//!
//! A call is heard when the holder releases, so a holder that sleeps with the role hears none: it must sleep on
//! something that is rung for all that could be called for. Who wants the role later, and sleeps until then, puts
//! itself on a list before it calls, and the holder looks at that list after its release.

use crate::index::CachePadded;
use crate::sync::{AtomicU32, Mutant, Ordering, is_active, ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CALLED: u32 = 2;

/// A role that at most one thread has; see the [module](self).
///
/// # Examples
///
/// ```
/// let role = memring_ring::Role::default();
/// assert!(role.call(), "it was free: it is ours");
/// assert!(!role.call(), "somebody calls while we hold it");
/// assert!(!role.release(), "so we look once more");
/// assert!(role.release());
/// assert!(role.try_take());
/// ```
#[derive(Debug, Default)]
pub struct Role(CachePadded<AtomicU32>);

impl Role {
    /// Takes the role if it is free, or leaves a call for its holder. True: it is the caller's, who must
    /// [release](Role::release) it.
    #[must_use]
    #[inline]
    pub fn call(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed); // Ordering: the compare-and-swap decides.
        loop {
            let next = if word == FREE { HELD } else { CALLED };
            if next == CALLED && is_active(Mutant::RoleCall) && word == CALLED {
                return false;
            }
            // Ordering: AcqRel, partner: `release`, both of its writes (P12).
            let order = ordering(Mutant::RoleTake, Ordering::AcqRel);
            match self.0.compare_exchange_weak(word, next, order, Ordering::Relaxed) {
                Ok(_) => return word == FREE,
                Err(now) => word = now,
            }
        }
    }

    /// Takes the role if it is free. False: somebody has it, and does not hear of this.
    #[must_use]
    #[inline]
    pub fn try_take(&self) -> bool {
        // Ordering: AcqRel, partner: `release` (P12).
        let order = ordering(Mutant::RoleTake, Ordering::AcqRel);
        self.0.compare_exchange(FREE, HELD, order, Ordering::Relaxed).is_ok()
    }

    /// Gives the role up, unless somebody has called since the last look. False: it is still held; look again, and
    /// release it then.
    #[must_use = "false leaves the role with the caller"]
    #[inline]
    pub fn release(&self) -> bool {
        // Ordering: AcqRel, partner: `call` and `try_take` (P12).
        let order = ordering(Mutant::RoleRelease, Ordering::AcqRel);
        if self.0.compare_exchange(HELD, FREE, order, Ordering::Relaxed).is_ok() {
            return true;
        }
        // Ordering: AcqRel, partner: `call`, whose caller has published something (P12).
        self.0.swap(HELD, order);
        false
    }
}
