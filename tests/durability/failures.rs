//! The disk fails: nothing that an fsync covered is acknowledged, and nothing after it, until the failure was heard of.
//!
//! After a failed fsync the kernel calls the pages clean, though they are not on the disk: the next fsync succeeds. So
//! a log that tries again acknowledges what is lost. Each open file hears of a failure once: so a log that does not
//! tell all who waited acknowledges what is lost, too.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::thread;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::RIGHT;
use super::cachestat::cachestat;
use super::failing::{FailingFile, FileWithoutRoom};
use super::log::{Kind, Trial, Verdict};
use super::mounts::in_own_namespace;
use super::plain::{FLUSHES_NOTHING, JOINS_THE_ONE_IN_FLIGHT, PLAIN, TELLS_THE_LEADER_ONLY, TRIES_AGAIN};
use super::random::Random;
use super::records::Book;
use super::rigs::{DiskRig, LOG, Layout};
use super::skip::skip;
use super::subprocess::{again, role, words};
use super::watchdog::must_end;

const PAGE: usize = 4096;

/// How a log fails, as it must, or what it said instead.
fn must_fail(what: &str, done: std::io::Result<()>, wanted: &[i32]) -> Result<i32, String> {
    match done.map_err(|error| error.raw_os_error()) {
        Err(Some(errno)) if wanted.contains(&errno) => Ok(errno),
        other => Err(format!("{what}: {other:?}, and the disk has failed")),
    }
}

fn must_work(what: &str, done: std::io::Result<()>) -> Verdict {
    done.map_err(|error| format!("{what}: {error}, and the disk is sound"))
}

/// What must be true of a log while its disk fails and when it is sound again.
fn fails_until_cleared(kind: Kind, file: &File, wanted: &[i32], fail: impl Fn(), heal: impl Fn()) -> Verdict {
    let open = || (kind.open)(file).expect("the file can be mapped");
    let (log, other) = (open(), open());
    must_work("before", log.write(0, &[1; 64]))?;
    fail();
    let errno = must_fail("a write", log.write(4 * PAGE, &[2; PAGE]), wanted)?;
    must_fail("a flush of the same", log.flush(4 * PAGE..5 * PAGE), &[errno])?;
    must_fail("a flush by another log of the file", other.flush(4 * PAGE..5 * PAGE), &[errno])?;
    heal();
    must_fail("a flush on a healed disk", log.flush(4 * PAGE..5 * PAGE), &[errno])?;
    must_fail("a write on a healed disk", log.write(8 * PAGE, &[3; PAGE]), &[errno])?;
    if log.clear_error() != Some(errno) {
        return Err(format!("the failure to forget is not {errno}"));
    }
    must_work("the same again", log.write(4 * PAGE, &[2; PAGE]))?;
    match log.clear_error() {
        None => Ok(()),
        Some(errno) => Err(format!("there is nothing to forget, but {errno}")),
    }
}

fn check_on_full_tmpfs(kind: Kind) -> Trial {
    let failing = FailingFile::new(64 * PAGE)?;
    let wanted = [libc::EIO, libc::ENOSPC];
    Ok(fails_until_cleared(kind, failing.file(), &wanted, || failing.fail(), || failing.heal()))
}

/// With a journal, a write of that which fails would make the file system read-only, and one that is held would hold
/// who makes pages dirty.
fn rig_without_journal() -> Result<DiskRig, String> {
    DiskRig::new(Layout::Written, &["-O", "^has_journal"])
}

fn check_on_failing_disk(kind: Kind) -> Trial {
    for errno in [libc::EIO, libc::ENOSPC] {
        let rig = rig_without_journal()?;
        let (fail, heal) = (|| rig.disk().fail(Some(errno)), || rig.disk().fail(None));
        let verdict = fails_until_cleared(kind, rig.log(), &[errno], fail, heal);
        if verdict.is_err() {
            return Ok(verdict);
        }
    }
    Ok(Ok(()))
}

/// Waits until what is written there has been copied, or its writer has ended.
fn wait_until_dirty(file: &File, page: usize, has_ended: impl Fn() -> bool) {
    let pages = || cachestat(file, page * PAGE..(page + 1) * PAGE).expect("it was asked before");
    while pages().dirty == 0 && !has_ended() {
        thread::yield_now();
    }
}

/// Many wait for one fsync, and that fails: each hears of it.
fn check_that_all_hear_of_it(kind: Kind) -> Trial {
    let rig = rig_without_journal()?;
    let (file, disk) = (rig.log(), rig.disk());
    let log = (kind.open)(file).map_err(|error| error.to_string())?;
    let write = |page: usize| {
        let log = &log;
        move || log.write(page * PAGE, &[1; PAGE])
    };
    disk.hold();
    Ok(thread::scope(|threads| {
        let first = threads.spawn(write(1));
        while !(first.is_finished() || disk.holds_something()) {
            thread::yield_now();
        }
        let others: Vec<_> = (2..6).map(|page| threads.spawn(write(page * 2))).collect();
        for (page, other) in (2..6).zip(&others) {
            wait_until_dirty(file, page * 2, || other.is_finished());
        }
        disk.fail(Some(libc::EIO));
        disk.release();
        let mut verdicts = Vec::new();
        for thread in [first].into_iter().chain(others) {
            let done = thread.join().expect("it returns its failure");
            verdicts.push(must_fail("one of many", done, &[libc::EIO]).map(drop));
        }
        verdicts.into_iter().collect()
    }))
}

/// While an fsync is under way, another record is written. It is acknowledged only when another fsync has been.
fn check_that_nobody_joins_late(kind: Kind) -> Trial {
    let rig = rig_without_journal()?;
    let (file, disk) = (rig.log(), rig.disk());
    let log = (kind.open)(file).map_err(|error| error.to_string())?;
    let (book, mut random) = (Book::new(1, LOG), Random::new(1));
    // Who comes late to be late takes an fsync of its own, and is not convicted.
    for _ in 0..20 {
        // A word would be a second write.
        let mut plain = std::iter::from_fn(|| book.begin(PAGE)).filter(|record| !record.is_published);
        let records = [plain.next(), plain.next()].map(|record| record.expect("the log is long enough"));
        let write = |of: usize| {
            let (log, book, record) = (&log, &book, records[of]);
            move || record.write_to(&**log).map(|()| book.acknowledge(record))
        };
        disk.hold();
        let verdict = thread::scope(|threads| {
            let first = threads.spawn(write(0));
            while !(first.is_finished() || disk.holds_something()) {
                thread::yield_now();
            }
            let second = threads.spawn(write(1));
            wait_until_dirty(file, records[1].last_page(), || second.is_finished());
            disk.let_one_flush_through();
            while !(second.is_finished() || disk.holds_something()) {
                thread::yield_now();
            }
            let verdict = if second.is_finished() { rig.judge_now(&mut random, &book) } else { Ok(()) };
            disk.release();
            for thread in [first, second] {
                thread.join().expect("it returns its failure").expect("the disk is sound");
            }
            verdict
        });
        if verdict.is_err() {
            return Ok(verdict);
        }
    }
    Ok(Ok(()))
}

type Check = fn(Kind) -> Trial;

fn acquit_and_convict(what: &str, check: Check, mutants: &[Kind]) {
    let run = move |kind| must_end(move || in_own_namespace(|| check(kind))?);
    for kind in RIGHT {
        match run(*kind) {
            Ok(verdict) => assert_eq!(verdict, Ok(()), "{}", kind.name),
            Err(reason) => return skip(what, reason),
        }
    }
    for kind in mutants {
        let found = run(*kind).expect("it could be done").expect_err(kind.name);
        eprintln!("{}: {found}", kind.name);
    }
}

#[test]
fn a_failure_lasts_until_it_is_cleared_on_a_full_tmpfs() {
    acquit_and_convict("loop", check_on_full_tmpfs, &[TRIES_AGAIN, FLUSHES_NOTHING]);
}

#[test]
fn a_failure_lasts_until_it_is_cleared_on_a_failing_disk() {
    acquit_and_convict("fuse", check_on_failing_disk, &[TRIES_AGAIN, FLUSHES_NOTHING]);
}

#[test]
fn all_who_wait_hear_of_a_failure() {
    acquit_and_convict("fuse", check_that_all_hear_of_it, &[TELLS_THE_LEADER_ONLY, FLUSHES_NOTHING]);
}

#[test]
fn nobody_joins_an_fsync_that_is_under_way() {
    acquit_and_convict("fuse", check_that_nobody_joins_late, &[JOINS_THE_ONE_IN_FLIGHT, FLUSHES_NOTHING]);
}

/// What a sparse file on a full file system does to who stores to it, and how to be told before.
#[test]
fn a_full_tmpfs_is_an_error_of_fallocate_and_a_signal_of_a_store() {
    const NAME: &str = "failures::a_full_tmpfs_is_an_error_of_fallocate_and_a_signal_of_a_store";
    let trial = || {
        let without_room = FileWithoutRoom::new(8 * PAGE)?;
        let file = without_room.file();
        let refused = fallocate(file, FallocateFlags::empty(), 0, 8 * PAGE as u64);
        assert_eq!(refused, Err(Errno::NOSPC));
        if role().is_some() {
            let log = (PLAIN.open)(file).expect("a hole can be mapped");
            let done = log.write(0, &[1; 8]);
            panic!("the store has found room: {done:?}");
        }
        Ok(())
    };
    match in_own_namespace(trial) {
        Ok(Ok(())) => {}
        Ok(Err(reason)) | Err(reason) => return skip("mounts", reason),
    }
    let output = again(NAME, "store", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{}", words(&output));
}
