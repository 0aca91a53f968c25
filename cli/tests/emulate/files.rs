//! The device file: open, mmap and write answer as the driver does, also after a fork.

#![expect(unsafe_code, reason = "gives files the numbers of others")]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use memring::dsa::{Descriptor, DsaOpcode, Flags, Mode, Operation, RecordStatus};

use super::child::in_child;
use super::outside::{counted, passes, passes_with};
use super::portal::{open, queue, record, succeeds, try_map, try_open, wait, with_record};

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn is_opened_once_if_dedicated() {
    passes(&["--mode", "dedicated"], "files::dedicated_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn dedicated_inside() {
    assert_eq!(queue().capabilities.mode, Mode::Dedicated);
    let first = open();
    assert_eq!(errno(try_open()), Some(libc::EBUSY));
    in_child(|| assert_eq!(errno(try_open()), Some(libc::EBUSY)));
    drop(first);
    let second = open();
    let portal = try_map(&second, 4096).unwrap();
    drop(second);
    // The mapping holds it.
    assert_eq!(errno(try_open()), Some(libc::EBUSY));
    super::portal::unmap(portal);
    in_child(|| drop(open()));
}

/// The emulator has no files among the program's, so a program that closes all files, or gives them numbers, loses
/// none.
#[test]
fn leaves_the_numbers_of_files_to_the_program() {
    passes(&["--mode", "dedicated"], "files::numbers_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn numbers_inside() {
    let portal = try_map(&open(), 4096).unwrap();
    // Their own, by numbers that nobody has given out.
    let others: Vec<_> = (0..200).map(|_| File::open("/dev/null").unwrap()).collect();
    let last = others.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let gaps: Vec<_> = (3..last).filter(|fd| others.iter().all(|file| file.as_raw_fd() != *fd)).collect();
    // What the harness has is below.
    assert!(gaps.iter().all(|fd| *fd < 32), "{gaps:?}");
    in_child(|| others.iter().for_each(|file| assert!(file.metadata().is_ok())));
    super::portal::unmap(portal);
    others.iter().for_each(|file| assert!(file.metadata().is_ok()));
    drop(open());
}

/// What memring is told to look at is not what the emulator looks at.
#[test]
fn is_known_wherever_sysfs_is_said_to_be() {
    passes_with(&[], "files::elsewhere_inside", &[("MEMRING_DSA_SYSFS", "/proc")]);
}

#[test]
#[ignore = "runs under memring emulate"]
fn elsewhere_inside() {
    assert_eq!(std::env::var("MEMRING_DSA_SYSFS").unwrap(), "/proc");
    succeeds(try_map(&open(), 4096).unwrap());
}

#[test]
fn is_opened_by_many_if_shared() {
    let said = passes(&["--stats"], "files::shared_inside");
    assert!(said.is_none_or(|said| counted(&said, "times opened") == 5 && counted(&said, "portals mapped") == 3));
}

#[test]
#[ignore = "runs under memring emulate"]
fn shared_inside() {
    assert_eq!(queue().capabilities.mode, Mode::Shared);
    let file = open();
    assert_eq!(errno(try_map(&file, 8192)), Some(libc::EINVAL));
    assert_eq!(errno(try_map(&File::open("/dev/dsa/wq0.0").unwrap(), 4096)), Some(libc::EACCES));
    let portals = [try_map(&file, 4096).unwrap(), try_map(&open(), 4096).unwrap()];
    portals.into_iter().for_each(succeeds);
    in_child(|| {
        // What belongs to the parent is not the child's; what it opens itself is.
        assert_eq!(errno(try_map(&file, 4096)), Some(libc::EPERM));
        assert_eq!(errno((&file).write(&[0; 64])), Some(libc::EPERM));
        succeeds(try_map(&open(), 4096).unwrap());
        (&open()).write_all(&[0; 64]).unwrap();
    });
    portals.into_iter().for_each(succeeds);
}

/// Whatever the other threads and the device are doing just then.
#[test]
fn is_opened_by_children_that_are_forked_at_any_time() {
    passes(&["--faults", "2"], "files::forks_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn forks_inside() {
    const CHILDREN: usize = 60;
    let (portal, (ended, is_over)) = (try_map(&open(), 4096).unwrap(), std::sync::mpsc::channel::<()>());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(std::sync::mpsc::TryRecvError::Empty) = is_over.try_recv() {
                succeeds(portal);
            }
        });
        for _ in 0..CHILDREN {
            in_child(|| succeeds(try_map(&open(), 4096).unwrap()));
        }
        drop(ended);
    });
}

/// An address that one thread unmaps may at once be another's new portal.
#[test]
fn is_mapped_and_unmapped_by_many_threads() {
    passes(&[], "files::threads_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn threads_inside() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..6000 {
                    let portal = try_map(&open(), 4096).unwrap();
                    succeeds(portal);
                    super::portal::unmap(portal);
                }
            });
        }
    });
    // What cannot be unmapped stays a portal.
    let portal = try_map(&open(), 4096).unwrap();
    assert_eq!(errno(super::portal::try_unmap(portal, 0)), Some(libc::EINVAL));
    assert_eq!(errno(super::portal::try_unmap(portal - 1, 4096)), Some(libc::EINVAL));
    succeeds(portal);
}

/// Whose an open file is does not depend on its number.
#[test]
fn belongs_to_who_opened_it_whatever_its_number() {
    passes(&[], "files::whose_inside");
    passes(&["--mode", "dedicated"], "files::by_fopen_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn whose_inside() {
    let file = open();
    succeeds(try_map(&file.try_clone().unwrap(), 4096).unwrap());
    in_child(|| {
        assert_eq!(errno(try_map(&file.try_clone().unwrap(), 4096)), Some(libc::EPERM));
        // Its own, at the parent's number.
        let own = open();
        // SAFETY: it takes numbers; this process does not use what was there.
        assert_eq!(unsafe { libc::dup2(own.as_raw_fd(), file.as_raw_fd()) }, file.as_raw_fd());
        drop(own);
        succeeds(try_map(&file, 4096).unwrap());
    });
    succeeds(try_map(&file, 4096).unwrap());
}

#[test]
#[ignore = "runs under memring emulate"]
fn by_fopen_inside() {
    // SAFETY: both are texts of C.
    let stream = unsafe { libc::fopen(c"/dev/dsa/wq0.0".as_ptr(), c"r+".as_ptr()) };
    assert!(!stream.is_null());
    let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0).to_bytes();
    // SAFETY: the stream is open.
    let fd = unsafe { libc::fileno(stream) };
    // SAFETY: the bytes are ours.
    assert_eq!(unsafe { libc::write(fd, nop.as_ptr().cast(), nop.len()) }, 64);
    assert_eq!(errno(try_open()), Some(libc::EBUSY));
    // SAFETY: nobody uses it any more.
    assert_eq!(unsafe { libc::fclose(stream) }, 0);
    drop(open());
}

#[test]
fn is_mapped_as_often_as_a_program_wants() {
    passes(&[], "files::many_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn many_inside() {
    let file = open();
    let portals: Vec<u64> = (0..300).map(|_| try_map(&file, 4096).unwrap()).collect();
    portals.iter().copied().for_each(succeeds);
    portals.into_iter().for_each(super::portal::unmap);
    succeeds(try_map(&file, 4096).unwrap());
}

#[test]
fn takes_descriptors_by_write() {
    for options in [&["--no-mmap", "--stats"][..], &["--no-mmap", "--stats", "--mode", "dedicated"]] {
        let said = passes(options, "files::written_inside");
        assert!(said.is_none_or(|said| said.contains("8 descriptors: 0 by ENQCMD, 0 by MOVDIR64B, 8 by write")));
    }
    passes(&["--preset", "v1-early"], "files::version_1_inside");
    passes(&["--disable-after", "2"], "files::taken_away_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn written_inside() {
    let mut file = open();
    assert_eq!(errno(try_map(&file, 4096)), Some(libc::EPERM));
    let records = [record(), record(), record()];
    let bytes = records.map(|record| with_record(&Operation::Nop, record).to_bytes()).concat();
    // What is more than whole descriptors is left.
    assert_eq!(file.write(&bytes[..63]).unwrap(), 0);
    assert_eq!(file.write(&[&bytes[..], &[0; 63]].concat()).unwrap(), 3 * 64);
    records.into_iter().for_each(|record| assert_eq!(wait(record).status(), RecordStatus::SUCCESS));
    // A record's address must be a multiple of 32, even if it is none.
    let crooked = Descriptor::new(&Operation::Nop, Flags::NONE, 8).to_bytes();
    assert_eq!(errno(file.write(&crooked)), Some(libc::EINVAL));
    let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0).to_bytes();
    assert_eq!(file.write(&[nop, nop, crooked, nop].concat()).unwrap(), 2 * 64);
    // Version 2 takes batches this way. The list has one member too few, which its record says.
    let refused = record();
    let batch = with_record(&Operation::Batch { list: 0x1000, count: 1 }, refused);
    assert_eq!(file.write(&batch.to_bytes()).unwrap(), 64);
    assert_eq!(wait(refused).status(), RecordStatus::BAD_COUNT);
    file.write_all(&[nop, nop].concat()).unwrap();
}

#[test]
#[ignore = "runs under memring emulate"]
fn version_1_inside() {
    assert!(queue().allowance().operations.contains(DsaOpcode::BATCH));
    let batch = with_record(&Operation::Batch { list: 0x1000, count: 2 }, record());
    assert_eq!(errno(open().write(&batch.to_bytes())), Some(libc::EINVAL));
}

#[test]
#[ignore = "runs under memring emulate"]
fn taken_away_inside() {
    let (mut file, records) = (open(), [record(), record()]);
    let bytes = records.map(|record| with_record(&Operation::Nop, record).to_bytes()).concat();
    assert_eq!(file.write(&bytes).unwrap(), 128);
    // What it had is still done.
    records.into_iter().for_each(|record| assert_eq!(wait(record).status(), RecordStatus::SUCCESS));
    assert_eq!(errno(file.write(&bytes)), Some(libc::EAGAIN));
    while std::fs::exists("/dev/dsa/wq0.0").unwrap() {
        std::thread::yield_now();
    }
    assert_eq!(errno(try_open()), Some(libc::ENOENT));
    let found = memring::dsa::discover(&memring::dsa::Roots::system());
    assert!(matches!(found.unusable[..], [ref one] if one.to_string().contains("disabled")), "{found:?}");
}

/// A trace goes to what stderr was, and not to what the program has made of its number.
#[test]
fn is_traced_to_where_stderr_was() {
    let said = passes(&["--trace"], "files::stderr_inside");
    assert!(said.is_none_or(|said| said.contains("wq0.0: NOP") && said.contains("SUCCESS")));
}

#[test]
#[ignore = "runs under memring emulate"]
fn stderr_inside() {
    let own = tempfile::NamedTempFile::new().unwrap();
    // SAFETY: it takes numbers; nobody relies on what is at this one.
    assert_eq!(unsafe { libc::dup2(own.as_file().as_raw_fd(), 2) }, 2);
    succeeds(try_map(&open(), 4096).unwrap());
    assert_eq!(own.as_file().metadata().unwrap().len(), 0);
}
