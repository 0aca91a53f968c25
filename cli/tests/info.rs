//! What `memring info` says, also on kernels that refuse io_uring.

mod support;

use std::fs::OpenOptions;

use serde_json::Value;
use support::refuse::{Refusal, refusal, refuse};
use support::{Folder, assert_copied, assert_done, assert_failed, run};

fn info(arguments: &[&str], refusals: &[Refusal]) -> Value {
    let folder = Folder::with_source(b"text");
    let mut command = folder.memring("info", &[&["--json"], arguments].concat());
    refuse(&mut command, refusals);
    serde_json::from_str(&assert_copied(&run(command))).expect("it is JSON")
}

#[test]
fn it_says_what_there_is() {
    let folder = Folder::with_source(b"text");
    let text = assert_done(&run(folder.memring("info", &[])));
    let starts: Vec<_> = text.lines().map(|line| line.split(['0', ':']).next().unwrap_or_default()).collect();
    assert_eq!(starts, ["memring ", "CPUs", "cache flush", "io_uring", "durable flushes"], "{text}");
    let found = info(&[], &[]);
    assert!(found["cpus"].as_u64() >= Some(1));
    assert_eq!(found["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(found["place"], Value::Null);
    #[cfg(target_arch = "x86_64")]
    assert!(found["cache_flush"].as_str().is_some_and(|name| name.starts_with("CL")), "{found}");
}

#[test]
fn it_says_why_io_uring_is_refused_and_what_is_used_instead() {
    for (errno, words) in [(libc::EPERM, "Operation not permitted: "), (libc::ENOSYS, "Function not implemented: ")] {
        let found = info(&[], &[refusal(libc::SYS_io_uring_setup, errno)]);
        assert_eq!(found["io_uring"].as_bool(), Some(false));
        assert!(found["io_uring_refused"].as_str().is_some_and(|why| why.starts_with(words)), "{found}");
        assert_eq!(found["flushes_by"].as_str(), Some("fdatasync"));
    }
    let folder = Folder::with_source(b"text");
    let mut command = folder.memring("info", &[]);
    refuse(&mut command, &[refusal(libc::SYS_io_uring_setup, libc::EPERM)]);
    let text = assert_done(&run(command));
    assert!(text.contains("\nio_uring: refused: Operation not permitted: "), "{text}");
    assert!(text.ends_with("\ndurable flushes: fdatasync on a thread\n"), "{text}");
}

#[test]
fn it_says_what_can_be_promised_of_a_place() {
    let found = info(&["/proc/self"], &[]);
    assert_eq!(found["place"]["file_system"].as_str(), Some("proc"));
    assert_eq!(found["place"]["durable"].as_str(), Some("no"));
    if let Some(folder) = Folder::in_memory(b"text") {
        for name in [".", "src"] {
            let text = assert_done(&run(folder.memring("info", &[name])));
            assert!(text.contains(": tmpfs at "), "{text}");
            assert!(
                text.ends_with("durable: no, tmpfs is kept in memory, and an fsync saves nothing there\n"),
                "{text}"
            );
        }
    }
    if let Some(folder) = Folder::on_disk(b"text") {
        let path = folder.path("src");
        let found = info(&[path.to_str().expect("our own name")], &[]);
        assert_ne!(found["place"]["durable"].as_str(), Some("no"), "{found}");
    }
}

#[test]
fn an_old_kernel_names_no_mount_and_tmpfs_is_known_all_the_same() {
    let Some(folder) = Folder::in_memory(b"text") else { return };
    let mut command = folder.memring("info", &["--json", "."]);
    refuse(&mut command, &[refusal(libc::SYS_statx, libc::ENOSYS)]);
    let found: Value = serde_json::from_str(&assert_copied(&run(command))).expect("it is JSON");
    assert_eq!(found["place"]["file_system"], Value::Null);
    assert_eq!(found["place"]["durable"].as_str(), Some("no"));
}

#[test]
fn what_cannot_be_looked_at() {
    let folder = Folder::with_source(b"text");
    let refused = |arguments: &[&str], code, line: &str| {
        assert_failed(&run(folder.memring("info", arguments)), code, line);
    };
    refused(&["missing"], 1, "info: cannot look at \"missing\": No such file or directory");
    refused(&["src/"], 1, "info: cannot look at \"src/\": Not a directory");
    refused(&["src", "src"], 2, "unexpected argument 'src' found (see --help)");
    let mut command = folder.memring("info", &[]);
    command.stdout(OpenOptions::new().write(true).open("/dev/full").expect("a device of every Linux"));
    assert_failed(&run(command), 1, "info: cannot say what it found: No space left on device");
}
