//! Movers of the user's own: who keeps their operations when futures are dropped or forgotten.
//!
//! An operation that runs is known to the mover's [`Desk`], so that the drop of the `Vdm` can get it to its end,
//! wherever its future is. Each has a lock of its own, under which its verbs are called; under the desk's lock none is.
#![expect(unsafe_code, reason = "hands on the contract about memory")]

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;

use slab::Slab;

use super::future::{Run, State};
use super::mover::Mover;
use super::notifier::{Notifier, NotifierType};
use super::operation::{Operation, OperationOutput};
use crate::os::{Birth, abort_over_memory_in_use, lock};
use crate::sqe::OpFlags;

/// A user's operation, as its future sees it.
pub(super) trait Plugged: Send + Sync {
    fn poll(self: Arc<Self>, notifier: &mut Notifier<'_>) -> State;
    fn output(&self) -> Option<OperationOutput>;
    /// Its future is gone.
    fn leave(self: Arc<Self>);
}

/// A user's mover, as the `Vdm` sees it.
pub(super) trait Movers: Send + Sync {
    fn capabilities(&self) -> OpFlags;
    /// Makes an operation. None: there are no resources for it.
    ///
    /// # Safety
    ///
    /// The contract of [`Vdm::memcpy`](super::Vdm::memcpy) holds for it.
    unsafe fn make(self: Arc<Self>, operation: Operation) -> Option<Arc<dyn Plugged>>;
    /// Gets all that runs to its end.
    fn end(&self);
}

/// A mover, and its operations that run.
pub(super) struct Desk<M: Mover> {
    /// Leaked in a forked child, where its threads are not.
    mover: ManuallyDrop<M>,
    birth: Birth,
    books: Mutex<Books<M>>,
}

struct Books<M: Mover> {
    running: Slab<Arc<Plug<M>>>,
    /// Those of them whose futures are gone.
    left: Vec<Arc<Plug<M>>>,
    is_ended: bool,
}

struct Plug<M: Mover> {
    desk: Arc<Desk<M>>,
    inside: Mutex<Inside<M>>,
}

struct Inside<M: Mover> {
    run: Run<M>,
    /// Its number in the desk's books.
    number: Option<usize>,
    /// What the last poll of its future offered.
    offer: Offer,
}

/// What a poll offers, kept: whoever checks the operation beside its future offers the same.
enum Offer {
    Nothing,
    Wake(Waker),
    Word,
}

impl Offer {
    /// Keeps what a notifier offers.
    fn keep(&mut self, notifier: &Notifier<'_>) {
        match (notifier.offered(), &*self) {
            (Some(waker), Self::Wake(kept)) if waker.will_wake(kept) => {}
            (Some(waker), _) => *self = Self::Wake(waker.clone()),
            (None, _) if notifier.wanted() == NotifierType::Poller => *self = Self::Word,
            (None, _) => *self = Self::Nothing,
        }
    }
}

impl<M: Mover> Desk<M> {
    pub(super) fn new(mover: M) -> Self {
        let books = Books { running: Slab::new(), left: Vec::new(), is_ended: false };
        Self { mover: ManuallyDrop::new(mover), birth: Birth::now(), books: Mutex::new(books) }
    }

    /// Looks after the operations that nobody polls any more.
    fn sweep(&self) {
        let left = std::mem::take(&mut lock(&self.books).left);
        for plug in left {
            if plug.check() == State::Running {
                lock(&self.books).left.push(plug);
            }
        }
    }
}

impl<M: Mover> Drop for Desk<M> {
    fn drop(&mut self) {
        if !self.birth.is_foreign() {
            // SAFETY: dropped here, once, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.mover) };
        }
    }
}

impl<M: Mover> Movers for Desk<M> {
    fn capabilities(&self) -> OpFlags {
        self.mover.capabilities()
    }

    unsafe fn make(self: Arc<Self>, operation: Operation) -> Option<Arc<dyn Plugged>> {
        if self.birth.is_foreign() {
            return None;
        }
        self.sweep();
        let data = self.mover.op_new(operation.operation_type())?;
        // SAFETY: the caller vouches for it.
        let run = unsafe { Run::new(operation, data) };
        Some(Arc::new(Plug { desk: self, inside: Mutex::new(Inside { run, number: None, offer: Offer::Nothing }) }))
    }

    fn end(&self) {
        if self.birth.is_foreign() {
            return;
        }
        let running: Vec<Arc<Plug<M>>> = {
            let mut books = lock(&self.books);
            books.is_ended = true;
            books.running.iter().map(|(_, plug)| Arc::clone(plug)).collect()
        };
        for plug in running {
            loop {
                match catch_unwind(AssertUnwindSafe(|| plug.check())) {
                    Ok(State::Running) => thread::yield_now(),
                    Ok(State::Idle | State::Complete) => break,
                    // It was asked for the end of this one.
                    Err(_) => abort_over_memory_in_use(1),
                }
            }
        }
        lock(&self.books).left.clear();
    }
}

impl<M: Mover> Plug<M> {
    /// Gets on, if that is possible now. What runs is in the books.
    fn advance(self: &Arc<Self>, inside: &mut Inside<M>, notifier: &mut Notifier<'_>) -> State {
        let desk = &self.desk;
        let mut state = inside.run.state();
        if state == State::Idle {
            let mut books = lock(&desk.books);
            if books.is_ended {
                drop(books);
                state = inside.run.refuse(&desk.mover);
            } else if inside.number.is_none() {
                inside.number = Some(books.running.insert(Arc::clone(self)));
            }
        }
        if state != State::Complete {
            state = inside.run.poll(&desk.mover, notifier);
        }
        if state != State::Running
            && let Some(number) = inside.number.take()
        {
            lock(&desk.books).running.try_remove(number);
        }
        state
    }

    /// Gets on without its future, and wakes whoever waits for that.
    fn check(self: &Arc<Self>) -> State {
        let mut inside = lock(&self.inside);
        let offer = std::mem::replace(&mut inside.offer, Offer::Nothing);
        let mut notifier = match &offer {
            Offer::Nothing => Notifier::none(),
            Offer::Wake(waker) => Notifier::waker(waker),
            Offer::Word => Notifier::poller(),
        };
        let state = self.advance(&mut inside, &mut notifier);
        if state == State::Running {
            inside.offer = offer;
            return state;
        }
        drop(inside);
        if let Offer::Wake(waker) = offer {
            waker.wake();
        }
        state
    }
}

impl<M: Mover> Plugged for Plug<M> {
    fn poll(self: Arc<Self>, notifier: &mut Notifier<'_>) -> State {
        let mut inside = lock(&self.inside);
        if self.desk.birth.is_foreign() {
            // The mover's threads are not here, and the desk's lock may be held for ever.
            return inside.run.give_up();
        }
        inside.offer.keep(notifier);
        self.advance(&mut inside, notifier)
    }

    fn output(&self) -> Option<OperationOutput> {
        lock(&self.inside).run.output()
    }

    fn leave(self: Arc<Self>) {
        let mut inside = lock(&self.inside);
        inside.offer = Offer::Nothing;
        if self.desk.birth.is_foreign() {
            inside.run.give_up();
            return;
        }
        let state = inside.run.refuse(&self.desk.mover);
        let number = inside.number.take_if(|_| state != State::Running);
        drop(inside);
        let mut books = lock(&self.desk.books);
        if let Some(number) = number {
            books.running.try_remove(number);
        }
        if state == State::Running && !books.is_ended {
            books.left.push(Arc::clone(&self));
        }
    }
}
