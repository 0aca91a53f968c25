//! Buffers: memory that an operation owns while it runs.
//!
//! A future cannot borrow memory for a mover: it can be forgotten, and the borrow ends while the mover goes on. So an
//! operation takes its buffers and gives them back with the result. A buffer is anything that owns bytes at a stable
//! address: moving the buffer does not move the bytes.
//!
//! The address is asked for once, when the buffer lies where it stays until the operation is complete. From then on
//! the operation holds it as a `MaybeUninit`, through which nobody claims to have it alone.
#![expect(unsafe_code, reason = "declares what a buffer must promise, and implements it for those that do")]

use core::fmt;
use core::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::memory::region::Span;

/// A range that does not lie in its buffer: its ends, and the length of the buffer, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The length of the buffer.
    pub len: usize,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bytes {}..{} are not in a buffer of {}", self.start, self.end, self.len)
    }
}

impl core::error::Error for OutOfRange {}

impl OutOfRange {
    /// Answers the error if the range does not lie in a buffer of this length.
    pub(super) const fn check(start: usize, end: usize, len: usize) -> Result<(), Self> {
        if start <= end && end <= len { Ok(()) } else { Err(Self { start, end, len }) }
    }
}

/// Bytes that an operation can read while it owns them.
///
/// # Safety
///
/// What [`bytes`](IoBuf::bytes) answers is initialised memory that stays valid for reads, at the same address, until
/// the buffer is dropped or given out mutably, however often the buffer itself is moved; and nobody writes it
/// meanwhile.
/// So an array is no buffer, and a `Box` of one is.
///
/// # Examples
///
/// ```
/// use memring::{IoBuf, Ring};
/// let ring = Ring::new()?;
/// let page: &'static [u8] = b"four";
/// let (dst, _) = ring.block_on(ring.memcpy(vec![0_u8; 2], page.slice(1..3)))??;
/// assert_eq!(dst, b"ou");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub unsafe trait IoBuf: Send + 'static {
    /// Where the bytes lie.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`], of a [`Slice`] that is not in its buffer.
    fn bytes(&self) -> Result<*const [u8], OutOfRange>;

    /// This range of the buffer. Whether it lies in the buffer is said by the operation.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{IoBuf, Ring, Status};
    /// let ring = Ring::new()?;
    /// let failed = ring.block_on(ring.memcpy(vec![0; 8].slice(4..12), vec![0; 8]))?.unwrap_err();
    /// assert_eq!(failed.error.status(), Status::INVALID);
    /// assert_eq!(failed.error.to_string(), "the bytes 4..12 are not in a buffer of 8");
    /// assert_eq!(failed.buffers.0.into_inner(), [0; 8], "the buffers come back");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        Slice::new(self, range)
    }
}

/// Bytes that an operation can write while it owns them.
///
/// # Safety
///
/// What [`bytes_mut`](IoBufMut::bytes_mut) answers is memory that stays valid for reads and writes, at the same
/// address, until the buffer is dropped or used through a reference, however often the buffer itself is moved; and
/// nobody else accesses it meanwhile. It need not be initialised, unless the buffer is an [`IoBuf`] too.
///
/// # Examples
///
/// ```
/// use memring::{IoBufMut, Ring};
/// let ring = Ring::new()?;
/// let log = Vec::with_capacity(16);
/// let (log, _) = ring.block_on(ring.memcpy(log.spare(5), b"hello".to_vec()))??;
/// assert_eq!(log.into_inner(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub unsafe trait IoBufMut: Send + 'static {
    /// Where the bytes lie.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`], of a [`Slice`] that is not in its buffer, or a [`Spare`] that is not in the capacity.
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange>;

    /// Notes that all of the bytes were written: called after a success.
    ///
    /// # Safety
    ///
    /// They are initialised.
    unsafe fn set_written(&mut self) {}

    /// The first `len` bytes of the capacity that the vector does not use, which need not be initialised. After a
    /// success the vector is longer by them.
    fn spare(self, len: usize) -> Spare
    where
        Self: Into<Vec<u8>> + Sized,
    {
        Spare { vec: self.into(), len }
    }
}

macro_rules! sources {
    ($($(#[$meta:meta])* $buffer:ty;)*) => {$(
        $(#[$meta])*
        // SAFETY: what this dereferences to is initialised and does not lie in the owner itself, so it stays where it
        // is while the owner moves; a shared reference keeps it from being written.
        unsafe impl IoBuf for $buffer {
            fn bytes(&self) -> Result<*const [u8], OutOfRange> {
                Ok(core::ptr::from_ref::<[u8]>(self))
            }
        }
    )*};
}

macro_rules! destinations {
    ($($(#[$meta:meta])* $buffer:ty;)*) => {$(
        $(#[$meta])*
        // SAFETY: as for `IoBuf`, and an exclusive reference says that nobody else has it.
        unsafe impl IoBufMut for $buffer {
            fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
                Ok(core::ptr::from_mut::<[u8]>(self))
            }
        }
    )*};
}

sources! {
    Vec<u8>;
    Box<[u8]>;
    Arc<[u8]>;
    &'static [u8];
    &'static mut [u8];
    #[cfg(feature = "bytes")]
    bytes::Bytes;
    #[cfg(feature = "bytes")]
    bytes::BytesMut;
    Span;
    #[cfg(feature = "memmap2")]
    memmap2::Mmap;
    #[cfg(feature = "memmap2")]
    memmap2::MmapMut;
}

destinations! {
    Vec<u8>;
    Box<[u8]>;
    &'static mut [u8];
    Span;
    #[cfg(feature = "bytes")]
    bytes::BytesMut;
    #[cfg(feature = "memmap2")]
    memmap2::MmapMut;
}

/// Part of a buffer, by [`IoBuf::slice`].
///
/// # Examples
///
/// ```
/// use memring::{IoBuf, Slice};
/// let middle: Slice<Vec<u8>> = vec![1, 2, 3, 4].slice(1..3);
/// assert_eq!(middle.into_inner(), [1, 2, 3, 4]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice<B> {
    buffer: B,
    start: usize,
    /// None: to the end of the buffer.
    end: Option<usize>,
}

impl<B> Slice<B> {
    /// This range of a buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Slice;
    /// assert_eq!(Slice::new(vec![1_u8, 2], ..1).get_ref(), &[1, 2]);
    /// ```
    pub fn new(buffer: B, range: impl RangeBounds<usize>) -> Self {
        // A bound beyond the last number lies in no buffer either.
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => Some(last.saturating_add(1)),
            Bound::Excluded(&end) => Some(end),
            Bound::Unbounded => None,
        };
        Self { buffer, start, end }
    }

    /// The whole buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Slice;
    /// assert_eq!(Slice::new(vec![1_u8, 2], ..1).get_ref().len(), 2);
    /// ```
    pub fn get_ref(&self) -> &B {
        &self.buffer
    }

    /// The whole buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Slice;
    /// assert_eq!(Slice::new(vec![1_u8, 2], ..1).into_inner(), [1, 2]);
    /// ```
    pub fn into_inner(self) -> B {
        self.buffer
    }

    /// The range, in a buffer of this length.
    fn range(&self, len: usize) -> Result<(usize, usize), OutOfRange> {
        let end = self.end.unwrap_or(len);
        OutOfRange::check(self.start, end, len)?;
        Ok((self.start, end - self.start))
    }
}

// SAFETY: part of what the buffer vouches for.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn bytes(&self) -> Result<*const [u8], OutOfRange> {
        let whole = self.buffer.bytes()?;
        let (start, len) = self.range(whole.len())?;
        Ok(core::ptr::slice_from_raw_parts(whole.cast::<u8>().wrapping_add(start), len))
    }
}

// SAFETY: as above. That a part was written says nothing of the rest, so only a buffer that is initialised has parts.
unsafe impl<B: IoBuf + IoBufMut> IoBufMut for Slice<B> {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        let whole = self.buffer.bytes_mut()?;
        let (start, len) = self.range(whole.len())?;
        Ok(core::ptr::slice_from_raw_parts_mut(whole.cast::<u8>().wrapping_add(start), len))
    }
}

/// Capacity of a vector that an operation fills, by [`IoBufMut::spare`].
///
/// # Examples
///
/// ```
/// use memring::{IoBufMut, Ring};
/// let ring = Ring::new()?;
/// let page = ring.block_on(ring.memset(Vec::with_capacity(64).spare(64), 7))??;
/// assert_eq!(page.into_inner(), [7; 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spare {
    vec: Vec<u8>,
    len: usize,
}

impl Spare {
    /// The vector: longer after a success, else as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::IoBufMut;
    /// assert_eq!(vec![1].spare(10).into_inner(), [1]);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> Vec<u8> {
        self.vec
    }
}

// SAFETY: the spare capacity belongs to the vector and nobody reads it; it lies on the heap.
unsafe impl IoBufMut for Spare {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        let spare = self.vec.spare_capacity_mut();
        OutOfRange::check(0, self.len, spare.len())?;
        Ok(core::ptr::slice_from_raw_parts_mut(spare.as_mut_ptr().cast(), self.len))
    }

    unsafe fn set_written(&mut self) {
        let written = std::mem::take(&mut self.len);
        // SAFETY: the caller vouches that these bytes are initialised; they were found in the capacity.
        unsafe { self.vec.set_len(self.vec.len() + written) };
    }
}
