//! Notifiers: how whoever polls a future hears that it is worth while to poll again.
//!
//! ```text
//!   NONE     nobody is told: poll again
//!   WAKER    the waker is woken once, after the completion can be seen
//!   POLLER   a word changes, after the completion can be seen: spin on it, monitor its address, or sleep on it
//! ```
//!
//! A notifier is offered with each poll, and the one of the last poll counts. The mover says in it which it has used.

use core::fmt;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};

use memring_ring::Counter;

use crate::os::lock;

/// How a poll's end is told: `enum future_notifier_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum NotifierType {
    /// It is not: poll again.
    None = 0,
    /// By a waker.
    Waker = 1,
    /// By a word that changes.
    Poller = 2,
}

/// What is offered with a poll, and what the mover has made of it: `struct future_notifier`.
///
/// # Examples
///
/// ```
/// use memring::OpFlags;
/// use memring::vdm::{Notifier, NotifierType, State, Vdm};
/// let mut page = vec![0; 1 << 20];
/// let vdm = Vdm::threads(1, 64)?;
/// // SAFETY: `page` outlives the operation, and nobody uses it until that is complete.
/// let mut set = unsafe { vdm.memset(page.as_mut_ptr(), 7, 1 << 20, OpFlags::NONE) };
/// let mut notifier = Notifier::poller();
/// while set.poll(&mut notifier) != State::Complete {
///     assert_eq!(notifier.used(), NotifierType::Poller);
///     notifier.word().expect("it was used").wait();
/// }
/// assert_eq!(page[77], 7);
/// # Ok::<(), memring::BuildError>(())
/// ```
#[derive(Debug)]
pub struct Notifier<'w> {
    wanted: Wanted<'w>,
    used: Used,
}

#[derive(Clone, Copy, Debug)]
enum Wanted<'w> {
    Nothing,
    Wake(&'w Waker),
    Word,
}

#[derive(Debug)]
enum Used {
    Nothing,
    Wake,
    Word(Poller),
}

impl<'w> Notifier<'w> {
    /// Nobody is to be told.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::vdm::{Notifier, NotifierType};
    /// assert_eq!(Notifier::none().wanted(), NotifierType::None);
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Self { wanted: Wanted::Nothing, used: Used::Nothing }
    }

    /// This waker is to be woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::vdm::{Notifier, NotifierType};
    /// let waker = std::task::Waker::noop();
    /// assert_eq!(Notifier::waker(waker).wanted(), NotifierType::Waker);
    /// ```
    #[must_use]
    pub fn waker(waker: &'w Waker) -> Self {
        Self { wanted: Wanted::Wake(waker), used: Used::Nothing }
    }

    /// A word is to change.
    ///
    /// # Examples
    ///
    /// See [`Notifier`].
    #[must_use]
    pub fn poller() -> Self {
        Self { wanted: Wanted::Word, used: Used::Nothing }
    }

    /// What was offered: for movers.
    ///
    /// # Examples
    ///
    /// See [`Notifier::none`].
    #[must_use]
    pub fn wanted(&self) -> NotifierType {
        match self.wanted {
            Wanted::Nothing => NotifierType::None,
            Wanted::Wake(_) => NotifierType::Waker,
            Wanted::Word => NotifierType::Poller,
        }
    }

    /// What the mover will do when it is worth while to poll again: the seed's `notifier_used`. Of a complete future,
    /// nothing.
    ///
    /// # Examples
    ///
    /// See [`Notifier`].
    #[must_use]
    pub fn used(&self) -> NotifierType {
        match self.used {
            Used::Nothing => NotifierType::None,
            Used::Wake => NotifierType::Waker,
            Used::Word(_) => NotifierType::Poller,
        }
    }

    /// The word that will change, if that is what the mover does: the seed's `poller`.
    ///
    /// # Examples
    ///
    /// See [`Notifier`].
    #[must_use]
    pub fn word(&self) -> Option<&Poller> {
        if let Used::Word(poller) = &self.used { Some(poller) } else { None }
    }

    /// Takes the waker, if one is offered, and notes that it will be woken: for movers.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::vdm::{Notifier, NotifierType};
    /// let mut notifier = Notifier::waker(std::task::Waker::noop());
    /// let waker = notifier.use_waker().expect("it was offered").clone();
    /// assert_eq!(notifier.used(), NotifierType::Waker);
    /// # waker.wake();
    /// ```
    pub fn use_waker(&mut self) -> Option<&'w Waker> {
        let waker = self.offered()?;
        self.used = Used::Wake;
        Some(waker)
    }

    /// Notes that this word will change, if one is wanted: for movers.
    ///
    /// # Examples
    ///
    /// See [`Word`].
    pub fn use_poller(&mut self, poller: Poller) {
        if matches!(self.wanted, Wanted::Word) {
            self.used = Used::Word(poller);
        }
    }

    /// The waker, if one is offered; it does not count as used.
    pub(super) fn offered(&self) -> Option<&'w Waker> {
        if let Wanted::Wake(waker) = self.wanted { Some(waker) } else { None }
    }

    pub(super) fn clear(&mut self) {
        self.used = Used::Nothing;
    }
}

/// A word that changes when something is complete: the mover's side of a [`Poller`]. As a [`Waker`], it changes when
/// it is woken.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use memring::vdm::{Notifier, Word};
/// let word = Arc::new(Word::new());
/// // A mover looks at the word before it looks whether the operation is complete, ...
/// let poller = Word::poller(&word);
/// let mut notifier = Notifier::poller();
/// notifier.use_poller(poller);
/// // ... and changes it after that can be seen.
/// word.change();
/// assert!(notifier.word().is_some_and(|poller| poller.has_changed()));
/// ```
#[derive(Debug, Default)]
pub struct Word {
    changes: Counter,
    /// Held to change the word, so that who has seen the change can see all that was done before it.
    lock: Mutex<()>,
    changed: Condvar,
}

impl Word {
    /// A word that has not changed yet.
    ///
    /// # Examples
    ///
    /// See [`Word`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes it, and wakes who sleeps on it.
    ///
    /// # Examples
    ///
    /// See [`Word`].
    pub fn change(&self) {
        let locked = lock(&self.lock);
        self.changes.add(1);
        drop(locked);
        self.changed.notify_all();
    }

    /// What changes when the word does so the next time.
    ///
    /// # Examples
    ///
    /// See [`Word`].
    #[must_use]
    pub fn poller(this: &Arc<Self>) -> Poller {
        Poller { seen: this.changes.get(), word: Arc::clone(this) }
    }
}

impl Wake for Word {
    fn wake(self: Arc<Self>) {
        self.change();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.change();
    }
}

/// A word to monitor: `struct future_poller`. It changes when the operation completes, and may change before.
///
/// # Examples
///
/// See [`Notifier`].
#[derive(Clone)]
pub struct Poller {
    word: Arc<Word>,
    seen: u64,
}

impl Poller {
    /// Where the word lies: the seed's `ptr_to_monitor`, for UMONITOR and its like. It stays there while this poller
    /// lives. The word is written atomically; it has changed when it is not [`seen`](Poller::seen) any more.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use memring::vdm::Word;
    /// let poller = Word::poller(&Arc::new(Word::new()));
    /// assert!(poller.address().is_aligned());
    /// ```
    #[must_use]
    pub fn address(&self) -> *const u64 {
        self.word.changes.address()
    }

    /// What the word held before the poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use memring::vdm::Word;
    /// assert_eq!(Word::poller(&Arc::new(Word::new())).seen(), 0);
    /// ```
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether the word has changed since the poll: it is worth while to poll again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use memring::vdm::Word;
    /// let word = Arc::new(Word::new());
    /// let poller = Word::poller(&word);
    /// assert!(!poller.has_changed());
    /// word.change();
    /// assert!(poller.has_changed());
    /// ```
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let has_changed = self.word.changes.get() != self.seen;
        if has_changed {
            // Orders what comes after this behind what came before the change.
            drop(lock(&self.word.lock));
        }
        has_changed
    }

    /// Sleeps until the word has changed.
    ///
    /// # Examples
    ///
    /// See [`Notifier`].
    pub fn wait(&self) {
        let locked = lock(&self.word.lock);
        // Whatever the outcome, the caller polls again.
        drop(self.word.changed.wait_while(locked, |()| self.word.changes.get() == self.seen));
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("address", &self.address()).field("seen", &self.seen).finish()
    }
}
