//! An entry's course: what its last word says while it is under way, and how it is cut into parts.
//!
//! A pushed entry has zero there, and most keep it. What else a queue must know of an entry travels with it:
//!
//! | bits of word 6 | content |
//! |---|---|
//! | 0 to 19 | the key, plus one, of the chain's next member, which is parked |
//! | 20 to 39 | the key, plus one, of the record that the parts of a split operation share |
//! | 40 to 59 | of a chain's head: how many members are parked behind it |
//! | 63 | it was cancelled while it was held back |

use super::{DESTINATION, INLINE, LENGTH, OpFlags, Opcode, SOURCE, Sqe, SqeFlags, WORKERS};

const COURSE: usize = 6;
const KEY_BITS: u32 = 20;
const KEY: u64 = (1 << KEY_BITS) - 1;
const NEXT: u32 = 0;
const RECORD: u32 = KEY_BITS;
const MEMBERS: u32 = 2 * KEY_BITS;
const CANCELLED: u64 = 1 << 63;

/// Boundaries between parts lie on pages of the destination, bytes: no page is written by two threads, no line twice.
const PAGE: u64 = 4096;

impl Sqe {
    #[inline]
    const fn course(&self) -> u64 {
        self.to_raw()[COURSE]
    }

    const fn field(&self, shift: u32) -> u64 {
        self.course() >> shift & KEY
    }

    const fn with_field(self, shift: u32, value: u64) -> Self {
        let others = self.course() & !(KEY << shift);
        self.with_word(COURSE, others | value << shift)
    }

    /// The key in this field, if there is one.
    #[expect(clippy::cast_possible_truncation, reason = "twenty bits")]
    fn key(&self, shift: u32) -> Option<u32> {
        (self.field(shift) as u32).checked_sub(1)
    }

    /// Whether its end is nothing but a completion: no flag, no part, no successor, no region.
    #[inline]
    pub(crate) const fn is_ordinary(&self) -> bool {
        self.sqe_flags().bits() as u64 | self.course() | self.region() == 0
    }

    /// Whether the next entry of the same submit waits for it.
    pub(crate) const fn is_linked(&self) -> bool {
        self.sqe_flags().intersects(SqeFlags::ANY_LINK)
    }

    /// Whether the rest of its chain is cancelled if it fails.
    pub(crate) const fn cuts_off_on_failure(&self) -> bool {
        !self.sqe_flags().contains(SqeFlags::HARD_LINK)
    }

    /// The key of the chain's next member.
    pub(crate) fn next(&self) -> Option<u32> {
        self.key(NEXT)
    }

    pub(crate) const fn before(self, next: u32) -> Self {
        self.with_field(NEXT, next as u64 + 1)
    }

    /// The same, as the last of what is left of its chain.
    pub(crate) const fn without_next(self) -> Self {
        self.with_field(NEXT, 0)
    }

    /// The same, with the rest of its chain cancelled if it fails.
    pub(crate) const fn cutting_off(self) -> Self {
        let hard = (SqeFlags::HARD_LINK.bits() as u64) << 8;
        if self.head() & hard == 0 { self } else { self.with_word(0, self.head() & !hard).link() }
    }

    /// How many operations are dispatched by dispatching this one: itself, and those parked behind it.
    pub(crate) const fn operations(&self) -> u64 {
        self.field(MEMBERS) + 1
    }

    pub(crate) const fn leading(self, members: u64) -> Self {
        self.with_field(MEMBERS, members)
    }

    /// The key of the record that it shares with the other parts of one operation, if it is a part.
    pub(crate) fn record(&self) -> Option<u32> {
        self.key(RECORD)
    }

    const fn part_of(self, record: u32) -> Self {
        self.with_field(RECORD, record as u64 + 1)
    }

    pub(crate) const fn is_cancelled(&self) -> bool {
        self.course() & CANCELLED != 0
    }

    pub(crate) const fn cancelled(self) -> Self {
        self.with_word(COURSE, self.course() | CANCELLED)
    }

    /// Whether it has the CPU mover store something.
    pub(crate) const fn stores_by_cpu(&self) -> bool {
        let is_ours = matches!(self.mover(), INLINE | WORKERS);
        is_ours && matches!(self.opcode(), Some(Opcode::Memcpy | Opcode::Memmove | Opcode::Memset))
    }

    /// Asks for non-temporal stores.
    pub(crate) const fn past_cache(self) -> Self {
        self.with_word(0, self.to_raw()[0] | (OpFlags::NO_CACHE_HINT.bits() as u64) << 32)
    }

    /// Whether doing it part by part comes to the same.
    pub(crate) fn has_parts(&self) -> bool {
        !matches!(self.opcode(), None | Some(Opcode::Nop))
    }

    /// Whether its parts must be done one after the other, since it writes over its own source.
    pub(crate) fn is_sequential(&self) -> bool {
        self.has_source()
            && self.dst().addr().abs_diff(self.src().addr()) < usize::try_from(self.len()).unwrap_or(usize::MAX)
    }

    /// Cuts off the part that comes first, of about `bytes` and not more, and gives it and the rest, both parts of the
    /// same `record`.
    ///
    /// First is the lower end, unless the operation moves memory upwards over itself.
    pub(crate) fn cut(self, record: u32, bytes: u64) -> (Self, Self) {
        let whole = self.part_of(record).without_next().with_word(0, self.head() & !(0xff << 8));
        let upwards = self.is_sequential() && self.dst().addr() > self.src().addr();
        let at = if upwards { self.len() - bytes } else { bytes };
        let beyond = (self.to_raw()[DESTINATION] + at) % PAGE;
        // On a page of the destination, if that leaves at least half of the part.
        let at = match upwards {
            true if PAGE - beyond <= bytes / 2 => at + (PAGE - beyond) % PAGE,
            false if beyond <= bytes / 2 => at - beyond,
            _ => at,
        };
        let (low, high) = (whole.with_word(LENGTH, at), whole.beyond(at));
        if upwards { (high, low) } else { (low, high) }
    }

    /// What is left without the first `bytes`.
    const fn beyond(self, bytes: u64) -> Self {
        let [_, _, dst, src, len, ..] = self.to_raw();
        let src = if self.has_source() { src + bytes } else { src };
        self.with_word(DESTINATION, dst + bytes).with_word(SOURCE, src).with_word(LENGTH, len - bytes)
    }
}
