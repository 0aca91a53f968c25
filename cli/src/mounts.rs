//! Which file system a mount has, and what can be promised there. Pure: from the text of `/proc/self/mountinfo`.
//!
//! An fsync is a request to the file system, and what it is worth depends on it: on tmpfs it succeeds and means
//! nothing. Of a file system that this file does not know, nothing is promised and nothing is refused.
//!
//! Source: proc_pid_mountinfo(5); tmpfs(5); the kernel's Documentation/filesystems/{overlayfs,ext4,xfs}.rst for
//! `volatile` and `nobarrier`.

/// File systems that live in memory, or are made up by the kernel.
const IN_MEMORY: [&str; 14] = [
    "tmpfs",
    "ramfs",
    "rootfs",
    "devtmpfs",
    "hugetlbfs",
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "mqueue",
];
/// File systems on a device of this machine that flush its cache when asked for an fsync.
const ON_A_DEVICE: [&str; 13] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs", "jfs", "vfat", "exfat", "ntfs3", "hfsplus"];
/// File systems whose bytes are kept by another machine or program.
const ELSEWHERE: [&str; 10] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "fuse", "fuseblk", "afs"];

/// A line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Such as `ext4`.
    pub(crate) kind: String,
    /// The folder that it is mounted at.
    pub(crate) at: String,
    /// Of the mount and of the file system.
    pub(crate) options: Vec<String>,
}

/// Whether bytes are safe there once an fsync has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// If the device keeps what it says that it keeps.
    Yes,
    /// Never, for this reason.
    No(String),
    /// On what is said here.
    Depends(String),
}

impl Mount {
    /// The mount of this id, if the text has it.
    pub(crate) fn find(mountinfo: &str, id: u64) -> Option<Self> {
        mountinfo
            .lines()
            .find(|line| line.split(' ').next().is_some_and(|first| first.parse() == Ok(id)))
            .and_then(parse)
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|has| has == option)
    }

    pub(crate) fn durable(&self) -> Durable {
        let kind = self.kind.as_str();
        // A kind may name a program too: fuse.sshfs.
        let family = kind.split('.').next().unwrap_or_default();
        if IN_MEMORY.contains(&kind) {
            return Durable::No(in_memory(kind));
        }
        if kind == "overlay" {
            return if self.has("volatile") {
                Durable::No("overlay, mounted as volatile, ignores every fsync".to_owned())
            } else {
                Durable::Depends("on the file system of its upper layer".to_owned())
            };
        }
        if self.has("nobarrier") || self.has("barrier=0") {
            return Durable::Depends("on the device's cache: it is mounted without barriers".to_owned());
        }
        if ON_A_DEVICE.contains(&kind) {
            return Durable::Yes;
        }
        if ELSEWHERE.contains(&family) {
            return Durable::Depends("on the server or program that keeps its bytes".to_owned());
        }
        Durable::Depends(format!("on {kind}, of which nothing is known here"))
    }
}

/// Why nothing is durable on a file system of this kind.
pub(crate) fn in_memory(kind: &str) -> String {
    format!("{kind} is kept in memory, and an fsync saves nothing there")
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw,errors=continue`, with any number of optional
/// fields before the dash.
fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let (at, mount_options) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, _device, own_options) = (file_system.next()?, file_system.next()?, file_system.next()?);
    let options = mount_options.split(',').chain(own_options.split(',')).map(str::to_owned).collect();
    Some(Mount { kind: kind.to_owned(), at: unescaped(at), options })
}

/// Spaces, tabs, line breaks and backslashes are written as three octal digits after a backslash.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain += &part[3..];
            }
            None => {
                plain.push('\\');
                plain += part;
            }
        }
    }
    plain
}
