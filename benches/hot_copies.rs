//! Many copies of one page: what offloading them gains over a loop of `memcpy`, and how the peers fare.
//!
//! | group | memory on each side | where it lies |
//! |---|---|---|
//! | 64 pages | 256 KiB | an L2 cache, of either core |
//! | 4096 pages | 16 MiB | the L3 cache, where it is that large |
//! | 65,536 pages | 256 MiB | memory |
//!
//! The contestants are those of `offload/mod.rs`. Sources and destinations are kept off equal low address bits: at a
//! distance of 256 MiB, and at multiples of 4 KiB, loads and stores of the same copy get into each other's way, for all
//! contestants, but not equally.

mod contest;
mod offload;

use contest::Group;
use offload::{Memory, Work, contestants};

const PAGE: usize = 4096;
const PAGES: [usize; 3] = [64, 4096, 65_536];

fn main() {
    let group = |pages| Group {
        name: format!("{pages} copies of 4 KiB"),
        operations: pages as u64,
        entries: contestants("memcpy loop", Work::new(Memory::new(pages * PAGE), PAGE, None)),
    };
    contest::main("hot_copies", &PAGES.map(group));
}
