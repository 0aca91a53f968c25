//! Blocking: awaiting without an executor, helping meanwhile; and waiting for the end of what movers may touch.

use core::future::poll_fn;
use core::mem::ManuallyDrop;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::failed::BlockError;
use super::operation::Operation;
use super::parker::Parker;
use super::reaper::{Ends, Held, is_in_a_queue, is_stuck};
use super::shared::Parts;
use super::verb::Verb;
use crate::os::{abort_over_memory_in_use, lock};
use crate::queue::Arm;

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

    /// Whether this thread may block for what drivers do.
    pub(super) fn may_block(&self) -> Result<(), BlockError> {
        if self.direct.is_forked() {
            return Err(BlockError::Forked);
        }
        if is_in_a_queue() { Err(BlockError::WouldDeadlock) } else { Ok(()) }
    }

    /// Helps and sleeps until this thread's parker has been woken more than `seen` times.
    ///
    /// Who sleeps is an heir, whether another had the role or there was nothing to do: what others begin, or leave, is
    /// his to do.
    pub(super) fn block(&self, parker: &Arc<Parker>, seen: u64) {
        let mut left = Arm::Armed;
        while parker.wakes() == seen {
            left = match self.take_turn(parker) {
                Some(Arm::Armed) => self.sleep_as_heir(parker, seen),
                Some(left) => {
                    parker.rest(seen, left);
                    left
                }
                None => {
                    parker.sleep(seen, None);
                    self.answer_as_heir(parker);
                    Arm::Armed
                }
            };
        }
        // There may be work left that only a reaper does, and somebody who waits for it.
        self.pass_on(left);
    }

    /// Sleeps among the heirs, if there is nothing to drive after all; what there may be to drive then.
    fn sleep_as_heir(&self, parker: &Arc<Parker>, seen: u64) -> Arm {
        if !self.plan.is_caller_driven {
            parker.sleep(seen, None);
            return Arm::Armed;
        }
        // First among the heirs, then the look: who begins something calls an heir after that.
        lock(&self.reaper.heirs).push(Arc::clone(parker));
        let left = self.arm_queue();
        if left == Arm::Armed {
            parker.sleep(seen, None);
            self.answer_as_heir(parker);
        } else {
            self.strike(parker);
        }
        left
    }

    /// Ends being an heir. Who was called looks, and calls another one only if that leaves something: two who sleep
    /// would else call each other, in turn and without end.
    fn answer_as_heir(&self, parker: &Arc<Parker>) {
        if !self.strike(parker) {
            self.drive(self.plan.poll_budget);
        }
    }

    /// Reaps and helps. None: somebody else has the role, and this thread is among his heirs.
    fn take_turn(&self, parker: &Arc<Parker>) -> Option<Arm> {
        let held = match self.take_soon() {
            Some(held) => held,
            None => {
                // First among the heirs, then the call: the holder looks for heirs after he has given the role up, and
                // a call that he does not hear finds it free.
                lock(&self.reaper.heirs).push(Arc::clone(parker));
                let held = self.reaper.call()?;
                self.strike(parker);
                held
            }
        };
        Some(self.help(held, self.plan.spin))
    }

    /// Takes the role, if it is free soon: a driver that reaps what it has completed has it for a moment.
    fn take_soon(&self) -> Option<Held<'_>> {
        let begin = Instant::now();
        loop {
            let held = self.reaper.try_take();
            if held.is_some() || begin.elapsed() >= self.plan.spin {
                return held;
            }
            // Who has it may have lost its CPU to others who wait for it.
            thread::yield_now();
        }
    }

    /// Takes this thread out of the list of heirs; whether it was there.
    fn strike(&self, parker: &Arc<Parker>) -> bool {
        let mut heirs = lock(&self.reaper.heirs);
        let at = heirs.iter().position(|heir| Arc::ptr_eq(heir, parker));
        at.is_some_and(|at| {
            heirs.swap_remove(at);
            true
        })
    }

    /// Waits for a future on behalf of somebody whose memory movers may touch until it is ready: if it never will be,
    /// since a mover broke down, the process ends. `is_ready` says so of the last moment.
    pub(super) fn wait_as_guard<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
        is_ready: impl Fn() -> bool,
    ) -> T {
        let (parker, waker) = Parker::of_this_thread();
        lock(&self.reaper.guards).push(waker.clone());
        let output = self.wait_with(&parker, &waker, |context| {
            let end = poll(context);
            if end.is_pending() && self.direct.abandoned() > 0 {
                match self.is_stuck() {
                    Some(true) if !is_ready() => abort_over_memory_in_use(self.direct.in_flight()),
                    Some(false) => {}
                    Some(true) | None => context.waker().wake_by_ref(),
                }
            }
            end
        });
        let mut guards = lock(&self.reaper.guards);
        if let Some(at) = guards.iter().position(|guard| guard.will_wake(&waker)) {
            guards.swap_remove(at);
        }
        output
    }

    /// Whether nothing will change any more, though operations are in flight. None: somebody else has the role.
    fn is_stuck(&self) -> Option<bool> {
        let held = self.reaper.call()?;
        let is_stuck = held.queue(|cq| is_stuck(cq));
        if held.release() {
            self.reap();
            return None;
        }
        Some(is_stuck)
    }

    /// Closes the ring, and waits until nothing is in flight.
    pub(super) fn wait_for_end(&self) {
        self.wait_as_guard(
            |context| if self.poll_shutdown(context.waker()) { Poll::Ready(()) } else { Poll::Pending },
            || self.is_over(),
        );
    }

    /// Closes the ring, waits until nothing is in flight, and reaps all of it: for the last handle. The role is never
    /// free again.
    pub(super) fn end(&self) {
        self.wait_for_end();
        let held = loop {
            match self.reaper.try_take() {
                Some(held) => break held,
                None => thread::yield_now(),
            }
        };
        loop {
            let mut ends = Ends::default();
            let (_, is_more) = self.look(&held, &mut ends, None);
            ends.settle(self);
            // What has ended counts as soon as its completion has a slot: who publishes there may have been stopped.
            if !is_more && held.queue(|cq| cq.outstanding() == 0) {
                break;
            }
            if !is_more {
                thread::yield_now();
            }
        }
        let _ = ManuallyDrop::new(held);
        // Others have let go of the role, and may still be freeing what they have found.
        while *lock(&self.reaper.unfreed) > 0 {
            thread::yield_now();
        }
    }
}
