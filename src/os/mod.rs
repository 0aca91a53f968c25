//! What memring asks of the operating system: to sleep on a word, to wake a reactor, to know of a fork, to
//! go on after a fault, to end; and locks that outlive a panic.
//!
//! The ground under all layers, Linux only. Nothing here knows an entry or a mover.

mod end;
mod eventfd;
#[cfg(target_arch = "x86_64")]
pub(crate) mod fault;
mod fork;
mod futex;
mod lock;
mod numa;
mod populate;

pub(crate) use end::{abort, abort_over_memory_in_use};
pub(crate) use eventfd::EventFd;
pub(crate) use fork::Birth;
pub(crate) use futex::Futex;
pub(crate) use lock::lock;
pub(crate) use numa::{distance, this_node};
pub use populate::Access;
pub(crate) use populate::{Populated, populate};
