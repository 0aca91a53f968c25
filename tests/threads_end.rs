//! Goal: a ring's threads end with it, drivers and the one that reaps.
//!
//! Method: rings come and go, in a process of its own, and the kernel says which threads are left.
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]

#[path = "support/watchdog.rs"]
mod watchdog;

use std::fs;

use memring::{Ring, RingBuilder};

/// The names of the threads of rings that there are.
fn threads() -> Vec<String> {
    let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // A thread that ends meanwhile has no name any more.
        fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("memring")).collect()
}

#[test]
fn the_threads_of_rings_end_with_them() {
    let builders: [fn() -> RingBuilder; 3] = [
        || Ring::builder().workers(2),
        || Ring::builder().workers(1).reaper_thread(),
        || Ring::builder().workers(0).reaper_thread(),
    ];
    watchdog::must_end(move || {
        for builder in builders {
            for round in 0..100 {
                let ring = builder().build().unwrap();
                let set = ring.memset(vec![0; 100_000], 1).try_start().unwrap();
                if round % 2 == 0 {
                    ring.block_on(set).unwrap().unwrap();
                } else {
                    drop((ring, set));
                }
            }
            while !threads().is_empty() {
                std::thread::yield_now();
            }
        }
    });
}
