//! Verbs: what an operation does, with the buffers it does it to.
#![expect(unsafe_code, reason = "tells buffers that they were written")]

use core::ops::Range;

use super::buffer::{IoBuf, IoBufMut, OutOfRange};
use super::failed::OpError;
use crate::memory::region::Region;
use crate::sqe::Sqe;

/// What an operation does: one of the structs beside this. It is sealed.
pub trait Verb: Steps {
    /// What the operation gives back: its buffers, in the order of its arguments.
    type Buffers: Send + 'static;

    /// Gives the buffers back.
    #[doc(hidden)]
    fn into_buffers(self) -> Self::Buffers;
}

/// What an operation asks of its verb.
pub trait Steps: Send + 'static {
    /// Calls `with` with the entries, which have the addresses of the buffers: they do not move from now on.
    fn with_entries<R>(&mut self, with: impl FnOnce(&mut [Sqe]) -> Result<R, OpError>) -> Result<R, OpError>;

    /// Tells the destination that it was written.
    ///
    /// # Safety
    ///
    /// It was, wholly.
    unsafe fn set_written(&mut self);
}

/// What a batch is made of, too: a verb of one entry.
pub(super) trait Single {
    /// The entry, with the addresses of the buffers, which do not move from now on.
    fn entry(&mut self) -> Result<Sqe, OpError>;

    /// As [`Steps::set_written`].
    ///
    /// # Safety
    ///
    /// That of [`Steps::set_written`].
    unsafe fn set_written(&mut self) {}
}

impl<V: Single + Send + 'static> Steps for V {
    #[inline]
    fn with_entries<R>(&mut self, with: impl FnOnce(&mut [Sqe]) -> Result<R, OpError>) -> Result<R, OpError> {
        with(&mut [self.entry()?])
    }

    unsafe fn set_written(&mut self) {
        // SAFETY: the contract is the same.
        unsafe { Single::set_written(self) };
    }
}

/// Copies a source to a destination of the same length.
#[derive(Debug)]
pub struct Memcpy<D, S> {
    pub(super) dst: D,
    pub(super) src: S,
}

impl<D: IoBufMut, S: IoBuf> Single for Memcpy<D, S> {
    #[inline]
    fn entry(&mut self) -> Result<Sqe, OpError> {
        let (dst, src) = (self.dst.bytes_mut()?, self.src.bytes()?);
        if dst.len() != src.len() {
            return Err(OpError::Lengths { dst: dst.len(), src: src.len() });
        }
        Ok(Sqe::memcpy(dst.cast(), src.cast(), src.len()))
    }

    unsafe fn set_written(&mut self) {
        // SAFETY: the caller vouches for it.
        unsafe { self.dst.set_written() };
    }
}

impl<D: IoBufMut, S: IoBuf> Verb for Memcpy<D, S> {
    type Buffers = (D, S);

    fn into_buffers(self) -> (D, S) {
        (self.dst, self.src)
    }
}

/// Copies a range of a buffer to another place in it; the two may overlap.
#[derive(Debug)]
pub struct Memmove<B> {
    pub(super) buffer: B,
    pub(super) from: Range<usize>,
    pub(super) to: usize,
}

impl<B: IoBuf + IoBufMut> Single for Memmove<B> {
    fn entry(&mut self) -> Result<Sqe, OpError> {
        let bytes = self.buffer.bytes_mut()?;
        Ok(moved(bytes, &self.from, self.to)?)
    }
}

/// The entry of a move inside these bytes.
pub(super) fn moved(bytes: *mut [u8], from: &Range<usize>, to: usize) -> Result<Sqe, OutOfRange> {
    let &Range { start, end } = from;
    OutOfRange::check(start, end, bytes.len())?;
    OutOfRange::check(to, to.saturating_add(end - start), bytes.len())?;
    let base = bytes.cast::<u8>();
    Ok(Sqe::memmove(base.wrapping_add(to), base.wrapping_add(start), end - start))
}

impl<B: IoBuf + IoBufMut> Verb for Memmove<B> {
    type Buffers = B;

    fn into_buffers(self) -> B {
        self.buffer
    }
}

/// Sets every byte of a buffer.
#[derive(Debug)]
pub struct Memset<B> {
    pub(super) buffer: B,
    pub(super) value: u8,
}

impl<B: IoBufMut> Single for Memset<B> {
    fn entry(&mut self) -> Result<Sqe, OpError> {
        let bytes = self.buffer.bytes_mut()?;
        Ok(Sqe::memset(bytes.cast(), self.value, bytes.len()))
    }

    unsafe fn set_written(&mut self) {
        // SAFETY: the caller vouches for it.
        unsafe { self.buffer.set_written() };
    }
}

impl<B: IoBufMut> Verb for Memset<B> {
    type Buffers = B;

    fn into_buffers(self) -> B {
        self.buffer
    }
}

/// Writes a buffer's cache lines back to memory.
#[derive(Debug)]
pub struct Flush<B> {
    pub(super) buffer: B,
}

impl<B: IoBuf> Single for Flush<B> {
    fn entry(&mut self) -> Result<Sqe, OpError> {
        let bytes = self.buffer.bytes()?;
        Ok(Sqe::flush(bytes.cast(), bytes.len()))
    }
}

impl<B: IoBuf> Verb for Flush<B> {
    type Buffers = B;

    fn into_buffers(self) -> B {
        self.buffer
    }
}

/// A flush of a part of a region: see [`Ring::flush_in`](super::Ring::flush_in).
#[derive(Debug)]
pub struct FlushIn {
    pub(super) region: Region,
    pub(super) range: Range<usize>,
}

impl Single for FlushIn {
    fn entry(&mut self) -> Result<Sqe, OpError> {
        OutOfRange::check(self.range.start, self.range.end, self.region.len())?;
        Ok(Sqe::flush_in(&self.region, self.range.clone()))
    }
}

impl Verb for FlushIn {
    type Buffers = Region;

    fn into_buffers(self) -> Region {
        self.region
    }
}
