//! What a small copy has to wait for beside a large one: parts, counted.
#![expect(unsafe_code, reason = "pushes entries, asks the kernel for a count")]

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

/// Samples in which this thread was held up say nothing: the worker went on meanwhile.
#[test]
fn a_small_copy_waits_for_few_parts() {
    must_end(|| {
        let src = noise(huge());
        let mut dst = vec![0; src.len()];
        let mut small = [0_u8; 64];
        let (mut sq, mut cq) = build(1);
        let mut waits = Vec::new();
        let enough = if src.len() > 64 << 20 { 1000 } else { 200 };
        for _ in 0..100 {
            dst.fill(0);
            // SAFETY: the buffers are not touched until the completion was reaped.
            unsafe { submit(&mut sq, &[Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), src.len()).user_data(1)]) };
            let mut is_done = false;
            while !is_done {
                let (held_up, before) = (preemptions(), by_the_worker(&cq));
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
                if preemptions() == held_up {
                    waits.push(parts);
                }
            }
            same(&dst, &src, "the large copy");
            same(&small, &src[..64], "the small copy");
            if waits.len() >= enough {
                break;
            }
        }
        waits.sort_unstable();
        let most = waits[waits.len() * 99 / 100];
        assert!(most <= 5, "of {} small copies one in a hundred waits for {most} parts or more", waits.len());
    });
}
