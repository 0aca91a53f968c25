//! The folder of a file that shall outlive a crash: a name is durable only when its folder was synced.
//!
//! Everything that speaks against it is found here before anything is created: a file system that keeps nothing, a
//! folder that cannot be opened for an fsync. Source: fsync(2), on the entry in the directory.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::file_system::FileSystem;
use crate::mounts::Durable;

/// A folder, open for fsync, on a file system that does not forget.
#[derive(Debug)]
pub(crate) struct SyncedFolder {
    folder: OwnedFd,
    file_system: FileSystem,
}

impl SyncedFolder {
    /// Opens the folder of this descriptor, in which `path` is to be made.
    pub(crate) fn open(folder: BorrowedFd<'_>, path: &Path) -> Result<Self, Failure> {
        let cannot = |error: Errno| Failure::system("sync the folder of", path, error);
        let file_system = FileSystem::of(folder).map_err(cannot)?;
        if let Durable::No(why) = &file_system.durable {
            return Err(Failure::file(path, &format!("cannot be made durable: {why}")));
        }
        // A descriptor that only names a folder (O_PATH) takes no fsync.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(folder, ".", flags, Mode::empty()).map_err(cannot)?;
        Ok(Self { folder, file_system })
    }

    pub(crate) fn file_system(&self) -> &FileSystem {
        &self.file_system
    }

    /// Makes the names in it durable.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        sync(&self.folder)
    }
}

/// Makes a file or folder durable, with everything that is known of it. An error is final: after one, another fsync may
/// well succeed and still have lost bytes.
pub(crate) fn sync(file: impl std::os::fd::AsFd) -> Result<(), Errno> {
    // A signal may interrupt the waiting on some file systems; that is no answer yet.
    rustix::io::retry_on_intr(|| rustix::fs::fsync(&file))
}
