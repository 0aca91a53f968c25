//! memring is io_uring for memory: copies, moves, sets and flushes as 64-byte entries in lock-free rings, executed by
//! whichever data mover fits, reported through one completion queue.
//!
//! ```
//! use memring::Ring;
//!
//! let ring = Ring::new()?;
//! // Owned buffers in, owned buffers out: a future for any executor.
//! let (dst, src) = ring.block_on(ring.memcpy(vec![0; 1 << 20], vec![7; 1 << 20]))??;
//! assert_eq!(dst, src);
//! // Borrowed buffers: a scope returns when all is done.
//! let mut pages = vec![0; 1 << 20];
//! ring.scope(|s| {
//!     for (to, from) in pages.chunks_mut(4096).zip(src.chunks(4096)) {
//!         s.memcpy(to, from);
//!     }
//! })?;
//! assert_eq!(pages, src);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Beneath the ring lies the queue pair, for who keeps his own account of what is in flight:
//!
//! ```
//! use memring::{Sqe, queue::QueuePair};
//!
//! let src = vec![7_u8; 1 << 20];
//! let mut dst = vec![0_u8; 1 << 20];
//! // After the buffers, so that it is dropped before them: its drop waits for what is in flight.
//! let (mut sq, mut cq) = QueuePair::builder().entries(4096).workers(1).build()?.split();
//!
//! for (index, (to, from)) in dst.chunks_mut(4096).zip(src.chunks(4096)).enumerate() {
//!     let sqe = Sqe::memcpy(to.as_mut_ptr(), from.as_ptr(), from.len()).user_data(index as u64);
//!     // SAFETY: both buffers outlive `cq`, and nobody touches them until all completions were reaped.
//!     unsafe { sq.push(sqe) }?;
//! }
//! let submitted = sq.submit();
//!
//! let mut reaped = 0;
//! while reaped < submitted {
//!     cq.wait(1, None)?; // helps to copy while it waits
//!     for cqe in cq.drain() {
//!         assert!(cqe.status().is_success());
//!         reaped += 1;
//!     }
//! }
//! assert_eq!(dst, src);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`future`] | rings: operations as futures, buffers, scopes, batches |
//! | [`queue`] | the queue pair: push, submit, drain, wait, arm |
//! | [`mover`] | who executes: the [`DataMover`](mover::DataMover) contract |
//! | [`sqe`], [`cqe`] | the entries |
//! | [`dsa`] | Intel's accelerator as a mover ([`dsa::Dsa`]), what it is made of, and a strict device in software |
//! | `tokio` | a completion queue that a task of tokio awaits; with the feature `tokio` |
//! | [`vdm`] | the same in miniasync's words: virtual data movers, one operation a future |
//!
//! Linux only. `docs/ARCHITECTURE.md` explains how it works inside.

#[cfg(not(target_os = "linux"))]
compile_error!("memring needs Linux: futex, eventfd, pthread_atfork");

pub mod cqe;
mod error;
pub mod future;
mod memory;
pub mod mover;
mod os;
pub mod queue;
pub mod sqe;
#[cfg(feature = "tokio")]
pub mod tokio;
pub mod vdm;

pub use cqe::{Cqe, Status};
pub use error::BuildError;
pub use future::{
    Batch, BlockError, Failed, IoBuf, IoBufMut, OpError, Operation, OutOfRange, Ring, RingBuilder, Scope, ScopeError,
    Slice, Spare, State,
};
pub use region::{MappedFile, Region, Span};
pub use sqe::{INLINE, MoverId, OpFlags, Opcode, ROUTED, Sqe, SqeFlags, URING, WORKERS};

/// Intel's Data Streaming Accelerator: the bytes that go to it and come back, what it does, where it is, and the way
/// there.
///
/// For who plays the device, or looks at one: programs that move memory need none of this.
pub mod dsa {
    #[doc(inline)]
    pub use crate::mover::dsa::*;
}

/// Regions: files mapped into memory, that a queue or a ring makes durable.
pub mod region {
    pub use crate::memory::region::{
        Backing, DeregisterError, MappedFile, Mapping, Region, RegisterError, RegisterRefusal, Span, SpanError,
    };
}

/// The README's programs run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
