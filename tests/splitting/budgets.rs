//! Poll budgets: what one `drain` does, counted.
#![expect(unsafe_code, reason = "pushes entries")]

use memring::queue::{CompletionQueue, QueuePair, SubmissionQueue};
use memring::{Sqe, WORKERS};

use super::random::{Random, seed};
use super::watchdog::must_end;
use super::{LONG, PART, huge, noise, same, submit};

/// A budget makes no part shorter than this.
const LEAST: usize = 4096;

fn build(budget: usize) -> (SubmissionQueue, CompletionQueue) {
    QueuePair::builder().entries(64).workers(0).poll_budget(budget).build().expect("a queue").split()
}

/// Drains once; how many completions came, and how many bytes were done meanwhile.
fn drain(cq: &mut CompletionQueue, budget: usize) -> (usize, usize) {
    let done = |cq: &CompletionQueue| usize::try_from(cq.stats().mover(WORKERS).bytes).expect("a count of bytes");
    let before = done(cq);
    let completions = cq.drain().count();
    let bytes = done(cq) - before;
    assert!(bytes <= budget.max(LEAST), "{bytes} bytes in a drain with a budget of {budget}");
    (completions, bytes)
}

/// Every drain goes on where the last one stopped, does at least half of what it may, and never more.
#[test]
fn a_long_copy_goes_on_where_it_was() {
    must_end(|| {
        for (budget, len) in
            [(PART, huge()), (1, LONG), (4095, LONG), (4097, LONG), (100_000, LONG), (1 << 20, 16 << 20)]
        {
            let src = noise(len);
            let mut dst = vec![0_u8; len + 100];
            let to = dst.as_mut_ptr().wrapping_add(100);
            let (mut sq, mut cq) = build(budget);
            // SAFETY: the source is only read; the destination is looked at between drains, when nobody copies.
            unsafe { submit(&mut sq, &[Sqe::memcpy(to, src.as_ptr(), len)]) };
            let mut done = 0;
            loop {
                let (completions, bytes) = drain(&mut cq, budget);
                assert!(bytes >= budget.min(PART) / 2 || done + bytes == len, "{bytes} with a budget of {budget}");
                // SAFETY: no drain is under way, so nobody else touches the buffer.
                let found = unsafe { std::slice::from_raw_parts(to.wrapping_add(done), (len - done).min(bytes + 64)) };
                same(&found[..bytes], &src[done..done + bytes], "what this drain has copied");
                same(&found[bytes..], &vec![0; found.len() - bytes], "what it has not counted");
                done += bytes;
                assert_eq!((completions, cq.in_flight()), (usize::from(done == len), u64::from(done < len)));
                if done == len {
                    break;
                }
            }
            assert_eq!(cq.stats().mover(WORKERS).operations, 1);
        }
    });
}

/// Operations of all lengths, one behind the other: the budget holds, and is not wasted.
#[test]
fn a_mixture_keeps_to_the_budget() {
    must_end(|| {
        for budget in [1, 4095, 4097, 100_000, PART, 3 * PART] {
            let mut random = Random::new(seed());
            let before = noise(2 * LONG);
            let (mut bytes, mut expected) = (before.clone(), before.clone());
            let (mut sq, mut cq) = build(budget);
            let at = bytes.as_mut_ptr();
            let (mut batch, mut total) = (Vec::new(), 0);
            for _ in 0..30 {
                let most = [64, 5000, PART, LONG][random.below(4)];
                let len = random.below(most);
                let (to, from) = (random.below(2 * LONG - len), random.below(2 * LONG - len));
                expected.copy_within(from..from + len, to);
                batch.push(Sqe::memmove(at.wrapping_add(to), at.wrapping_add(from), len).link());
                total += len;
            }
            // SAFETY: the entries are linked, and nobody else touches the buffer.
            unsafe { submit(&mut sq, &batch) };
            let (mut drains, mut reaped, mut done) = (0, 0, 0);
            while reaped < batch.len() {
                let (completions, bytes) = drain(&mut cq, budget);
                drains += 1;
                reaped += completions;
                done += bytes;
            }
            same(&bytes, &expected, "the moves");
            assert_eq!(done, total);
            // Each link costs a poll, and what is left of a budget may be too little for a part.
            let enough = total / (budget.clamp(LEAST, PART) / 2) + 2 * batch.len();
            assert!(drains <= enough, "{drains} drains for {total} bytes with a budget of {budget}");
        }
    });
}
