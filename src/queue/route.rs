//! Routing: which mover takes an entry. Pure: an entry, a table, an answer.
//!
//! ```text
//!   the entry names a mover (Sqe::on)          -> that one, if it can
//!   its length is at most inline_max (not 0)   -> INLINE, if it can
//!   otherwise                                  -> the first mover that can, WORKERS before the user's own
//! ```
//!
//! Flushes, and what is to be durable, go by what backs their destination: see [`Route::by_region`].

use core::fmt;

use std::sync::Arc;

use crate::memory::region::{Backing, Found, RegionId, Regions};
use crate::mover::Capabilities;
use crate::sqe::{INLINE, MoverId, OpFlags, ROUTED, Refusal, Sqe, URING, WORKERS};

/// Ids from here on belong to the movers of [`Builder::mover`](super::Builder::mover), in the order they were added.
/// Between [`WORKERS`] and this, ids are kept for movers of memring's own.
const FIRST_USER_MOVER: u8 = 16;
/// The lanes of memring's own movers come first.
pub(crate) const OWN_LANES: usize = 2;

/// The routing table of a queue pair.
///
/// # Examples
///
/// ```
/// use memring::{INLINE, Sqe, WORKERS, queue::QueuePair};
/// let pair = QueuePair::builder().inline_max(256).build()?;
/// let src = [0_u8; 4096];
/// let mut dst = [0_u8; 4096];
/// let sqe = Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 4096);
/// assert_eq!(pair.route().choose(&sqe)?, WORKERS);
/// assert_eq!(pair.route().choose(&sqe.on(INLINE))?, INLINE);
/// println!("{}", pair.route().explain(&sqe));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Route {
    /// Shorter operations go inline, if they name no mover. Zero: none do.
    inline_below: u64,
    /// INLINE, WORKERS, then the user's movers in the order of their ids; last, a row that takes nothing.
    rows: Box<[Row]>,
    /// The row of each mover id; ROUTED has that of WORKERS, an unknown id the last.
    row_of: [u8; 256],
    /// What backs which addresses.
    regions: Arc<Regions>,
}

/// A mover in the table: what it takes, as masks.
#[derive(Clone, Copy, Debug)]
struct Row {
    mover: MoverId,
    opcodes: u64,
    refused_head: u64,
    max_len: u64,
    misalignment: u64,
    /// What it makes durable is in persistent memory only, and is no flush.
    durable_on_dax: bool,
}

impl Row {
    fn new(mover: MoverId, can: &Capabilities) -> Self {
        let (max_len, misalignment) = can.limits();
        let max_len = max_len.min(isize::MAX as u64);
        let durable_on_dax = can.is_durable_on_dax();
        Self { mover, opcodes: can.opcodes(), refused_head: !can.allowed_head(), max_len, misalignment, durable_on_dax }
    }

    /// Whether the mover can do it, were the entry sound.
    #[inline]
    fn takes(&self, sqe: &Sqe) -> bool {
        let [head, _, dst, src, len, ..] = sqe.to_raw();
        let source = if sqe.has_source() { src } else { 0 };
        self.takes_head(head) && len <= self.max_len && (dst | source | len) & self.misalignment == 0
    }

    #[inline]
    fn takes_head(&self, head: u64) -> bool {
        head & self.refused_head == 0 && self.opcodes >> (head & 0x1f) & 1 != 0
    }
}

impl Route {
    /// The table of these movers: INLINE's capabilities, then those of the lanes.
    pub(crate) fn new(inline_max: u64, inline: &Capabilities, lanes: &[Capabilities], regions: Arc<Regions>) -> Self {
        let nobody = Row::new(ROUTED, &Capabilities::new(&[]));
        // Nothing comes to URING but by its region.
        let own = lanes.iter().enumerate().map(|(lane, can)| match mover_of(lane) {
            URING => Row { mover: URING, ..nobody },
            mover => Row::new(mover, can),
        });
        let rows: Box<[Row]> = std::iter::once(Row::new(INLINE, inline)).chain(own).chain([nobody]).collect();
        let mut row_of = [0; 256];
        for (id, place) in (0..=u8::MAX).zip(&mut row_of) {
            let id = if id == ROUTED.to_u8() { WORKERS.to_u8() } else { id };
            let row = rows.iter().position(|row| row.mover.to_u8() == id).unwrap_or(rows.len() - 1);
            *place = u8::try_from(row).unwrap_or(u8::MAX);
        }
        let inline_below = if inline_max == 0 { 0 } else { inline_max.saturating_add(1) };
        Self { inline_below, rows, row_of, regions }
    }

    /// The mover that would take this entry.
    ///
    /// # Errors
    ///
    /// What a push of the entry would be refused for.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{INLINE, Sqe, queue::QueuePair};
    /// let pair = QueuePair::builder().build()?;
    /// assert_eq!(pair.route().choose(&Sqe::nop().on(INLINE))?, INLINE);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn choose(&self, sqe: &Sqe) -> Result<MoverId, super::PushError> {
        self.resolve(sqe).map_err(|refusal| super::PushError::refused(refusal, *sqe))
    }

    /// Why this entry goes where it goes, in a sentence.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let pair = QueuePair::builder().build()?;
    /// assert!(pair.route().explain(&Sqe::nop()).to_string().starts_with("WORKERS"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain(&self, sqe: &Sqe) -> impl fmt::Display {
        match self.choose(sqe) {
            Err(error) => format!("refused: {error}"),
            Ok(URING) => "URING: it is in a region, which an fsync makes durable".to_owned(),
            Ok(mover) if sqe.mover() != ROUTED => format!("{mover:?}: the entry asks for it"),
            Ok(INLINE) => format!("INLINE: {} bytes are fewer than {}", sqe.len(), self.inline_below),
            Ok(mover) => format!("{mover:?}: the first mover that can do it"),
        }
    }

    /// The entry's mover.
    #[inline]
    pub(crate) fn resolve(&self, sqe: &Sqe) -> Result<MoverId, Refusal> {
        self.resolver()(sqe)
    }

    /// Finds the movers of a batch, one entry after the other.
    ///
    /// Entries of a batch are mostly alike: as long as word 0 stays the same, so does the row, and only the regions are
    /// looked at. Whatever is not plain is looked at again, with leisure.
    #[inline]
    pub(crate) fn resolver(&self) -> impl FnMut(&Sqe) -> Result<MoverId, Refusal> {
        let mut last = None;
        move |sqe| {
            let row = match last {
                Some((head, row)) if head == sqe.head() => row,
                _ => {
                    let row: &Row = &self.rows[self.first_choice(sqe)];
                    if !row.takes_head(sqe.head()) || row.misalignment != 0 || sqe.asks_of_region() {
                        return self.look_further(sqe);
                    }
                    // With a bound for inline operations, a routed entry's row depends on its length.
                    last = (sqe.mover() != ROUTED || self.inline_below == 0).then_some((sqe.head(), row));
                    row
                }
            };
            if sqe.len() <= row.max_len && sqe.is_plain() { Ok(row.mover) } else { self.look_further(sqe) }
        }
    }

    #[inline]
    fn first_choice(&self, sqe: &Sqe) -> usize {
        let mover = sqe.mover();
        if mover == ROUTED && sqe.len() < self.inline_below {
            return 0;
        }
        usize::from(self.row_of[usize::from(mover.to_u8())])
    }

    /// Why an entry is refused, or who takes it if its first choice cannot.
    #[cold]
    fn look_further(&self, sqe: &Sqe) -> Result<MoverId, Refusal> {
        sqe.check()?;
        if sqe.asks_of_region()
            && let Some(mover) = self.by_region(sqe)?
        {
            return Ok(mover);
        }
        if sqe.mover() == URING {
            return Err(if sqe.is_flush() { Refusal::NotDurable } else { Refusal::Unsupported });
        }
        let first = self.first_choice(sqe);
        if first == self.rows.len() - 1 {
            return Err(Refusal::UnknownMover);
        }
        let last = if sqe.mover() == ROUTED { self.rows.len() - 1 } else { first + 1 };
        let able = self.rows[first..last].iter().find(|row| row.takes(sqe));
        able.map(|row| row.mover).ok_or_else(|| {
            let plain = sqe.without_durable();
            let is_for_want_of_that = sqe.has_parts() && self.rows[first..last].iter().any(|row| row.takes(&plain));
            if is_for_want_of_that { Refusal::NotDurable } else { Refusal::Unsupported }
        })
    }

    /// Whether a mover of the user's own says that it makes durable.
    fn makes_durable(&self, mover: MoverId) -> bool {
        let row = &self.rows[usize::from(self.row_of[usize::from(mover.to_u8())])];
        row.refused_head & Sqe::nop().flags(OpFlags::MEM_DURABLE).head() == 0
    }

    /// Who makes durable what is in a region. None: it is nothing of that kind, and the route is as for plain memory.
    ///
    /// A flush goes to who can make its bytes durable; a durable copy to whoever would copy it
    /// otherwise, if that is the CPU, and from there on as a flush.
    fn by_region(&self, sqe: &Sqe) -> Result<Option<MoverId>, Refusal> {
        let id = match sqe.region() {
            0 => None,
            word => Some(RegionId::of(word).ok_or(Refusal::UnknownFlags)?),
        };
        let len = usize::try_from(sqe.len()).unwrap_or(usize::MAX);
        let first = self.rows[self.first_choice(sqe)];
        let backing = match self.regions.find(id, sqe.dst().addr(), len) {
            Found::Outside => return Err(Refusal::OutsideRegion),
            Found::Plain if first.durable_on_dax => return self.by_region_of_device(None, sqe),
            Found::Plain => return Ok(None),
            Found::Inside(backing) if first.durable_on_dax => return self.by_region_of_device(Some(backing), sqe),
            Found::Inside(backing) => backing,
        };
        let is_by_cpu = [INLINE, WORKERS].contains(&first.mover) && first.takes(&sqe.without_durable());
        let mover = match (backing, sqe.is_flush()) {
            (Backing::PageCache, true) if [ROUTED, URING].contains(&sqe.mover()) => Some(URING),
            (Backing::Dax, true) if is_by_cpu && sqe.mover() != INLINE => Some(WORKERS),
            (Backing::PageCache | Backing::Dax, false) if is_by_cpu => Some(first.mover),
            // The CPU's caches are not what a page cache is flushed of.
            (Backing::PageCache, true) if !self.makes_durable(sqe.mover()) => return Err(Refusal::Unsupported),
            _ => None,
        };
        Ok(mover)
    }
}

impl Route {
    /// As [`by_region`](Self::by_region), of an entry that asks for a device: that can make its own writes to
    /// persistent memory durable. What is to go to a disk, the CPU copies.
    fn by_region_of_device(&self, backing: Option<Backing>, sqe: &Sqe) -> Result<Option<MoverId>, Refusal> {
        match backing {
            Some(Backing::Dax) if sqe.is_flush() => Ok(Some(WORKERS)),
            Some(Backing::Dax) => Ok(None),
            Some(Backing::PageCache) if sqe.is_flush() => Err(Refusal::Unsupported),
            Some(Backing::PageCache) => Ok(Some(WORKERS)),
            _ if sqe.is_durable() => Err(Refusal::NotDurable),
            _ => Ok(None),
        }
    }
}

/// The lane of a mover, by number: all but INLINE have one.
#[inline]
pub(crate) fn lane_of(mover: MoverId) -> Option<usize> {
    match mover.to_u8() {
        id if id == WORKERS.to_u8() => Some(0),
        id if id == URING.to_u8() => Some(1),
        id if id >= FIRST_USER_MOVER => Some(usize::from(id - FIRST_USER_MOVER) + OWN_LANES),
        _ => None,
    }
}

/// The mover of a lane.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the builder makes no more lanes than there are ids")]
pub(crate) fn mover_of(lane: usize) -> MoverId {
    match lane {
        0 => WORKERS,
        1 => URING,
        lane => MoverId::from_u8(FIRST_USER_MOVER + (lane - OWN_LANES) as u8),
    }
}

/// How many movers of the user's own a queue can have: as many as there are ids, and row numbers beside the other
/// three rows.
pub(crate) const MAX_USER_MOVERS: usize = (u8::MAX - FIRST_USER_MOVER) as usize + 1;
const _: () = assert!(MAX_USER_MOVERS + 4 <= u8::MAX as usize);
