//! memring's own path to hardware, as it is on a machine that has some: discovery, the mapped portal and its
//! instructions, polling, resumed page faults, forks, a queue that goes away.
#![expect(unsafe_code, reason = "pushes entries whose memory the test keeps")]

use std::time::Duration;

use memring::Sqe;
use memring::dsa::{
    CompletionRecord, Descriptor, Dsa, Flags, Mode, Operation, Portal, QueueState, Roots, Stopped, Way, open,
};
use memring::queue::{Drive, MoverStats, QueuePair};

use super::child::in_child;
use super::outside::{counted, passes};
use super::portal::queue;

/// Entries of a round, and rounds.
const ENTRIES: usize = 96;
const ROUNDS: usize = 40;
/// What an entry works on, bytes.
const PLACE: usize = 12 << 10;

/// A number that is hard to foresee.
fn number(seed: usize) -> usize {
    let word = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40).unwrap()
}

/// Copies, moves over the source, and sets, of any length, through a queue pair; each byte is looked at.
fn works(dsa: Dsa, rounds: usize) -> MoverStats {
    let pair = QueuePair::builder().entries(128).mover("dsa", Drive::Threads(1), move || dsa.mover()).build().unwrap();
    let to_dsa = pair.mover("dsa").unwrap();
    let (mut sq, mut cq) = pair.split();
    let src: Vec<u8> = (0..ENTRIES * PLACE).map(|at| number(at / 7).to_le_bytes()[0]).collect();
    for round in 0..rounds {
        let mut dst: Vec<u8> = src.iter().map(|byte| byte.wrapping_add(1)).collect();
        let mut expected = dst.clone();
        let mut sqes = Vec::new();
        for (index, place) in (0..dst.len()).step_by(PLACE).enumerate() {
            let (kind, len) = (number(round * ENTRIES + index), number(round + 7 * index) % (PLACE / 2) + 1);
            let to = dst[place..][..PLACE].as_mut_ptr();
            let wanted = &mut expected[place..][..PLACE];
            sqes.push(match kind % 3 {
                0 => {
                    wanted[..len].copy_from_slice(&src[place..][..len]);
                    Sqe::memcpy(to, src[place..].as_ptr(), len)
                }
                1 => {
                    let by = kind % 1000;
                    wanted.copy_within(..len, by);
                    Sqe::memmove(to.wrapping_add(by), to, len)
                }
                _ => {
                    let value = kind.to_le_bytes()[1];
                    wanted[..len].fill(value);
                    Sqe::memset(to, value, len)
                }
            });
        }
        let sqes: Vec<Sqe> = sqes.into_iter().map(|sqe| sqe.on(to_dsa)).collect();
        // SAFETY: all of it outlives the round, and nobody uses it until all have been reaped.
        unsafe { sq.push_batch(&sqes) }.unwrap();
        sq.submit();
        let mut reaped = 0;
        while reaped < ENTRIES {
            cq.wait(1, None).unwrap();
            for cqe in cq.drain() {
                assert!(cqe.status().is_success(), "round {round}: {cqe:?}");
                reaped += 1;
            }
        }
        assert!(dst == expected, "round {round}");
    }
    cq.stats().mover(to_dsa)
}

fn opened() -> Dsa {
    Dsa::open(&Roots::from_env()).unwrap()
}

#[test]
fn does_all_by_instructions() {
    for (options, instruction, other) in [(&["--stats"][..], "ENQCMD", "MOVDIR64B"), (DEDICATED, "MOVDIR64B", "ENQCMD")]
    {
        let Some(said) = passes(options, "ours::works_inside") else { return };
        assert!(said.contains(&format!(" 0 by {other}")) && said.contains("0 by write"), "{said}");
        assert!(!said.contains(&format!(" 0 by {instruction}")), "{said}");
        assert!(counted(&said, "BATCH") > 0 && counted(&said, "portals mapped") == 2, "{said}");
        assert_eq!(counted(&said, "dropped without a word"), 0, "{said}");
    }
}

const DEDICATED: &[&str] = &["--stats", "--mode", "dedicated"];

#[test]
#[ignore = "runs under memring emulate"]
fn works_inside() {
    assert_eq!(open(&queue(), Way::from_env()).unwrap().way, Way::Mmap);
    let stats = works(opened(), ROUNDS);
    assert_eq!((stats.operations, stats.fallbacks), ((ENTRIES * ROUNDS) as u64, 0));
}

/// A queue of two entries is full all the time, and with faults now and then it only says so.
#[test]
fn asks_full_queues_again() {
    for options in [&["--stats", "--entries", "1"][..], &["--stats", "--faults", "3"]] {
        let Some(said) = passes(options, "ours::bears_inside") else { return };
        assert!(counted(&said, "refusals (ZF = 1)") > 0, "{said}");
    }
    let Some(said) = passes(&["--stats", "--entries", "1", "--mode", "dedicated"], "ours::bears_inside") else {
        return;
    };
    assert_eq!(counted(&said, "dropped without a word"), 0, "{said}");
}

#[test]
fn resumes_page_faults() {
    for place in ["first", "page", "byte"] {
        for mode in ["shared", "dedicated"] {
            let options = ["--stats", "--mode", mode, "--faults", "11", "--fault-at", place];
            let Some(said) = passes(&options, "ours::bears_inside") else { return };
            assert!(counted(&said, "PAGE_FAULT (0x03)") > 0, "{said}");
        }
    }
}

/// What presets lack goes another way.
#[test]
fn works_with_every_preset_and_by_write() {
    for preset in ["v1-early", "v1", "v2-sierra-forest", "v2"] {
        for more in [&[][..], &["--no-mmap"]] {
            let options = [&["--stats", "--preset", preset][..], more].concat();
            let Some(said) = passes(&options, "ours::bears_inside") else { return };
            let by_write = said.contains(" 0 by ENQCMD") && !said.contains(" 0 by write");
            assert_eq!(by_write, !more.is_empty(), "{said}");
            let batches = counted(&said, "BATCH") > 0;
            assert_eq!(batches, preset.starts_with("v2") || (preset == "v1-early" && !by_write), "{said}");
            assert_eq!(counted(&said, "BAD_OPCODE (0x10)"), 0, "{said}");
        }
    }
}

#[test]
#[ignore = "runs under memring emulate"]
fn bears_inside() {
    works(opened(), ROUNDS / 4);
}

#[test]
fn is_safe_with_forks() {
    passes(&[], "ours::forks_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn forks_inside() {
    let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0);
    let mut ours = open(&queue(), Way::Mmap).unwrap().portal;
    // SAFETY: it names no memory.
    let submit = |portal: &mut dyn Portal| unsafe { portal.submit(&[nop]) };
    assert_eq!(submit(&mut *ours).accepted, 1);
    in_child(|| {
        assert_eq!(submit(&mut *ours).stopped, Some(Stopped::Forked));
        // What a child opens is its own.
        let stats = works(opened(), 2);
        assert_eq!((stats.operations, stats.fallbacks), ((ENTRIES * 2) as u64, 0));
    });
    assert_eq!(submit(&mut *ours).accepted, 1);
    let dsa = opened();
    let copy = dsa.clone();
    assert_eq!(works(dsa, 2).fallbacks, 0);
    in_child(|| {
        // Nothing of the parent's is waited for.
        drop(copy);
    });
}

#[test]
fn loses_nothing_with_its_queue() {
    for mode in ["shared", "dedicated"] {
        let options = ["--stats", "--mode", mode, "--disable-after", "20"];
        let Some(said) = passes(&options, "ours::taken_away_inside") else { return };
        assert!(said.contains("the queue was taken away") && said.contains(" 20 descriptors"), "{said}");
    }
}

#[test]
#[ignore = "runs under memring emulate"]
fn taken_away_inside() {
    let mode = queue().capabilities.mode;
    let dsa = opened().time_limit(Duration::from_millis(200));
    let view = dsa.clone();
    // Every byte is right, though the device is gone after the first few.
    let stats = works_as_far_as_possible(dsa);
    assert!(stats.fallbacks > 0, "{stats:?}");
    if mode == Mode::Dedicated {
        // What it was sent has vanished, and nobody was told; so it is given up.
        assert!(view.queues().all(|(_, state)| state == QueueState::GivenUp), "{view:?}");
    }
    let found = memring::dsa::discover(&Roots::from_env());
    assert!(found.usable.is_empty() && found.unusable[0].to_string().contains("disabled"), "{found:?}");
}

/// Copies only: what a device has that was given up, and is a copy over its own source, is reported as corrupted.
fn works_as_far_as_possible(dsa: Dsa) -> MoverStats {
    let pair = QueuePair::builder().entries(128).mover("dsa", Drive::Threads(1), move || dsa.mover()).build().unwrap();
    let to_dsa = pair.mover("dsa").unwrap();
    let (mut sq, mut cq) = pair.split();
    let src: Vec<u8> = (0..ENTRIES * PLACE).map(|at| number(at / 5).to_le_bytes()[0]).collect();
    for _ in 0..ROUNDS {
        let mut dst = vec![0; src.len()];
        let copy = |(to, from): (&mut [u8], &[u8])| Sqe::memcpy(to.as_mut_ptr(), from.as_ptr(), from.len()).on(to_dsa);
        let sqes: Vec<Sqe> = dst.chunks_mut(PLACE).zip(src.chunks(PLACE)).map(copy).collect();
        // SAFETY: all of it outlives the round, and nobody uses it until all have been reaped.
        unsafe { sq.push_batch(&sqes) }.unwrap();
        sq.submit();
        let mut reaped = 0;
        while reaped < ENTRIES {
            cq.wait(1, None).unwrap();
            reaped += cq.drain().inspect(|cqe| assert!(cqe.status().is_success(), "{cqe:?}")).count();
        }
        assert!(dst == src);
    }
    cq.stats().mover(to_dsa)
}

/// The record of a descriptor that was submitted by memring's portal, polled as the mover does.
#[test]
fn polls_records() {
    passes(&["--faults", "5"], "ours::polls_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn polls_inside() {
    let mut portal = open(&queue(), Way::Mmap).unwrap().portal;
    for _ in 0..1000 {
        let record = CompletionRecord::new();
        let nop = Descriptor::new(&Operation::Nop, Flags::RECORD, (&raw const record).expose_provenance() as u64);
        // SAFETY: the record outlives the descriptor: it is waited for.
        while unsafe { portal.submit(&[nop]) }.accepted == 0 {}
        while record.status().is_pending() {
            std::hint::spin_loop();
        }
        portal.completed(1);
        assert!(record.status().is_success());
    }
}
