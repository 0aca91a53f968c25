//! Chains: as one batch with fences, as far as that is what the links say.
#![expect(unsafe_code, reason = "pushes entries whose memory the test keeps")]

use memring::dsa::model::{Chance, Faults, Order};
use memring::dsa::{DsaOpcode, Flags, OnFault, Operation};
use memring::{Sqe, Status};

use super::device::{Entry, Plan, has};
use super::rig::{DONE, Rig, noise};

const CANCELLED: (Status, u32) = (Status::CANCELLED, 0);

/// Copies from each place to the next one, linked: the bytes arrive only if they go in order.
fn relay(bytes: &mut [u8], len: usize) -> Vec<Sqe> {
    let (start, last) = (bytes.as_mut_ptr(), bytes.len() / len - 1);
    let copy = |at: usize| Sqe::memcpy(start.wrapping_add((at + 1) * len), start.wrapping_add(at * len), len);
    (0..last).map(|at| if at + 1 < last { copy(at).link() } else { copy(at) }).collect()
}

fn has_arrived(bytes: &[u8], len: usize) -> bool {
    bytes.chunks(len).all(|place| place == &bytes[..len])
}

#[test]
fn a_chain_is_a_batch_of_its_own_with_fences() {
    let mut bytes = noise(64 * 11);
    let mut other = [0_u8; 64];
    // Members of a batch would run in reverse, but for the fences.
    let mut rig = Rig::of(&Plan::default().set(|settings| settings.members = Order::Reversed));
    let mut sqes = relay(&mut bytes, 64);
    sqes.push(Sqe::memset(other.as_mut_ptr(), 9, 32));
    sqes.push(Sqe::memset(other[32..].as_mut_ptr(), 9, 32));
    assert_eq!(rig.run(&sqes), [DONE; 12]);
    let entries = rig.device().take();
    let [Entry::Batch(chain), Entry::Batch(others)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((chain.len(), others.len()), (10, 2));
    assert!(!has(&chain[0], Flags::FENCE) && chain[1..].iter().all(|member| has(member, Flags::FENCE)));
    assert!(others.iter().all(|member| !has(member, Flags::FENCE)));
    assert!(has_arrived(&bytes, 64) && other == [9; 64]);
}

#[test]
fn a_longer_chain_goes_on_behind_the_batch() {
    let mut bytes = noise(64 * 101);
    let mut rig = Rig::of(&Plan::default().set(|settings| settings.members = Order::Reversed));
    assert_eq!(rig.run(&relay(&mut bytes, 64)), [DONE; 100]);
    let lengths: Vec<usize> = rig.device().take().iter().map(|entry| entry.members().len()).collect();
    assert_eq!(lengths, [32, 32, 32, 4]);
    assert!(has_arrived(&bytes, 64));
}

#[test]
fn hard_links_go_one_by_one() {
    let mut bytes = noise(64 * 5);
    let mut rig = Rig::of(&Plan::default());
    let sqes: Vec<Sqe> = relay(&mut bytes, 64);
    let hard: Vec<Sqe> =
        sqes.iter().map(|sqe| if sqe.sqe_flags().bits() == 0 { *sqe } else { sqe.hard_link() }).collect();
    assert_eq!(rig.run(&hard), [DONE; 4]);
    // LINK with HARD_LINK is HARD_LINK.
    assert_eq!(rig.device().take().iter().map(|entry| entry.members().len()).collect::<Vec<_>>(), [1; 4]);
    assert!(has_arrived(&bytes, 64));
}

#[test]
fn where_there_are_no_batches_a_chain_goes_one_by_one() {
    let mut bytes = noise(64 * 5);
    let mut rig = Rig::of(&Plan { passes_batch: false, ..Plan::default() });
    assert_eq!(rig.run(&relay(&mut bytes, 64)), [DONE; 4]);
    assert_eq!(rig.device().take().len(), 4);
    assert!(has_arrived(&bytes, 64));
    // It is refused only when it is tried.
    let mut bytes = noise(64 * 5);
    let plan = Plan { told: Some(Plan::default().device), ..Plan::default() }.without(DsaOpcode::BATCH);
    let mut rig = Rig::of(&plan);
    assert_eq!(rig.run(&relay(&mut bytes, 64)), [DONE; 4]);
    assert_eq!(rig.device().take().len(), 5);
    assert!(has_arrived(&bytes, 64));
}

/// A chain of four sets whose third is on memory that is not there.
fn broken_chain(dst: &mut [u8]) -> [Sqe; 4] {
    let nowhere = std::ptr::without_provenance_mut(64);
    let set = |at: usize, dst: &mut [u8]| Sqe::memset(dst[at..].as_mut_ptr(), 5, 16);
    [set(0, dst).link(), set(16, dst).link(), Sqe::memset(nowhere, 5, 16).link(), set(32, dst)]
}

#[test]
fn what_is_behind_a_failure_is_cancelled() {
    for on_fault in [OnFault::Fail, OnFault::Resume, OnFault::Cpu] {
        let mut dst = vec![0_u8; 48];
        let mut rig = Rig::on_fault(&Plan::default(), on_fault);
        assert_eq!(rig.run(&broken_chain(&mut dst)), [DONE, DONE, (Status::FAULT, 0), CANCELLED]);
        assert_eq!((&dst[..32], &dst[32..]), (&[5; 32][..], &[0; 16][..]));
    }
}

#[test]
fn a_hard_link_behind_a_cancelled_one_is_cancelled_too() {
    let mut dst = vec![0_u8; 64];
    let mut rig = Rig::on_fault(&Plan::default(), OnFault::Fail);
    let nowhere = std::ptr::without_provenance_mut(64);
    let start = dst.as_mut_ptr();
    let set = |at| Sqe::memset(start.wrapping_add(at), 5, 16);
    // The second is taken along with the first, and would let the third go.
    let ends = rig.run(&[Sqe::memset(nowhere, 5, 16).link(), set(0).hard_link(), set(16)]);
    assert_eq!(ends, [(Status::FAULT, 0), CANCELLED, CANCELLED]);
    // What fails by itself is as its own link says.
    let ends = rig.run(&[set(32).link(), Sqe::memset(nowhere, 5, 16).hard_link(), set(48)]);
    assert_eq!(ends, [DONE, (Status::FAULT, 0), DONE]);
    assert_eq!((&dst[..32], &dst[32..]), (&[0; 32][..], &[5; 32][..]));
}

#[test]
fn members_that_a_fault_had_abandoned_go_again() {
    let mut bytes = noise(4096 * 20);
    for seed in 0..50 {
        let plan = Plan::default().set(|settings| {
            settings.seed = seed;
            settings.faults = Faults::Random(Chance::one_in(4));
            settings.list_faults = Chance::one_in(10);
            settings.turns_copies = true;
            settings.members = Order::Random;
        });
        let mut rig = Rig::of(&plan);
        bytes[..4096].copy_from_slice(&noise(4096 + usize::try_from(seed).unwrap())[usize::try_from(seed).unwrap()..]);
        assert_eq!(rig.run(&relay(&mut bytes, 4096)), [DONE; 19]);
        assert!(has_arrived(&bytes, 4096), "seed {seed}");
    }
}

#[test]
fn a_chain_across_movers_goes_back_and_forth() {
    let mut bytes = noise(64 * 10);
    let mut rig = Rig::of(&Plan::default());
    let mover = rig.mover;
    let mut sqes = relay(&mut bytes, 64);
    for (number, sqe) in sqes.iter_mut().enumerate() {
        let mover = if number % 4 == 3 { memring::WORKERS } else { mover };
        *sqe = sqe.on(mover).user_data(number as u64);
    }
    // SAFETY: the bytes outlive the rig's operations.
    unsafe { rig.sq.push_batch(&sqes) }.unwrap();
    rig.sq.submit();
    assert_eq!(rig.finish(9), [DONE; 9]);
    let lengths: Vec<usize> = rig.device().take().iter().map(|entry| entry.members().len()).collect();
    assert_eq!(lengths, [3, 3, 1]);
    assert!(has_arrived(&bytes, 64));
}

#[test]
fn a_member_that_is_cancelled_before_its_turn_is_not_sent() {
    let mut bytes = noise(64 * 4);
    let mut rig = Rig::of(&Plan::default());
    let expected = bytes[64..].to_vec();
    let sqes = relay(&mut bytes, 64);
    // All that is submitted waits in the lane until the next poll: only the head, and the rest is parked.
    rig.submit(&sqes);
    assert_eq!(rig.cq.cancel(1), 1);
    assert_eq!(rig.finish(3), [DONE, CANCELLED, CANCELLED]);
    let entries = rig.device().take();
    assert_eq!(entries.iter().map(|entry| entry.members().len()).sum::<usize>(), 1, "{entries:?}");
    assert_eq!((&bytes[64..128], &bytes[128..]), (&bytes[..64], &expected[64..]));
}

#[test]
fn a_chain_with_an_empty_member_and_long_ones() {
    let mut bytes = noise((5 << 20) + 4096);
    let mut rig = Rig::of(&Plan::default());
    let mut expected = bytes.clone();
    expected.copy_within(..5 << 20, 4096);
    expected[..4096].fill(3);
    let start = bytes.as_mut_ptr();
    let sqes = [
        Sqe::memmove(start.wrapping_add(4096), start, 5 << 20).link(),
        Sqe::memset(start, 9, 0).link(),
        Sqe::nop().link(),
        Sqe::memset(start, 3, 4096),
    ];
    assert_eq!(rig.run(&sqes), [DONE; 4]);
    assert_eq!(bytes, expected);
    let fills = rig.device().take();
    let is_fill =
        |entry: &&Entry| entry.members().iter().any(|member| matches!(member.operation(), Ok(Operation::Fill { .. })));
    assert_eq!(fills.iter().filter(is_fill).count(), 1);
}
