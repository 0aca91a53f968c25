//! What this process may not do. As root, which may do all, the looking is done by a child that is somebody else.
#![expect(unsafe_code, reason = "changes who a process is")]

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use memring::dsa::{Reason, Unusable, Way, open};

use super::child::in_child;
use super::skip::skip;
use super::tree::Tree;

/// `nobody` of every Linux.
const NOBODY: libc::uid_t = 65534;

/// Runs it as somebody without rights.
fn without_rights(body: impl FnOnce()) {
    // SAFETY: it has no arguments and no way to fail.
    if unsafe { libc::geteuid() } != 0 {
        return body();
    }
    in_child(|| {
        let none = std::ptr::null();
        // SAFETY: no groups are read.
        let groups = unsafe { libc::setgroups(0, none) };
        // SAFETY: it takes a number.
        let group = unsafe { libc::setgid(NOBODY) };
        // SAFETY: it takes a number.
        let user = unsafe { libc::setuid(NOBODY) };
        match (groups, group, user) {
            (0, 0, 0) => body(),
            _ => skip("nobody", std::io::Error::last_os_error()),
        }
    });
}

fn allow(tree: &Tree, path: &str, mode: u32) {
    set_permissions(tree.path(path), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_device_file_of_somebody_else() {
    for mode in [0o000, 0o400, 0o200, 0o440, 0o644, 0o622] {
        let tree = Tree::right();
        // SAFETY: it has no arguments and no way to fail.
        let owner = unsafe { libc::geteuid() };
        // The owner's bits count for who is not root: this user.
        let mode = if owner == 0 { mode } else { mode & 0o400 };
        allow(&tree, "dev/dsa/wq0.0", mode);
        let path = tree.path("dev/dsa/wq0.0");
        without_rights(|| {
            let unusable = tree.unusable();
            assert_eq!(unusable.reason, Reason::Forbidden { mode, owner });
            assert_eq!(unusable.remedy.unwrap(), format!("sudo chown \"$USER\" {}", path.display()));
        });
    }
}

#[test]
fn a_device_file_that_all_may_use() {
    let tree = Tree::right();
    allow(&tree, "dev/dsa/wq0.0", 0o666);
    without_rights(|| drop(tree.usable()));
}

/// Files are opened by the effective user, who of a program that gave up its rights for a while is another.
#[test]
fn a_process_that_gave_up_its_rights_for_a_while() {
    // SAFETY: it has no arguments and no way to fail.
    if unsafe { libc::geteuid() } != 0 {
        return skip("root", "this user has no rights to give up");
    }
    let tree = Tree::right();
    allow(&tree, "dev/dsa/wq0.0", 0o600);
    in_child(|| {
        // SAFETY: it takes a number.
        if unsafe { libc::seteuid(NOBODY) } != 0 {
            return skip("root", std::io::Error::last_os_error());
        }
        assert!(matches!(tree.unusable().reason, Reason::Forbidden { mode: 0o600, .. }));
    });
}

/// It was allowed when it was looked for, and is not when it is opened.
#[test]
fn a_device_file_that_is_forbidden_since() {
    let tree = Tree::right();
    let queue = tree.usable();
    allow(&tree, "dev/dsa/wq0.0", 0o000);
    without_rights(|| {
        let Unusable { reason, .. } = open(&queue, Way::Best).unwrap_err();
        assert!(matches!(reason, Reason::Forbidden { mode: 0, .. }), "{reason:?}");
    });
}

#[test]
fn what_cannot_be_read() {
    for path in ["bus", "devices/dsa0", "devices/dsa0/state", "devices/dsa0/wq0.0", "devices/dsa0/wq0.0/size"] {
        let tree = Tree::right();
        allow(&tree, path, 0o000);
        without_rights(|| {
            let unusable = tree.unusable();
            assert_eq!(unusable.reason, Reason::Unreadable(libc::EACCES), "{unusable}");
            assert_eq!(unusable.path.file_name(), tree.path(path).file_name());
        });
        allow(&tree, path, 0o755);
    }
    // The folder of device files.
    let tree = Tree::right();
    allow(&tree, "dev/dsa", 0o000);
    without_rights(|| assert_eq!(tree.unusable().reason, Reason::Unreadable(libc::EACCES)));
    allow(&tree, "dev/dsa", 0o755);
}
