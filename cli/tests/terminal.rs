//! The progress bar: on a terminal there is one, in a pipe there is none.
#![expect(unsafe_code, reason = "openpty has no safe interface")]

mod support;

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;
use std::ptr;

use support::{Folder, assert_copied, pattern, run};

/// Both ends of a pseudo-terminal.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both descriptors have room; no name, settings or size are asked for.
    let made = unsafe { libc::openpty(&mut ours, &mut theirs, ptr::null_mut(), ptr::null(), ptr::null()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: openpty has just made it, and nobody else owns it.
    let ours = unsafe { OwnedFd::from_raw_fd(ours) };
    // SAFETY: as above.
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    (File::from(ours), theirs)
}

#[test]
fn a_bar_on_a_terminal() {
    let folder = Folder::with_source(&pattern(1 << 20));
    let (mut ours, theirs) = terminal();
    let mut command = folder.cp(&["src", "dst"]);
    command.env("TERM", "xterm").stderr(theirs).stdout(Stdio::piped());
    let output = command.spawn().and_then(|child| child.wait_with_output()).expect("it runs");
    // The last holder of the other end is the command; without it, reading ends once what it wrote is read.
    drop(command);
    let mut drawn = Vec::new();
    // The end of a terminal is an error (EIO) after its content.
    let _ = ours.read_to_end(&mut drawn);
    let drawn = String::from_utf8_lossy(&drawn);
    assert!(output.status.success());
    assert!(drawn.contains("1.00 MiB"), "a bar was drawn: {drawn:?}");
    assert!(drawn.ends_with("\u{1b}[2K"), "it is gone at the end: {drawn:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("1048576 bytes, "),
        "the closing line is not on stderr"
    );
}

#[test]
fn no_bar_in_a_pipe() {
    let folder = Folder::with_source(&pattern(1 << 20));
    assert_copied(&run(folder.cp(&["src", "dst"])));
}
