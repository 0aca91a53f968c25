//! The stage of a submission queue: entries between their push and their submit.

use crate::sqe::{MoverId, ROUTED, Sqe};

/// Entries whose mover is chosen and whose credit is taken, in the order of their pushes.
#[derive(Debug)]
pub(super) struct Stage {
    /// With room for as many as the queue has entries, so it never grows.
    sqes: Vec<Sqe>,
    /// The mover of all of them; [`ROUTED`] if they have several.
    mover: MoverId,
}

impl Stage {
    pub(super) fn new(entries: usize) -> Self {
        Self { sqes: Vec::with_capacity(entries), mover: ROUTED }
    }

    pub(super) fn len(&self) -> usize {
        self.sqes.len()
    }

    #[inline]
    pub(super) fn push(&mut self, sqe: &Sqe, mover: MoverId) {
        if self.sqes.is_empty() {
            self.mover = mover;
        } else if self.mover != mover {
            self.mover = ROUTED;
        }
        self.sqes.push(sqe.on(mover));
    }

    /// Stages all of `sqes`, or none: `choose` gives the mover of each, or refuses it.
    #[inline]
    pub(super) fn extend<E>(
        &mut self,
        sqes: &[Sqe],
        mut choose: impl FnMut(&Sqe) -> Result<MoverId, E>,
    ) -> Result<(), E> {
        let before = self.sqes.len();
        let mut common = self.mover;
        self.sqes.extend_from_slice(sqes);
        // The checks read the caller's slice: the stage's copy is still on its way to the cache.
        for (index, (sqe, staged)) in sqes.iter().zip(&mut self.sqes[before..]).enumerate() {
            match choose(sqe) {
                Ok(mover) => {
                    if mover != sqe.mover() {
                        *staged = sqe.on(mover);
                    }
                    if mover != common {
                        common = if before + index == 0 { mover } else { ROUTED };
                    }
                }
                Err(refused) => {
                    self.sqes.truncate(before);
                    return Err(refused);
                }
            }
        }
        self.mover = common;
        Ok(())
    }

    /// Takes back what was staged after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.sqes.truncate(len);
    }

    pub(super) fn clear(&mut self) {
        self.sqes.clear();
    }

    /// The entries, in runs of one mover each.
    pub(super) fn runs(&self) -> impl Iterator<Item = (MoverId, &[Sqe])> {
        let uniform = self.mover != ROUTED;
        let runs = self.sqes.chunk_by(move |a, b| uniform || a.mover() == b.mover());
        runs.map(|run| (run[0].mover(), run))
    }
}
