//! Where the copy goes, and how it gets there whole: a draft in the same folder, published in one step at the end.
//!
//! The draft has no name where the file system can do that (`O_TMPFILE`), so that nothing is left whatever ends the
//! process, SIGKILL included. Elsewhere it has a temporary name, which a failure and a signal remove. Publishing never
//! looks first and acts then; the kernel does both in one step. (To replace a file, even an unnamed draft needs a name
//! for the moment before the rename: the one moment in which SIGKILL could leave something.)
//!
//! ```text
//!              --force                              otherwise
//!  no name     link to a temporary name, rename     link; refuses if the name is taken
//!  a name      rename                               renameat2(RENAME_NOREPLACE), or link and unlink
//! ```
//!
//! All steps go by a descriptor of the folder, so that renaming a folder on the way there cannot split them.
//!
//! A durable copy is synced before it gets its name, permissions included, so that the name never stands for less than
//! the whole file; then its folder is, so that the name stays. A file that had no name is synced once more between the
//! two: btrfs logs nothing of it as long as nobody could find it.
//!
//! Source: open(2), renameat2(2), link(2) with the example for `O_TMPFILE` of open(2); rename(2) for its atomicity.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::failure::{Failure, reason};
use crate::signals;
use crate::source::{Source, kind};
use crate::synced_folder::{SyncedFolder, sync};

/// Names to try for a draft that needs one; more than this many leftovers of one process id are somebody's mischief.
const NAMES: u32 = 100;
/// Zeros written at a time where space cannot be reserved.
const ZEROS: usize = 1 << 20;
/// Readable by nobody else until it is published: the source may be secret.
const DRAFT_MODE: Mode = Mode::from_raw_mode(0o600);

/// A name in a folder that exists, fit to receive the copy.
#[derive(Debug)]
pub(crate) struct Place {
    /// As the user named it.
    path: PathBuf,
    folder: OwnedFd,
    name: OsString,
    force: bool,
}

impl Place {
    /// The place that the user means: a folder stands for the source's name in it, a symbolic link for what it leads
    /// to.
    pub(crate) fn find(destination: &Path, source: &Source, force: bool) -> Result<Self, Failure> {
        let mut path = destination.to_owned();
        if path.is_dir() {
            path.push(source.path().file_name().unwrap_or_default());
        }
        let cannot = |error: io::Error| Failure::system("create", &path, error);
        let real = match fs::metadata(&path) {
            Ok(there) => {
                check_replaced(&path, &there, source, force)?;
                fs::canonicalize(&path).map_err(cannot)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_new(&path)?;
                path.clone()
            }
            Err(error) => return Err(cannot(error)),
        };
        let name = real.file_name().ok_or(Errno::NOENT).map_err(|error| cannot(error.into()))?.to_owned();
        let parent = real.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(|error| cannot(error.into()))?;
        Ok(Self { folder, name, path, force })
    }

    /// Its folder, if the copy can be made durable there.
    pub(crate) fn synced_folder(&self) -> Result<SyncedFolder, Failure> {
        SyncedFolder::open(self.folder.as_fd(), &self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// What stands at the destination may be replaced: an ordinary file, if the user said so.
fn check_replaced(path: &Path, there: &Metadata, source: &Source, force: bool) -> Result<(), Failure> {
    if source.is_same_file(there) {
        return Err(Failure::new(format!("{:?} and {path:?} are the same file", source.path())));
    }
    if !there.is_file() {
        // A rename would replace a device or a FIFO, not write to it: never what was meant.
        return Err(Failure::file(path, &format!("is {}, not a regular file", kind(there.file_type()))));
    }
    if !force {
        return Err(exists(path));
    }
    Ok(())
}

/// Nothing stands at the destination, and a file can.
fn check_new(path: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(Failure::file(path, "is a symbolic link that leads nowhere"));
    }
    // `Path` forgets a slash at the end, by which the user meant a folder.
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Failure::file(path, "is not a directory"));
    }
    Ok(())
}

fn exists(path: &Path) -> Failure {
    Failure::file(path, "exists already (--force replaces it)")
}

/// How the space of a draft was made sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// By fallocate, without writing.
    Allocated,
    /// By writing zeros, since the file system has no fallocate.
    Zeros,
}

/// The copy while it is incomplete. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    place: &'a Place,
    file: File,
    /// Its temporary name in the place's folder, if it has one.
    name: Option<String>,
}

impl<'a> Draft<'a> {
    pub(crate) fn create(place: &'a Place) -> Result<Self, Failure> {
        match Self::unnamed(place) {
            // What kernels and file systems without O_TMPFILE answer.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::named(place),
            other => other,
        }
        .map_err(|error| Failure::system("create", &place.path, error))
    }

    fn unnamed(place: &'a Place) -> Result<Self, Errno> {
        // Without /proc it could never be given a name.
        if !Path::new("/proc/self/fd").is_dir() {
            return Err(Errno::OPNOTSUPP);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.folder, ".", flags, DRAFT_MODE)?;
        Ok(Self { place, file: File::from(file), name: None })
    }

    fn named(place: &'a Place) -> Result<Self, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        // No signal between the file and the word about it.
        let _held = signals::hold();
        let (file, name) = with_new_name(|name| rustix::fs::openat(&place.folder, name, flags, DRAFT_MODE))?;
        signals::remove_at_end(place.folder.as_raw_fd(), name.as_ref());
        Ok(Self { place, file: File::from(file), name: Some(name) })
    }

    /// Makes sure of the space now: a page of a mapping that finds the disk full later is just missing.
    pub(crate) fn reserve(&self, len: usize) -> Result<Reserved, Failure> {
        if len == 0 {
            return Ok(Reserved::Allocated);
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len as u64) {
                Ok(()) => return Ok(Reserved::Allocated),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(error) => return Err(self.cannot("write", error)),
            }
        }
        let zeros = vec![0; ZEROS.min(len)];
        for at in (0..len).step_by(ZEROS) {
            let part = &zeros[..ZEROS.min(len - at)];
            self.file.write_all_at(part, at as u64).map_err(|error| self.cannot("write", error))?;
        }
        Ok(Reserved::Zeros)
    }

    /// The mapping, for writing; none for an empty file.
    pub(crate) fn map(&self, len: usize) -> Result<Option<MmapRaw>, Failure> {
        if len == 0 {
            return Ok(None);
        }
        MmapOptions::new().len(len).map_raw(&self.file).map(Some).map_err(|error| self.cannot("map", error))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// A page of the mapping was missing, and the source is not to blame.
    pub(crate) fn unwritable(&self) -> Failure {
        Failure::new(format!("cannot write {:?}: the disk is full or failing", self.place.path))
    }

    pub(crate) fn unreadable(&self, error: io::Error) -> Failure {
        self.cannot("read", error)
    }

    /// Gives it the permissions of the source.
    pub(crate) fn finish(&self, source: &Source) -> Result<(), Failure> {
        let metadata = self.file.metadata().map_err(|error| self.cannot("create", error))?;
        match rustix::fs::fchmod(&self.file, Mode::from_raw_mode(source.mode_for(&metadata))) {
            // The file is ours, so this is a file system that keeps no permissions.
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(self.cannot("create", error)),
        }
    }

    /// Makes its bytes and permissions durable, so that it is safe to give it its name.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        sync(&self.file).map_err(|error| self.unsynced(error))
    }

    /// An fsync of it failed.
    pub(crate) fn unsynced(&self, error: impl Into<io::Error>) -> Failure {
        self.cannot("sync", error)
    }

    /// Gives it the name of the destination, which from now on is the copy, whole; and with a folder, the name is
    /// durable. How many fsyncs that took.
    pub(crate) fn publish(mut self, folder: Option<&SyncedFolder>) -> Result<u64, Failure> {
        let was_unnamed = self.name.is_none();
        match self.give_name() {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists(&self.place.path)),
            Err(Errno::OPNOTSUPP) => {
                return Err(Failure::file(
                    &self.place.path,
                    "is on a file system that may replace a file when it names one (--force allows that)",
                ));
            }
            Err(error) => return Err(self.cannot("create", error)),
        }
        let Some(folder) = folder else { return Ok(0) };
        // Before the folder is synced: a name that a drop removes later could come back after a crash.
        self.remove_name();
        let again = if was_unnamed { sync(&self.file) } else { Ok(()) };
        again.and_then(|()| folder.sync()).map_err(|error| {
            let why = reason(&error.into());
            Failure::file(&self.place.path, &format!("is in place, but a crash may undo that: cannot sync it: {why}"))
        })?;
        Ok(u64::from(was_unnamed) + 1)
    }

    fn give_name(&mut self) -> Result<(), Errno> {
        let Place { folder, name: to, force, .. } = self.place;
        let Some(from) = &self.name else {
            if !force {
                return self.link_unnamed(to);
            }
            let ((), name) = with_new_name(|name| self.link_unnamed(name.as_ref()))?;
            self.name = Some(name);
            return self.give_name();
        };
        if *force {
            rustix::fs::renameat(folder, from, folder, to)?;
        } else {
            match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    // The temporary name stays beside the new one, for the drop to remove.
                    let linked = rustix::fs::linkat(folder, from, folder, to, AtFlags::empty());
                    return linked.map_err(|error| if error == Errno::PERM { Errno::OPNOTSUPP } else { error });
                }
                Err(error) => return Err(error),
            }
        }
        self.name = None;
        Ok(())
    }

    /// By way of /proc, since linking a bare descriptor needs a privilege.
    fn link_unnamed(&self, to: &OsStr) -> Result<(), Errno> {
        let descriptor = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, descriptor, &self.place.folder, to, AtFlags::SYMLINK_FOLLOW)
    }

    fn remove_name(&mut self) {
        if let Some(name) = self.name.take() {
            // There is nobody left to tell: either a failure is being told, or the copy is in place.
            let _ = rustix::fs::unlinkat(&self.place.folder, name, AtFlags::empty());
        }
    }

    fn cannot(&self, verb: &str, error: impl Into<io::Error>) -> Failure {
        Failure::system(verb, &self.place.path, error)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.remove_name();
    }
}

/// Tries names until one is not taken.
fn with_new_name<T>(mut take: impl FnMut(&str) -> Result<T, Errno>) -> Result<(T, String), Errno> {
    for attempt in 0..NAMES {
        let name = format!(".memring-{}-{attempt}.tmp", std::process::id());
        match take(&name) {
            Ok(taken) => return Ok((taken, name)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}
