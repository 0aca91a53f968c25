//! Memory itself: the routines that copy, set and write back bytes.
//!
//! The one place where bytes move. Nothing here knows entries or queues; callers answer for the addresses.

mod copy;
mod flush;

pub(crate) use copy::{memcpy, memmove, memset};
pub(crate) use flush::{can_flush, flush};
