//! The atomics, from `core` or from loom, and the orderings a test may break.
//!
//! Every atomic of memring is one of these types, so a build under `cfg(memring_loom)` shows loom each access.
//! This is the only file of the project's libraries that names the cfg. The names are the same in both worlds;
//! what exists in one only ([`Mutant`] selection, the body of `Shadow`) costs nothing in the other.
//!
//! A model that cannot fail proves nothing. Orderings and fences that matter are therefore written as
//! `ordering(Mutant::X, AcqRel)`: the second argument, unless a test chose mutant `X` at run time under the cfg,
//! in which case it is `Relaxed` (or the fence is left out). `loom-tests/` shows that each mutant is caught.

pub use core::sync::atomic::Ordering;

#[cfg(not(memring_loom))]
mod imp {
    pub use core::sync::atomic::{AtomicU32, AtomicU64, fence};

    use super::{Mutant, Ordering};

    /// Tells the CPU that this is a spin loop; under loom, lets the other threads of the model run.
    #[inline]
    pub fn spin_loop() {
        core::hint::spin_loop();
    }

    #[inline(always)]
    pub(crate) const fn is_active(_mutant: Mutant) -> bool {
        false
    }

    /// Whether a push looks at the slot that it is about to overwrite: in debug builds, and not under loom.
    pub(crate) const PUSH_LOOKS: bool = cfg!(debug_assertions);

    /// Stands for the slot's content in a model; nothing at all outside one.
    #[derive(Debug)]
    pub(crate) struct Shadow(());

    impl Shadow {
        pub(crate) const fn new() -> Self {
            Self(())
        }
        #[inline(always)]
        pub(crate) fn write(&self) {}
    }

    /// A copy of slots, for a model.
    pub(crate) struct Copied(());

    impl Copied {
        #[inline(always)]
        pub(crate) fn of<'a>(_slots: impl Iterator<Item = &'a Shadow>) -> Self {
            Self(())
        }
        #[inline(always)]
        pub(crate) fn keep(self) {}
    }

    #[inline(always)]
    pub(crate) const fn ordering(_mutant: Mutant, right: Ordering) -> Ordering {
        right
    }

    /// Where the word lies, for a futex.
    pub(crate) const fn address(word: &AtomicU32) -> *const u32 {
        word.as_ptr()
    }
}

#[cfg(memring_loom)]
mod imp {
    extern crate std;

    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

    use super::{Mutant, Ordering};
    use alloc::vec::Vec;
    use std::sync::{Mutex, PoisonError};

    std::thread_local! {
        // All threads of a loom model are coroutines of one OS thread, so this is one value per model.
        static ACTIVE: core::cell::Cell<Option<Mutant>> = const { core::cell::Cell::new(None) };
    }

    /// Runs `f` with `mutant` in force on this OS thread: every model inside sees the broken ordering.
    ///
    /// The choice is taken back when `f` ends, also by a panic.
    pub fn with_mutant<R>(mutant: Mutant, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Mutant>);
        impl Drop for Restore {
            fn drop(&mut self) {
                ACTIVE.set(self.0);
            }
        }
        let _restore = Restore(ACTIVE.replace(Some(mutant)));
        f()
    }

    pub(crate) fn is_active(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }

    pub(crate) fn ordering(mutant: Mutant, right: Ordering) -> Ordering {
        if is_active(mutant) { Ordering::Relaxed } else { right }
    }

    /// Where the word lies: a key only, under loom.
    pub(crate) fn address(word: &AtomicU32) -> *const u32 {
        core::ptr::from_ref(word).cast()
    }

    /// Not under loom: the shadows judge more exactly, and a load before a store of the same atomic hides from
    /// loom's search that others loaded it earlier (it remembers one last access for each atomic).
    pub(crate) const PUSH_LOOKS: bool = false;

    type Cell = loom::cell::UnsafeCell<()>;

    /// Loom cells beside each slot: loom reports a copy and a write of a slot that nothing orders.
    ///
    /// A copy that is thrown away may race with a write, so what is copied is noted at the copy and counts only when it
    /// is kept. Hence one cell for each publication and one for each copy: none is read after the copy.
    #[derive(Debug)]
    pub(crate) struct Shadow(Mutex<Cells>);

    #[derive(Debug)]
    struct Cells {
        published: Cell,
        copies: Vec<Cell>,
    }

    impl Shadow {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(Cells { published: Cell::new(()), copies: Vec::new() }))
        }

        /// All copies that were kept must have happened before.
        pub(crate) fn write(&self) {
            self.with(|cells| {
                cells.copies.drain(..).for_each(|copy| copy.with_mut(|_| ()));
                cells.published = Cell::new(());
                cells.published.with_mut(|_| ());
            });
        }

        /// The lock is invisible to loom, and free: no other thread of the model runs meanwhile.
        fn with(&self, f: impl FnOnce(&mut Cells)) {
            f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A copy of slots that may turn out to be worthless.
    pub(crate) struct Copied<'a>(Vec<(&'a Shadow, Cell)>);

    impl<'a> Copied<'a> {
        /// Notes the copy, at the copy.
        pub(crate) fn of(slots: impl Iterator<Item = &'a Shadow>) -> Self {
            let copy = |slot| {
                let cell = Cell::new(());
                cell.with(|_| ());
                (slot, cell)
            };
            Self(slots.map(copy).collect())
        }

        /// The copy counts: the publication must have happened before, and the next write must happen after.
        pub(crate) fn keep(self) {
            for (slot, copy) in self.0 {
                slot.with(|cells| {
                    cells.published.with(|_| ());
                    cells.copies.push(copy);
                });
            }
        }
    }
}

#[cfg(memring_loom)]
pub use imp::with_mutant;
pub use imp::{AtomicU32, AtomicU64, fence, spin_loop};
pub(crate) use imp::{Copied, PUSH_LOOKS, Shadow, address, is_active, ordering};

/// `fence(SeqCst)`, unless the test chose `mutant`.
///
/// Ordering: every use is one half of a Dekker handshake and names its partner there.
#[inline]
pub(crate) fn fence_seq_cst(mutant: Mutant) {
    if !is_active(mutant) {
        fence(Ordering::SeqCst);
    }
}

macro_rules! mutants {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// The orderings and fences that a loom test can break, one at a time.
        ///
        /// Each belongs to an obligation of `ring/README.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[$doc])+ $name,)+
        }

        impl Mutant {
            /// All of them: `loom-tests` demands that each is caught.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

mutants! {
    /// A lane's sequence word is stored relaxed: the popper may see the entry before its words and what they name.
    LanePublish,
    /// A lane's sequence word is loaded relaxed by the popper: the same, from the other side.
    LaneObserve,
    /// A lane's `tail` is taken relaxed: a slot may be written before its last reader is known to be gone.
    LaneReserve,
    /// A popper keeps its copy although its claim of `head` failed: an operation runs twice.
    LaneClaim,
    /// A lane's `head` is moved relaxed: a slot may be written while a popper that claimed it still copies.
    LaneFree,
    /// A completion's phase word is stored relaxed: the reaper may see it before the bytes it announces.
    CompletionPublish,
    /// A completion's phase word is loaded relaxed by the reaper.
    CompletionObserve,
    /// The completion ring's `tail` is taken relaxed: a slot may be written before it was reaped.
    CompletionReserve,
    /// The count of completions is loaded relaxed: whoever waits for the end may free memory that is still in use.
    CompletionEnd,
    /// Credits are taken relaxed: the new owner does not know that the slot behind its credit was reaped.
    CreditTake,
    /// Credits are given back relaxed: the same, from the other side.
    CreditGive,
    /// The sleeper does not fence between its announcement and its second look.
    SleeperFence,
    /// The ringer does not fence between its publication and its look for sleepers.
    RingerFence,
    /// The sleeper of a roster does not fence.
    RosterSleeperFence,
    /// The ringer of a roster does not fence.
    RosterRingerFence,
    /// A member of a roster that was rung as it left does not see what for: it leaves the rest to nobody.
    RosterRetract,
    /// An operation that ends without a completion is counted relaxed: whoever waits for the end may free its memory.
    CompletionSkip,
    /// The watcher of a doorbell does not fence between its announcement and its second look.
    WatcherFence,
    /// A table's entry is published relaxed: who marks it may judge it by the words of the one before.
    TablePublish,
    /// The same, from the other side: the state is loaded relaxed by who marks.
    TableObserve,
    /// A table's slot is had relaxed: it may be written while its last taker still reads.
    TableReuse,
    /// The list of a table's free slots keeps its tag: one that has changed and changed back passes for unchanged.
    TableTag,
    /// A table's slot keeps its generation: a mark may hit the entry that came after the one it judged.
    TableGeneration,
    /// The parts of a split operation are counted down relaxed: the last one does not know what the others did.
    SplitCountDown,
    /// A member of a roster is roused relaxed: it falls asleep again without knowing what for it was roused.
    RosterRouse,
    /// A role is taken relaxed: its new holder does not know what the last one did.
    RoleTake,
    /// A role is released relaxed, or goes back to its holder so: what was published before a call is not seen.
    RoleRelease,
    /// Who finds that somebody has called already does not call: what it has published may be missed.
    RoleCall,
    /// The owner of a slot leaves its waker relaxed: the reaper may find the cell as it was before.
    SlotRegister,
    /// The owner of a slot looks relaxed: it may read its memory before the mover's last write.
    SlotObserve,
    /// A slot is completed relaxed: the same, from the other side.
    SlotComplete,
    /// The reaper takes a slot's waker after it has said that the slot is complete: the cell has two owners.
    SlotWaking,
    /// The owner walks away relaxed: the reaper may not find what it was left to free.
    SlotAbandon,
    /// The operations of a slot are counted down relaxed: the last one does not know what the others did.
    SlotCountDown,
    /// A slot keeps its generation: a late completion hits the next owner.
    SlotGeneration,
    /// Progress is counted relaxed: who sees the number may not see what was done.
    ProgressAdvance,
    /// The same, from the other side: the number is loaded relaxed.
    ProgressObserve,
    /// The gate is passed by a separate load and add: an entry slips in behind a close that has already counted.
    GatePass,
}
