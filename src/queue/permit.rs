//! Permits: credits that were taken before there is an entry to push.

use std::sync::Arc;

use super::core::Core;

/// The right to push a number of entries: their credits. Dropping it gives them back; forgetting it loses them.
///
/// # Examples
///
/// ```
/// use memring::{Sqe, queue::{PushError, QueuePair}};
/// let (mut sq, mut cq) = QueuePair::builder().entries(2).build()?.split();
/// let permit = sq.reserve(2).expect("nothing is under way");
/// // SAFETY: a nop touches no memory.
/// assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))));
/// // SAFETY: as above.
/// unsafe { sq.push_permitted(permit, &[Sqe::nop(); 2]) }?;
/// assert_eq!(sq.submit(), 2);
/// # cq.wait(2, None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    core: Arc<Core>,
    count: u64,
}

impl Permit {
    /// Takes so many credits, all or none.
    pub(super) fn take(core: &Arc<Core>, count: u64) -> Option<Self> {
        core.outlet.credits.take(count).then(|| Self { core: Arc::clone(core), count })
    }

    /// How many entries it is for.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::queue::QueuePair;
    /// let (sq, _cq) = QueuePair::builder().entries(8).build()?.split();
    /// assert_eq!(sq.reserve(3).map(|permit| permit.count()), Some(3));
    /// # Ok::<(), memring::queue::BuildError>(())
    /// ```
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// Whether it is of this queue and for so many entries.
    pub(super) fn is_for(&self, core: &Arc<Core>, count: usize) -> bool {
        Arc::ptr_eq(&self.core, core) && self.count == count as u64
    }

    /// Hands the credits over to the entries they were taken for.
    pub(super) fn spend(mut self) {
        self.count = 0;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.count > 0 && !self.core.birth.is_foreign() {
            self.core.outlet.credits.give_back(self.count);
        }
    }
}
