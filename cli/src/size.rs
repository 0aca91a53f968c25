//! Sizes as people write them: `4096`, `256K`, `1M`, `2G`.
//!
//! Suffixes are binary, 1K is 1024 bytes, and may be small letters. Pure, so that tests need no process.

/// Bytes, at least one, that fit this machine's addresses.
pub(crate) fn parse(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_u64 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    // Only digits: `u64::from_str` would also take a plus sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a size is a number of bytes, with K, M or G after it if you like".to_owned());
    }
    let number = digits.parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(unit)).and_then(|bytes| usize::try_from(bytes).ok());
    match bytes {
        Some(0) => Err("a size is at least one byte".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("a size is at most {} bytes on this machine", usize::MAX)),
    }
}
