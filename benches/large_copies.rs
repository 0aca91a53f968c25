//! One large operation: a copy of 64 MiB, a set of as much to ones, and one to zeros.
//!
//! libc does it on one thread; the peers of `offload/mod.rs` get it in halves. The figures are per 4 KiB, so that they
//! compare with those of `hot_copies`. Memory and caches are as there; no cache holds it.

mod contest;
mod offload;

use contest::Group;
use offload::{Memory, Work, contestants};

const LEN: usize = 64 << 20;
const PAGE: usize = 4096;

fn main() {
    let memory = Memory::new(LEN);
    let group = |name, first, work| Group {
        name: format!("one {name} of 64 MiB, per 4 KiB"),
        operations: (LEN / PAGE) as u64,
        entries: contestants(first, work),
    };
    let groups = [
        group("copy", "libc memcpy", Work::new(memory, LEN, None)),
        group("set to ones", "libc memset", Work::new(memory, LEN, Some(1))),
        group("set to zeros", "libc memset", Work::new(memory, LEN, Some(0))),
    ];
    contest::main("large_copies", &groups);
}
