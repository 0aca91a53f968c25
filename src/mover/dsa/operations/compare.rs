//! COMPARE and COMPVAL: the offset of the first difference.

/// Compared at once, bytes: a multiple of any pattern.
const BLOCK: usize = 256;

/// The offset of the first byte in which two regions differ.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::compare;
/// assert_eq!(compare(b"abcd", b"abxd"), Some(2));
/// assert_eq!(compare(b"abcd", b"abcd"), None);
/// ```
#[must_use]
pub fn compare(src_1: &[u8], src_2: &[u8]) -> Option<usize> {
    first_difference(src_1.chunks(BLOCK).zip(src_2.chunks(BLOCK)))
}

/// The offset of the first byte in which a region differs from a pattern that repeats, the least significant byte
/// first. A device may name an earlier offset.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::compare_value;
/// assert_eq!(compare_value(&[1, 2, 3, 4, 5, 6, 7, 8, 1, 0], 0x0807_0605_0403_0201), Some(9));
/// assert_eq!(compare_value(&[0; 4096], 0), None);
/// ```
#[must_use]
pub fn compare_value(src: &[u8], pattern: u64) -> Option<usize> {
    let mut block = [0; BLOCK];
    super::fill(&mut block, pattern);
    first_difference(src.chunks(BLOCK).zip(core::iter::repeat(block.as_slice())))
}

/// Whole blocks are compared by the platform's routine; only in one that differs are bytes looked at.
fn first_difference<'a>(blocks: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<usize> {
    let mut before = 0;
    for (one, two) in blocks {
        let len = one.len().min(two.len());
        if one.get(..len) != two.get(..len) {
            return one.iter().zip(two).position(|(a, b)| a != b).map(|at| before + at);
        }
        before += len;
    }
    None
}
