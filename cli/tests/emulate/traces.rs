//! What `--trace` and `--stats` say is what happened, and all of it.

#![expect(unsafe_code, reason = "dies of an instruction")]

use std::arch::asm;
use std::io::Write;

use memring::dsa::{Descriptor, Flags, Operation, RecordStatus};

use super::handlers::signal_of;
use super::outside::{counted, passes};
use super::portal::{enqcmd, map, open, record, succeeds, wait, with_record};

/// More members than a trace lists.
const MEMBERS: usize = 1100;

fn members() -> Vec<[u8; Descriptor::BYTES]> {
    vec![Descriptor::new(&Operation::Nop, Flags::NONE, 0).to_bytes(); MEMBERS + 1]
}

/// A batch of so many, written to the queue, and how it ended.
fn batch(count: u32) -> RecordStatus {
    let (members, record) = (members(), record());
    let list = (members.as_ptr().expose_provenance() as u64).next_multiple_of(Descriptor::BYTES as u64);
    let descriptor = with_record(&Operation::Batch { list, count }, record);
    open().write_all(&descriptor.to_bytes()).unwrap();
    wait(record).status()
}

#[test]
fn a_list_that_is_too_long_for_a_trace_says_so() {
    let Some(said) = passes(&["--trace", "--stats"], "traces::long_inside") else { return };
    assert!(said.contains(&format!(": BATCH of {MEMBERS} at 0x")), "{said}");
    assert!(said.contains("wq0.0:   1023: NOP") && said.contains("wq0.0:   ... and 76 more\n"), "{said}");
    assert!(!said.contains("wq0.0:   1024: NOP"), "{said}");
    // It is longer than the device takes.
    assert_eq!((counted(&said, "BAD_COUNT (0x14)"), counted(&said, "NOP")), (1, 0), "{said}");
}

#[test]
#[ignore = "runs under memring emulate"]
fn long_inside() {
    assert_eq!(batch(u32::try_from(MEMBERS).unwrap()), RecordStatus::BAD_COUNT);
}

#[test]
fn members_of_a_refused_batch_are_not_counted() {
    let Some(said) = passes(&["--stats", "--trace"], "traces::refused_inside") else { return };
    assert_eq!(
        (counted(&said, "BATCH"), counted(&said, "NOP"), counted(&said, "BAD_COUNT (0x14)")),
        (2, 2, 1),
        "{said}"
    );
    // What a record leaves unused is not told as if it were a fact.
    assert!(
        said.contains(": BAD_COUNT (0x14)\n") && said.contains(": SUCCESS (0x01), 2 descriptors completed\n"),
        "{said}"
    );
}

#[test]
#[ignore = "runs under memring emulate"]
fn refused_inside() {
    assert_eq!(batch(1), RecordStatus::BAD_COUNT);
    assert_eq!(batch(2), RecordStatus::SUCCESS);
}

#[test]
fn what_was_not_done_at_the_end_is_told() {
    for options in [&["--trace"][..], &["--trace", "--stats"]] {
        let Some(said) = passes(options, "traces::left_inside") else { return };
        let lines = said.lines().filter(|line| line.ends_with(" not done when the program ended"));
        // Of each process that ended with something left, one.
        assert_eq!(lines.clone().count(), 3, "{said}");
        assert!(lines.clone().all(|line| line.starts_with("wq0.0: ") && line.contains(" descriptors were ")), "{said}");
    }
    let said = passes(&[], "traces::left_inside");
    assert!(said.is_none_or(|said| !said.contains("not done")));
}

#[test]
#[ignore = "runs under memring emulate"]
fn left_inside() {
    assert_eq!(signal_of(leave_much), 0);
    let dies = || {
        leave_much();
        // SAFETY: it raises a signal, which ends the process.
        unsafe { asm!("ud2") };
    };
    assert_eq!(signal_of(dies), libc::SIGILL);
    // One with nothing left.
    assert_eq!(signal_of(|| succeeds(map())), 0);
    leave_much();
}

/// Submits so much that it is not done by far when it returns: a gibibyte, of the same two buffers.
fn leave_much() {
    const MEMBERS: usize = 32;
    const LEN: usize = 2 << 20;
    let [src, dst] = [0_u8; 2].map(|byte| vec![byte; LEN].leak().as_mut_ptr().expose_provenance() as u64);
    let copy = Operation::Memmove { src, dst, len: u32::try_from(LEN).unwrap() };
    let members = vec![Descriptor::new(&copy, Flags::NONE, 0); MEMBERS].leak();
    let list = members.as_ptr().expose_provenance() as u64;
    let batch = Operation::Batch { list, count: u32::try_from(MEMBERS).unwrap() };
    let (portal, descriptor) = (map(), Descriptor::new(&batch, Flags::NONE, 0));
    for _ in 0..16 {
        assert!(enqcmd(portal, &raw const descriptor));
    }
}
