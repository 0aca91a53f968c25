//! The small write-ahead log: what it measures is there afterwards, what it cannot do is refused, and nothing is left.
//!
//! No test here looks at a time: who is faster, and by how much, is for a reader of the report.

#[path = "../src/log/record.rs"]
mod record;
mod support;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::refuse::{Refusal, limit_file_size, obey_permissions, refusal, refuse};
use support::trace::Traced;
use support::{Folder, assert_copied, assert_done, assert_failed, names, run, skip};

const NAMES: [&str; 3] = ["write+fdatasync", "group commit", "memring"];

fn folder() -> Option<Folder> {
    Folder::on_disk(b"text")
}

/// Runs it with a report for programs, and looks at all that must hold whatever the machine.
#[track_caller]
fn measured(folder: &Folder, arguments: &[&str]) -> Value {
    let output = run(folder.memring("log", &[&["wal", "--json"], arguments].concat()));
    let report: Value = serde_json::from_str(&assert_copied(&output)).expect("it is JSON");
    let contestants = report["contestants"].as_array().expect("a list");
    for (contestant, name) in contestants.iter().zip(NAMES) {
        let number = |field: &str| contestant[field].as_f64().unwrap_or_else(|| panic!("{field} of {contestant}"));
        assert_eq!(contestant["name"].as_str(), Some(name));
        assert!(number("p50_us") <= number("p99_us") && number("p99_us") <= number("max_us"), "{contestant}");
        assert!(number("records") >= 1.0 && number("records_per_s") > 0.0, "{contestant}");
        // No fsync, no durable record. (A mapping without a page cache would need none, and is not tested here.)
        assert!(number("fsyncs") >= 1.0 && number("fsyncs") <= number("records"), "{contestant}");
        assert_eq!(contestant["rounds"].as_array().expect("a list").len(), 30);
    }
    assert_eq!(contestants.len(), 3);
    assert_eq!(contestants[0]["fsyncs"], contestants[0]["records"], "one each");
    assert_eq!(report["verified"].as_bool(), Some(true));
    report
}

#[test]
fn every_contestant_appends_its_records_and_the_file_is_gone() {
    for (records, threads, bytes) in [
        ("1", "1", "1"),
        ("2", "4", "7"),
        ("6", "1", "8"),
        ("30", "3", "100"),
        ("60", "8", "4096"),
        ("13", "64", "70k"),
    ] {
        let Some(folder) = folder() else { return };
        let report = measured(&folder, &["--records", records, "--threads", threads, "--bytes", bytes]);
        for contestant in report["contestants"].as_array().expect("a list") {
            assert_eq!(contestant["records"].as_u64(), records.parse().ok());
        }
        assert_eq!(report["threads"].as_u64(), threads.parse().ok());
        assert_eq!(folder.names(), ["src"]);
    }
}

#[test]
fn a_lone_thread_waits_for_an_fsync_of_its_own_each_time() {
    let Some(folder) = folder() else { return };
    let report = measured(&folder, &["--records", "20", "--threads", "1"]);
    for contestant in report["contestants"].as_array().expect("a list") {
        assert_eq!(contestant["fsyncs"].as_u64(), Some(20), "nobody acknowledges what is not synced: {contestant}");
    }
}

#[test]
fn a_time_is_a_limit_too() {
    let Some(folder) = folder() else { return };
    measured(&folder, &["--seconds", "0.06", "--threads", "2"]);
    assert_eq!(folder.names(), ["src"]);
}

#[test]
fn a_person_gets_a_table() {
    let Some(folder) = folder() else { return };
    let text = assert_done(&run(folder.memring("log", &["wal", "--records", "12", "--threads", "2"])));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    assert!(lines[0].starts_with("records of 256 bytes from 2 threads, 30 rounds, on "), "{text}");
    for (line, name) in lines[2..5].iter().zip(NAMES) {
        let rest = line.strip_prefix(name).unwrap_or_else(|| panic!("{line} is of {name}"));
        assert_eq!(rest.split_whitespace().count(), 6, "{line}");
    }
    assert!(lines[5].contains(" times the records/s of write+fdatasync; in half of the rounds "), "{text}");
    assert!(lines[6].contains(" times the records/s of group commit; in half of the rounds "), "{text}");
}

#[test]
fn a_kept_log_has_all_records_in_three_parts() {
    let Some(folder) = folder() else { return };
    measured(&folder, &["--records", "50", "--bytes", "200", "--threads", "3", "--keep"]);
    assert_eq!(folder.names(), ["src", "wal"]);
    let bytes = folder.read("wal");
    let part = bytes.len() / 3;
    assert_eq!((bytes.len() % 3, part % 4096), (0, 0));
    for part in bytes.chunks_exact(part) {
        let records = part.chunks_exact(record::len(200));
        for (record, sequence) in records.zip(0..50) {
            assert!(record::check(record, 200, sequence).is_ok_and(|thread| thread < 3));
        }
        assert!(part[50 * record::len(200)..].iter().all(|&byte| byte == 0));
    }
    let output = run(folder.memring("log", &["wal"]));
    assert_failed(&output, 1, "log: \"wal\" exists already; a log is always made new");
    assert!(folder.read("wal") == bytes);
}

/// Runs it, and checks that it failed like this and changed nothing.
#[track_caller]
fn refused(folder: &Folder, arguments: &[&str], code: i32, line: &str) {
    let before = folder.names();
    assert_failed(&run(folder.memring("log", arguments)), code, line);
    assert_eq!(folder.names(), before, "nothing is left behind");
}

#[test]
fn places_where_no_log_can_be() {
    let Some(folder) = folder() else { return };
    fs::create_dir(folder.path("folder")).expect("a new folder");
    symlink("nowhere", folder.path("link")).expect("a link");
    refused(&folder, &["src"], 1, "log: \"src\" exists already; a log is always made new");
    refused(&folder, &["link"], 1, "log: \"link\" exists already; a log is always made new");
    refused(&folder, &["folder"], 1, "log: \"folder\" is a directory");
    refused(&folder, &["new/"], 1, "log: \"new/\" is not a directory");
    refused(&folder, &[".."], 1, "log: \"..\" is a directory");
    refused(&folder, &["missing/wal"], 1, "log: cannot create \"missing/wal\": No such file or directory");
    refused(&folder, &["src/wal"], 1, "log: cannot create \"src/wal\": Not a directory");
    refused(&folder, &["w\nal/x"], 1, "log: cannot create \"w\\nal/x\": No such file or directory");
    assert_eq!(folder.read("src"), b"text");
}

#[test]
fn what_is_kept_in_memory_is_refused() {
    let Some(folder) = Folder::in_memory(b"text") else { return };
    let line = "log: \"wal\" cannot be made durable: tmpfs is kept in memory, and an fsync saves nothing there";
    refused(&folder, &["wal"], 1, line);
}

#[test]
fn folders_without_permission() {
    let Some(folder) = folder() else { return };
    let within = folder.path("in");
    fs::create_dir(&within).expect("a new folder");
    for (mode, line) in [
        (0o500, "log: cannot create \"in/wal\": Permission denied"),
        (0o300, "log: cannot sync the folder of \"in/wal\": Permission denied"),
    ] {
        fs::set_permissions(&within, Permissions::from_mode(mode)).expect("it is ours");
        let mut command = folder.memring("log", &["in/wal"]);
        obey_permissions(&mut command);
        let output = run(command);
        fs::set_permissions(&within, Permissions::from_mode(0o700)).expect("it is ours");
        assert_failed(&output, 1, line);
        assert!(names(Path::new(&within)).is_empty());
    }
}

#[test]
fn options_that_make_no_sense() {
    let Some(folder) = folder() else { return };
    let refused = |options: &[&str], line: &str| refused(&folder, &[&["wal"], options].concat(), 2, line);
    refused(&["--bytes", "0"], "a size is at least one byte (see --help)");
    refused(&["--bytes", "-1"], "unexpected argument '-1' found (see --help)");
    refused(&["--bytes", "17M"], "a record has at most 16777216 bytes (see --help)");
    refused(&["--bytes", "99999999999999999999"], "bytes on this machine (see --help)");
    refused(&["--threads", "0"], "0 is not in 1..=64 (see --help)");
    refused(&["--threads", "65"], "65 is not in 1..=64 (see --help)");
    refused(&["--records", "0"], "0 is not in 1..=10000000 (see --help)");
    refused(&["--records", "10000001"], "10000001 is not in 1..=10000000 (see --help)");
    for seconds in ["0", "NaN", "inf", "3601", "soon", ""] {
        let line = "a time is a number of seconds, more than 0 and at most 3600 (see --help)";
        refused(&[&format!("--seconds={seconds}")], line);
    }
    refused(&["--seconds=-1"], "more than 0 and at most 3600 (see --help)");
    refused(&["--seconds", "1", "--records", "1"], "cannot be used with '--records <N>' (see --help)");
    assert_failed(&run(folder.memring("log", &[])), 2, "were not provided: <FILE> (see --help)");
}

fn log_without(folder: &Folder, refusals: &[Refusal]) -> Output {
    let mut command = folder.memring("log", &["wal", "--records", "30", "--threads", "2"]);
    refuse(&mut command, refusals);
    run(command)
}

#[test]
fn storage_that_fails() {
    let Some(folder) = folder() else { return };
    let failed = |call, errno, line: &str| {
        assert_failed(&log_without(&folder, &[refusal(call, errno)]), 1, line);
        assert_eq!(folder.names(), ["src"], "nothing is left behind");
    };
    failed(libc::SYS_fallocate, libc::ENOSPC, "log: cannot write \"wal\": No space left on device");
    failed(libc::SYS_pwrite64, libc::ENOSPC, "log: cannot write \"wal\": No space left on device");
    failed(libc::SYS_fsync, libc::EIO, "log: cannot sync \"wal\": Input/output error");
    failed(libc::SYS_fdatasync, libc::EIO, "log: write+fdatasync: cannot append: Input/output error");
    assert_done(&log_without(&folder, &[refusal(libc::SYS_fallocate, libc::EOPNOTSUPP)]));
    assert_done(&log_without(&folder, &[refusal(libc::SYS_io_uring_setup, libc::EPERM)]));
}

#[test]
fn over_the_limit_of_file_sizes() {
    for refusals in [&[][..], &[refusal(libc::SYS_fallocate, libc::EOPNOTSUPP)]] {
        let Some(folder) = folder() else { return };
        let mut command = folder.memring("log", &["wal"]);
        limit_file_size(&mut command, 1 << 20);
        refuse(&mut command, refusals);
        assert_failed(&run(command), 1, "log: cannot write \"wal\": File too large");
        assert_eq!(folder.names(), ["src"]);
    }
}

#[test]
fn threads_that_the_system_refuses() {
    let Some(folder) = folder() else { return };
    let output =
        log_without(&folder, &[refusal(libc::SYS_clone3, libc::ENOSYS), refusal(libc::SYS_clone, libc::EAGAIN)]);
    let line = assert_failed(&output, 1, "");
    assert!(line.contains("the system refused a thread"), "{line}");
    assert_eq!(folder.names(), ["src"]);
}

#[test]
fn a_report_that_nobody_takes() {
    let Some(folder) = folder() else { return };
    let mut command = folder.memring("log", &["wal", "--records", "1"]);
    command.stdout(OpenOptions::new().write(true).open("/dev/full").expect("a device of every Linux"));
    assert_failed(&run(command), 1, "log: measured, but cannot say so: No space left on device");
    assert_eq!(folder.names(), ["src"]);
}

/// Every record of every contestant, at each of its ends: one changed byte before the log is read back is found.
#[test]
fn a_record_that_is_lost_is_told() {
    let record = record::len(256);
    for (number, name) in NAMES.into_iter().enumerate() {
        for (sequence, byte) in [(0, 0), (0, record - 1), (5, 100)] {
            for keep in [&[][..], &["--keep"]] {
                let Some(folder) = folder() else { return };
                let arguments = [&["wal", "--records", "6", "--threads", "1"], keep].concat();
                let Ok(mut traced) = Traced::start(folder.memring("log", &arguments)) else {
                    return skip("ptrace", "refused");
                };
                traced.run_until(|traced| matches!(traced.call(), Some((libc::SYS_fadvise64, _))));
                flip(&folder.path("wal"), (number * 4096 + sequence * record + byte) as u64);
                let line = format!("log: {name}: record {sequence} was acknowledged, and is torn");
                assert_failed(&traced.release(), 1, &line);
                let left: &[_] = if keep.is_empty() { &["src"] } else { &["src", "wal"] };
                assert_eq!(folder.names(), left);
            }
        }
    }
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("the log");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is in the log");
    file.write_all_at(&[!byte[0]], at).expect("the log takes a byte");
}

#[test]
fn an_interrupt_at_every_system_call_leaves_nothing() {
    let mut interrupted = 0;
    for stop in 0.. {
        let Some(folder) = folder() else { return };
        let command = folder.memring("log", &["wal", "--records", "1", "--threads", "1"]);
        let Ok(mut traced) = Traced::start(command) else { return skip("ptrace", "refused") };
        // Two stops are one system call: its beginning, and its end.
        let lives = (0..2 * stop).all(|_| traced.step());
        traced.signal(libc::SIGINT);
        let output = traced.release();
        assert_eq!(folder.names(), ["src"]);
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => {}
            (Some(_), _) => {
                assert_failed(&output, 1, "log: interrupted; nothing was left behind");
                interrupted += 1;
            }
            // Before there is a handler, and when there is nothing left to undo.
            (None, by) => assert_eq!(by, Some(libc::SIGINT)),
        }
        if !lives {
            break;
        }
    }
    assert!(interrupted > 40, "{interrupted}");
}

#[test]
fn requests_to_end_while_threads_append() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let Some(folder) = folder() else { return };
        let command = folder.memring("log", &["wal", "--seconds", "600", "--threads", "4", "--keep"]);
        let Ok(mut traced) = Traced::start(command) else { return skip("ptrace", "refused") };
        traced.run_until(|traced| {
            let log = folder.path("wal");
            log.exists() && fs::read_dir(format!("/proc/{}/task", traced.pid())).is_ok_and(|tasks| tasks.count() > 4)
        });
        traced.signal(signal);
        assert_failed(&traced.release(), 1, "log: interrupted; nothing was left behind");
        assert_eq!(folder.names(), ["src"], "also if it was to be kept");
    }
}
