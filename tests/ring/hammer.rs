//! No wake is lost: many operations by many tasks and threads, spurious polls, wakers that change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use futures_util::stream::{FuturesUnordered, StreamExt};
use memring::future::Memset;
use memring::{Operation, Ring};

use crate::random::{Random, seed};
use crate::setup::{SETUPS, Setup};
use crate::wakers::{Wakes, poll_with, run};
use crate::watchdog::must_end;

/// How many operations in each drive: a sample, or with `MEMRING_STRESS=full` enough to be sure.
fn operations() -> usize {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 1_000_000 } else { 16_000 }
}

const THREADS: usize = 4;
/// Enough not to be inline, bytes.
const LEN: usize = 520;

type Set = Operation<Memset<Vec<u8>>>;

/// Operations of one thread, each with the waker that it was last given.
fn waits_for_each(ring: &Ring, random: &mut Random, count: usize) {
    let mut under_way: VecDeque<(Set, Arc<Wakes>)> = VecDeque::new();
    let (mut pages, mut begun) = (vec![vec![0; LEN]; 8], 0);
    while begun < count || !under_way.is_empty() {
        if begun < count
            && let Some(page) = pages.pop()
        {
            begun += 1;
            let mut set = ring.memset(page, u8::try_from(begun % 256).expect("it is less"));
            // Polled again and again, each time with another waker: only the last one counts.
            loop {
                let (wakes, waker) = Wakes::new();
                match poll_with(&mut set, &waker) {
                    Poll::Ready(page) => {
                        pages.push(page.unwrap());
                        break;
                    }
                    Poll::Pending if random.below(3) > 0 => {
                        under_way.push_back((set, wakes));
                        break;
                    }
                    Poll::Pending => {}
                }
            }
            continue;
        }
        let Some((mut set, mut wakes)) = under_way.remove(random.below(under_way.len())) else { continue };
        loop {
            // Asleep until woken: a lost wake ends here, for ever.
            wakes.wait_for_more(0);
            let (newer, waker) = Wakes::new();
            wakes = newer;
            if let Poll::Ready(page) = poll_with(&mut set, &waker) {
                pages.push(page.unwrap());
                break;
            }
        }
    }
}

/// A thread of tasks, woken by themselves alone.
fn tasks(ring: &Ring, count: usize) {
    let task = |number: usize| async move {
        let mut page = vec![0; LEN];
        for round in 0..count / 16 {
            let value = u8::try_from((number + round) % 256).expect("it is less");
            page = ring.memset(page, value).await.unwrap();
            assert!(page[0] == value && page[LEN - 1] == value);
        }
    };
    run((0..16).map(task).collect::<FuturesUnordered<_>>().collect::<Vec<()>>());
}

fn hammers((name, builder): Setup, seed: u64) {
    eprintln!("{name}");
    for entries in [4, 64] {
        let ring = builder().entries(entries).inline_max(0).build().unwrap();
        let each = operations() / THREADS / 2;
        thread::scope(|threads| {
            for thread in 0..THREADS {
                let (ring, mut random) = (&ring, Random::new(seed + thread as u64));
                threads.spawn(move || match thread {
                    0 | 1 => waits_for_each(ring, &mut random, each),
                    2 => tasks(ring, each),
                    _ => {
                        let mut page = vec![0; LEN];
                        for _ in 0..each {
                            page = ring.block_on(ring.memset(page, 1)).unwrap().unwrap();
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn no_wake_is_lost() {
    let seed = seed();
    eprintln!("MEMRING_SEED={seed}");
    for setup in SETUPS {
        // Each under the watchdog's limit by itself.
        must_end(move || hammers(setup, seed));
    }
}

/// One waker for all: it is woken at least once for what has completed since it was last looked at.
#[test]
fn one_waker_for_many_is_woken_for_the_last_one_too() {
    must_end(|| {
        for (name, builder) in SETUPS {
            let ring = builder().entries(16).inline_max(0).build().unwrap();
            for _ in 0..operations() / 1000 {
                let (wakes, waker) = Wakes::new();
                let mut sets: Vec<_> = (0..64).map(|value| ring.memset(vec![0; LEN], value)).collect();
                let mut seen = 0;
                loop {
                    sets.retain_mut(|set| poll_with(set, &waker).is_pending());
                    if sets.is_empty() {
                        break;
                    }
                    seen = wakes.wait_for_more(seen);
                }
            }
            eprintln!("{name}");
        }
    });
}
