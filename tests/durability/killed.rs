//! The process is killed: what it has acknowledged is in the file.
//!
//! This proves only that the copy comes before its completion, and nothing of the disk: the page cache outlives the
//! process, and what was copied and never flushed is there as well. The log that flushes nothing is not found out.
#![expect(clippy::print_stdout, reason = "the child tells its parent")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::thread;

use super::RIGHT;
use super::log::{Kind, Verdict};
use super::plain::{COPIES_LATER, FLUSHES_NOTHING};
use super::random::{Random, seed};
use super::records::Book;
use super::rigs::LOG;
use super::subprocess::{command, role};
use super::watchdog::must_end;

const THREADS: usize = 2;
/// Records are not longer than this.
const LIMIT: usize = 6000;
const FILE: &str = "MEMRING_TEST_LOG";
const SEED: &str = "MEMRING_TEST_LOG_SEED";

/// A line of the child's: the number of an acknowledged record.
const ACKNOWLEDGED: &str = "acknowledged ";

/// Ends a child that a failed test leaves behind.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It fails if the child has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the child does until it is killed: writes records, and says which are acknowledged.
fn write_until_killed(kind: Kind) {
    let variable = |name| std::env::var(name).expect("the parent sets it");
    let file = File::options().read(true).write(true).open(variable(FILE)).expect("the parent has made it");
    let log = (kind.open)(&file).expect("the file can be mapped");
    let book = Book::new(variable(SEED).parse().expect("a number"), LOG);
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                while let Some(record) = book.begin(LIMIT) {
                    record.write_to(&*log).expect("the disk is sound");
                    println!("{ACKNOWLEDGED}{}", record.number());
                }
            });
        }
    });
}

/// Kills a child when it has acknowledged so many records, and looks for these and for those it had yet acknowledged.
fn check(name: &str, kind: Kind, seed: u64) -> Verdict {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("there is a folder for that");
    file.as_file().set_len(LOG as u64).expect("it can grow");
    let path = file.path().to_str().expect("the folder's name is text").to_owned();
    let variables = [(FILE, path), (SEED, seed.to_string())];
    let child = command(name, kind.name, &variables).stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.expect("the test binary starts again"));
    let output = BufReader::new(child.0.stdout.take().expect("it is piped"));
    // The harness may have begun the line.
    let lines = output.lines().map(|line| line.expect("the child writes text"));
    let mut numbers = lines.filter_map(|line| line.split_once(ACKNOWLEDGED)?.1.parse::<usize>().ok());
    let before = 1 + Random::new(seed).below(60);
    let mut acknowledged: Vec<_> = numbers.by_ref().take(before).collect();
    child.0.kill().expect("it is ours");
    acknowledged.extend(numbers);
    let status = child.0.wait().expect("it is ours");
    assert_eq!((status.signal(), acknowledged.len() >= before), (Some(libc::SIGKILL), true), "{status}");

    // The same seed makes the same records.
    let book = Book::new(seed, LOG);
    let records: Vec<_> = std::iter::from_fn(|| book.begin(LIMIT)).collect();
    let acknowledged: Vec<_> = acknowledged.into_iter().map(|number| records[number]).collect();
    let mut log = vec![0; LOG];
    file.as_file().read_exact_at(&mut log, 0).expect("it is as long");
    book.judge(&acknowledged, &log)
}

/// In the child, writes; in the parent, hands on the check.
fn in_both(name: &str, kinds: &[Kind], in_parent: impl FnOnce(&dyn Fn(Kind, u64) -> Verdict) + Send) {
    match role() {
        Some(role) => write_until_killed(*kinds.iter().find(|kind| kind.name == role).expect("it is one of these")),
        None => in_parent(&|kind, seed| {
            let name = name.to_owned();
            must_end(move || check(&name, kind, seed))
        }),
    }
}

#[test]
fn what_was_acknowledged_outlives_the_process() {
    in_both("killed::what_was_acknowledged_outlives_the_process", RIGHT, |check| {
        let rounds = if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 100 } else { 10 };
        for (kind, round) in RIGHT.iter().flat_map(|kind| (0..rounds).map(move |round| (kind, round))) {
            let seed = seed().wrapping_add(round);
            assert_eq!(check(*kind, seed), Ok(()), "{}, seed {seed}", kind.name);
        }
    });
}

#[test]
fn a_kill_convicts_who_acknowledges_before_the_copy_and_nobody_else() {
    let name = "killed::a_kill_convicts_who_acknowledges_before_the_copy_and_nobody_else";
    in_both(name, &[COPIES_LATER, FLUSHES_NOTHING], |check| {
        let found = check(COPIES_LATER, seed()).expect_err(COPIES_LATER.name);
        eprintln!("{}: {found}", COPIES_LATER.name);
        assert_eq!(check(FLUSHES_NOTHING, seed()), Ok(()), "the page cache outlives a process");
    });
}
