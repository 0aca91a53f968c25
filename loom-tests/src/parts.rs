//! The parts of a model: actors, memory that operations name, ways to sleep, and notes of what happened.
#![expect(unsafe_code, reason = "a loom cell hands out raw pointers, after it has checked the access")]

use core::time::Duration;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::PoisonError;

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::SeqCst;
use loom::sync::atomic::fence;
use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread;
use memring_ring::{Sleep, Word};

use crate::runner::stage;

/// Locks what only loom's threads share: a panic of one has ended the model.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A region of memory that operations read and write, one word long.
///
/// Loom panics when two accesses, one of them a write, are not ordered by what the model does.
#[derive(Debug, Default)]
pub struct Payload(UnsafeCell<u64>);

impl Payload {
    /// A payload that holds zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads it.
    #[must_use]
    pub fn read(&self) -> u64 {
        // SAFETY: the pointer is the cell's; loom has panicked if a write is unordered with this read, and the threads
        // of a model are coroutines of one OS thread, so nothing runs beside the closure.
        self.0.with(|value| unsafe { *value })
    }

    /// Writes it. Freeing a region is a write of it, too.
    pub fn write(&self, value: u64) {
        // SAFETY: as in `read`; loom has panicked if any access is unordered with this write.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}

/// Sleeps as a futex does, without timeouts: loom has none.
#[derive(Debug)]
pub struct Blocking {
    lock: Mutex<()>,
    woken: Condvar,
}

impl Blocking {
    /// One is enough for all words of a model.
    #[must_use]
    pub fn new() -> Self {
        Self { lock: Mutex::new(()), woken: Condvar::new() }
    }
}

impl Default for Blocking {
    fn default() -> Self {
        Self::new()
    }
}

impl Sleep for Blocking {
    fn sleep(&self, word: &Word, _timeout: Option<Duration>) {
        let mut guard = lock(&self.lock);
        while word.blocked().is_some() {
            guard = self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self, _word: &Word) {
        let guard = lock(&self.lock);
        self.woken.notify_all();
        drop(guard);
    }
}

/// Stands for an eventfd in an epoll set: a signal stays until somebody waits.
#[derive(Debug)]
pub struct Event {
    signalled: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    /// An event without a signal.
    #[must_use]
    pub fn new() -> Self {
        Self { signalled: Mutex::new(false), changed: Condvar::new() }
    }

    /// Signals it.
    pub fn signal(&self) {
        let mut signalled = lock(&self.signalled);
        *signalled = true;
        self.changed.notify_all();
    }

    /// Waits for a signal and takes it.
    pub fn wait(&self) {
        let mut signalled = lock(&self.signalled);
        while !*signalled {
            signalled = self.changed.wait(signalled).unwrap_or_else(PoisonError::into_inner);
        }
        *signalled = false;
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

/// What the actors of one execution saw, for the check at the end. Loom does not see it: noting orders nothing.
#[derive(Debug)]
pub struct Notes<T>(RefCell<Vec<T>>);

impl<T: Clone> Notes<T> {
    /// No notes.
    #[must_use]
    pub fn new() -> Self {
        Self(RefCell::default())
    }

    /// Notes one thing.
    pub fn add(&self, note: T) {
        self.0.borrow_mut().push(note);
    }

    /// All notes so far.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }
}

impl<T: Clone> Default for Notes<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// One execution: lets the actors play on one world, each in a thread of its own, and checks the world in the end.
///
/// The check knows all that the actors did.
///
/// # Panics
///
/// If an actor or the check does, or if loom finds a fault.
pub fn play<W: 'static>(world: W, actors: &[fn(&W)], check: fn(&W)) {
    let mut actors = actors.to_vec();
    stage::enter(&mut actors);
    let scene = Rc::new(Scene { world, check });
    let mut actors = actors.into_iter();
    let first = actors.next().expect("a model has actors");
    for actor in actors {
        let scene = Rc::clone(&scene);
        thread::spawn(move || scene.act(actor));
    }
    scene.act(first);
}

struct Scene<W> {
    world: W,
    check: fn(&W),
}

impl<W> Scene<W> {
    fn act(&self, actor: fn(&W)) {
        actor(&self.world);
        fence(SeqCst); // Ordering: partner: the fences of the actors that end later, and of the check.
    }
}

impl<W> Drop for Scene<W> {
    fn drop(&mut self) {
        fence(SeqCst); // Ordering: partner: the fence at each actor's end.
        (self.check)(&self.world);
    }
}
