//! Goal: what a region promises: what may be one, who is let in, what a flush of it means, what it costs, and what
//! becomes of it when the disk fails.
//!
//! Method: mapped files on the file system of the build's folder, which must be on a disk; every drive and both ways to
//! the kernel. Whether pages are dirty is asked of the kernel elsewhere (`tests/durability.rs`); here fsyncs are
//! counted, and failures injected.
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]

#[path = "regions/files.rs"]
mod files;
#[path = "support/hold.rs"]
mod hold;
#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "support/watchdog.rs"]
mod watchdog;

#[path = "regions/failures.rs"]
mod failures;
#[path = "regions/flushes.rs"]
mod flushes;
#[path = "regions/registration.rs"]
mod registration;
#[path = "regions/rings.rs"]
mod rings;
#[path = "regions/wakes.rs"]
mod wakes;
