//! What the tests of the command share: running it, and looking at what it left.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod refuse;
pub(crate) mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder of a test's own, with `src` in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn with_source(bytes: &[u8]) -> Self {
        let folder = Self(TempDir::new().expect("a temporary folder"));
        folder.write("src", bytes);
        folder
    }

    /// As above, on a file system that an fsync means something on; none, loudly, if there is none here.
    pub(crate) fn on_disk(bytes: &[u8]) -> Option<Self> {
        let folder = Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder"));
        if is_in_memory(folder.0.path()) {
            skip("disk", "the target folder is kept in memory");
            return None;
        }
        folder.write("src", bytes);
        Some(folder)
    }

    /// As above, kept in memory.
    pub(crate) fn in_memory(bytes: &[u8]) -> Option<Self> {
        let folder = TempDir::new_in("/dev/shm").ok().filter(|folder| is_in_memory(folder.path()));
        let Some(folder) = folder.map(Self) else {
            skip("tmpfs", "/dev/shm is none, or takes no folder");
            return None;
        };
        folder.write("src", bytes);
        Some(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the temporary folder takes files");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("the file can be read")
    }

    /// The names in it, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// `memring cp`, with this folder as its current one.
    pub(crate) fn cp(&self, arguments: &[&str]) -> Command {
        self.memring("cp", arguments)
    }

    /// Another of its commands, likewise.
    pub(crate) fn memring(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memring"));
        command.arg(name).args(arguments).current_dir(self.0.path());
        command
    }
}

fn is_in_memory(folder: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    let status = rustix::fs::statfs(folder).expect("a folder is on a file system");
    status.f_type as u64 == TMPFS
}

/// The names in a folder, hidden ones too, in their order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let mut names: Vec<_> = entries.map(|entry| name(&entry.expect("an entry"))).collect();
    names.sort();
    names
}

fn name(entry: &fs::DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

pub(crate) fn run(mut command: Command) -> Output {
    command.output().expect("the command can be started")
}

/// Bytes that tell a chunk in the wrong place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]).collect()
}

/// It succeeded, and said something, on stdout alone.
#[track_caller]
pub(crate) fn assert_done(output: &Output) -> String {
    let (stdout, stderr) = texts(output);
    assert!(output.status.success(), "{:?}: {stderr}", output.status);
    assert_eq!(stderr, "", "nothing on stderr");
    stdout
}

/// It succeeded, and said one line, on stdout.
#[track_caller]
pub(crate) fn assert_copied(output: &Output) -> String {
    let stdout = assert_done(output);
    assert_eq!(stdout.lines().count(), 1, "one closing line: {stdout:?}");
    stdout
}

/// It failed with this code and one line on stderr, which begins and ends as expected.
#[track_caller]
pub(crate) fn assert_failed(output: &Output, code: i32, end: &str) -> String {
    let (stdout, stderr) = texts(output);
    assert_eq!(output.status.code(), Some(code), "{:?}: {stderr}", output.status);
    assert_eq!(stdout, "", "nothing on stdout");
    assert!(stderr.starts_with("memring: ") && stderr.ends_with('\n'), "a line of memring's: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr:?}");
    assert!(stderr.trim_end().ends_with(end), "{stderr:?} ends with {end:?}");
    stderr
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Says that a test could not do its work here, or fails if `MEMRING_REQUIRE` names what is missing.
pub(crate) fn skip(what: &str, reason: impl std::fmt::Display) {
    let required = std::env::var("MEMRING_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == what), "{what} is required: {reason}");
    eprintln!("SKIP 1 test, no {what}: {reason}");
}
