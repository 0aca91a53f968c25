//! The stage of a submission queue: entries between their push and their submit.

use crate::sqe::{MoverId, ROUTED, Sqe, SqeFlags};

/// Entries whose mover is chosen and whose credit is taken, in the order of their pushes.
#[derive(Debug)]
pub(super) struct Stage {
    /// With room for as many as the queue has entries, so it never grows.
    sqes: Vec<Sqe>,
    /// The mover of all of them; [`ROUTED`] if they have several.
    mover: MoverId,
    /// Word 0 of all of them, together: which flags there are.
    heads: u64,
    /// The lengths of all of them, bytes.
    bytes: u64,
}

/// What several regions touch together, as far as their sum and their ends tell.
struct Touched {
    sum: u64,
    first: u64,
    end: u64,
}

impl Touched {
    const NOTHING: Self = Self { sum: 0, first: u64::MAX, end: 0 };

    #[inline]
    fn add(&mut self, at: u64, len: u64) {
        if len > 0 {
            self.sum = self.sum.saturating_add(len);
            self.first = self.first.min(at);
            self.end = self.end.max(at.saturating_add(len));
        }
    }

    /// How many bytes that is, at the most.
    fn bytes(&self) -> u64 {
        self.sum.min(self.end.saturating_sub(self.first))
    }
}

impl Stage {
    pub(super) fn new(entries: usize) -> Self {
        Self { sqes: Vec::with_capacity(entries), mover: ROUTED, heads: 0, bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.sqes.len()
    }

    #[inline]
    pub(super) fn push(&mut self, sqe: &Sqe, mover: MoverId) {
        if self.sqes.is_empty() {
            self.mover = mover;
        } else if self.mover != mover {
            self.mover = ROUTED;
        }
        self.heads |= sqe.head();
        self.bytes = self.bytes.saturating_add(sqe.len());
        self.sqes.push(sqe.on(mover));
    }

    /// Stages all of `sqes`, or none: `choose` gives the mover of each, or refuses it.
    #[inline]
    pub(super) fn extend<E>(
        &mut self,
        sqes: &[Sqe],
        mut choose: impl FnMut(&Sqe) -> Result<MoverId, E>,
    ) -> Result<(), E> {
        let before = self.sqes.len();
        let (mut common, mut heads, mut bytes) = (self.mover, self.heads, self.bytes);
        self.sqes.extend_from_slice(sqes);
        // The checks read the caller's slice: the stage's copy is still on its way to the cache.
        for (index, (sqe, staged)) in sqes.iter().zip(&mut self.sqes[before..]).enumerate() {
            match choose(sqe) {
                Ok(mover) => {
                    heads |= sqe.head();
                    bytes = bytes.saturating_add(sqe.len());
                    if mover != sqe.mover() {
                        *staged = sqe.on(mover);
                    }
                    if mover != common {
                        common = if before + index == 0 { mover } else { ROUTED };
                    }
                }
                Err(refused) => {
                    self.sqes.truncate(before);
                    return Err(refused);
                }
            }
        }
        (self.mover, self.heads, self.bytes) = (common, heads, bytes);
        Ok(())
    }

    /// Takes back what was staged after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.sqes.truncate(len);
        self.heads = self.sqes.iter().fold(0, |heads, sqe| heads | sqe.head());
        self.bytes = self.sqes.iter().fold(0, |bytes: u64, sqe| bytes.saturating_add(sqe.len()));
    }

    pub(super) fn clear(&mut self) {
        self.sqes.clear();
        (self.heads, self.bytes) = (0, 0);
    }

    /// The lengths of all entries, bytes.
    #[inline]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes the CPU mover's entries touch, at the most: source and destination together. What they touch
    /// again and again is counted once, as far as the ends of the whole tell.
    pub(super) fn footprint(&self) -> u64 {
        let (mut written, mut read) = (Touched::NOTHING, Touched::NOTHING);
        for sqe in self.sqes.iter().filter(|sqe| sqe.stores_by_cpu()) {
            written.add(sqe.dst() as u64, sqe.len());
            if sqe.has_source() {
                read.add(sqe.src() as u64, sqe.len());
            }
        }
        written.bytes().saturating_add(read.bytes())
    }

    /// Has the CPU mover's entries go past the cache.
    pub(super) fn go_past_cache(&mut self) {
        for sqe in self.sqes.iter_mut().filter(|sqe| sqe.stores_by_cpu()) {
            *sqe = sqe.past_cache();
        }
    }

    /// Whether an entry has any of these flags.
    #[inline]
    pub(super) fn has(&self, flags: SqeFlags) -> bool {
        self.heads & u64::from(flags.bits()) << 8 != 0
    }

    /// Whether it matters of one of them in which region it is.
    #[inline]
    pub(super) fn some_ask_of_region(&self) -> bool {
        Sqe::some_ask_of_region(self.heads)
    }

    /// Puts an entry in the place of one that differs in nothing but its region.
    pub(super) fn replace(&mut self, at: usize, sqe: Sqe) {
        self.sqes[at] = sqe;
    }

    /// The entries, in order.
    pub(super) fn sqes(&self) -> &[Sqe] {
        &self.sqes
    }

    /// Leaves of each chain only its head, which names the second member by the key that `park` gives for it; that one
    /// names the third, and so on. If one of them is a barrier, the head is.
    pub(super) fn fold_chains(&mut self, mut park: impl FnMut(Sqe) -> u32) {
        let (mut heads, mut at) = (0, 0);
        while at < self.sqes.len() {
            let linked = self.sqes[at..].iter().take_while(|sqe| sqe.is_linked()).count();
            let last = (at + linked).min(self.sqes.len() - 1);
            let chain = &self.sqes[at..=last];
            let flags = chain.iter().fold(SqeFlags::NONE, |flags, sqe| flags | sqe.sqe_flags());
            let head = match chain {
                [single] => *single,
                [head, members @ ..] => {
                    let parked = members.iter().rev().fold(None, |next: Option<u32>, member| {
                        Some(park(next.map_or(*member, |next| member.before(next))))
                    });
                    let head = parked.map_or(*head, |next| head.before(next)).leading(members.len() as u64);
                    if flags.contains(SqeFlags::DRAIN) { head.drain() } else { head }
                }
                [] => break,
            };
            self.sqes[heads] = head;
            (heads, at) = (heads + 1, last + 1);
        }
        self.sqes.truncate(heads);
    }

    /// The mover of all entries, if there are any and they have one.
    #[inline]
    pub(super) fn mover(&self) -> Option<MoverId> {
        (self.mover != ROUTED && !self.sqes.is_empty()).then_some(self.mover)
    }

    /// The entries, in runs of one mover each.
    pub(super) fn runs(&self) -> impl Iterator<Item = (MoverId, &[Sqe])> {
        let uniform = self.mover != ROUTED;
        let runs = self.sqes.chunk_by(move |a, b| uniform || a.mover() == b.mover());
        runs.map(|run| (run[0].mover(), run))
    }
}
