//! The file system that an open file or folder is on: asked of the kernel, judged by `mounts.rs`.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::mounts::{Durable, Mount, in_memory};

/// What statfs(2) calls the file systems that are kept in memory.
const IN_MEMORY: [(u64, &str); 3] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x9584_58f6, "hugetlbfs")];

/// What is known of a file system.
#[derive(Debug)]
pub(crate) struct FileSystem {
    /// None where /proc or the kernel does not tell: before Linux 5.8, or without /proc.
    pub(crate) mount: Option<Mount>,
    pub(crate) durable: Durable,
    /// The file is mapped from persistent memory itself, with no page cache between.
    pub(crate) is_dax: bool,
}

impl FileSystem {
    /// Of a file or folder; the descriptor may be one that only names it (`O_PATH`).
    pub(crate) fn of(file: impl AsFd) -> Result<Self, Errno> {
        let file = file.as_fd();
        let kind = rustix::fs::fstatfs(file)?.f_type;
        // Signed on some platforms, and of 32 bits in truth.
        let magic = kind as u64 & 0xffff_ffff;
        let in_memory = IN_MEMORY.iter().find(|(known, _)| *known == magic).map(|(_, name)| in_memory(name));
        let (mount, is_dax) = mount_of(file);
        let durable = match (in_memory, &mount) {
            (Some(why), _) => Durable::No(why),
            (None, Some(mount)) => mount.durable(),
            (None, None) => Durable::Depends("on its file system, which the kernel does not name here".to_owned()),
        };
        Ok(Self { mount, durable, is_dax })
    }

    /// Such as `ext4`.
    pub(crate) fn kind(&self) -> &str {
        self.mount.as_ref().map_or("an unknown file system", |mount| &mount.kind)
    }
}

fn mount_of(file: BorrowedFd<'_>) -> (Option<Mount>, bool) {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let Ok(status) = rustix::fs::statx(file, "", flags, StatxFlags::MNT_ID) else { return (None, false) };
    let is_dax = status.stx_attributes.contains(StatxAttributes::DAX);
    if status.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return (None, is_dax);
    }
    // A mount point may be any bytes.
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    (Mount::find(&String::from_utf8_lossy(&mounts), status.stx_mnt_id), is_dax)
}
