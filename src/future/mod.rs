//! Futures over a queue pair: operations that own their buffers, scopes that borrow them, and who reaps.
//!
//! ```text
//!  Operation ─first poll─▶ Entrance ─push, submit─▶ queue pair ─▶ Reaper ─▶ Place ─wake─▶ Operation
//!  owns the buffers        a place, a turn                        a role    a slot, a waker
//! ```
//!
//! This floor stands on the public interface of [`queue`](crate::queue) alone. Its atomics are in `ring/` as all others
//! are: the slots that operations live in, the role of the reaper, the bell of a reactor.

mod batch;
mod block;
mod buffer;
mod builder;
mod entrance;
mod failed;
mod operation;
mod parker;
mod places;
mod raw;
mod reaper;
mod ring;
mod scope;
mod shared;
mod turns;
mod verb;

pub use self::batch::{Batch, Batched, Many};
pub use self::buffer::{IoBuf, IoBufMut, OutOfRange, Slice, Spare};
pub use self::builder::RingBuilder;
pub use self::failed::{BlockError, Failed, OpError};
pub use self::operation::{Operation, Started, State};
pub(crate) use self::raw::RawRing;
pub use self::ring::{Ring, Shutdown};
pub use self::scope::{Scope, ScopeError, Scoped};
pub(crate) use self::turns::Seen;
pub use self::verb::{Flush, FlushIn, Memcpy, Memmove, Memset, Verb};
