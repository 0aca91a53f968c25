//! What a small copy has to wait for beside a large one: parts, counted.
//!
//! On a machine that is busy with something else nearly every small copy is held up by that, and too few are left to
//! judge by. Then the test is skipped, and says so; `MEMRING_REQUIRE=idle` makes that a failure.
#![expect(unsafe_code, reason = "pushes entries, asks the kernel for a count")]

use std::io::{Write, stderr};

use memring::queue::{CompletionQueue, Driver};
use memring::{Sqe, WORKERS};

use super::watchdog::must_end;
use super::{PART, build, huge, noise, same, submit};

/// How often the kernel has taken the processor from this thread.
fn preemptions() -> i64 {
    // SAFETY: zero is a value for each of its fields.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage.ru_nivcsw
}

fn by_the_worker(cq: &CompletionQueue) -> u64 {
    cq.stats().driver(WORKERS, Driver::Thread(0)).map_or(0, |row| row.bytes)
}

/// Small copies to be judged by, and the fewest to be judged by at all.
const ENOUGH: usize = 200;
const FEWEST: usize = 20;
/// Small copies that may be held up, each by a turn of a processor, and large ones.
const MOST_HELD_UP: usize = 200;
const MOST_COPIES: usize = 20;

/// Says, past the harness's capture, that there is nothing to judge by; fails if that was required.
fn skip(samples: usize) {
    let required = std::env::var("MEMRING_REQUIRE").unwrap_or_default();
    let reason = format!("the machine is busy ({samples} of {FEWEST} samples)");
    assert!(!required.split(',').any(|required| required == "idle"), "an idle machine is required: {reason}");
    let _ = writeln!(stderr(), "SKIP 1 of tests/splitting.rs, a_small_copy_waits_for_few_parts: {reason}");
}

/// Samples in which this thread was held up say nothing: the worker went on meanwhile.
#[test]
fn a_small_copy_waits_for_few_parts() {
    must_end(|| {
        let src = noise(huge());
        let mut dst = vec![0; src.len()];
        let mut small = [0_u8; 64];
        let (mut sq, mut cq) = build(1);
        let (mut waits, mut held_up) = (Vec::new(), 0);
        for _ in 0..MOST_COPIES {
            if waits.len() >= ENOUGH || held_up >= MOST_HELD_UP {
                break;
            }
            dst.fill(0);
            // SAFETY: the buffers are not touched until the completion was reaped.
            unsafe { submit(&mut sq, &[Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), src.len()).user_data(1)]) };
            let mut is_done = false;
            while !is_done && held_up < MOST_HELD_UP {
                let (turns, before) = (preemptions(), by_the_worker(&cq));
                // SAFETY: as above.
                unsafe { submit(&mut sq, &[Sqe::memcpy(small.as_mut_ptr(), src.as_ptr(), 64)]) };
                let mut is_small_done = false;
                while !is_small_done {
                    for cqe in cq.drain() {
                        is_done |= cqe.user_data() == 1;
                        is_small_done |= cqe.user_data() == 0;
                    }
                }
                let parts = (by_the_worker(&cq) - before) / PART as u64;
                if preemptions() == turns {
                    waits.push(parts);
                } else {
                    held_up += 1;
                }
            }
            while !is_done {
                assert_eq!(cq.wait(1, None), Ok(1));
                is_done = cq.drain().any(|cqe| cqe.user_data() == 1);
            }
            same(&dst, &src, "the large copy");
            same(&small, &src[..64], "the small copy");
        }
        if waits.len() < FEWEST {
            return skip(waits.len());
        }
        let long = waits.iter().filter(|&&parts| parts > 5).count();
        assert!(long <= 1 + waits.len() / 100, "{long} of {} small copies wait for more than 5 parts", waits.len());
    });
}
