//! Regions: what backs an address.
//!
//! Plain memory is backed by nothing: a flush of it writes the CPU's caches back. A region is a file that is mapped
//! into memory, and known to a queue: of it a flush means that the bytes are on stable storage.
//!
//! | backing | what makes it durable |
//! |---|---|
//! | [`PageCache`](Backing::PageCache) | an fsync of the file |
//! | [`Dax`](Backing::Dax) | the write-back of the CPU's caches: the mapping is of the storage itself |
//! | [`Volatile`](Backing::Volatile) | nothing: the file is in memory, and not there after a power cut |
//!
//! [`MappedFile`] is what becomes a region (`mapped.rs`, which asks the kernel what the mapping is: `backing.rs`),
//! `table.rs` the regions of one queue, [`Span`] a part of a region that somebody has for himself, `file.rs` what the
//! regions of one file share: the descriptor that is synced, and what an fsync has failed with.

mod backing;
mod entry;
mod file;
mod mapped;
mod span;
mod table;

use core::fmt;
use core::ops::Range;
use std::io;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

pub use self::backing::Backing;
pub(crate) use self::file::SyncedFile;
pub use self::mapped::{MappedFile, Mapping, RegisterError, RegisterRefusal};
pub use self::span::{Span, SpanError};
use self::table::{Entry, Use};
pub(crate) use self::table::{Found, Refused, RegionId, Regions};
use crate::os::Birth;

/// A mapped file that is known to a queue; see the [module](crate::region). Its clones are the same region.
///
/// While there is a handle the mapping stays, and longer if something of it is in flight. When the last handle is
/// dropped the region is deregistered: entries that name it are refused then.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memmap2")] {
/// use memring::{MappedFile, Ring};
/// # let file = tempfile::tempfile()?;
/// file.set_len(1 << 20)?;
/// // SAFETY: nobody else maps the file, or cuts it short.
/// let mapping = unsafe { memmap2::MmapMut::map_mut(&file)? };
/// let ring = Ring::new()?;
/// let region = ring.register(MappedFile::new(&file, mapping, 0))?;
/// region.preallocate()?;
/// let page = region.span(0..4096)?;
/// # if region.backing() != memring::region::Backing::Volatile {
/// let (page, _) = ring.block_on(ring.memcpy(page, vec![7; 4096]).durable())??;
/// assert_eq!(page[..], [7; 4096]); // and so it is on the disk
/// # }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Region(Arc<Handle>);

/// What the clones of a region share: the last of them deregisters it.
struct Handle {
    entry: Arc<Entry>,
    regions: Arc<Regions>,
    birth: Birth,
}

impl Region {
    /// Where it begins in memory.
    #[must_use]
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.0.entry.address()
    }

    /// Its length, bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no mapping is empty")]
    pub fn len(&self) -> usize {
        self.0.entry.len()
    }

    /// Where it begins in its file, bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.0.entry.offset()
    }

    /// What backs it.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.0.entry.backing()
    }

    /// A part of it, for oneself: a buffer for operations, and bytes to read and write. Given back when it is dropped.
    ///
    /// # Errors
    ///
    /// [`SpanError`]: it is not in the region, or somebody has some of it already.
    ///
    /// # Examples
    ///
    /// See [`Region`].
    pub fn span(&self, range: Range<usize>) -> Result<Span, SpanError> {
        Span::of(self, range)
    }

    /// The errno of the fsync that failed, if the region is poisoned: each flush of it fails with that.
    ///
    /// After a failed fsync the kernel marks pages as clean that are not on the disk, so another one would say nothing
    /// of them: it is never tried again silently.
    #[must_use]
    pub fn error(&self) -> Option<i32> {
        if self.0.birth.is_foreign() { None } else { self.0.entry.error() }
    }

    /// Takes the poison away, and says what it was. What was not durable then may never be, unless it is written again.
    ///
    /// Flushes that were pushed before this fail all the same: what they cover may be among what was lost. A region
    /// that is registered of a file while another one of it is poisoned is poisoned too; of a file that has no region
    /// any more, what has failed is forgotten, as the kernel forgets it.
    pub fn clear_error(&self) -> Option<i32> {
        if self.0.birth.is_foreign() { None } else { self.0.entry.clear_error() }
    }

    /// Has the next fsync of its file fail with this errno, whatever the kernel says of it: to test what a program does
    /// then. All flushes that it covers fail, and all regions of the file are poisoned, as if the disk had failed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memmap2")] {
    /// # use memring::{MappedFile, OpError, Ring, Status, region::Backing};
    /// # let file = tempfile::tempfile()?;
    /// # file.set_len(4096)?;
    /// # // SAFETY: nobody else maps the file, or cuts it short.
    /// # let mapping = unsafe { memmap2::MmapMut::map_mut(&file)? };
    /// # let ring = Ring::new()?;
    /// let region = ring.register(MappedFile::new(&file, mapping, 0))?;
    /// # if region.backing() == Backing::PageCache {
    /// region.inject_failure(5); // EIO
    /// let failed = ring.block_on(ring.flush(region.span(0..4096)?))?.unwrap_err();
    /// assert_eq!(failed.error, OpError::Mover(Status::IO, 5));
    /// drop(failed);
    /// let again = ring.block_on(ring.flush(region.span(0..4096)?))?.unwrap_err();
    /// assert_eq!(again.error, OpError::Mover(Status::IO, 5), "it stays poisoned");
    /// drop(again);
    /// assert_eq!(region.clear_error(), Some(5));
    /// assert!(ring.block_on(ring.flush(region.span(0..4096)?))?.is_ok());
    /// # }
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inject_failure(&self, errno: i32) {
        self.0.entry.synced.inject(errno);
    }

    /// Has the file system find blocks for all of it: a store into a hole of a full disk would be a SIGBUS.
    ///
    /// # Errors
    ///
    /// What `fallocate` says, such as ENOSPC.
    pub fn preallocate(&self) -> io::Result<()> {
        let entry = &self.0.entry;
        Ok(fallocate(entry.file(), FallocateFlags::empty(), entry.offset(), entry.len() as u64)?)
    }

    /// Takes it from its queue: entries that name it are refused from now on, there are no spans of it any more, and
    /// memory in it is plain. In a forked child nothing is done: the child has no queue.
    ///
    /// # Errors
    ///
    /// [`DeregisterError`], with the region: something of it is in flight, or somebody has a span of it.
    pub fn deregister(self) -> Result<(), DeregisterError> {
        if self.0.birth.is_foreign() {
            return Ok(());
        }
        match self.0.regions.remove(&self.0.entry) {
            Ok(()) => Ok(()),
            Err(Use { in_flight, spans }) => Err(DeregisterError { region: self, in_flight, spans }),
        }
    }

    pub(crate) fn id(&self) -> RegionId {
        self.0.entry.id
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.entry.fmt(f)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // In a forked child somebody may hold the locks for ever.
        if !self.birth.is_foreign() {
            self.regions.retire(&self.entry);
        }
    }
}

impl Regions {
    /// Makes a region of a mapped file, which must be a shared mapping of that file, and of nothing that is registered.
    pub(crate) fn register(self: &Arc<Self>, mapped: MappedFile) -> Result<Region, RegisterError> {
        let entry = self.add(mapped)?;
        Ok(Region(Arc::new(Handle { entry, regions: Arc::clone(self), birth: Birth::now() })))
    }
}

/// A region is in use, and stays registered.
#[derive(Debug)]
pub struct DeregisterError {
    /// The region.
    pub region: Region,
    /// How many entries are staged or in flight that name it.
    pub in_flight: u64,
    /// How many spans of it are out.
    pub spans: usize,
}

impl fmt::Display for DeregisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_flight, spans, .. } = self;
        write!(f, "the region is in use: {in_flight} operations are in flight, and {spans} spans are out")
    }
}

impl core::error::Error for DeregisterError {}
