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
//! A [`Roster`] has up to 64 sleepers, the drivers of one lane: a bit mask says who sleeps, and a ringer wakes one of
//! them by taking its bit. A driver that finds more than it takes rings for the next one.
//!
//! | word | states | written by |
//! |---|---|---|
//! | doorbell, roster member | AWAKE 0, BLOCKED 1 (in [`Sleep::sleep`]), ARMED 2 (in epoll, say) | swaps |
//! | `target` | the progress that is worth a wake | the sleeper, before its announcement |
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

impl Wake {
    fn to_word(self) -> u32 {
        match self {
            Self::Blocked => BLOCKED,
            Self::Armed => ARMED,
        }
    }

    fn from_word(word: u32) -> Option<Self> {
        match word {
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
    /// What the word holds while its owner is announced as [`Wake::Blocked`].
    pub const BLOCKED: u32 = BLOCKED;

    /// Whether the owner may still sleep: nobody has rung.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.0.load(Ordering::Acquire) == BLOCKED // Ordering: Acquire, partner: the ringer's swap.
    }

    /// Where the word lies, for a futex.
    #[must_use]
    pub fn address(&self) -> *const u32 {
        address(&self.0)
    }

    /// Every write is this swap, by either side.
    fn swap(&self, value: u32) -> u32 {
        self.0.swap(value, Ordering::AcqRel) // Ordering: AcqRel, partner: the other side's swap or load.
    }
}

/// How a thread sleeps on a word: the part of a futex that doorbells need.
pub trait Sleep {
    /// Blocks while `word` [is blocked](Word::is_blocked), until a [`wake`](Sleep::wake) or the timeout. May return
    /// early.
    fn sleep(&self, word: &Word, timeout: Option<Duration>);
    /// Wakes the thread that sleeps on `word`, if one does.
    fn wake(&self, word: &Word);
}

/// The bell of one sleeper; see the [module](self).
///
/// # Examples
///
/// ```
/// use memring_ring::{Doorbell, Wake};
/// let bell = Doorbell::default();
/// assert_eq!(bell.ring(|| 1), None, "nobody sleeps: nothing to do");
/// assert_eq!(bell.announce(Wake::Armed, 2), None);
/// assert_eq!(bell.ring(|| 1), None, "not worth a wake yet");
/// assert_eq!(bell.ring(|| 2), Some(Wake::Armed));
/// assert_eq!(bell.ring(|| 3), None, "one wake for one announcement");
/// ```
#[derive(Debug, Default)]
pub struct Doorbell {
    word: Word,
    target: AtomicU64,
}

impl Doorbell {
    /// Announces that the owner is about to sleep until the progress reaches `target`. It must look again before it
    /// does.
    ///
    /// Returns the announcement that this one replaces, if one stood.
    pub fn announce(&self, how: Wake, target: u64) -> Option<Wake> {
        self.target.store(target, Ordering::Relaxed); // Ordering: published by the swap.
        let before = self.word.swap(how.to_word());
        fence_seq_cst(Mutant::SleeperFence); // Ordering: partner: the fence in `ring` (P6).
        Wake::from_word(before)
    }

    /// Takes the announcement back. False: a ringer has taken it, and its wake is on the way or already spent.
    pub fn retract(&self) -> bool {
        self.word.swap(AWAKE) != AWAKE
    }

    /// Sleeps until rung, or the timeout, or for no reason.
    pub fn sleep(&self, sleep: &impl Sleep, timeout: Option<Duration>) {
        sleep.sleep(&self.word, timeout);
    }

    /// Takes the announcement of a sleeper whose target `progress` has reached. Call it after publishing.
    ///
    /// `progress` is read after the fence, and only if somebody sleeps.
    #[inline]
    pub fn ring(&self, progress: impl FnOnce() -> u64) -> Option<Wake> {
        fence_seq_cst(Mutant::RingerFence); // Ordering: partner: the fence in `announce` (P6).
        // Ordering: Acquire, partner: the swap in `announce`, so that `target` belongs to it.
        if self.word.0.load(Ordering::Acquire) == AWAKE {
            return None;
        }
        // Ordering: Relaxed; the load above has ordered it.
        if progress() < self.target.load(Ordering::Relaxed) {
            return None;
        }
        Wake::from_word(self.word.swap(AWAKE))
    }

    /// Rings, and wakes a sleeper that was blocked; an armed one is left to the caller.
    #[inline]
    pub fn ring_with(&self, sleep: &impl Sleep, progress: impl FnOnce() -> u64) -> Option<Wake> {
        let wake = self.ring(progress);
        if wake == Some(Wake::Blocked) {
            sleep.wake(&self.word);
        }
        wake
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
    pub fn step_aside(&self, member: usize) {
        self.members[member].swap(BLOCKED);
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
