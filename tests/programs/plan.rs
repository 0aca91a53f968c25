//! Programs, and the interpreter that says what must come of them.

use memring::{Sqe, SqeFlags, Status};

use super::random::Random;

/// Bytes that one unit has for itself.
pub(crate) const PLOT: usize = 48;
/// So many units may touch memory between two barriers.
pub(crate) const PLOTS: usize = 8;
/// All the memory of a program.
pub(crate) const BYTES: usize = PLOT * PLOTS;

const SUBMITS: usize = 5;
const ENTRIES_OF_SUBMIT: usize = 8;
/// What failing movers answer. A token that is dropped answers the third.
const FAILURES: [Status; 4] = [Status::IO, Status::FAULT, Status::JOB_CORRUPTED, Status::INVALID];

const FATE_SHIFT: u32 = 16;
const SHARED: u64 = 1 << 40;

/// The number of an entry in its program, or of the group whose completions may be shared.
pub(crate) fn number_of(user_data: u64) -> usize {
    usize::try_from(user_data & 0xffff).expect("16 bits")
}

/// What a mover of the test's own must answer to this entry.
pub(crate) fn fate_of(user_data: u64) -> Status {
    Status::from_u16(u16::try_from(user_data >> FATE_SHIFT & 0xffff).expect("16 bits"))
}

/// Whether other entries have the same user data.
pub(crate) fn is_shared(user_data: u64) -> bool {
    user_data & SHARED != 0
}

/// Who executes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Inline,
    Workers,
    /// A mover of the test's own, that completes at once.
    Prompt,
    /// One that keeps its tokens, and completes them later in another order.
    Keeping,
    /// Devices in software, at their worst.
    Dsa,
}

/// What an entry does, by places in the program's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Nop,
    Set { to: usize, len: usize, value: u8 },
    Copy { to: usize, from: usize, len: usize },
    Move { to: usize, from: usize, len: usize },
}

/// One entry of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) user_data: u64,
    pub(crate) flags: SqeFlags,
    pub(crate) who: Who,
    pub(crate) act: Act,
    /// The unit it belongs to: a chain, or an entry by itself.
    pub(crate) unit: usize,
    /// Barriers have odd ones. No event of one comes before one of a lower.
    pub(crate) epoch: usize,
    /// What must come of it.
    pub(crate) status: Status,
}

impl Entry {
    /// Whether a completion tells its end.
    pub(crate) fn is_told(&self) -> bool {
        !(self.status.is_success() && self.flags.contains(SqeFlags::SKIP_SUCCESS))
    }

    /// Whether that may tell the end of others, too.
    pub(crate) fn is_told_together(&self) -> bool {
        self.is_told() && self.status.is_success() && self.flags.contains(SqeFlags::COALESCE)
    }

    /// Whether a mover of the test's own gets to see it.
    pub(crate) fn is_seen(&self) -> bool {
        matches!(self.who, Who::Prompt | Who::Keeping) && self.status != Status::CANCELLED
    }

    /// The value that its completion carries.
    pub(crate) fn value(&self) -> u32 {
        let is_answered = self.is_seen() && self.status != Status::JOB_CORRUPTED;
        if is_answered { u32::try_from(number_of(self.user_data)).expect("16 bits") } else { 0 }
    }

    /// The submission entry, but for its mover.
    pub(crate) fn sqe(&self, memory: *mut u8) -> Sqe {
        let at = |place| memory.wrapping_add(place);
        let sqe = match self.act {
            Act::Nop => Sqe::nop(),
            Act::Set { to, len, value } => Sqe::memset(at(to), value, len),
            Act::Copy { to, from, len } => Sqe::memcpy(at(to), at(from), len),
            Act::Move { to, from, len } => Sqe::memmove(at(to), at(from), len),
        };
        sqe.user_data(self.user_data).with_flags(self.flags)
    }
}

/// A program: several submits of entries, and the bytes that they must leave.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) entries: Vec<Entry>,
    /// The entries of each submit, and which of two submission queues it goes through.
    pub(crate) submits: Vec<(std::ops::Range<usize>, usize)>,
    pub(crate) before: [u8; BYTES],
    pub(crate) after: [u8; BYTES],
}

impl Program {
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut before = [0; BYTES];
        before.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&random.next().to_ne_bytes()));
        let mut program = Self { entries: Vec::new(), submits: Vec::new(), before, after: before };
        // Programs are of different tempers: some have hardly a link, some hardly a barrier.
        let temper = Temper { links: random.below(5), barriers: random.below(3), failures: random.below(4) };
        for _ in 0..=random.below(SUBMITS) {
            let begin = program.entries.len();
            for _ in 0..=random.below(ENTRIES_OF_SUBMIT) {
                let number = program.entries.len();
                program.entries.push(temper.entry(number, random));
            }
            program.submits.push((begin..program.entries.len(), random.below(2)));
        }
        program.part_into_units(random);
        program.interpret();
        program
    }

    /// Parts the entries into units and epochs, and gives each unit a plot of memory that is no other's in its epoch.
    fn part_into_units(&mut self, random: &mut Random) {
        let (mut unit, mut epoch) = (0, 0);
        let mut free: Vec<usize> = (0..PLOTS).collect();
        for (range, _) in self.submits.clone() {
            for chain in self.entries[range].chunk_by_mut(|entry, _| is_linked(entry)) {
                let is_barrier = chain.iter().any(|entry| entry.flags.contains(SqeFlags::DRAIN));
                if is_barrier {
                    free = (0..PLOTS).collect();
                    epoch += 1;
                }
                let plot = if free.is_empty() { None } else { Some(free.swap_remove(random.below(free.len()))) };
                for entry in chain {
                    (entry.unit, entry.epoch) = (unit, epoch);
                    entry.act = plot.map_or(Act::Nop, |plot| act(plot * PLOT, random));
                }
                if is_barrier {
                    free = (0..PLOTS).collect();
                    epoch += 1;
                }
                unit += 1;
            }
        }
    }

    /// Says what comes of each entry, and of the memory. Units that may run together share no memory, so one after the
    /// other comes to the same.
    fn interpret(&mut self) {
        let mut is_cut_off = false;
        let mut unit = usize::MAX;
        for entry in &mut self.entries {
            is_cut_off &= entry.unit == unit;
            unit = entry.unit;
            entry.status = match entry.who {
                _ if is_cut_off => Status::CANCELLED,
                Who::Inline | Who::Workers | Who::Dsa => Status::SUCCESS,
                Who::Prompt | Who::Keeping => fate_of(entry.user_data),
            };
            if entry.status.is_success() {
                entry.act.on(&mut self.after);
            } else {
                // With both flags the harder one counts.
                is_cut_off |= !entry.flags.contains(SqeFlags::HARD_LINK);
            }
        }
    }
}

fn is_linked(entry: &Entry) -> bool {
    entry.flags.contains(SqeFlags::LINK) || entry.flags.contains(SqeFlags::HARD_LINK)
}

impl Act {
    fn on(self, bytes: &mut [u8; BYTES]) {
        match self {
            Self::Nop => {}
            Self::Set { to, len, value } => bytes[to..to + len].fill(value),
            Self::Copy { to, from, len } | Self::Move { to, from, len } => bytes.copy_within(from..from + len, to),
        }
    }
}

/// Something to do within a plot.
fn act(plot: usize, random: &mut Random) -> Act {
    let half = PLOT / 2;
    let (low, high) = (random.below(half), random.below(half));
    let len = random.below(half - low.max(high) + 1);
    let (low, high) = (plot + low, plot + half + high);
    match random.below(8) {
        0 => Act::Nop,
        1 => Act::Set { to: low, len, value: random.next().to_ne_bytes()[0] },
        2 => Act::Set { to: high, len, value: random.next().to_ne_bytes()[0] },
        3 | 4 => Act::Copy { to: low, from: high, len },
        5 | 6 => Act::Copy { to: high, from: low, len },
        _ => {
            let len = random.below(PLOT + 1);
            let (to, from) = (random.below(PLOT - len + 1), random.below(PLOT - len + 1));
            Act::Move { to: plot + to, from: plot + from, len }
        }
    }
}

/// How often things happen in a program, in eighths.
#[derive(Clone, Copy)]
struct Temper {
    links: usize,
    barriers: usize,
    failures: usize,
}

impl Temper {
    fn entry(self, number: usize, random: &mut Random) -> Entry {
        let mut flags = SqeFlags::NONE;
        let mut maybe = |flag, eighths| {
            if random.below(8) < eighths {
                flags = flags | flag;
            }
        };
        maybe(SqeFlags::LINK, self.links);
        maybe(SqeFlags::HARD_LINK, self.links / 2);
        maybe(SqeFlags::DRAIN, self.barriers);
        maybe(SqeFlags::SKIP_SUCCESS, 1);
        maybe(SqeFlags::COALESCE, 2);
        let who = [Who::Inline, Who::Workers, Who::Workers, Who::Prompt, Who::Keeping, Who::Dsa, Who::Dsa, Who::Dsa];
        let who = who[random.below(who.len())];
        let fails = random.below(8) < self.failures;
        let fate = if fails { FAILURES[random.below(FAILURES.len())] } else { Status::SUCCESS };
        let fate = u64::from(fate.to_u16()) << FATE_SHIFT;
        let user_data = match flags.contains(SqeFlags::COALESCE) {
            true => SHARED | random.below(2) as u64 | fate,
            false => number as u64 | fate,
        };
        Entry { user_data, flags, who, act: Act::Nop, unit: 0, epoch: 0, status: Status::SUCCESS }
    }
}
