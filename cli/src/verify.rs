//! Comparing the copy with its source, byte by byte, before it is published.
#![expect(unsafe_code, reason = "compares mappings, to which no reference may be made")]

use memmap2::MmapRaw;

/// Compared at a time: small enough to find the byte quickly, large enough that memcmp is at its best.
const BLOCK: usize = 1 << 20;

/// The first offset at which the two differ.
pub(crate) fn first_difference(one: &MmapRaw, other: &MmapRaw) -> Option<usize> {
    let len = one.len().min(other.len());
    let mut at = 0;
    while at < len {
        let block = BLOCK.min(len - at);
        if differ(one, other, at, block) {
            return (at..at + block).find(|&byte| differ(one, other, byte, 1)).or(Some(at));
        }
        at += block;
    }
    (one.len() != other.len()).then_some(len)
}

fn differ(one: &MmapRaw, other: &MmapRaw, at: usize, len: usize) -> bool {
    let (one, other) = (one.as_ptr().wrapping_add(at), other.as_ptr().wrapping_add(at));
    // SAFETY: the caller keeps `at + len` within both mappings, which are borrowed. Another process may write the files
    // meanwhile; memcmp then compares what it finds, and no reference claims that the bytes stand still.
    unsafe { libc::memcmp(one.cast(), other.cast(), len) != 0 }
}
