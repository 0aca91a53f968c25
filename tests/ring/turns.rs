//! Which poll drives, where polls do: one budget in a round of the executor, and nobody waits for who is not polled.

use memring::future::Memset;
use memring::{Operation, Ring, State, WORKERS};

use crate::wakers::poll;
use crate::watchdog::must_end;

/// What one poll drives, bytes.
const BUDGET: usize = 4096;
/// The parts that each operation takes.
const PARTS: usize = 8;

type Set = Operation<Memset<Vec<u8>>>;

fn ring() -> Ring {
    Ring::builder().workers(0).poll_budget(BUDGET).entries(256).build().unwrap()
}

/// Operations of several budgets each, which have begun.
fn begun(ring: &Ring, count: usize) -> Vec<Set> {
    (0..count).map(|_| ring.memset(vec![0; PARTS * BUDGET], 1).try_start().unwrap()).collect()
}

/// Polls each once, as an executor does with its tasks; the bytes done meanwhile, and whether all are complete.
fn round(ring: &Ring, sets: &mut [Set]) -> (usize, bool) {
    let before = ring.stats().mover(WORKERS).bytes;
    for set in &mut *sets {
        if set.state() == State::Running {
            // One that is complete gives its buffer, which nobody wants here.
            let _ = poll(set);
        }
    }
    let bytes = ring.stats().mover(WORKERS).bytes - before;
    (usize::try_from(bytes).unwrap(), sets.iter().all(|set| set.state() == State::Complete))
}

#[test]
fn a_round_of_polls_drives_one_budget() {
    must_end(|| {
        for count in [1, 2, 8, 16] {
            let ring = ring();
            let mut sets = begun(&ring, count);
            let mut bytes = round(&ring, &mut sets).0;
            assert!((1..=count * BUDGET).contains(&bytes), "{count} tasks: the first poll of each drives");
            let mut idle = 0;
            loop {
                let (done, is_over) = round(&ring, &mut sets);
                assert!(done <= BUDGET, "{count} tasks: {done} bytes in a round");
                bytes += done;
                if is_over {
                    break;
                }
                // If who drove last in a round has its end, all others have seen that turn only in the next one.
                idle = if done > 0 || bytes == count * PARTS * BUDGET { 0 } else { idle + 1 };
                assert!(idle <= 1, "{count} tasks: {idle} rounds without a turn");
            }
            assert_eq!(bytes, count * PARTS * BUDGET);
        }
    });
}

#[test]
fn of_many_polls_some_drive() {
    must_end(|| {
        let ring = ring();
        let mut sets = begun(&ring, 128);
        round(&ring, &mut sets);
        let mut most = 0;
        loop {
            let (done, is_over) = round(&ring, &mut sets);
            most = most.max(done);
            if is_over {
                break;
            }
        }
        let about = 128 / 16;
        let allowed = (about - 2) * BUDGET..=(about + 1) * BUDGET;
        assert!(allowed.contains(&most), "{most} bytes in a round of 128");
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "that it is harmless is what is tested")]
fn nobody_waits_for_who_is_not_polled_any_more() {
    must_end(|| {
        for what in ["kept", "forgotten", "dropped"] {
            let ring = ring();
            let mut sets = begun(&ring, 3);
            // From now on it is the first one's turn.
            assert!(poll(&mut sets[0]).is_pending());
            let first = sets.remove(0);
            let kept = match what {
                "kept" => Some(first),
                "forgotten" => {
                    std::mem::forget(first);
                    None
                }
                _ => {
                    drop(first);
                    None
                }
            };
            let mut rounds = 0;
            while !round(&ring, &mut sets).1 {
                rounds += 1;
                assert!(rounds < 20 * PARTS, "{what}: the others do not get on");
            }
            drop(kept);
            if what == "forgotten" {
                // It holds its ring, which is not waited for.
                std::mem::forget(ring);
            }
        }
    });
}

#[test]
fn the_first_poll_of_an_operation_drives() {
    must_end(|| {
        let ring = ring();
        let mut sets = begun(&ring, 8);
        for polled in 1..=8 {
            let before = ring.stats().mover(WORKERS).bytes;
            assert!(poll(&mut sets[polled - 1]).is_pending());
            assert!(ring.stats().mover(WORKERS).bytes > before, "the poll of number {polled}");
        }
    });
}
