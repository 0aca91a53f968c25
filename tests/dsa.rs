//! Goal: what goes to a DSA device, what comes back, and what its operations do to memory, is what the specification
//! and Linux say, byte for byte.
//!
//! Method: facts from elsewhere lie in `dsa/`, each file with its source: whole descriptors, sums, the layout that
//! `linux/idxd.h` has. Fields are found by flipping bits and seeing who changes. Random bytes and random operations
//! show that nothing panics and nothing is lost; `MEMRING_SEED` repeats a run.
//!
//! Where gcc and the header are installed, the layout is asked of them too; else that is skipped, aloud, unless
//! `MEMRING_REQUIRE` has `idxd`.

#[path = "dsa/copies.rs"]
mod copies;
#[path = "dsa/deltas.rs"]
mod deltas;
#[path = "dsa/descriptors.rs"]
mod descriptors;
#[path = "dsa/layout.rs"]
mod layout;
#[path = "support/random.rs"]
mod random;
#[path = "dsa/records.rs"]
mod records;
#[path = "dsa/rests.rs"]
mod rests;
#[path = "dsa/rules.rs"]
mod rules;
#[path = "support/skip.rs"]
mod skip;
#[path = "dsa/sums.rs"]
mod sums;

/// The lines of a file of facts, without comments.
fn facts(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

/// A number in hexadecimal, with its prefix.
fn hex(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").unwrap_or_else(|| panic!("{text:?} has no prefix"));
    u64::from_str_radix(digits, 16).unwrap_or_else(|why| panic!("{text:?}: {why}"))
}

/// Random bytes.
fn bytes<const N: usize>(random: &mut random::Random) -> [u8; N] {
    core::array::from_fn(|_| random.next().to_le_bytes()[0])
}
