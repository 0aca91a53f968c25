//! What holds of both portals: who submits cannot tell which it is.

use std::fs::File;

use memring::dsa::{Descriptor, DsaOpcode, Mode, Portal, Preset, Stopped, Submitted};

use super::child::in_child;
use super::descriptors::{copies, nop, of_opcode, submit, with_bytes};
use super::trap::trapped;
use super::{mapped, written};

/// What is done to a portal.
enum Step {
    Submit(Vec<Descriptor>),
    Complete(usize),
}

fn steps() -> Vec<Step> {
    let odd = |at, patch: &[u8]| with_bytes(at, patch);
    vec![
        Step::Submit(vec![]),
        Step::Submit(copies(3)),
        // The address of a record, with or without the flag that makes it valid.
        Step::Submit(vec![nop(), odd(8, &[1]), nop()]),
        Step::Submit(vec![odd(8, &[16])]),
        Step::Submit(vec![odd(8, &[32])]),
        Step::Submit(vec![odd(4, &[0, 0, 0, 0, 8])]),
        // An address space, and a privilege.
        Step::Submit(vec![odd(0, &[1])]),
        Step::Submit(vec![nop(), odd(3, &[0x80])]),
        Step::Submit(copies(20)),
        Step::Complete(5),
        // No room comes before what is wrong with that for which there is none.
        Step::Submit([copies(5), vec![odd(8, &[1])]].concat()),
        Step::Submit(vec![odd(8, &[1])]),
        Step::Complete(100),
        Step::Submit(vec![of_opcode(DsaOpcode::from_u8(0xff)), of_opcode(DsaOpcode::DRAIN)]),
    ]
}

fn answers(portal: &mut dyn Portal) -> Vec<(Option<Submitted>, usize)> {
    let answer = |step| {
        let submitted = match step {
            Step::Submit(descriptors) => Some(submit(portal, &descriptors)),
            Step::Complete(count) => {
                portal.completed(count);
                None
            }
        };
        (submitted, portal.room())
    };
    steps().into_iter().map(answer).collect()
}

fn null() -> File {
    File::options().write(true).open("/dev/null").unwrap()
}

#[test]
fn nobody_can_tell_which_it_is() {
    trapped(|_| {
        for mode in [Mode::Dedicated, Mode::Shared] {
            let mapped = answers(&mut mapped::portal(mode, 16));
            let written = answers(&mut written::portal(null(), Preset::V2Full, mode, 16));
            assert_eq!(mapped, written);
            let reasons: Vec<_> = written.iter().filter_map(|(submitted, _)| submitted.as_ref()?.stopped).collect();
            for reason in [Stopped::RecordAddress, Stopped::Privileged] {
                assert!(reasons.contains(&reason), "{reason:?} of {reasons:?}");
            }
            assert_eq!(reasons.contains(&Stopped::Busy), mode == Mode::Dedicated);
        }
    });
}

#[test]
fn a_record_lies_at_a_multiple_of_32() {
    let mut portal = written::portal(null(), Preset::V2Full, Mode::Shared, 16);
    for address in 0..=64 {
        let stopped = (address % 32 != 0).then_some(Stopped::RecordAddress);
        let submitted = submit(&mut portal, &[with_bytes(8, &[address, 0])]);
        assert_eq!(submitted, Submitted { accepted: usize::from(stopped.is_none()), stopped });
    }
}

#[test]
fn batches_pass_the_mapped_one() {
    trapped(|notes| {
        let mut portal = mapped::portal(Mode::Shared, 16);
        assert!(portal.passes_batch());
        assert_eq!(submit(&mut portal, &[of_opcode(DsaOpcode::BATCH)]), Submitted { accepted: 1, stopped: None });
        assert_eq!(notes.letters(), "E");
    });
}

#[test]
fn a_child_may_not_submit() {
    let mut mapped = mapped::portal(Mode::Shared, 16);
    let mut written = written::portal(null(), Preset::V2Full, Mode::Shared, 16);
    in_child(|| {
        for portal in [&mut mapped as &mut dyn Portal, &mut written] {
            assert_eq!(submit(portal, &copies(2)), Submitted { accepted: 0, stopped: Some(Stopped::Forked) });
        }
    });
    assert_eq!(submit(&mut written, &copies(2)), Submitted { accepted: 2, stopped: None });
}

/// A portal goes with its mover to whatever thread drives that.
#[test]
fn portals_may_be_sent() {
    fn is_send<T: Send>() {}
    is_send::<Box<dyn Portal>>();
}
