//! Places: where what is awaited lives, as many as there are futures.
//!
//! A place is a [slot](memring_ring::slot) and the cell of its waker. There are as many at first as the queue has
//! entries; a complete operation that nobody has looked at keeps its place and not its credit, so there can be more,
//! and then others are added. None ever moves, so whoever has a key reaches its place without a lock.
#![expect(unsafe_code, reason = "the wakers' cells are shared by the protocol of their slots")]

use core::cell::UnsafeCell;
use core::fmt;
use std::sync::OnceLock;
use std::task::Waker;

use memring_ring::slot::{Completed, Key, Registered, Slots};

/// So many segments hold more places than a `u32` has numbers.
const SEGMENTS: usize = 33;

/// All places of a ring.
pub(super) struct Places {
    /// The first has `1 << base_log` places, and each one after it as many as there are before it.
    segments: [OnceLock<Segment>; SEGMENTS],
    base_log: u32,
}

struct Segment {
    first: u32,
    slots: Slots,
    wakers: Box<[Cell]>,
}

/// Touched only inside the closures that a slot calls.
struct Cell(UnsafeCell<Option<Waker>>);

// SAFETY: a slot calls the closures that touch its cell one at a time, each ordered after the one before (P13).
unsafe impl Sync for Cell {}

impl Cell {
    /// Puts a waker in, and takes out what was there.
    ///
    /// # Safety
    ///
    /// Inside a closure that the cell's slot has called, or while the slot is complete and the caller its owner.
    unsafe fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: nobody else touches the cell meanwhile, as the caller vouches, and no reference to it is ever kept.
        unsafe { self.0.get().replace(waker) }
    }
}

impl Places {
    pub(super) fn new(entries: usize) -> Self {
        let base_log = entries.next_power_of_two().ilog2().min(16);
        let places = Self { segments: [const { OnceLock::new() }; SEGMENTS], base_log };
        places.add(0);
        places
    }

    /// Where a number lies: its segment.
    #[inline]
    fn segment_of(&self, number: u32) -> usize {
        (u32::BITS - (number >> self.base_log).leading_zeros()) as usize
    }

    /// Makes room for a number, if there is none yet: the only call that allocates.
    pub(super) fn add(&self, number: u32) {
        let segment = self.segment_of(number);
        self.segments[segment].get_or_init(|| {
            let base = 1 << self.base_log;
            let first = if segment == 0 { 0 } else { base << (segment - 1) };
            let count = if segment == 0 { base } else { first };
            let wakers = (0..count).map(|_| Cell(UnsafeCell::new(None))).collect();
            Segment { first, slots: Slots::new(first, count), wakers }
        });
    }

    #[inline]
    fn find(&self, number: u32) -> Option<(&Segment, &Cell)> {
        let segment = self.segments[self.segment_of(number)].get()?;
        Some((segment, &segment.wakers[(number - segment.first) as usize]))
    }

    #[inline]
    fn place(&self, key: Key) -> (&Slots, &Cell) {
        let (segment, cell) = self.find(key.number()).expect("a key is of a place that was added");
        (&segment.slots, cell)
    }

    /// Opens the place of a number that nobody else has, for `left` operations.
    #[inline]
    pub(super) fn open(&self, number: u32, left: u64) -> Key {
        let (segment, _) = self.find(number).expect("a number is added before it is opened");
        segment.slots.open(number, left)
    }

    /// What the reaper has noted, if all is complete.
    #[inline]
    pub(super) fn outcome(&self, key: Key) -> Option<u64> {
        self.place(key).0.outcome(key)
    }

    /// Leaves a waker.
    #[inline]
    pub(super) fn register(&self, key: Key, waker: Waker) -> Registered {
        let (slots, cell) = self.place(key);
        let mut old = None;
        // SAFETY: inside the closure.
        slots.register(key, || old = unsafe { cell.replace(Some(waker)) })
        // The old waker is dropped here, outside: it is foreign code.
    }

    /// Counts operations as done, and takes the waker out with the last one. `note` gives the outcome, from the one
    /// before.
    #[inline]
    pub(super) fn complete(&self, key: Key, count: u64, note: impl FnOnce(u64) -> u64) -> (Completed, Option<Waker>) {
        // User data that no place has: it is not of this ring's making.
        let Some((segment, cell)) = self.find(key.number()) else { return (Completed::Stale, None) };
        let mut waker = None;
        // SAFETY: inside the closure.
        let completed = segment.slots.complete(key, count, note, || waker = unsafe { cell.replace(None) });
        (completed, waker)
    }

    /// Counts down operations that will not come. True: those were the last, and all is complete: for the owner.
    pub(super) fn count_down(&self, key: Key, count: u64) -> bool {
        let (slots, cell) = self.place(key);
        let is_last = slots.count_down(key, count);
        let mut old = None;
        if is_last {
            // SAFETY: inside the closure.
            let _ = slots.finish(key, || old = unsafe { cell.replace(None) });
        }
        is_last
    }

    /// Walks away. True: it was complete, and the place is the owner's to close.
    pub(super) fn abandon(&self, key: Key) -> bool {
        let (slots, cell) = self.place(key);
        let mut old = None;
        // SAFETY: inside the closure.
        slots.abandon(key, || old = unsafe { cell.replace(None) })
    }

    /// Closes a place that is complete: its number may be opened again.
    pub(super) fn close(&self, key: Key) {
        let (slots, cell) = self.place(key);
        // SAFETY: the place is complete and the caller's: a waker that was left too late is still there.
        let _late = unsafe { cell.replace(None) };
        slots.close(key);
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = self.segments.iter().filter(|segment| segment.get().is_some()).count();
        f.debug_struct("Places").field("base_log", &self.base_log).field("segments", &segments).finish()
    }
}
