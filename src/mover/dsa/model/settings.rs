//! Settings: how a model uses the freedom that the specification gives to devices, and what goes wrong in it.

/// What a model does where a device may do one thing or another, and what it breaks.
///
/// The default is the tamest device: in order, no faults. The same settings, the same descriptors and the same steps
/// give the same results.
///
/// # Examples
///
/// ```
/// use memring::dsa::model::{Chance, Faults, Order, Settings};
/// let mut settings = Settings::default();
/// settings.members = Order::Random;
/// settings.faults = Faults::Random(Chance::one_in(8));
/// assert_eq!(settings.completions, Order::InOrder);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Where all chances begin.
    pub seed: u64,
    /// In which order the members of a batch run, where no fence says it.
    pub members: Order,
    /// In which order descriptors of the queue run, where no DRAIN says it.
    pub completions: Order,
    /// Page faults of operands, besides those that the memory has.
    pub faults: Faults,
    /// How often fetching a descriptor of a batch faults.
    pub list_faults: Chance,
    /// How often a shared queue that has room says that it has none.
    pub retries: Chance,
    /// How often an operation ends with a hardware error: before it began, at its destination, or at translation.
    pub breakdowns: Chance,
    /// A MEMMOVE between regions that do not overlap goes from either end.
    pub turns_copies: bool,
    /// What every byte of a record has that the operation does not use.
    pub unused_byte: u8,
    /// CR_DELTA is full when the differences of the next 64 bytes do not all fit, as in a device that compares lines.
    pub ends_deltas_early: bool,
    /// COMPVAL names an offset that may be up to 63 bytes before the difference.
    pub blurs_offsets: bool,
    /// Every descriptor succeeds unlooked at, and memory is not touched but for records and the lists of batches: for
    /// measuring what all else costs.
    pub is_null: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            members: Order::InOrder,
            completions: Order::InOrder,
            faults: Faults::None,
            list_faults: Chance::NEVER,
            retries: Chance::NEVER,
            breakdowns: Chance::NEVER,
            turns_copies: false,
            unused_byte: 0xa5,
            ends_deltas_early: false,
            blurs_offsets: false,
            is_null: false,
        }
    }
}

impl Settings {
    /// A device at its worst: everything in random order, faults of every kind but hardware errors, each answer as
    /// inexact as it may be.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::{Order, Settings};
    /// assert_eq!(Settings::hostile(7).completions, Order::Random);
    /// ```
    #[must_use]
    pub fn hostile(seed: u64) -> Self {
        Self {
            seed,
            members: Order::Random,
            completions: Order::Random,
            faults: Faults::Random(Chance::one_in(3)),
            list_faults: Chance::one_in(32),
            retries: Chance::one_in(4),
            turns_copies: true,
            ends_deltas_early: true,
            blurs_offsets: true,
            ..Self::default()
        }
    }
}

/// An order in which to do things that came one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// As they came.
    InOrder,
    /// The last first.
    Reversed,
    /// Any, by the seed.
    Random,
}

/// Page faults that the model makes up. They go away: the next attempt may succeed.
///
/// An operation that [blocks on faults](crate::dsa::Flags::BLOCK_ON_FAULT) ends with
/// [`PAGE_FAULT_REFUSED`](crate::dsa::RecordStatus::PAGE_FAULT_REFUSED) instead of
/// [`PAGE_FAULT`](crate::dsa::RecordStatus::PAGE_FAULT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Faults {
    /// None.
    None,
    /// So often an operation faults: one of its operands, at an offset that may be zero.
    Random(Chance),
    /// Each operation that has this operand faults there, after so many bytes. Operands have the numbers of
    /// [`FaultInfo::operand`](crate::dsa::FaultInfo::operand).
    At {
        /// The operand.
        operand: u8,
        /// How many bytes are done before; of deltas, bytes of the record for the record, and for what it is applied
        /// to.
        offset: u32,
    },
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chance(u32);

impl Chance {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Each time. Of faults: whoever submits the rest of an operation until it is done may do so for ever.
    pub const ALWAYS: Self = Self(1);

    /// Once in so many times, on average; never if that is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::model::Chance;
    /// assert_eq!(Chance::one_in(1), Chance::ALWAYS);
    /// assert_eq!(Chance::one_in(0), Chance::NEVER);
    /// ```
    #[must_use]
    pub const fn one_in(times: u32) -> Self {
        Self(times)
    }
}

/// Where chances come from: SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below the limit; zero if there is none. The slight bias does not matter.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let limit = limit as u64;
        self.next().checked_rem(limit).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    }

    /// Whether it happens. What never happens changes nothing in what follows.
    pub(super) fn says(&mut self, chance: Chance) -> bool {
        chance.0 != 0 && self.next().is_multiple_of(u64::from(chance.0))
    }

    /// Puts things into this order.
    pub(super) fn arrange<T>(&mut self, order: Order, things: &mut [T]) {
        match order {
            Order::InOrder => {}
            Order::Reversed => things.reverse(),
            // Fisher and Yates.
            Order::Random => {
                for left in (2..=things.len()).rev() {
                    things.swap(left - 1, self.below(left));
                }
            }
        }
    }

    /// One of so many, in this order.
    pub(super) fn pick(&mut self, order: Order, count: usize) -> usize {
        match order {
            Order::InOrder => 0,
            Order::Reversed => count.saturating_sub(1),
            Order::Random => self.below(count),
        }
    }
}
