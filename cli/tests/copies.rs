//! Copies that succeed: every mover, odd sizes, modes, names, and what is said about them.
//!
//! The real command on real files; each copy is compared byte by byte, and the folder must hold nothing else
//! afterwards.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::Value;
use support::{Folder, assert_copied, assert_failed, pattern, run};

/// Copies `src` to `dst` with these further arguments, and looks at everything.
#[track_caller]
fn copy(folder: &Folder, arguments: &[&str]) -> String {
    let output = run(folder.cp(&[&["src", "dst"], arguments].concat()));
    let line = assert_copied(&output);
    assert!(folder.read("src") == folder.read("dst"), "the bytes differ");
    assert_eq!(folder.names(), ["dst", "src"]);
    line
}

#[test]
fn every_mover_copies_every_odd_size() {
    for on in ["inline", "workers"] {
        for workers in ["0", "1", "2"] {
            for size in [0, 1, 4095, 4096, 4097, 65536 + 1] {
                let folder = Folder::with_source(&pattern(size));
                copy(&folder, &["--on", on, "--workers", workers, "--chunk", "4K", "--verify"]);
            }
        }
    }
}

#[test]
fn one_byte_more_than_a_chunk_is_two_operations() {
    let folder = Folder::with_source(&pattern((256 << 10) + 1));
    assert!(copy(&folder, &["--chunk", "256K"]).starts_with("262145 bytes, 2 operations, "));
}

#[test]
fn a_large_file_goes_through_a_small_queue() {
    let folder = Folder::with_source(&pattern((40 << 20) + 4097));
    for entries in ["1", "3", "64", "65536"] {
        copy(&folder, &["--entries", entries, "--chunk", "16K", "--verify", "--force"]);
    }
}

#[test]
fn chunks_may_be_single_bytes_or_larger_than_the_file() {
    let folder = Folder::with_source(&pattern(10_000));
    assert!(copy(&folder, &["--chunk", "1"]).starts_with("10000 bytes, 10000 operations, "));
    assert!(copy(&folder, &["--chunk", "17179869183G", "--force"]).starts_with("10000 bytes, 1 operations, "));
}

#[test]
fn the_mode_is_kept_whatever_the_umask() {
    for mode in [0o400, 0o640, 0o755, 0o666, 0o4755, 0o2711] {
        let folder = Folder::with_source(b"text");
        fs::set_permissions(folder.path("src"), Permissions::from_mode(mode)).expect("the file is ours");
        copy(&folder, &[]);
        let copied = fs::metadata(folder.path("dst")).expect("it is there").mode() & 0o7777;
        assert_eq!(copied, mode, "{copied:o} is not {mode:o}");
    }
}

#[test]
fn a_directory_as_destination_means_into_it() {
    let folder = Folder::with_source(b"text");
    fs::create_dir(folder.path("into")).expect("a new folder");
    for destination in ["into", "into/", "into/."] {
        assert_copied(&run(folder.cp(&["--force", "src", destination])));
        assert_eq!(folder.read("into/src"), b"text");
    }
    assert_eq!(support::names(&folder.path("into")), ["src"]);
    assert_failed(&run(folder.cp(&["src", "into"])), 1, "\"into/src\" exists already (--force replaces it)");
}

#[test]
fn force_replaces_the_file_and_not_the_name_of_another() {
    let folder = Folder::with_source(b"new");
    folder.write("dst", b"old, and longer");
    fs::hard_link(folder.path("dst"), folder.path("kept")).expect("a link");
    assert_copied(&run(folder.cp(&["--force", "src", "dst"])));
    assert_eq!(folder.read("dst"), b"new");
    assert_eq!(folder.read("kept"), b"old, and longer", "it was replaced, not overwritten");
    assert_eq!(folder.names(), ["dst", "kept", "src"]);
}

#[test]
fn force_replaces_what_a_symbolic_link_leads_to() {
    let folder = Folder::with_source(b"new");
    fs::create_dir(folder.path("elsewhere")).expect("a new folder");
    folder.write("elsewhere/dst", b"old");
    symlink("elsewhere/dst", folder.path("link")).expect("a link");
    assert_copied(&run(folder.cp(&["--force", "src", "link"])));
    assert!(folder.path("link").is_symlink());
    assert_eq!(folder.read("elsewhere/dst"), b"new");
    assert_eq!(support::names(&folder.path("elsewhere")), ["dst"]);
}

#[test]
fn strange_names_are_names() {
    let folder = Folder::with_source(b"text");
    let long = "n".repeat(255);
    for name in ["-", "a \"b\"\n\\c", long.as_str()] {
        assert_copied(&run(folder.cp(&["--json", "--", "src", name])));
        assert_eq!(folder.read(name), b"text");
    }
}

#[test]
fn the_closing_line_says_who_did_what() {
    let folder = Folder::with_source(&pattern(100 << 10));
    let line = copy(&folder, &["--on", "inline", "--chunk", "4K"]);
    assert!(line.starts_with("102400 bytes, 25 operations, ") && line.contains(" GB/s; "), "{line}");
    assert!(line.ends_with("; the submitting thread did 25\n"), "{line}");
    let line = copy(&folder, &["--workers", "0", "--chunk", "4K", "--force", "--verify"]);
    assert!(line.contains("; the waiting thread did 25; verified in "), "{line}");
}

#[test]
fn json_is_one_object_and_its_sums_are_right() {
    let folder = Folder::with_source(&pattern((1 << 20) + 5));
    for on in ["inline", "workers"] {
        let arguments =
            ["--json", "--verify", "--force", "--on", on, "--workers", "2", "--chunk", "8k", "--entries", "16"];
        let report: Value = serde_json::from_str(&copy(&folder, &arguments)).expect("it is JSON");
        let drivers = report["drivers"].as_array().expect("a list");
        let sum = |field: &str| drivers.iter().map(|driver| driver[field].as_u64().expect("a number")).sum::<u64>();
        assert_eq!((sum("operations"), sum("bytes")), (129, (1 << 20) + 5));
        assert_eq!((report["operations"].as_u64(), report["bytes"].as_u64()), (Some(129), Some((1 << 20) + 5)));
        assert_eq!(report["verified"].as_bool(), Some(true));
        assert_eq!(report["on"].as_str(), Some(on));
        assert_eq!((report["chunk"].as_u64(), report["entries"].as_u64()), (Some(8192), Some(16)));
        assert_eq!(report["workers"].as_u64(), Some(2));
        assert_eq!(drivers.len(), 4, "the submitter, two workers, the waiting thread");
        assert!(report["seconds"].as_f64().expect("a number") > 0.0);
        assert!(report["gb_per_s"].as_f64().expect("a number") > 0.0);
        assert_eq!(report["source"].as_str(), Some("src"));
    }
}

#[test]
fn an_empty_file_is_reported_too() {
    let folder = Folder::with_source(b"");
    let report: Value = serde_json::from_str(&copy(&folder, &["--json", "--verify"])).expect("it is JSON");
    assert_eq!((report["operations"].as_u64(), report["bytes"].as_u64()), (Some(0), Some(0)));
    assert_eq!(report["gb_per_s"].as_f64(), Some(0.0));
}
