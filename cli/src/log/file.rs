//! The file of the log: made new, with all its space written before the first append, and gone at the end.
//!
//! It has a name from the beginning, unlike a copy's draft: of a file without one btrfs makes nothing durable, and what
//! is measured would be nothing. A failure and a signal remove it; SIGKILL leaves it.
//!
//! Its space is allocated, filled with zeros and synced. So no append changes anything but bytes that are there, for
//! every contestant: an fsync then need not record new blocks or lengths, which is what logs are preallocated for.
//!
//! The zeros are written page by page. A larger write makes the kernel cache the file in larger units (folios), and a
//! store through a mapping marks the whole unit for writing: after writes of 1 MiB each fsync of a mapped record took
//! 1 MiB to the disk (ext4, Linux 6.18, by `/proc/diskstats`) where an fsync of a written one took a page. A log that
//! is to be mapped is best prepared like this; it makes no difference to the others.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::signals;
use crate::synced_folder::{SyncedFolder, sync};

const MODE: Mode = Mode::from_raw_mode(0o600);

/// Where the log is to be: a new name in a folder of a file system that keeps what it is given.
#[derive(Debug)]
pub(crate) struct LogPlace {
    path: PathBuf,
    name: OsString,
    /// As long as the command runs: a signal removes the file by it.
    folder: OwnedFd,
    synced: SyncedFolder,
}

impl LogPlace {
    pub(crate) fn find(path: &Path) -> Result<Self, Failure> {
        let cannot = |error: Errno| Failure::system("create", path, error);
        if path.is_dir() {
            return Err(Failure::file(path, "is a directory"));
        }
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        // `Path` forgets a slash at the end, by which the user meant a folder.
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(Failure::file(path, "is not a directory"));
        }
        let name = path.file_name().ok_or(Errno::NOENT).map_err(cannot)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(cannot)?;
        let synced = SyncedFolder::open(folder.as_fd(), path)?;
        Ok(Self { path: path.to_owned(), name, folder, synced })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of its file system, such as `ext4`.
    pub(crate) fn file_system(&self) -> &str {
        self.synced.file_system().kind()
    }
}

fn exists(path: &Path) -> Failure {
    Failure::file(path, "exists already; a log is always made new")
}

/// The log. Dropping it removes it, unless it is kept.
#[derive(Debug)]
pub(crate) struct LogFile<'a> {
    place: &'a LogPlace,
    file: File,
    is_kept: bool,
}

impl<'a> LogFile<'a> {
    /// Makes it, with this many bytes, whole pages, of durable zeros.
    pub(crate) fn create(place: &'a LogPlace, len: u64) -> Result<Self, Failure> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let log = {
            // No signal between the file and the word about it.
            let _held = signals::hold();
            let file = rustix::fs::openat(&place.folder, &place.name, flags, MODE).map_err(|error| match error {
                Errno::EXIST => exists(&place.path),
                error => Failure::system("create", &place.path, error),
            })?;
            signals::remove_at_end(place.folder.as_raw_fd(), &place.name);
            Self { place, file: File::from(file), is_kept: false }
        };
        log.fill(len).map_err(|error| Failure::system("write", &place.path, error))?;
        let synced = sync(&log.file).and_then(|()| place.synced.sync());
        synced.map_err(|error| Failure::system("sync", &place.path, error))?;
        Ok(log)
    }

    fn fill(&self, len: u64) -> io::Result<()> {
        // First, so that a disk without the room says so at once; where there is no fallocate, the zeros will.
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let page = vec![0; rustix::param::page_size()];
        (0..len).step_by(page.len()).try_for_each(|at| self.file.write_all_at(&page, at))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// It is to stay when this is dropped. A signal still removes it.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// What could not be done with it.
    pub(crate) fn cannot(&self, verb: &str, error: impl Into<io::Error>) -> Failure {
        Failure::system(verb, &self.place.path, error)
    }
}

impl Drop for LogFile<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // There is nobody left to tell: either a failure is being told, or what was measured.
            let _ = rustix::fs::unlinkat(&self.place.folder, &self.place.name, AtFlags::empty());
        }
    }
}
