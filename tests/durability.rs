//! Goal: what a log acknowledges as durable is on stable storage: whole, in order, whatever is cut off or fails.
//!
//! Method: the kernel and the disk are asked, not the log. Each check here is a function of a `Kind` of log
//! (`durability/log.rs`) that returns what it found wrong. It is put to the right ones, of which it finds nothing, and
//! to mutants, each of which it must convict.
//!
//! What cannot be done everywhere is skipped, aloud. `MEMRING_REQUIRE` makes that a failure, for each of: `disk` (the
//! build is not on a tmpfs), `cachestat`, `loop` and `fuse` (root, a mount namespace, `mkfs.ext4`, `e2fsck`, `debugfs`,
//! `losetup`, and `/dev/fuse` for the latter), `mounts`, `uring`.

#[path = "support/cachestat.rs"]
mod cachestat;
#[path = "durability/crashes.rs"]
mod crashes;
#[path = "support/disk.rs"]
mod disk;
#[path = "support/failing.rs"]
mod failing;
#[path = "durability/failures.rs"]
mod failures;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[path = "durability/forbidden.rs"]
mod forbidden;
#[path = "durability/killed.rs"]
mod killed;
#[path = "durability/log.rs"]
mod log;
#[path = "durability/memring.rs"]
mod memring;
#[path = "support/mounts.rs"]
mod mounts;
#[path = "durability/page_cache.rs"]
mod page_cache;
#[path = "durability/plain.rs"]
mod plain;
#[path = "support/random.rs"]
mod random;
#[path = "durability/records.rs"]
mod records;
#[path = "durability/rigs.rs"]
mod rigs;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[path = "support/seccomp.rs"]
mod seccomp;
#[path = "support/skip.rs"]
mod skip;
#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "support/watchdog.rs"]
mod watchdog;

use log::Kind;

/// Those that every check must find right.
const RIGHT: &[Kind] = &[plain::PLAIN, memring::BY_URING, memring::BY_FDATASYNC, memring::BY_CALLERS];
