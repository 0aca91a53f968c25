//! Goal: which work queues there are is read right from what any kernel prints, and where none can be used, the reason
//! is told, with the path at fault and what would mend it. Nothing that a tree holds makes it panic.
//!
//! Method: made-up trees of files, as `Roots` allows: one that is right, in the newest form or in that of old kernels,
//! and changed in one place at a time. The forms are those of the kernel's ABI documentation, written by hand.
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]

#[path = "support/child.rs"]
mod child;
#[path = "support/skip.rs"]
mod skip;
#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "dsa_discovery/tree.rs"]
mod tree;

#[path = "dsa_discovery/capabilities.rs"]
mod capabilities;
#[path = "dsa_discovery/found.rs"]
mod found;
#[path = "dsa_discovery/oddities.rs"]
mod oddities;
#[path = "dsa_discovery/permissions.rs"]
mod permissions;
#[path = "dsa_discovery/reasons.rs"]
mod reasons;
