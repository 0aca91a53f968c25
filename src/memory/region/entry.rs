//! Entries that name their region, so that nobody has to look for it.

use core::ops::Range;

use super::Region;
use crate::sqe::Sqe;

impl Sqe {
    /// Makes this part of a region durable: a [`flush`](Sqe::flush) that says which region it is in, and is refused if
    /// it is not. Where nothing can make it durable (a file in memory), it writes the CPU's caches back.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memmap2")] {
    /// use memring::{MappedFile, Sqe, queue::QueuePair};
    /// # let file = tempfile::tempfile()?;
    /// file.set_len(1 << 20)?;
    /// // SAFETY: nobody else maps the file, or cuts it short.
    /// let mapping = unsafe { memmap2::MmapMut::map_mut(&file)? };
    /// let (mut sq, mut cq) = QueuePair::builder().build()?.split();
    /// let region = sq.register(MappedFile::new(&file, mapping, 0))?;
    /// // SAFETY: a flush of what is mapped.
    /// unsafe { sq.push(Sqe::flush_in(&region, 0..4096)) }?;
    /// sq.submit();
    /// cq.wait(1, None)?;
    /// assert!(cq.drain().all(|cqe| cqe.status().is_success()));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn flush_in(region: &Region, range: Range<usize>) -> Self {
        let start = region.as_mut_ptr().wrapping_add(range.start);
        Self::flush(start, range.end.wrapping_sub(range.start)).within(region)
    }

    /// Says that the destination is in this region: for a copy, a move or a set that is to be
    /// [durable](crate::OpFlags::MEM_DURABLE), in place of a look for the region. Others know no regions, and are
    /// refused with it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memmap2")] {
    /// # use memring::{MappedFile, OpFlags, Sqe, queue::QueuePair};
    /// # let file = tempfile::tempfile()?;
    /// # file.set_len(1 << 20)?;
    /// # // SAFETY: nobody else maps the file, or cuts it short.
    /// # let mapping = unsafe { memmap2::MmapMut::map_mut(&file)? };
    /// # let (sq, _cq) = QueuePair::builder().build()?.split();
    /// let region = sq.register(MappedFile::new(&file, mapping, 0))?;
    /// let zeroed = Sqe::memset(region.as_mut_ptr(), 0, 4096).flags(OpFlags::MEM_DURABLE).within(&region);
    /// # let _ = zeroed;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn within(self, region: &Region) -> Self {
        self.with_region(region.id().to_word())
    }
}
