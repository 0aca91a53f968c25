//! Doorbells: sleep without missing what comes, wake without paying when nobody sleeps.
//!
//! The danger is a sleeper that looks, finds nothing, and falls asleep just as something arrives. Both sides therefore
//! write first, fence, and then look (Dekker's handshake):
//!
//! ```text
//!   sleeper: announce (swap)    ; fence(SeqCst) ; look at the ring     ; sleep while still announced
//!   ringer:  publish (the ring) ; fence(SeqCst) ; look for a sleeper   ; take its announcement (swap) ; wake it
//! ```
//!
//! The two fences stand in one order. If the sleeper's is first, the ringer sees the announcement; if the ringer's is
//! first, the sleeper sees what was published. At least one of them notices, so no wake is lost (P6). An announcement
//! is taken by a swap, so it is answered by at most one wake; and a ringer that finds none makes no system call.
//!
//! A [`Doorbell`] has one sleeper, the reaper, who may wait for *many* completions: its announcement carries a target,
//! and a ringer leaves it asleep until the completions pushed so far reach it. The ringer must read that progress
//! after its fence: the last two completers then agree that one of them saw both pushes (P6b).
//!
//! Beside its sleeper a doorbell can have a *watcher*: somebody who does not sleep, and wants whoever makes the
//! progress reach a second target to act for him. It is the same handshake in another bit of the same word, so a ringer
//! that finds neither has looked at one word (P6d).
//!
//! A [`Roster`] has up to 64 sleepers, the drivers of one lane: a bit mask says who sleeps, and a ringer wakes one of
//! them by taking its bit. A driver that finds more than it takes rings for the next one.
//!
//! | word | states | written by |
//! |---|---|---|
//! | doorbell, roster member | AWAKE 0, BLOCKED 1 (in [`Sleep::sleep`]), ARMED 2 (in epoll, say) | swaps |
//! | doorbell, bit 2 | WATCHED: somebody watches | fetch_or by the watcher, fetch_and by both sides |
//! | `target` | the progress that is worth a wake | the sleeper, before its announcement |
//! | `watched` | the progress that the watcher waits for | the watcher, before its announcement |
//! | roster `mask` | bit i: member i is announced | fetch_or by member i, fetch_and by both sides |
//!
//! Every write is a read-modify-write: loom judges the handshake rightly then, and it costs no more than a store and a
//! fence. How to sleep and wake is the caller's ([`Sleep`]): a futex in memring, a condition variable in the models.

use alloc::boxed::Box;
use core::time::Duration;

use crate::index::CachePadded;
use crate::sync::{AtomicU32, AtomicU64, Mutant, Ordering, address, fence_seq_cst, ordering};

/// How an announced sleeper waits, and so how it must be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// In [`Sleep::sleep`]: wake it by [`Sleep::wake`] on the same word.
    Blocked,
    /// In a wait of its own: wake it by whatever it waits for (an eventfd, say).
    Armed,
}

const AWAKE: u32 = 0;
const BLOCKED: u32 = 1;
const ARMED: u32 = 2;
/// How the sleeper of a word waits, without the bit of the watcher.
const SLEEPER: u32 = BLOCKED | ARMED;
const WATCHED: u32 = 4;

impl Wake {
    fn to_word(self) -> u32 {
        match self {
            Self::Blocked => BLOCKED,
            Self::Armed => ARMED,
        }
    }

    fn from_word(word: u32) -> Option<Self> {
        match word & SLEEPER {
            BLOCKED => Some(Self::Blocked),
            ARMED => Some(Self::Armed),
            _ => None,
        }
    }
}

/// The word of one sleeper.
#[derive(Debug, Default)]
pub struct Word(CachePadded<AtomicU32>);

impl Word {
    /// What the word holds while its owner may still sleep: nobody has rung. None: somebody has.
    ///
    /// A futex compares with this. It may change for the sake of others while the owner sleeps, which is no wake.
    #[must_use]
    pub fn blocked(&self) -> Option<u32> {
        let word = self.0.load(Ordering::Acquire); // Ordering: Acquire, partner: the ringer's modification.
        (word & SLEEPER == BLOCKED).then_some(word)
    }

    /// Where the word lies, for a futex.
    #[must_use]
    pub fn address(&self) -> *const u32 {
        address(&self.0)
    }

    /// Every write of a roster's member is this swap, by either side.
    fn swap(&self, value: u32) -> u32 {
        self.0.swap(value, Ordering::AcqRel) // Ordering: AcqRel, partner: the other side's swap or load.
    }

    /// Sets the sleeper's state, and leaves the watcher's bit as it is; returns what the word held.
    fn announce(&self, how: Wake) -> u32 {
        let mut word = self.0.load(Ordering::Relaxed); // Ordering: the compare-and-swap decides.
        loop {
            let next = (word & !SLEEPER) | how.to_word();
            // Ordering: AcqRel, partner: the ringer's modification or load.
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return word,
                Err(now) => word = now,
            }
        }
    }

    /// Takes these bits away, and says whether one of them was there.
    fn take(&self, bits: u32) -> u32 {
        self.0.fetch_and(!bits, Ordering::AcqRel) & bits // Ordering: AcqRel, partner: the other side's announcement.
    }
}

/// How a thread sleeps on a word: the part of a futex that doorbells need.
pub trait Sleep {
    /// Blocks while `word` [is blocked](Word::blocked), until a [`wake`](Sleep::wake) or the timeout. May return early.
    fn sleep(&self, word: &Word, timeout: Option<Duration>);
    /// Wakes the thread that sleeps on `word`, if one does.
    fn wake(&self, word: &Word);
}

/// Whom a ring concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who takes an announcement answers it"]
pub struct Rung {
    /// The sleeper, whose announcement was taken: it must be woken.
    pub wake: Option<Wake>,
    /// The watcher, whose announcement was taken: the ringer must act for him.
    pub watcher: bool,
}

impl Rung {
    const NOBODY: Self = Self { wake: None, watcher: false };
}

/// The bell of one sleeper, and of one watcher; see the [module](self).
///
/// # Examples
///
/// ```
/// use memring_ring::{Doorbell, Wake};
/// let bell = Doorbell::default();
/// let ring = |progress: u64| bell.ring(|_, target| progress >= target, |target| progress >= target);
/// assert_eq!(ring(1).wake, None, "nobody sleeps: nothing to do");
/// assert_eq!(bell.announce(Wake::Armed, 2), None);
/// assert_eq!(ring(1).wake, None, "not worth a wake yet");
/// assert_eq!(ring(2).wake, Some(Wake::Armed));
/// assert_eq!(ring(3).wake, None, "one wake for one announcement");
/// bell.watch(4);
/// assert!(!ring(3).watcher && ring(4).watcher && !ring(5).watcher);
/// ```
#[derive(Debug, Default)]
pub struct Doorbell {
    word: Word,
    target: AtomicU64,
    watched: AtomicU64,
}

impl Doorbell {
    /// Announces that the owner is about to sleep until the progress reaches `target`. It must look again before it
    /// does.
    ///
    /// Returns the announcement that this one replaces, if one stood.
    pub fn announce(&self, how: Wake, target: u64) -> Option<Wake> {
        self.target.store(target, Ordering::Relaxed); // Ordering: published by the announcement.
        let before = self.word.announce(how);
        fence_seq_cst(Mutant::SleeperFence); // Ordering: partner: the fence in `ring` (P6).
        Wake::from_word(before)
    }

    /// Takes the announcement back. False: a ringer has taken it, and its wake is on the way or already spent.
    pub fn retract(&self) -> bool {
        self.word.take(SLEEPER) != AWAKE
    }

    /// Announces that somebody wants the progress to reach `target` noticed. He must look again, and take the
    /// announcement [back](Doorbell::unwatch) if it is there already.
    ///
    /// One at a time watches: it is for the callers to see to that.
    pub fn watch(&self, target: u64) {
        self.watched.store(target, Ordering::Relaxed); // Ordering: published by the announcement.
        self.word.0.fetch_or(WATCHED, Ordering::AcqRel); // Ordering: AcqRel, partner: the ringer's load.
        fence_seq_cst(Mutant::WatcherFence); // Ordering: partner: the fence in `ring` (P6d).
    }

    /// Takes the watcher's announcement back. False: a ringer has taken it, and acts.
    pub fn unwatch(&self) -> bool {
        self.word.take(WATCHED) != 0
    }

    /// Sleeps until rung, or the timeout, or for no reason.
    pub fn sleep(&self, sleep: &impl Sleep, timeout: Option<Duration>) {
        sleep.sleep(&self.word, timeout);
    }

    /// Takes the announcements of those whose target is reached: the two functions are given the target (and the
    /// sleeper's how it sleeps), and say whether it is. Call it after publishing.
    ///
    /// They are asked after the fence, and only if somebody sleeps or watches.
    #[inline]
    pub fn ring(&self, sleeper: impl FnOnce(Wake, u64) -> bool, watcher: impl FnOnce(u64) -> bool) -> Rung {
        fence_seq_cst(Mutant::RingerFence); // Ordering: partner: the fences in `announce` and `watch` (P6, P6d).
        // Ordering: Acquire, partner: the announcements, so that each target belongs to its own.
        let word = self.word.0.load(Ordering::Acquire);
        if word == AWAKE {
            return Rung::NOBODY;
        }
        let mut rung = Rung::NOBODY;
        // Ordering: Relaxed; the load above has ordered it.
        if let Some(how) = Wake::from_word(word)
            && sleeper(how, self.target.load(Ordering::Relaxed))
        {
            rung.wake = Wake::from_word(self.word.take(SLEEPER));
        }
        // Ordering: Relaxed; as above.
        if word & WATCHED != 0 && watcher(self.watched.load(Ordering::Relaxed)) {
            rung.watcher = self.word.take(WATCHED) != 0;
        }
        rung
    }

    /// Rings, and wakes a sleeper that was blocked; an armed one and the watcher are left to the caller.
    #[inline]
    pub fn ring_with(
        &self,
        sleep: &impl Sleep,
        sleeper: impl FnOnce(Wake, u64) -> bool,
        watcher: impl FnOnce(u64) -> bool,
    ) -> Rung {
        let rung = self.ring(sleeper, watcher);
        if rung.wake == Some(Wake::Blocked) {
            sleep.wake(&self.word);
        }
        rung
    }
}

/// The bells of up to 64 sleepers that wait for the same thing; see the [module](self).
///
/// # Examples
///
/// ```
/// use memring_ring::{Roster, Wake};
/// let roster = Roster::new(2);
/// roster.announce(1, Wake::Armed);
/// assert_eq!(roster.ring(), Some((1, Wake::Armed)));
/// assert_eq!(roster.ring(), None);
/// ```
#[derive(Debug)]
pub struct Roster {
    mask: CachePadded<AtomicU64>,
    members: Box<[Word]>,
}

impl Roster {
    /// The most members a roster can have.
    pub const MAX: usize = 64;

    /// A roster of `members` sleepers.
    ///
    /// # Panics
    ///
    /// If there are more than [`Roster::MAX`].
    #[must_use]
    pub fn new(members: usize) -> Self {
        assert!(members <= Self::MAX, "a roster has at most 64 members");
        Self { mask: CachePadded::default(), members: (0..members).map(|_| Word::default()).collect() }
    }

    /// Announces that `member` is about to sleep. It must look again before it does.
    pub fn announce(&self, member: usize, how: Wake) {
        self.members[member].swap(how.to_word()); // Reaches the ringer by the mask, too.
        self.mask.fetch_or(1 << member, Ordering::AcqRel); // Ordering: AcqRel, partner: the fetch_and in `ring`.
        fence_seq_cst(Mutant::RosterSleeperFence); // Ordering: partner: the fence in `ring` (P6).
    }

    /// Blocks a member's word without announcing it: for a sleeper that nobody shall ring, since it can take nothing.
    /// It can be [roused](Roster::rouse), and must look for that before it sleeps.
    pub fn step_aside(&self, member: usize) {
        self.members[member].swap(BLOCKED);
    }

    /// Takes a member's announcement, whether it stands on the roster or has stepped aside, and wakes it if it was
    /// blocked: for what concerns this one. An armed one is left to the caller.
    ///
    /// Call it after publishing. No fence is needed: both sides modify the member's word, so either this takes the
    /// announcement, or the member knows what was published when it looks again (P6e).
    pub fn rouse(&self, member: usize, sleep: &impl Sleep) -> Option<Wake> {
        // Ordering: AcqRel, partner: the swaps in `announce` and `step_aside`.
        let order = ordering(Mutant::RosterRouse, Ordering::AcqRel);
        let wake = Wake::from_word(self.members[member].0.swap(AWAKE, order));
        if wake == Some(Wake::Blocked) {
            sleep.wake(&self.members[member]);
        }
        wake
    }

    /// How many members it has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Changes a blocked member's announcement to an armed one; false if it was rung already.
    #[must_use]
    pub fn arm(&self, member: usize) -> bool {
        // Ordering: AcqRel, partner: the swap in `ring`. The announcement stands throughout, so no fence is needed.
        match self.members[member].0.compare_exchange(BLOCKED, ARMED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(word) => word == ARMED,
        }
    }

    /// Whether the member's announcement stands: it was not rung yet.
    #[must_use]
    pub fn is_announced(&self, member: usize) -> bool {
        self.members[member].0.load(Ordering::Acquire) != AWAKE // Ordering: Acquire, partner: the swap in `ring`.
    }

    /// Takes the announcement back, or cleans up after a wake.
    pub fn retract(&self, member: usize) {
        // Ordering: AcqRel, both, partner: `ring`. Whoever rang this member is known here, and what it published (P6c).
        let order = ordering(Mutant::RosterRetract, Ordering::AcqRel);
        self.mask.fetch_and(!(1 << member), order);
        self.members[member].0.swap(AWAKE, order);
    }

    /// Sleeps until rung, or the timeout, or for no reason.
    pub fn sleep(&self, member: usize, sleep: &impl Sleep, timeout: Option<Duration>) {
        sleep.sleep(&self.members[member], timeout);
    }

    /// Takes one sleeper's announcement, if anyone sleeps. Call it after publishing.
    #[inline]
    pub fn ring(&self) -> Option<(usize, Wake)> {
        fence_seq_cst(Mutant::RosterRingerFence); // Ordering: partner: the fence in `announce` (P6).
        let mut mask = self.mask.load(Ordering::Relaxed); // Ordering: the fence has ordered it; the fetch_and decides.
        while mask != 0 {
            let member = mask.trailing_zeros() as usize;
            let bit = 1 << member;
            let before = self.mask.fetch_and(!bit, Ordering::AcqRel); // Ordering: AcqRel, partner: `announce`.
            if before & bit != 0
                && let Some(wake) = Wake::from_word(self.members[member].swap(AWAKE))
            {
                return Some((member, wake));
            }
            mask = before & !bit;
        }
        None
    }

    /// Rings one member, and wakes it if it was blocked; an armed one is left to the caller.
    #[inline]
    pub fn ring_with(&self, sleep: &impl Sleep) -> Option<(usize, Wake)> {
        let rung = self.ring();
        if let Some((member, Wake::Blocked)) = rung {
            sleep.wake(&self.members[member]);
        }
        rung
    }
}
