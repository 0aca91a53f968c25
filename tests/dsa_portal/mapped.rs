//! The mapped portal, with its instructions trapped.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memring::dsa::{MmapPortal, Mode, Operation, Portal, Stopped, Submitted};

use super::child::in_child;
use super::descriptors::{bytes_of, copies, nop, plain, queue, submit, with_bytes};
use super::trap::{Note, script, stepped, stepping, trapped};

pub(crate) const PAGE: usize = 4096;

/// A file that can stand for a queue's.
pub(crate) fn page() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(PAGE as u64).unwrap();
    file
}

pub(crate) fn portal(mode: Mode, size: u32) -> MmapPortal {
    MmapPortal::new(page(), &queue(mode, size)).unwrap()
}

const ALL: fn(usize) -> Submitted = |accepted| Submitted { accepted, stopped: None };
const BUSY: fn(usize) -> Submitted = |accepted| Submitted { accepted, stopped: Some(Stopped::Busy) };

#[test]
fn a_dedicated_queue_gets_each_descriptor_by_movdir64b_at_the_same_address() {
    trapped(|notes| {
        let file = page();
        let mut portal = MmapPortal::new(file.try_clone().unwrap(), &queue(Mode::Dedicated, 8)).unwrap();
        let descriptors = copies(5);
        assert_eq!(submit(&mut portal, &descriptors), ALL(5));
        let seen = notes.take();
        let stored: Vec<_> = seen.iter().filter_map(|note| note.bytes()).collect();
        assert_eq!(stored.concat(), bytes_of(&descriptors));
        let Note::Stored(first, _) = seen[0] else { panic!("{seen:?}") };
        assert!(seen.iter().all(|note| matches!(note, Note::Stored(address, _) if *address == first)));
        assert_eq!(first % PAGE, 0);
        // It is the file's page that they go to.
        let mut last = [0; 64];
        file.read_exact_at(&mut last, 0).unwrap();
        assert_eq!(last, descriptors[4].to_bytes());
        assert_eq!(submit(&mut portal, &[]), ALL(0));
        assert_eq!(notes.letters(), "");
    });
}

/// What a full queue is sent vanishes, so nothing may be sent.
#[test]
fn a_dedicated_queue_is_never_sent_more_than_it_holds() {
    trapped(|notes| {
        let mut portal = portal(Mode::Dedicated, 4);
        assert_eq!(portal.room(), 4);
        assert_eq!(submit(&mut portal, &copies(3)), ALL(3));
        assert_eq!(portal.room(), 1);
        assert_eq!(submit(&mut portal, &copies(3)), BUSY(1));
        assert_eq!(submit(&mut portal, &copies(1)), BUSY(0));
        assert_eq!(notes.letters(), "MMMM");
        portal.completed(2);
        assert_eq!(submit(&mut portal, &copies(3)), BUSY(2));
        // Who says that more has ended than was under way gains no room.
        portal.completed(usize::MAX);
        assert_eq!(portal.room(), 4);
        assert_eq!(submit(&mut portal, &copies(4)), ALL(4));
        assert_eq!(notes.letters(), "MMMMMM");
    });
}

#[test]
fn striding_uses_each_place_of_the_page_in_turn() {
    trapped(|notes| {
        let mut portal = portal(Mode::Dedicated, 128).with_striding();
        assert_eq!(submit(&mut portal, &copies(3)), ALL(3));
        assert_eq!(submit(&mut portal, &copies(63)), ALL(63));
        let place = |note| match note {
            Note::Stored(address, _) => address % PAGE,
            other => panic!("{other:?}"),
        };
        let places: Vec<_> = notes.take().into_iter().map(place).collect();
        let expected: Vec<_> = (0..66).map(|index| index * 64 % PAGE).collect();
        assert_eq!(places, expected);
    });
}

#[test]
fn a_shared_queue_is_asked_by_enqcmd_and_has_no_count() {
    trapped(|notes| {
        let mut portal = portal(Mode::Shared, 2);
        let descriptors = copies(7);
        assert_eq!((portal.room(), submit(&mut portal, &descriptors)), (usize::MAX, ALL(7)));
        portal.completed(1);
        assert_eq!(portal.room(), usize::MAX);
        let seen = notes.take();
        assert!(seen.iter().all(|note| note.letter() == 'E'));
        let sent: Vec<_> = seen.iter().filter_map(|note| note.bytes()).collect();
        assert_eq!(sent.concat(), bytes_of(&descriptors));
    });
}

#[test]
fn a_shared_queue_that_is_full_for_a_moment_is_asked_again() {
    trapped(|notes| {
        let mut portal = portal(Mode::Shared, 16);
        script(1, 31);
        assert_eq!(submit(&mut portal, &copies(3)), ALL(3));
        assert_eq!(notes.letters(), format!("E{}EE", "R".repeat(31)));
    });
}

#[test]
fn a_shared_queue_that_stays_full_ends_the_submission() {
    trapped(|notes| {
        let mut portal = portal(Mode::Shared, 16);
        script(2, 40);
        let descriptors = copies(5);
        assert_eq!(submit(&mut portal, &descriptors), BUSY(2));
        assert_eq!(notes.letters(), format!("EE{}", "R".repeat(32)));
        // The rest goes later, each once.
        assert_eq!(submit(&mut portal, &descriptors[2..]), ALL(3));
        let seen = notes.take();
        let sent: Vec<_> = seen.iter().filter_map(|note| note.bytes()).collect();
        assert_eq!(sent.concat(), bytes_of(&descriptors[2..]));
    });
}

/// The order in which instructions are executed, seen one by one.
#[test]
fn stores_are_fenced_before_a_submission_and_before_a_drain() {
    stepped(|notes| {
        let drain = plain(&Operation::Drain { readback_1: 0, readback_2: 0 });
        for (mode, submitted) in [(Mode::Dedicated, 'M'), (Mode::Shared, 'E')] {
            let mut portal = portal(mode, 16);
            let submissions = [
                (vec![nop()], "S1"),
                (copies(3), "S111"),
                (vec![drain], "S1"),
                (vec![nop(), drain, nop()], "S1S11"),
                (vec![], ""),
                // What is not sent needs no fence.
                (vec![with_bytes(8, &[1])], ""),
            ];
            for (descriptors, expected) in submissions {
                let _ = stepping(|| submit(&mut portal, &descriptors));
                assert_eq!(notes.letters(), expected.replace('1', &submitted.to_string()));
            }
        }
    });
}

#[test]
fn between_two_attempts_there_is_a_pause() {
    stepped(|notes| {
        let mut portal = portal(Mode::Shared, 16);
        script(1, 2);
        assert_eq!(stepping(|| submit(&mut portal, &copies(2))), ALL(2));
        assert_eq!(notes.letters(), "SERPRPE");
    });
}

#[test]
fn a_child_has_neither_the_portal_nor_its_address() {
    trapped(|notes| {
        let mut portal = portal(Mode::Dedicated, 8);
        assert_eq!(submit(&mut portal, &copies(1)), ALL(1));
        let Note::Stored(address, _) = notes.take()[0] else { panic!("it is stored") };
        let mut inherited = Some(portal);
        in_child(|| {
            let mut portal = inherited.take().unwrap();
            assert_eq!(submit(&mut portal, &copies(1)), Submitted { accepted: 0, stopped: Some(Stopped::Forked) });
            assert_eq!(submit(&mut portal, &[]), ALL(0));
            // The place is free: what the child puts there outlives the portal.
            let place = mapping::at(address);
            drop(portal);
            place.must_be_there();
        });
        let mut portal = inherited.unwrap();
        assert_eq!(submit(&mut portal, &copies(1)), ALL(1));
        assert_eq!(notes.letters(), "M");
        drop(portal);
        // Here it was unmapped.
        mapping::at(address).must_be_there();
    });
}

#[test]
fn what_cannot_be_mapped_comes_back() {
    let read_only = File::open("/proc/self/exe").unwrap();
    let (file, error) = MmapPortal::new(read_only, &queue(Mode::Shared, 1)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    assert!(file.metadata().unwrap().len() > 0);
}

mod mapping {
    //! A page of the test's own, at an address of its choice.
    #![expect(unsafe_code, reason = "maps a page")]

    use super::PAGE;

    pub(super) struct Page(*mut u8);

    /// Maps a page where there is none.
    pub(super) fn at(address: usize) -> Page {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let wanted = address as *mut libc::c_void;
        // SAFETY: it replaces no other mapping.
        let got = unsafe { libc::mmap(wanted, PAGE, prot, flags | libc::MAP_FIXED_NOREPLACE, -1, 0) };
        assert_eq!(got, wanted, "{}", std::io::Error::last_os_error());
        Page(got.cast())
    }

    impl Page {
        pub(super) fn must_be_there(&self) {
            // SAFETY: it is mapped, unless something is wrong; then the child dies, and the test fails.
            unsafe { self.0.write_volatile(7) };
            // SAFETY: as above.
            assert_eq!(unsafe { self.0.read_volatile() }, 7);
        }
    }
}
