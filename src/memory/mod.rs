//! Memory itself: the routines that copy, set and write back bytes, and what backs an address.
//!
//! The one place where bytes move. Nothing here knows queues; callers answer for the addresses.

mod cache;
mod copy;
mod flush;
#[cfg(target_arch = "x86_64")]
pub(crate) mod guarded;
pub(crate) mod region;
mod stream;

pub(crate) use cache::{is_worth_streaming, streams_from};
pub(crate) use copy::{memcpy, memmove, memset};
pub(crate) use flush::{can_flush, flush};
pub(crate) use stream::{Ahead, Stores, stream_copy, stream_set};
