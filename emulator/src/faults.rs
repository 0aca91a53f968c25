//! Page faults that are made up: a page that is there is said to be missing, for once.
//!
//! | where | a page is missing |
//! |---|---|
//! | `first` | before the first byte of a descriptor, or of a batch |
//! | `page` | anywhere, as on hardware: operations stop at the boundaries of pages |
//! | `byte` | after any byte: made up by the model itself, and not here |
//!
//! A page that was missing is there for a while, so whoever touches it and submits the rest gets on. Completion records
//! and the lists of batches are never missing: they are told by how they are accessed, which is once, whole, and
//! aligned.
//!
//! The record of a fault that is made up here has the address of the first byte that was not accessed, where the model
//! tells the page's own. A device may do either; but some programs, `dsa_test` among them, bring a page back by writing
//! another value to the address they are told. In a page that was missing indeed, nobody had put anything; in one that
//! is only said to be missing, the page's first byte may be somebody's, while the first byte that was not accessed is
//! going to be written anyway.

use memring::dsa::model::Access;
use memring::dsa::{CompletionRecord, Descriptor};

use crate::process;

/// Where faults are made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Where {
    /// Before anything was done.
    First,
    /// At any page.
    #[default]
    Page,
    /// After any byte.
    Byte,
}

/// One page in so many is missing.
const ONE_IN: u64 = 4;
/// So many that were missing are there for now.
const REMEMBERED: usize = 16;

/// What decides.
#[derive(Debug)]
pub(crate) struct MissingPages {
    place: Where,
    dice: u64,
    /// The addresses that were missing last, in a circle, and where the next goes.
    last: [u64; REMEMBERED],
    next: usize,
    /// Nothing was accessed yet.
    is_first: bool,
}

impl MissingPages {
    pub(crate) fn new(seed: u64, place: Where) -> Self {
        Self { place, dice: seed, last: [u64::MAX; REMEMBERED], next: 0, is_first: true }
    }

    /// A descriptor begins.
    pub(crate) fn begin(&mut self) {
        self.is_first = true;
    }

    /// Whether the page with these bytes is missing.
    pub(crate) fn has(&mut self, address: u64, len: usize, access: Access) -> bool {
        let whole = match access {
            Access::Read => Descriptor::BYTES,
            Access::Write => CompletionRecord::BYTES,
        };
        if self.place == Where::Byte || (len == whole && address.is_multiple_of(whole as u64)) {
            return false;
        }
        let is_first = std::mem::replace(&mut self.is_first, false);
        if self.place == Where::First && !is_first {
            return false;
        }
        let is_missing =
            self.roll().is_multiple_of(ONE_IN) && !self.last.iter().any(|last| page_of(*last) == page_of(address));
        if is_missing {
            self.last[self.next] = address;
            self.next = (self.next + 1) % REMEMBERED;
        }
        is_missing
    }

    /// The address that was missing in this page a moment ago, if it was made up.
    pub(crate) fn exactly(&self, page: u64) -> Option<u64> {
        let last = self.last[self.next.checked_sub(1).unwrap_or(REMEMBERED - 1)];
        (last != u64::MAX && page_of(last) == page).then_some(last)
    }

    /// The next number of SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    /// OOPSLA 2014.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn page_of(address: u64) -> u64 {
    address & !(process::PAGE - 1)
}
