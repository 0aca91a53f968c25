//! The seam: everything that the command asks of memring's durability, so that one file knows how it is spelled.
//!
//! STUB: memring's durable flushes are not there yet. Until they are, what `memring info` says of memring is found
//! here. What each function is to become stands beside it.

use std::{fs, io};

use io_uring::IoUring;

use crate::failure::Failure;

/// What the kernel says when it is asked for an io_uring, if it refuses.
///
/// The answer yes or no is to come from `memring::uring_is_allowed()`; why, from the system itself as here.
pub(crate) fn io_uring_refusal() -> Option<io::Error> {
    IoUring::new(1).err()
}

/// How memring makes flushes durable here.
///
/// To become the words for `QueuePair::builder().entries(1).workers(0).build()?.flushes_by()`.
pub(crate) fn flushes_by() -> Result<&'static str, Failure> {
    Ok(if io_uring_refusal().is_none() { "io_uring" } else { "fdatasync" })
}

/// The instruction that writes cache lines back, if this CPU has one.
///
/// To become a word of memring's, which has detected it by CPUID.
pub(crate) fn cache_flush() -> Option<&'static str> {
    if cfg!(target_arch = "aarch64") {
        return Some("DC CVAC");
    }
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpus.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    [("clwb", "CLWB"), ("clflushopt", "CLFLUSHOPT"), ("clflush", "CLFLUSH")]
        .into_iter()
        .find_map(|(flag, name)| has(flag).then_some(name))
}
