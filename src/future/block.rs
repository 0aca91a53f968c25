//! Blocking: awaiting without an executor, helping meanwhile.

use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;

use super::failed::BlockError;
use super::operation::Operation;
use super::parker::Parker;
use super::shared::Parts;
use super::verb::Verb;

impl Parts {
    /// Polls a future until it is ready; between its polls this thread does what reapers do, and helps the workers.
    pub(super) fn block_on<F: Future>(&self, future: F) -> Result<F::Output, BlockError> {
        self.may_block()?;
        Ok(self.wait_for(future))
    }

    /// As [`block_on`](Parts::block_on), on a thread that may block.
    fn wait_for<F: Future>(&self, future: F) -> F::Output {
        let (parker, waker) = Parker::of_this_thread();
        let mut future = pin!(future);
        self.wait_with(&parker, &waker, |context| future.as_mut().poll(context))
    }

    /// Polls until it is ready, with this thread's parker.
    pub(super) fn wait_with<T>(
        &self,
        parker: &Arc<Parker>,
        waker: &Waker,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> T {
        loop {
            let seen = parker.wakes();
            if let Poll::Ready(output) = poll(&mut Context::from_waker(waker)) {
                return output;
            }
            self.block(parker, seen);
        }
    }

    /// Begins all of the operations, and gets each of them to its end.
    pub(super) fn wait_all<V: Verb>(&self, operations: &mut [Operation<V>]) -> Result<(), BlockError> {
        self.may_block()?;
        operations.iter_mut().for_each(Operation::start_in_turn);
        for operation in operations {
            self.block_on(poll_fn(|context| operation.poll_complete(context)))?;
        }
        Ok(())
    }
}
