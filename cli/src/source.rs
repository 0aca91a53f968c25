//! The file to be copied: which ones can be, and whether it stayed whole.
//!
//! The length is taken once, when the file is opened, and everything after goes by it: the mapping, the space reserved
//! for the copy, the number of chunks. A file that grows meanwhile is copied as long as it was, as by cp; one that
//! shrinks has no copy ([`Source::check_whole`]).

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};

use crate::failure::Failure;

/// A regular file, opened for reading.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    path: PathBuf,
    metadata: Metadata,
    len: usize,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        // A look before the open, since opening alone does things to devices, and waits for a writer of a FIFO.
        Self::check(path, &fs::metadata(path).map_err(|error| Failure::system("read", path, error))?)?;
        // O_NONBLOCK means nothing for regular files; it keeps the open from waiting if this became a FIFO meanwhile.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open(path).map_err(|error| Failure::system("read", path, error))?;
        let metadata = file.metadata().map_err(|error| Failure::system("read", path, error))?;
        Self::check(path, &metadata)?;
        let len = usize::try_from(metadata.len()).map_err(|_| Failure::file(path, "is too large to be mapped here"))?;
        let source = Self { file, path: path.to_owned(), metadata, len };
        source.refuse_if_made_up()?;
        Ok(source)
    }

    fn check(path: &Path, metadata: &Metadata) -> Result<(), Failure> {
        if metadata.is_file() {
            return Ok(());
        }
        Err(Failure::file(path, &format!("is {}, not a regular file", kind(metadata.file_type()))))
    }

    /// Files of /proc say that they are empty and make up their content as they are read: there is nothing to map.
    fn refuse_if_made_up(&self) -> Result<(), Failure> {
        if self.len > 0 {
            return Ok(());
        }
        match (&self.file).read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Failure::file(&self.path, "has content but no size, so it cannot be mapped")),
            Err(error) => Err(Failure::system("read", &self.path, error)),
        }
    }

    /// The mapping, for reading; none for an empty file.
    pub(crate) fn map(&self) -> Result<Option<MmapRaw>, Failure> {
        if self.len == 0 {
            return Ok(None);
        }
        let mapped = MmapOptions::new().len(self.len).map_raw_read_only(&self.file);
        mapped.map(Some).map_err(|error| Failure::system("map", &self.path, error))
    }

    /// Whether the file still is as long as it was. The end of a page that lies beyond a file's new end reads as zeros
    /// and raises no signal, so only its length tells.
    pub(crate) fn check_whole(&self) -> Result<(), Failure> {
        let now = self.file.metadata().map_err(|error| Failure::system("read", &self.path, error))?;
        if now.len() < self.metadata.len() {
            return Err(Failure::file(&self.path, "shrank while it was copied"));
        }
        Ok(())
    }

    /// Whether the byte at this offset, whose page was missing in the mapping or in the copy's, can be read. If not,
    /// the system says why.
    pub(crate) fn check_readable(&self, at: u64) -> Result<(), Failure> {
        self.check_whole()?;
        match self.file.read_exact_at(&mut [0], at) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    pub(crate) fn unreadable(&self, error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::file(&self.path, "shrank while it was copied"),
            _ => Failure::system("read", &self.path, error),
        }
    }

    pub(crate) fn is_same_file(&self, other: &Metadata) -> bool {
        (self.metadata.dev(), self.metadata.ino()) == (other.dev(), other.ino())
    }

    /// The permissions for a copy that belongs to this user and group. Set-user-ID and set-group-ID are not handed to
    /// an owner who did not have them: a copy made by root must not become a program that runs as root.
    pub(crate) fn mode_for(&self, copy: &Metadata) -> u32 {
        let mut mode = self.metadata.mode() & 0o7777;
        if copy.uid() != self.metadata.uid() {
            mode &= !libc::S_ISUID;
        }
        if copy.gid() != self.metadata.gid() {
            mode &= !libc::S_ISGID;
        }
        mode
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// What a file that is not regular is.
pub(crate) fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_block_device() || file_type.is_char_device() {
        "a device"
    } else {
        "something else"
    }
}
