//! Copies that end early: signals, kills, files that shrink. The destination is whole or not there, and nothing else
//! is.
//!
//! The command is stopped at a system call, something is done to it or to its files, and it is let go: no test depends
//! on being quick. The sweeps do so at *every* system call of the main thread.

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Output;

use support::refuse::{NO_UNNAMED_FILES, refuse};
use support::trace::Traced;
use support::{Folder, assert_failed, pattern, skip};

const CHUNKS: usize = 5;
const SIZE: usize = CHUNKS * 4096 + 1000;
/// Many batches; before each the main thread makes a system call, at which it can be stopped.
const LARGE: usize = 8 << 20;

/// Runs `memring cp src dst` with these further arguments and stops it when it is about to copy.
fn about_to_copy(folder: &Folder, arguments: &[&str]) -> Option<Traced> {
    let command = folder.cp(&[&["src", "dst", "--chunk", "4K"], arguments].concat());
    let mut traced = Traced::start(command).map_err(|error| skip("ptrace", error)).ok()?;
    traced.run_until(Traced::has_mapped_its_draft);
    Some(traced)
}

/// As [`about_to_copy`], but some of the many batches have been copied already, and the workers are at it.
fn in_the_middle(folder: &Folder, arguments: &[&str]) -> Option<Traced> {
    let mut traced = about_to_copy(folder, arguments)?;
    let draft = File::open(draft(&traced)).expect("the draft");
    traced.run_until(|_| {
        let mut byte = [0];
        draft.read_exact_at(&mut byte, 4095).expect("it has its length from the beginning");
        byte != [0]
    });
    Some(traced)
}

const WAYS: [[&str; 2]; 4] = [["--on", "inline"], ["--workers", "0"], ["--workers", "1"], ["--workers", "2"]];

fn shrink(file: &File, len: usize) {
    file.set_len(len as u64).expect("the file can be cut");
}

#[test]
fn a_source_that_shrinks() {
    // To nothing, to a part, and within its last page, where no signal tells.
    for len in [0, SIZE / 2, SIZE - 1] {
        for arguments in WAYS {
            let folder = Folder::with_source(&pattern(SIZE));
            let Some(traced) = about_to_copy(&folder, &arguments) else { return };
            shrink(&OpenOptions::new().write(true).open(folder.path("src")).expect("the source"), len);
            assert_failed(&traced.release(), 1, "cp: \"src\" shrank while it was copied");
            assert_eq!(folder.names(), ["src"], "nothing is left behind");
        }
    }
}

#[test]
fn a_source_that_shrinks_in_the_middle() {
    for arguments in WAYS {
        let folder = Folder::with_source(&vec![7; LARGE]);
        let Some(traced) = in_the_middle(&folder, &arguments) else { return };
        shrink(&OpenOptions::new().write(true).open(folder.path("src")).expect("the source"), 4096);
        assert_failed(&traced.release(), 1, "cp: \"src\" shrank while it was copied");
        assert_eq!(folder.names(), ["src"]);
    }
}

#[test]
fn an_interrupt_in_the_middle() {
    for arguments in WAYS {
        let folder = Folder::with_source(&vec![7; LARGE]);
        let Some(traced) = in_the_middle(&folder, &arguments) else { return };
        traced.signal(libc::SIGINT);
        assert_failed(&traced.release(), 1, "cp: interrupted; nothing was left behind");
        assert_eq!(folder.names(), ["src"]);
    }
}

#[test]
fn a_source_that_grows_is_copied_as_long_as_it_was() {
    let folder = Folder::with_source(&pattern(SIZE));
    let Some(traced) = about_to_copy(&folder, &["--verify"]) else { return };
    folder.write("src", &pattern(2 * SIZE));
    support::assert_copied(&traced.release());
    assert!(folder.read("dst") == pattern(SIZE));
}

#[test]
fn a_destination_that_loses_its_pages() {
    let folder = Folder::with_source(&pattern(SIZE));
    let Some(traced) = about_to_copy(&folder, &[]) else { return };
    shrink(&OpenOptions::new().write(true).open(draft(&traced)).expect("the draft"), 0);
    assert_failed(&traced.release(), 1, "cp: cannot write \"dst\": the disk is full or failing");
    assert_eq!(folder.names(), ["src"]);
}

/// The draft without a name, by way of the descriptor that the command has for it.
fn draft(traced: &Traced) -> PathBuf {
    let is_draft = |path: &PathBuf| fs::read_link(path).is_ok_and(|file| file.to_string_lossy().ends_with("(deleted)"));
    let own = fs::read_dir(format!("/proc/{}/fd", traced.pid())).expect("its descriptors");
    own.map(|entry| entry.expect("an entry").path()).find(is_draft).expect("a draft")
}

#[test]
fn a_source_that_shrinks_before_the_comparing() {
    for len in [0, SIZE / 2, SIZE - 1] {
        let folder = Folder::with_source(&pattern(SIZE));
        let arguments = ["--on", "inline", "--workers", "1", "--verify"];
        let Some(mut traced) = about_to_copy(&folder, &arguments) else { return };
        traced.run_until(|traced| fs::read(draft(traced)).expect("the draft") == pattern(SIZE));
        shrink(&OpenOptions::new().write(true).open(folder.path("src")).expect("the source"), len);
        assert_failed(&traced.release(), 1, "cp: \"src\" shrank while it was copied");
        assert_eq!(folder.names(), ["src"]);
    }
}

#[test]
fn a_source_that_changes_before_the_comparing() {
    let folder = Folder::with_source(&pattern(SIZE));
    // The worker sleeps, so that waking it for its end is a system call between the copying and the comparing.
    let arguments = ["--on", "inline", "--workers", "1", "--verify"];
    let Some(mut traced) = about_to_copy(&folder, &arguments) else { return };
    traced.run_until(|traced| fs::read(draft(traced)).expect("the draft") == pattern(SIZE));
    let source = OpenOptions::new().write(true).open(folder.path("src")).expect("the source");
    source.write_all_at(&[!pattern(SIZE)[4321]], 4321).expect("the source takes a byte");
    assert_failed(&traced.release(), 1, "cp: \"src\" and its copy differ at offset 4321");
    assert_eq!(folder.names(), ["src"]);
}

#[test]
fn requests_to_end() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let folder = Folder::with_source(&pattern(SIZE));
        let Some(traced) = about_to_copy(&folder, &[]) else { return };
        traced.signal(signal);
        assert_failed(&traced.release(), 1, "cp: interrupted; nothing was left behind");
        assert_eq!(folder.names(), ["src"]);
    }
}

#[test]
fn a_sigbus_that_is_not_ours_is_not_swallowed() {
    let folder = Folder::with_source(&pattern(SIZE));
    let Some(traced) = about_to_copy(&folder, &[]) else { return };
    traced.signal(libc::SIGBUS);
    let output = traced.release();
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{:?}", output.status);
    assert_eq!(folder.names(), ["src"]);
}

#[test]
fn a_destination_that_appears_meanwhile_is_not_replaced() {
    for unnamed in [true, false] {
        let folder = Folder::with_source(&pattern(SIZE));
        let mut command = folder.cp(&["src", "dst"]);
        if !unnamed {
            refuse(&mut command, &[NO_UNNAMED_FILES]);
        }
        let Ok(mut traced) = Traced::start(command) else { return skip("ptrace", "refused") };
        traced.run_until(Traced::has_mapped_its_draft);
        folder.write("dst", b"somebody else's");
        assert_failed(&traced.release(), 1, "cp: \"dst\" exists already (--force replaces it)");
        assert_eq!(folder.read("dst"), b"somebody else's");
        assert_eq!(folder.names(), ["dst", "src"]);
    }
}

/// How a sweep's runs ended.
#[derive(Default)]
struct Ends {
    copied: usize,
    interrupted: usize,
    killed: usize,
}

/// Sends the signal at every system call of the main thread, one run for each, and checks what each run leaves.
fn sweep(signal: i32, arguments: &[&str], unnamed: bool, mut check: impl FnMut(&Folder, &Output)) -> Option<Ends> {
    let mut ends = Ends::default();
    for stop in 0.. {
        let folder = if arguments.contains(&"--durable") {
            Folder::on_disk(&pattern(SIZE))?
        } else {
            Folder::with_source(&pattern(SIZE))
        };
        let mut command = folder.cp(&[&["src", "dst", "--chunk", "4K", "--workers", "1"], arguments].concat());
        if !unnamed {
            refuse(&mut command, &[NO_UNNAMED_FILES]);
        }
        if arguments.contains(&"--force") {
            folder.write("dst", b"old");
        }
        let mut traced = Traced::start(command).map_err(|error| skip("ptrace", error)).ok()?;
        // Two stops are one system call: its beginning, and its end, when it has acted and the program does not know
        // yet.
        let lives = (0..2 * stop).all(|_| traced.step());
        traced.signal(signal);
        let output = traced.release();
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => ends.copied += 1,
            (Some(_), _) => {
                assert_failed(&output, 1, "cp: interrupted; nothing was left behind");
                ends.interrupted += 1;
            }
            (None, by) => {
                assert_eq!(by, Some(signal));
                ends.killed += 1;
            }
        }
        check(&folder, &output);
        if !lives {
            return Some(ends);
        }
    }
    None
}

#[test]
fn an_interrupt_at_every_system_call() {
    for unnamed in [true, false] {
        let ends = sweep(libc::SIGINT, &[], unnamed, |folder, output| {
            if folder.path("dst").exists() {
                assert_eq!(folder.names(), ["dst", "src"]);
                assert!(folder.read("dst") == pattern(SIZE));
                assert_ne!(output.status.code(), Some(1), "it said that nothing was left");
            } else {
                assert_eq!(folder.names(), ["src"]);
                assert!(!output.status.success());
            }
        });
        let Some(ends) = ends else { return };
        assert!(ends.interrupted > 20 && ends.copied > 0, "{} {}", ends.interrupted, ends.copied);
    }
}

#[test]
fn an_interrupt_at_every_system_call_of_a_replacement() {
    let ends = sweep(libc::SIGINT, &["--force"], true, |folder, output| {
        assert_eq!(folder.names(), ["dst", "src"]);
        let whole = folder.read("dst") == pattern(SIZE);
        assert!(whole || folder.read("dst") == b"old");
        assert!(whole || !output.status.success());
    });
    let Some(ends) = ends else { return };
    assert!(ends.interrupted > 20 && ends.copied > 0);
}

/// What is published is durable, so an interrupt that comes while the folder is synced has come too late.
#[test]
fn an_interrupt_at_every_system_call_of_a_durable_copy() {
    for arguments in [&["--durable"][..], &["--durable", "--force"]] {
        let ends = sweep(libc::SIGINT, arguments, true, |folder, output| {
            let whole = folder.path("dst").exists() && folder.read("dst") == pattern(SIZE);
            assert!(whole || !output.status.success());
            assert!(!whole || output.status.code() != Some(1), "it said that nothing was left");
            assert!(folder.names() == ["src"] || folder.names() == ["dst", "src"]);
        });
        let Some(ends) = ends else { return };
        assert!(ends.interrupted > 20 && ends.copied > 0, "{} {}", ends.interrupted, ends.copied);
    }
}

#[test]
fn a_kill_at_every_system_call() {
    let unnamed = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(std::env::temp_dir());
    if let Err(error) = unnamed {
        return skip("O_TMPFILE", error);
    }
    let ends = sweep(libc::SIGKILL, &[], true, |folder, _| {
        if folder.path("dst").exists() {
            assert_eq!(folder.names(), ["dst", "src"]);
            assert!(folder.read("dst") == pattern(SIZE));
        } else {
            assert_eq!(folder.names(), ["src"]);
        }
    });
    let Some(ends) = ends else { return };
    assert!(ends.killed > 20);
}
