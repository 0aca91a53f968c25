//! Copies that shall outlive a power cut: what is synced, in which order, and what a failing fsync leaves.
//!
//! No test here cuts the power. They see at which system calls the command asks for what, and what it does when it is
//! refused; that an fsync keeps its word is the file system's promise.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;
use support::refuse::{NO_UNNAMED_FILES, Refusal, obey_permissions, refusal, refuse};
use support::trace::Traced;
use support::{Folder, assert_copied, assert_failed, names, pattern, run, skip};

const SIZE: usize = (1 << 20) + 5000;

#[test]
fn it_copies_every_odd_size_and_keeps_the_mode() {
    for on in ["inline", "workers"] {
        for size in [0, 1, 4095, 4096, 4097, SIZE] {
            let Some(folder) = Folder::on_disk(&pattern(size)) else { return };
            fs::set_permissions(folder.path("src"), Permissions::from_mode(0o640)).expect("the file is ours");
            let arguments = ["src", "dst", "--durable", "--verify", "--on", on, "--chunk", "10000"];
            assert_copied(&run(folder.cp(&arguments)));
            assert!(folder.read("dst") == pattern(size));
            assert_eq!(folder.names(), ["dst", "src"]);
            assert_eq!(fs::metadata(folder.path("dst")).expect("it is there").mode() & 0o7777, 0o640);
        }
    }
}

#[test]
fn it_says_how_many_fsyncs_that_took() {
    let Some(folder) = Folder::on_disk(&pattern(SIZE)) else { return };
    let line = assert_copied(&run(folder.cp(&["src", "dst", "--durable"])));
    assert!(line.contains("; durable by ") && line.contains(" fsyncs, the last ones in "), "{line}");
    let output = run(folder.cp(&["src", "dst", "--durable", "--force", "--json"]));
    let report: Value = serde_json::from_str(&assert_copied(&output)).expect("it is JSON");
    assert_eq!(report["durable"].as_bool(), Some(true));
    assert!(report["fsyncs"].as_u64() >= Some(2), "of the file and of its folder: {report}");
    assert!(report["sync_seconds"].as_f64() > Some(0.0));
    let output = run(folder.cp(&["src", "dst", "--force", "--json"]));
    let report: Value = serde_json::from_str(&assert_copied(&output)).expect("it is JSON");
    assert_eq!((&report["durable"], &report["fsyncs"]), (&Value::Bool(false), &Value::Null));
}

/// The system calls of the main thread that make a copy durable or give it its name, in their order.
fn steps(folder: &Folder, arguments: &[&str], refusals: &[Refusal]) -> Option<Vec<&'static str>> {
    let mut command = folder.cp(&[&["src", "dst"], arguments].concat());
    refuse(&mut command, refusals);
    let mut traced = Traced::start(command).map_err(|error| skip("ptrace", error)).ok()?;
    let mut steps = Vec::new();
    let mut is_beginning = false;
    while traced.step() {
        is_beginning = !is_beginning;
        let Some((call, first)) = traced.call().filter(|_| is_beginning) else { continue };
        let is_folder = traced.file_of(first).is_some_and(|file| file.is_dir());
        match call {
            libc::SYS_fchmod => steps.push("mode"),
            libc::SYS_fsync if is_folder => steps.push("sync folder"),
            libc::SYS_fsync => steps.push("sync file"),
            libc::SYS_linkat => steps.push("link"),
            libc::SYS_renameat | libc::SYS_renameat2 => steps.push("rename"),
            libc::SYS_unlinkat => steps.push("unlink"),
            _ => {}
        }
    }
    assert_copied(&traced.release());
    Some(steps)
}

#[test]
fn the_name_is_given_after_the_file_and_before_the_folder_is_synced() {
    let Some(folder) = Folder::on_disk(&pattern(SIZE)) else { return };
    let new = || fs::remove_file(folder.path("dst")).expect("it is there");
    let Some(found) = steps(&folder, &["--durable"], &[]) else { return };
    if found.contains(&"rename") {
        return skip("O_TMPFILE", "the draft has a name");
    }
    assert_eq!(found, ["mode", "sync file", "link", "sync file", "sync folder"]);
    let found = steps(&folder, &["--durable", "--force"], &[]);
    assert_eq!(found.expect("as before"), ["mode", "sync file", "link", "rename", "sync file", "sync folder"]);
    new();
    let found = steps(&folder, &["--durable"], &[NO_UNNAMED_FILES]);
    assert_eq!(found.expect("as before"), ["mode", "sync file", "rename", "sync folder"]);
    new();
    // A temporary name is gone before the folder is synced: it must not come back.
    let no_rename_flags = refusal(libc::SYS_renameat2, libc::EINVAL);
    let found = steps(&folder, &["--durable"], &[NO_UNNAMED_FILES, no_rename_flags]);
    assert_eq!(found.expect("as before"), ["mode", "sync file", "rename", "link", "unlink", "sync folder"]);
    new();
    assert_eq!(steps(&folder, &[], &[]).expect("as before"), ["mode", "link"], "and nothing is synced unasked");
}

#[test]
fn a_failing_fsync_is_told_and_nothing_is_put_in_place() {
    // By memring, while it is copied, and by the command itself.
    let fsync = refusal(libc::SYS_fsync, libc::EIO);
    let all = [refusal(libc::SYS_io_uring_setup, libc::EPERM), refusal(libc::SYS_fdatasync, libc::EIO), fsync];
    for refusals in [&all[2..], &all] {
        for way in [&[][..], &[NO_UNNAMED_FILES]] {
            for more in [&[][..], &["--force"]] {
                let Some(folder) = Folder::on_disk(&pattern(SIZE)) else { return };
                if !more.is_empty() {
                    folder.write("dst", b"old");
                }
                let before = folder.names();
                let mut command = folder.cp(&[&["src", "dst", "--durable"], more].concat());
                refuse(&mut command, &[refusals, way].concat());
                assert_failed(&run(command), 1, "cp: cannot sync \"dst\": Input/output error");
                assert_eq!(folder.names(), before, "nothing is left behind");
                assert!(more.is_empty() || folder.read("dst") == b"old");
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_folder_that_cannot_be_synced_is_told_and_the_copy_is_in_place() {
    let Some(folder) = Folder::on_disk(&pattern(SIZE)) else { return };
    let Ok(mut traced) = Traced::start(folder.cp(&["src", "dst", "--durable"])) else {
        return skip("ptrace", "refused");
    };
    let is_folder = |traced: &Traced, descriptor| traced.file_of(descriptor).is_some_and(|file| file.is_dir());
    traced.run_until(
        |traced| matches!(traced.call(), Some((libc::SYS_fsync, descriptor)) if is_folder(traced, descriptor)),
    );
    traced.refuse_this_call();
    let line = "cp: \"dst\" is in place, but a crash may undo that: cannot sync it: Function not implemented";
    assert_failed(&traced.release(), 1, line);
    assert!(folder.read("dst") == pattern(SIZE));
    assert_eq!(folder.names(), ["dst", "src"]);
}

#[test]
fn what_is_kept_in_memory_is_refused() {
    let Some(folder) = Folder::in_memory(&pattern(SIZE)) else { return };
    for more in [&[][..], &["--force"]] {
        let output = run(folder.cp(&[&["src", "dst", "--durable"], more].concat()));
        let line = "cp: \"dst\" cannot be made durable: tmpfs is kept in memory, and an fsync saves nothing there";
        assert_failed(&output, 1, line);
        assert_eq!(folder.names(), ["src"]);
    }
    assert_copied(&run(folder.cp(&["src", "dst"])));
    // The source may be anywhere.
    let Some(disk) = Folder::on_disk(b"") else { return };
    let source = folder.path("src");
    let arguments = [source.to_str().expect("our own name"), "dst", "--durable"];
    assert_copied(&run(disk.cp(&arguments)));
    assert!(disk.read("dst") == pattern(SIZE));
}

#[test]
fn folders_without_permission() {
    let Some(folder) = Folder::on_disk(b"text") else { return };
    let within = folder.path("in");
    fs::create_dir(&within).expect("a new folder");
    let refused = |mode, line: &str| {
        fs::set_permissions(&within, Permissions::from_mode(mode)).expect("it is ours");
        let mut command = folder.cp(&["src", "in/dst", "--durable"]);
        obey_permissions(&mut command);
        let output = run(command);
        fs::set_permissions(&within, Permissions::from_mode(0o700)).expect("it is ours");
        assert_failed(&output, 1, line);
        assert!(names(Path::new(&within)).is_empty(), "nothing is left behind");
    };
    refused(0o500, "cp: cannot create \"in/dst\": Permission denied");
    // A file could be made there, and its folder never be synced.
    refused(0o300, "cp: cannot sync the folder of \"in/dst\": Permission denied");
}

#[test]
fn what_is_refused_without_it_is_refused_with_it() {
    let Some(folder) = Folder::on_disk(b"text") else { return };
    folder.write("dst", b"old");
    let refused = |source: &str, destination: &str, line: &str| {
        assert_failed(&run(folder.cp(&["--durable", source, destination])), 1, line);
        assert_eq!(folder.names(), ["dst", "src"]);
    };
    refused("missing", "new", "cp: cannot read \"missing\": No such file or directory");
    refused("src", "dst", "cp: \"dst\" exists already (--force replaces it)");
    refused("src", "missing/dst", "cp: cannot create \"missing/dst\": No such file or directory");
}
