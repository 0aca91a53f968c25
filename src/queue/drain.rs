//! Draining: completions one by one, each taken as it is yielded.

use super::reaper::Inner;
use crate::cqe::Cqe;

/// The completions that were there when [`drain`](super::CompletionQueue::drain) was called.
///
/// Each is taken as it is yielded; dropping or forgetting the rest leaves it in the queue.
#[derive(Debug)]
pub struct Drain<'a> {
    pub(super) inner: &'a mut Inner,
}

impl Iterator for Drain<'_> {
    type Item = Cqe;

    #[inline]
    fn next(&mut self) -> Option<Cqe> {
        let cqe = self.inner.consumer.pop_seen()?;
        self.inner.owed += 1;
        if self.inner.owed == self.inner.portion {
            self.inner.settle();
        }
        Some(cqe)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.inner.consumer.seen();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.inner.settle();
    }
}
