//! What becomes a region: a file, and a mapping of it.
#![expect(unsafe_code, reason = "a raw mapping is vouched for by who makes it, and sent between threads")]

use core::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A mapping of a file, which is unmapped when this is dropped, if it is owned.
///
/// With the feature `memmap2`, it comes from a `MmapMut`, whose maker has vouched that nobody else changes the file.
pub struct Mapping {
    address: *mut u8,
    len: usize,
    /// Keeps it mapped.
    _owner: Option<Box<dyn Send + Sync>>,
}

// SAFETY: an address and a length, and an owner who may go to another thread; who accesses the memory answers for it.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.address
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(feature = "memmap2")]
mod memmap2 {
    use std::fs::File;

    use memmap2::{MmapMut, MmapRaw};

    use super::{MappedFile, Mapping};

    impl From<MmapMut> for Mapping {
        fn from(mut mapping: MmapMut) -> Self {
            let (address, len) = (mapping.as_mut_ptr(), mapping.len());
            Self { address, len, _owner: Some(Box::new(mapping)) }
        }
    }

    impl MappedFile {
        /// A mapping that nobody has vouched for yet.
        ///
        /// # Safety
        ///
        /// While somebody has a [`Span`](crate::Span) of the region, nobody else accesses the file's bytes there, in
        /// this process or another, and nobody cuts the file short.
        pub unsafe fn from_mmap_raw(file: &File, mapping: MmapRaw, offset: u64) -> Self {
            let (address, len) = (mapping.as_mut_ptr(), mapping.len());
            Self::new(file, Mapping { address, len, _owner: Some(Box::new(mapping)) }, offset)
        }
    }
}

/// A file, a shared mapping of it, and where in the file the mapping begins: what can be registered as a
/// [`Region`](super::Region).
#[derive(Debug)]
pub struct MappedFile {
    pub(super) file: io::Result<OwnedFd>,
    pub(super) mapping: Mapping,
    pub(super) offset: u64,
    pub(super) is_assumed_dax: bool,
}

impl MappedFile {
    /// A mapping that begins `offset` bytes into the file.
    ///
    /// # Examples
    ///
    /// See [`Region`](super::Region).
    pub fn new(file: &File, mapping: impl Into<Mapping>, offset: u64) -> Self {
        Self { file: file.as_fd().try_clone_to_owned(), mapping: mapping.into(), offset, is_assumed_dax: false }
    }

    /// A mapping that somebody else has made and will unmap.
    ///
    /// # Safety
    ///
    /// The `len` bytes at `address` are a mapping of the file, for reading and writing, from `offset` on, until
    /// [`deregister`](super::Region::deregister) has succeeded; or until the queue or ring is gone and with it every
    /// handle and every span of the region. While somebody has a [`Span`](super::Span), nobody else accesses the file's
    /// bytes there, and nobody cuts the file short.
    pub unsafe fn from_raw(file: &File, address: *mut u8, len: usize, offset: u64) -> Self {
        // Later by its address alone: entries carry no more than that.
        address.expose_provenance();
        Self::new(file, Mapping { address, len, _owner: None }, offset)
    }

    /// Has it pass for a MAP_SYNC mapping of persistent memory, whatever the kernel says.
    ///
    /// For who knows better, and for tests on machines without persistent memory.
    ///
    /// # Safety
    ///
    /// What a write-back of the CPU's caches has reached is durable: else completions will lie.
    #[must_use]
    pub unsafe fn assume_dax(self) -> Self {
        Self { is_assumed_dax: true, ..self }
    }

    /// Where the mapping begins in memory.
    #[must_use]
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.mapping.address
    }

    /// The length of the mapping, bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no mapping is empty")]
    pub fn len(&self) -> usize {
        self.mapping.len
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("address", &self.address).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Why a mapped file does not become a region, with the file.
#[derive(Debug)]
pub struct RegisterError {
    /// What was to be registered.
    pub mapped: MappedFile,
    /// Why it was not.
    pub reason: RegisterRefusal,
}

/// Why a mapped file does not become a region.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegisterRefusal {
    /// Some of it is not mapped, or nothing is.
    NotMapped,
    /// It is a private mapping: what is stored there never comes to the file.
    Private,
    /// It is a mapping for reading only.
    ReadOnly,
    /// It is a mapping of another file, or of another part of the file.
    OtherFile,
    /// Some of it is in a region of the queue already.
    Overlaps,
    /// The queue or the ring is closed.
    Closed,
    /// The queue or the ring belongs to the parent process.
    Forked,
    /// The system refused something: a descriptor, a look at `/proc`, a thread.
    Os(io::Error),
}

impl From<io::Error> for RegisterRefusal {
    fn from(error: io::Error) -> Self {
        Self::Os(error)
    }
}

impl fmt::Display for RegisterRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped => f.write_str("some of it is not mapped"),
            Self::Private => f.write_str("the mapping is private: what is stored there never comes to the file"),
            Self::ReadOnly => f.write_str("the mapping is for reading only"),
            Self::OtherFile => f.write_str("the mapping is of another file, or of another part of it"),
            Self::Overlaps => f.write_str("some of it is registered already"),
            Self::Closed => f.write_str("the queue is closed"),
            Self::Forked => f.write_str("the queue belongs to the parent process"),
            Self::Os(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no region: {}", self.reason)
    }
}

impl core::error::Error for RegisterError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.reason {
            RegisterRefusal::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl MappedFile {
    /// The file, if there was a descriptor to be had for it.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>, RegisterRefusal> {
        match &self.file {
            Ok(fd) => Ok(fd.as_fd()),
            Err(error) => Err(RegisterRefusal::Os(copy_of(error))),
        }
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error)
}
