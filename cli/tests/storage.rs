//! File systems that are full, limited, or lack what the command would like to use.
//!
//! Missing features and limits are made by the kernel in the child (seccomp, rlimits), so they need no privilege and no
//! particular file system; a file system that is truly full needs a mount, and with it the privilege.

mod support;

use std::io;
use std::path::Path;
use std::thread;

use support::refuse::{NO_UNNAMED_FILES, Refusal, limit_file_size, refusal, refuse};
use support::{Folder, assert_copied, assert_failed, names, pattern, run, skip};

const SIZE: usize = (1 << 20) + 5000;
const NO_FALLOCATE: Refusal = refusal(libc::SYS_fallocate, libc::EOPNOTSUPP);
const NO_RENAME_FLAGS: Refusal = refusal(libc::SYS_renameat2, libc::EINVAL);
const NO_LINKS: Refusal = refusal(libc::SYS_linkat, libc::EPERM);

fn cp_without(folder: &Folder, arguments: &[&str], refusals: &[Refusal]) -> std::process::Output {
    let mut command = folder.cp(arguments);
    refuse(&mut command, refusals);
    run(command)
}

#[test]
fn without_unnamed_files_it_uses_a_temporary_name() {
    let folder = Folder::with_source(&pattern(SIZE));
    assert_copied(&cp_without(&folder, &["src", "dst"], &[NO_UNNAMED_FILES]));
    assert_copied(&cp_without(&folder, &["src", "dst", "--force"], &[NO_UNNAMED_FILES]));
    assert!(folder.read("dst") == pattern(SIZE));
    assert_eq!(folder.names(), ["dst", "src"]);
}

#[test]
fn without_a_rename_that_refuses_it_links() {
    let folder = Folder::with_source(&pattern(SIZE));
    let refusals = [NO_UNNAMED_FILES, NO_RENAME_FLAGS];
    assert_copied(&cp_without(&folder, &["src", "dst"], &refusals));
    assert!(folder.read("dst") == pattern(SIZE));
    assert_eq!(folder.names(), ["dst", "src"]);
}

#[test]
fn with_neither_it_says_so() {
    let folder = Folder::with_source(&pattern(SIZE));
    let refusals = [NO_UNNAMED_FILES, NO_RENAME_FLAGS, NO_LINKS];
    let output = cp_without(&folder, &["src", "dst"], &refusals);
    let line = "cp: \"dst\" is on a file system that may replace a file when it names one (--force allows that)";
    assert_failed(&output, 1, line);
    assert_eq!(folder.names(), ["src"]);
}

#[test]
fn without_fallocate_it_writes_zeros_and_says_so() {
    let folder = Folder::with_source(&pattern(SIZE));
    let line = assert_copied(&cp_without(&folder, &["src", "dst"], &[NO_FALLOCATE]));
    assert!(line.ends_with("; no fallocate here, so the space was reserved by writing zeros\n"), "{line}");
    assert!(folder.read("dst") == pattern(SIZE));
}

#[test]
fn a_file_system_that_keeps_no_modes_gets_the_file_all_the_same() {
    let folder = Folder::with_source(&pattern(SIZE));
    assert_copied(&cp_without(&folder, &["src", "dst"], &[refusal(libc::SYS_fchmod, libc::EPERM)]));
    assert!(folder.read("dst") == pattern(SIZE));
}

/// The ways a copy gets its space and its name: each must clean up after a failure.
const WAYS: [&[Refusal]; 4] = [&[], &[NO_FALLOCATE], &[NO_UNNAMED_FILES], &[NO_FALLOCATE, NO_UNNAMED_FILES]];

#[test]
fn over_the_limit_of_file_sizes() {
    for way in WAYS {
        let folder = Folder::with_source(&pattern(SIZE));
        let mut command = folder.cp(&["src", "dst"]);
        limit_file_size(&mut command, 1 << 20);
        refuse(&mut command, way);
        assert_failed(&run(command), 1, "cp: cannot write \"dst\": File too large");
        assert_eq!(folder.names(), ["src"], "nothing is left behind");
    }
}

#[test]
fn a_full_disk_in_words_of_the_kernel() {
    let folder = Folder::with_source(&pattern(SIZE));
    folder.write("dst", b"old");
    let refusals = [refusal(libc::SYS_fallocate, libc::ENOSPC)];
    let output = cp_without(&folder, &["src", "dst", "--force"], &refusals);
    assert_failed(&output, 1, "cp: cannot write \"dst\": No space left on device");
    assert_eq!(folder.names(), ["dst", "src"]);
    assert_eq!(folder.read("dst"), b"old");
}

/// A tmpfs of 1 MiB, which only the thread that mounts it and its children see.
#[test]
fn a_full_disk() {
    let folder = Folder::with_source(&pattern(SIZE));
    std::fs::create_dir(folder.path("disk")).expect("a new folder");
    let on_the_disk = || {
        let disk = folder.path("disk");
        if let Err(error) = mount_small(&disk) {
            return skip("mount", error);
        }
        for way in WAYS {
            let output = cp_without(&folder, &["src", "disk/dst"], way);
            assert_failed(&output, 1, "cp: cannot write \"disk/dst\": No space left on device");
            assert!(names(&disk).is_empty(), "nothing is left behind");
        }
        // What fits, fits: the failures gave their space back.
        folder.write("small", &pattern(900 << 10));
        for way in WAYS {
            assert_copied(&cp_without(&folder, &["small", "disk/dst", "--verify"], way));
            std::fs::remove_file(disk.join("dst")).expect("it is there");
        }
    };
    thread::scope(|scope| scope.spawn(on_the_disk).join()).expect("the thread's assertions hold");
}

#[expect(unsafe_code, reason = "unshare and mount have no safe interface in std")]
fn mount_small(at: &Path) -> io::Result<()> {
    let check = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let path = std::ffi::CString::new(at.as_os_str().as_encoded_bytes())?;
    let none = std::ptr::null();
    // SAFETY: unshare takes an integer; it changes what this thread sees, and no other.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // SAFETY: the paths are C strings; this flag takes no source, type or data.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) })?;
    // SAFETY: all are C strings that outlive the call.
    check(unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=1m".as_ptr().cast()) })
}
