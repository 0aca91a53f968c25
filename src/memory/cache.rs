//! How large the last-level cache is, and from what size on a batch is better kept out of it.
//!
//! A batch that fits the cache finds its bytes there, and leaves them there for whoever comes next: streaming such a
//! batch is two to five times slower. A batch that does not fit pushes its own bytes out before anyone comes back to
//! them; streamed, it spares the memory the fetching of every line that it overwrites. libc knows the same of a single
//! call; only a queue sees the batch.
//!
//! Repeated over the same memory, time streamed over time plain, on a Zen 4 whose cache holds 32 MiB (median of 11; 4
//! KiB an operation; "and read" reads what was written after each round):
//!
//! | source and destination, of the cache | 0.25 | 0.5 | 1 | 1.5 | 2 | 3 | 4 | 8 |
//! |---|---|---|---|---|---|---|---|---|
//! | copies, one thread | 1.57 | 1.12 | 0.74 | 0.73 | 0.72 | 0.67 | 0.62 | 0.70 |
//! | copies, two threads | 3.00 | 2.36 | 1.05 | 0.90 | 0.70 | 0.67 | 0.68 | 0.66 |
//! | copies and read, one thread | 1.95 | 1.56 | 1.16 | 1.03 | 0.90 | 0.83 | 0.76 | 0.79 |
//! | copies and read, two threads | 3.07 | 2.53 | 1.50 | 1.20 | 1.08 | 0.91 | 0.81 | 0.78 |
//! | sets of ones, two threads | 5.56 | 4.24 | 1.23 | 1.18 | 0.98 | 0.85 | 0.80 | 0.92 |
//! | sets of zeros, two threads | 1.53 | 1.39 | 0.49 | 0.38 | 0.40 | 0.32 | 0.34 | 0.29 |
//!
//! So the line is drawn at twice the cache, where nobody loses much any more.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Where Linux describes the caches of the first CPU, a folder each.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";
/// What a cache is taken to hold that nobody describes, bytes.
const UNKNOWN: u64 = 32 << 20;

/// What the last-level cache holds, bytes. The first call reads files; later ones read a word.
///
/// It does not ask `sysconf`, which on some virtual machines answers for the host's cores together: 320 MiB where each
/// core sees 32.
pub(crate) fn last_level_cache() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| described_in(Path::new(CACHES)).unwrap_or(UNKNOWN))
}

/// From how many bytes on, source and destination together, a batch had better be streamed.
pub(crate) fn streams_from() -> u64 {
    last_level_cache().saturating_mul(2)
}

/// Whether a batch that touches so many bytes, source and destination together, had better be streamed.
pub(crate) fn is_worth_streaming(bytes: u64) -> bool {
    bytes >= streams_from()
}

/// The size of the cache of the highest level, if it is the second or higher: none has only a first.
pub(crate) fn described_in(folder: &Path) -> Option<u64> {
    let caches = fs::read_dir(folder).ok()?.flatten().filter_map(|cache| {
        let read = |name| fs::read_to_string(cache.path().join(name)).ok();
        let level: u32 = read("level")?.trim().parse().ok()?;
        let holds_data = read("type")?.trim() != "Instruction";
        let bytes = bytes_of(&read("size")?).filter(|&bytes| bytes > 0)?;
        (level >= 2 && holds_data).then_some((level, bytes))
    });
    caches.max().map(|(_, bytes)| bytes)
}

/// A size as the kernel writes it: `32768K`.
fn bytes_of(size: &str) -> Option<u64> {
    let kibibytes: u64 = size.trim().strip_suffix('K')?.parse().ok()?;
    kibibytes.checked_mul(1024)
}
