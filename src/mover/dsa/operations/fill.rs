//! FILL: a pattern of 8 or 16 bytes, which begins where the destination begins, whatever its alignment.
//!
//! When a fill stops after a number of bytes that is no multiple of the pattern's, the rest begins inside of it: the
//! pattern of the rest is [`rotated`]. That a device must be given it rotated follows from where patterns begin; the
//! specification does not say it.

/// Repeats the 8 bytes of a pattern, the least significant one first.
///
/// # Examples
///
/// ```
/// let mut dst = [0; 10];
/// memring::dsa::operations::fill(&mut dst, 0x0807_0605_0403_0201);
/// assert_eq!(dst, [1, 2, 3, 4, 5, 6, 7, 8, 1, 2]);
/// ```
pub fn fill(dst: &mut [u8], pattern: u64) {
    repeat(dst, &pattern.to_le_bytes());
}

/// Repeats the 16 bytes of a pattern, the least significant one first: [`FILL_16`](crate::dsa::Flags::FILL_16).
///
/// # Examples
///
/// ```
/// let mut dst = [0; 17];
/// memring::dsa::operations::fill_16(&mut dst, u128::from_le_bytes(*b"0123456789abcdef"));
/// assert_eq!(&dst, b"0123456789abcdef0");
/// ```
pub fn fill_16(dst: &mut [u8], pattern: u128) {
    repeat(dst, &pattern.to_le_bytes());
}

fn repeat(dst: &mut [u8], pattern: &[u8]) {
    let mut done = pattern.len().min(dst.len());
    dst[..done].copy_from_slice(&pattern[..done]);
    // What is there doubles, so it stays a multiple of the pattern until the end.
    while done < dst.len() {
        let more = done.min(dst.len() - done);
        dst.copy_within(..more, done);
        done += more;
    }
}

/// The pattern of what is left of a fill, or of a comparison with a pattern, after this many bytes.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::rotated;
/// assert_eq!(rotated(0x0807_0605_0403_0201, 3), 0x0302_0108_0706_0504);
/// assert_eq!(rotated(7, 4096), 7);
/// ```
#[must_use]
pub const fn rotated(pattern: u64, bytes_completed: u32) -> u64 {
    pattern.rotate_right(8 * (bytes_completed % 8))
}

/// The same of a pattern of 16 bytes.
///
/// # Examples
///
/// ```
/// use memring::dsa::operations::rotated_16;
/// let pattern = u128::from_le_bytes(*b"0123456789abcdef");
/// assert_eq!(rotated_16(pattern, 18).to_le_bytes(), *b"23456789abcdef01");
/// ```
#[must_use]
pub const fn rotated_16(pattern: u128, bytes_completed: u32) -> u128 {
    pattern.rotate_right(8 * (bytes_completed % 16))
}
