//! Pseudo-random numbers that a failing test can repeat: `MEMRING_SEED=<seed>` sets the seed.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
pub(crate) struct Random(u64);

impl Random {
    /// Begins at this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not zero. The slight bias does not matter to tests.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }
}

/// The seed to begin at: the one asked for, or another one in each run.
pub(crate) fn seed() -> u64 {
    match std::env::var("MEMRING_SEED") {
        Ok(seed) => seed.parse().expect("MEMRING_SEED is a decimal u64"),
        Err(_) => RandomState::new().hash_one(0),
    }
}
