//! MEMMOVE and DUALCAST.
//!
//! A copy between regions that overlap goes from the end if its destination begins inside of its source: from the
//! start it would overwrite what it has yet to read. A device that stops at a page fault says which way it went, since
//! what is left is then the first part and not the last.

use core::ops::Range;

/// Which way a copy goes.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::Direction;
/// assert_eq!(Direction::of(0x1000, 0x1800, 0x1000), Direction::Backward);
/// assert_eq!(Direction::of(0x1800, 0x1000, 0x1000), Direction::Forward);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the start.
    Forward,
    /// From the end.
    Backward,
}

impl Direction {
    /// The way that a copy between these addresses must go, or may: regions that do not overlap are copied forward.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::operations::Direction;
    /// assert_eq!(Direction::of(0, 64, 64), Direction::Forward);
    /// ```
    #[must_use]
    pub const fn of(src: u64, dst: u64, len: u64) -> Self {
        let begins_inside = dst > src && dst - src < len;
        if begins_inside { Self::Backward } else { Self::Forward }
    }

    /// What a completion record's result says of the way.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::operations::Direction;
    /// assert_eq!(Direction::from_result(1), Direction::Backward);
    /// ```
    #[must_use]
    pub const fn from_result(result: u8) -> Self {
        if result & 1 == 0 { Self::Forward } else { Self::Backward }
    }

    /// The way as a completion record's result.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::operations::Direction::Backward.to_result(), 1);
    /// ```
    #[must_use]
    pub const fn to_result(self) -> u8 {
        matches!(self, Self::Backward) as u8
    }

    /// Which of `len` bytes are copied when `done` are.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::operations::Direction;
    /// assert_eq!(Direction::Forward.part(100, 30), 0..30);
    /// assert_eq!(Direction::Backward.part(100, 30), 70..100);
    /// ```
    #[must_use]
    pub fn part(self, len: usize, done: usize) -> Range<usize> {
        let done = done.min(len);
        match self {
            Self::Forward => 0..done,
            Self::Backward => len - done..len,
        }
    }
}

/// Copies, and says how many bytes.
///
/// # Examples
///
/// ```
/// let mut dst = [0; 3];
/// assert_eq!(memring::dsa::operations::memmove(&mut dst, &[1, 2, 3]), 3);
/// assert_eq!(dst, [1, 2, 3]);
/// ```
pub fn memmove(dst: &mut [u8], src: &[u8]) -> usize {
    let len = dst.len().min(src.len());
    if let (Some(dst), Some(src)) = (dst.get_mut(..len), src.get(..len)) {
        dst.copy_from_slice(src);
    }
    len
}

/// Copies inside of one region, as if through a buffer, and says which way it went. `None`, and nothing done, if either
/// end is not inside.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::{Direction, memmove_within};
/// let mut memory = *b"abcdef";
/// assert_eq!(memmove_within(&mut memory, 0..4, 2), Some(Direction::Backward));
/// assert_eq!(&memory, b"ababcd");
/// assert_eq!(memmove_within(&mut memory, 0..4, 3), None);
/// ```
pub fn memmove_within(memory: &mut [u8], src: Range<usize>, dst: usize) -> Option<Direction> {
    let len = memory.get(src.clone())?.len();
    memory.get(dst..dst.checked_add(len)?)?;
    memory.copy_within(src.clone(), dst);
    Some(Direction::of(src.start as u64, dst as u64, len as u64))
}

/// Copies to two destinations, and says how many bytes. When a device stops, both hold the same number.
///
/// # Examples
///
/// ```
/// let (mut one, mut two) = ([0; 2], [0; 2]);
/// assert_eq!(memring::dsa::operations::dualcast(&mut one, &mut two, &[1, 2]), 2);
/// assert_eq!((one, two), ([1, 2], [1, 2]));
/// ```
pub fn dualcast(dst_1: &mut [u8], dst_2: &mut [u8], src: &[u8]) -> usize {
    let len = dst_1.len().min(dst_2.len()).min(src.len());
    let src = src.get(..len).unwrap_or_default();
    memmove(dst_1, src).min(memmove(dst_2, src))
}
