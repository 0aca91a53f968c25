//! Memory in use: finds entries that touch the same bytes at the same time (feature `check-overlap`).
//!
//! Unlinked entries run in any order and at the same time, so two that overlap, one of them writing, are a data race of
//! their submitter's. With the feature, a push looks for that in an interval set over all that is staged or under way,
//! and refuses the second of the two. It is for finding mistakes: each push and each end takes a lock and allocates.
//!
//! Entries that cannot run at the same time do not count: members of one chain, and what a barrier parts. Barriers are
//! taken in the order of their pushes; with several submission queues, submit in that order too, or an overlap may be
//! missed. A chain that is a barrier says so on its first entry.
//!
//! Without the feature all of this is empty.

#[cfg(feature = "check-overlap")]
pub(crate) use checked::{InUse, Place};
#[cfg(not(feature = "check-overlap"))]
pub(crate) use unchecked::{InUse, Place};

#[cfg(feature = "check-overlap")]
mod checked {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use crate::os::lock;
    use crate::sqe::{Opcode, Sqe, SqeFlags};

    /// Where a submission queue stands: what the next entry is ordered with.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Place {
        chain: u64,
        /// The barriers that the chain of the last one is behind.
        epoch: u64,
        /// The next entry belongs to the chain of the last one.
        is_linked: bool,
        /// The chain of the last one is a barrier.
        is_barrier: bool,
    }

    impl Place {
        pub(crate) const START: Self = Self { chain: 0, epoch: 0, is_linked: false, is_barrier: false };
    }

    /// Bytes in use by an entry.
    #[derive(Clone, Copy, Debug)]
    struct Region {
        end: u64,
        is_written: bool,
        /// How many barriers were pushed before the entry.
        epoch: u64,
        chain: u64,
        sqe: Sqe,
    }

    /// All bytes in use, by where they begin.
    #[derive(Debug, Default)]
    struct Regions {
        /// By the first byte, then by a number of their own.
        by_start: BTreeMap<(u64, u64), Region>,
        /// No region is longer, bytes.
        longest: u64,
        numbered: u64,
        chains: u64,
        epoch: u64,
    }

    /// The interval set.
    #[derive(Debug)]
    pub(crate) struct InUse(Mutex<Regions>);

    impl InUse {
        pub(crate) const IS_CHECKED: bool = true;

        pub(crate) fn new() -> Self {
            Self(Mutex::default())
        }

        /// Notes what entries use, of all of them; or of none, and gives back the index of the first that uses what is
        /// in use, with the entry that uses it.
        pub(crate) fn enter(&self, sqes: &[Sqe], place: &mut Place) -> Result<(), (usize, Sqe)> {
            let mut regions = lock(&self.0);
            let before = (*place, regions.chains, regions.epoch);
            for (index, sqe) in sqes.iter().enumerate() {
                if let Err(other) = regions.enter(sqe, place) {
                    sqes[..index].iter().for_each(|sqe| regions.leave(sqe));
                    (*place, regions.chains, regions.epoch) = before;
                    return Err((index, other));
                }
            }
            Ok(())
        }

        /// Nobody uses it any more.
        pub(crate) fn leave(&self, sqe: &Sqe) {
            lock(&self.0).leave(sqe);
        }

        /// An entry goes on as another one.
        pub(crate) fn turn_into(&self, before: &Sqe, after: &Sqe) {
            let mut regions = lock(&self.0);
            regions.leave(before);
            let epoch = regions.epoch;
            for (start, region) in regions_of(after, epoch, 0).into_iter().flatten() {
                regions.insert(start, region);
            }
        }

        /// What was pushed so far is submitted: its last chain ends.
        pub(crate) fn submit(place: &mut Place) {
            place.is_linked = false;
        }
    }

    impl Regions {
        /// Notes what an entry uses; or gives back the entry that uses some of it already.
        fn enter(&mut self, sqe: &Sqe, place: &mut Place) -> Result<(), Sqe> {
            self.advance(sqe, place);
            let mine = regions_of(sqe, place.epoch, place.chain);
            if let Some(other) = mine.iter().flatten().find_map(|(start, region)| self.conflict(*start, region)) {
                return Err(other);
            }
            for (start, region) in mine.into_iter().flatten() {
                self.insert(start, region);
            }
            Ok(())
        }

        fn leave(&mut self, sqe: &Sqe) {
            for (start, region) in regions_of(sqe, 0, 0).into_iter().flatten() {
                self.remove(start, &region);
            }
        }

        /// Which chain and which epoch an entry belongs to. A barrier has one of its own, and whatever is pushed after
        /// it, through whichever queue, a later one.
        fn advance(&mut self, sqe: &Sqe, place: &mut Place) {
            let is_drained = sqe.sqe_flags().contains(SqeFlags::DRAIN);
            if !place.is_linked {
                self.chains += 1;
                self.epoch += u64::from(is_drained);
                *place = Place { chain: self.chains, epoch: self.epoch, is_linked: false, is_barrier: false };
            }
            if is_drained && !place.is_barrier {
                self.epoch += 1;
                place.is_barrier = true;
            }
            place.is_linked = sqe.is_linked();
        }

        fn conflict(&self, start: u64, mine: &Region) -> Option<Sqe> {
            let from = (start.saturating_sub(self.longest), 0);
            let near = self.by_start.range(from..(mine.end, 0));
            let meets = |region: &&Region| {
                region.end > start
                    && (region.is_written || mine.is_written)
                    && region.epoch == mine.epoch
                    && region.chain != mine.chain
            };
            near.map(|(_, region)| region).find(meets).map(|region| region.sqe)
        }

        fn insert(&mut self, start: u64, region: Region) {
            self.longest = self.longest.max(region.end - start);
            self.numbered += 1;
            self.by_start.insert((start, self.numbered), region);
        }

        fn remove(&mut self, start: u64, like: &Region) {
            let words = like.sqe.to_raw();
            let is_it = |region: &Region| {
                let others = region.sqe.to_raw();
                // Without word 5: a push fills in which region it is.
                others[1..5] == words[1..5] && region.is_written == like.is_written
            };
            let here = self.by_start.range((start, 0)..=(start, u64::MAX));
            let key = here.filter(|(_, region)| is_it(region)).map(|(key, _)| *key).next();
            if let Some(key) = key {
                self.by_start.remove(&key);
            }
            if self.by_start.is_empty() {
                self.longest = 0;
            }
        }
    }

    /// The regions of an entry, with their first bytes: what it writes, and what it reads.
    fn regions_of(sqe: &Sqe, epoch: u64, chain: u64) -> [Option<(u64, Region)>; 2] {
        let region = |start: u64, is_written| {
            (sqe.len() > 0).then(|| (start, Region { end: start + sqe.len(), is_written, epoch, chain, sqe: *sqe }))
        };
        let (dst, src) = (sqe.dst().addr() as u64, sqe.src().addr() as u64);
        match sqe.opcode() {
            Some(Opcode::Memcpy | Opcode::Memmove) => [region(dst, true), region(src, false)],
            Some(Opcode::Memset) => [region(dst, true), None],
            Some(Opcode::Flush) => [region(dst, false), None],
            Some(Opcode::Nop) | None => [None, None],
        }
    }
}

#[cfg(not(feature = "check-overlap"))]
mod unchecked {
    use crate::sqe::Sqe;

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Place;

    impl Place {
        pub(crate) const START: Self = Self;
    }

    #[derive(Debug)]
    pub(crate) struct InUse;

    impl InUse {
        pub(crate) const IS_CHECKED: bool = false;

        pub(crate) fn new() -> Self {
            Self
        }

        #[inline(always)]
        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the other kind looks")]
        pub(crate) fn enter(&self, _sqes: &[Sqe], _place: &mut Place) -> Result<(), (usize, Sqe)> {
            Ok(())
        }

        #[inline(always)]
        #[expect(clippy::unused_self, reason = "the other kind takes a note")]
        pub(crate) fn leave(&self, _sqe: &Sqe) {}

        #[inline(always)]
        #[expect(clippy::unused_self, reason = "the other kind takes a note")]
        pub(crate) fn turn_into(&self, _before: &Sqe, _after: &Sqe) {}

        #[inline(always)]
        pub(crate) fn submit(_place: &mut Place) {}
    }
}
