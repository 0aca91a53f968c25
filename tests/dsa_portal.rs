//! Goal: descriptors go through a portal as they are and in order, no further than the queue has room, and whoever
//! submits can tell why the next one did not, but not which portal it is.
//!
//! Method: without a device. The written portal writes to pipes, sockets and files, which take what a queue takes and
//! stop where a queue stops. The mapped portal maps a page of a file; what the CPU does not know, a signal handler does
//! in its place (`trap.rs`), so that the very instructions of the library are executed, and can be counted.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]

#[path = "support/child.rs"]
mod child;
#[path = "dsa_portal/descriptors.rs"]
mod descriptors;
#[path = "dsa_portal/filter.rs"]
mod filter;
#[path = "support/skip.rs"]
mod skip;
#[path = "dsa_portal/trap.rs"]
mod trap;

#[path = "dsa_portal/both.rs"]
mod both;
#[path = "dsa_portal/mapped.rs"]
mod mapped;
#[path = "dsa_portal/opening.rs"]
mod opening;
#[path = "dsa_portal/written.rs"]
mod written;
