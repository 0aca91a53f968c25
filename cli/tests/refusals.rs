//! What cannot be copied is refused: one line, an exit code, and the folder as it was.

mod support;

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use support::refuse::{refusal, refuse};
use support::{Folder, assert_failed, run};

/// Runs it, and checks that it failed like this and changed nothing.
#[track_caller]
fn refused(folder: &Folder, arguments: &[&str], code: i32, line: &str) {
    let before = folder.names();
    assert_failed(&run(folder.cp(arguments)), code, line);
    assert_eq!(folder.names(), before, "nothing is left behind");
}

#[expect(unsafe_code, reason = "mkfifo has no safe interface in std")]
fn make_fifo(folder: &Folder, name: &str) {
    let path = CString::new(folder.path(name).as_os_str().as_bytes()).expect("no NUL in it");
    // SAFETY: the path is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn sources_that_cannot_be_copied() {
    let folder = Folder::with_source(b"text");
    fs::create_dir(folder.path("folder")).expect("a new folder");
    make_fifo(&folder, "fifo");
    let _socket = UnixListener::bind(folder.path("socket")).expect("a socket");
    symlink("nowhere", folder.path("link")).expect("a link");
    refused(&folder, &["missing", "dst"], 1, "cp: cannot read \"missing\": No such file or directory");
    refused(&folder, &["link", "dst"], 1, "cp: cannot read \"link\": No such file or directory");
    refused(&folder, &["src/", "dst"], 1, "cp: cannot read \"src/\": Not a directory");
    refused(&folder, &["folder", "dst"], 1, "cp: \"folder\" is a directory, not a regular file");
    refused(&folder, &["fifo", "dst"], 1, "cp: \"fifo\" is a FIFO, not a regular file");
    refused(&folder, &["socket", "dst"], 1, "cp: \"socket\" is a socket, not a regular file");
    refused(&folder, &["/dev/zero", "dst"], 1, "cp: \"/dev/zero\" is a device, not a regular file");
    refused(
        &folder,
        &["/proc/version", "dst"],
        1,
        "cp: \"/proc/version\" has content but no size, so it cannot be mapped",
    );
}

#[test]
fn destinations_that_cannot_be_made() {
    let folder = Folder::with_source(b"text");
    fs::create_dir_all(folder.path("folder/src")).expect("new folders");
    make_fifo(&folder, "fifo");
    symlink("nowhere", folder.path("link")).expect("a link");
    for more in [&[][..], &["--force"]] {
        let refused =
            |destination: &str, code, line: &str| refused(&folder, &[&["src", destination], more].concat(), code, line);
        refused("missing/dst", 1, "cp: cannot create \"missing/dst\": No such file or directory");
        refused("src/dst", 1, "cp: cannot create \"src/dst\": Not a directory");
        refused("new/", 1, "cp: \"new/\" is not a directory");
        refused("folder", 1, "cp: \"folder/src\" is a directory, not a regular file");
        refused("fifo", 1, "cp: \"fifo\" is a FIFO, not a regular file");
        refused("/dev/null", 1, "cp: \"/dev/null\" is a device, not a regular file");
        refused("link", 1, "cp: \"link\" is a symbolic link that leads nowhere");
        refused("/proc/dst", 1, "cp: cannot create \"/proc/dst\": No such file or directory");
    }
}

#[test]
fn an_existing_destination_needs_force() {
    let folder = Folder::with_source(b"new");
    folder.write("dst", b"old");
    refused(&folder, &["src", "dst"], 1, "cp: \"dst\" exists already (--force replaces it)");
    assert_eq!(folder.read("dst"), b"old");
}

#[test]
fn a_file_is_not_copied_onto_itself() {
    let folder = Folder::with_source(b"text");
    fs::hard_link(folder.path("src"), folder.path("hard")).expect("a link");
    symlink("src", folder.path("soft")).expect("a link");
    for more in [&[][..], &["--force"]] {
        for destination in ["src", "./src", "hard", "soft", "."] {
            let output = run(folder.cp(&[&["src", destination], more].concat()));
            assert_failed(&output, 1, "are the same file");
            assert_eq!(folder.names(), ["hard", "soft", "src"]);
        }
    }
    assert_eq!(folder.read("src"), b"text");
}

#[test]
fn a_name_with_a_line_break_stays_in_one_line() {
    let folder = Folder::with_source(b"text");
    refused(&folder, &["no\nsuch", "dst"], 1, "cannot read \"no\\nsuch\": No such file or directory");
}

#[test]
fn options_that_make_no_sense() {
    let folder = Folder::with_source(b"text");
    let refused = |options: &[&str], line: &str| refused(&folder, &[&["src", "dst"], options].concat(), 2, line);
    refused(&["--chunk", "0"], "a size is at least one byte (see --help)");
    refused(&["--chunk", "0G"], "a size is at least one byte (see --help)");
    let what = "a size is a number of bytes, with K, M or G after it if you like (see --help)";
    for chunk in ["", "K", "1T", "1.5M", "+1", "1 K", "KM", "0x10", "1\u{b2}"] {
        refused(&["--chunk", chunk], what);
    }
    let too_large = format!("a size is at most {} bytes on this machine (see --help)", usize::MAX);
    for chunk in ["18446744073709551616", "17179869184G", "99999999999999999999999999"] {
        refused(&["--chunk", chunk], &too_large);
    }
    refused(&["--entries", "0"], "cp: a queue has 1 to 65536 entries, not 0");
    refused(&["--entries", "65537"], "cp: a queue has 1 to 65536 entries, not 65537");
    refused(&["--workers", "65"], "cp: a queue has at most 64 workers, not 65");
    refused(&["--workers", "many"], "invalid digit found in string (see --help)");
    refused(&["--on", "dsa"], "[possible values: inline, workers] (see --help)");
    refused(&["--nonsense"], "unexpected argument '--nonsense' found (see --help)");
    for arguments in [["", "dst"], ["src", ""]] {
        assert_failed(&run(folder.cp(&arguments)), 2, "but none was supplied (see --help)");
    }
    assert_failed(&run(folder.cp(&["src"])), 2, "were not provided: <DESTINATION> (see --help)");
}

#[test]
fn help_and_version_are_no_errors() {
    for argument in ["--help", "--version"] {
        let output = memring(&[argument]);
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(String::from_utf8_lossy(&output.stdout).contains("memring"));
    }
    assert_eq!(memring(&["--version"]).stdout, format!("memring {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    assert_eq!(memring(&[]).status.code(), Some(2));
}

fn memring(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memring"));
    command.args(arguments);
    run(command)
}

#[test]
fn a_thread_that_the_system_refuses() {
    let folder = Folder::with_source(b"text");
    let mut command = folder.cp(&["src", "dst", "--workers", "2"]);
    refuse(&mut command, &[refusal(libc::SYS_clone3, libc::ENOSYS), refusal(libc::SYS_clone, libc::EAGAIN)]);
    let line = assert_failed(&run(command), 1, "");
    assert!(line.contains("the system refused a thread"), "{line}");
    assert_eq!(folder.names(), ["src"]);
}

#[test]
fn a_report_that_nobody_takes_is_an_error_and_the_copy_is_in_place() {
    let folder = Folder::with_source(b"text");
    let mut command = folder.cp(&["src", "dst"]);
    command.stdout(OpenOptions::new().write(true).open("/dev/full").expect("a device of every Linux"));
    assert_failed(&run(command), 1, "cp: copied, but cannot say so: No space left on device");
    assert_eq!(folder.read("dst"), b"text");
}
