//! The lock-free rings of [memring](https://crates.io/crates/memring): every atomic of the project, and nothing else.
//!
//! This crate knows words, tickets and credits; it does not know what an operation is. It holds no `unsafe`: entries
//! are words in atomics, so a protocol error would be a wrong value, not undefined behaviour, and loom sees every
//! access.
//!
//! | module | what it carries | producers, consumers |
//! |---|---|---|
//! | [`mpmc`] | submission entries to a mover: a [`Lane`] | many, many |
//! | [`table`] | entries that wait for their turn | many, many |
//! | [`split`] | operations done in parts | many, many |
//! | [`completion`] | completions to the reaper | many, one |
//! | [`credits`] | the right to have an operation under way | many, many |
//! | [`gate`] | the intake that counts and closes | many, one |
//! | [`doorbell`] | sleep and wake | many ringers; one sleeper, or a [`Roster`] of them |
//! | [`role`] | work that one thread does for all | many callers, one holder |
//! | [`slot`] | something awaited, from its opening to its end | one owner, one reaper |
//! | [`progress`] | how much has been done | many who do, many who look |
//! | [`counter`] | statistics | |
//!
//! `README.md` beside this crate gives each protocol's owners, states, orderings and proof sketch; the obligations
//! named P1 to P16 there are the ones that the comments here refer to.

#![no_std]

extern crate alloc;

pub mod completion;
pub mod counter;
pub mod credits;
pub mod doorbell;
pub mod gate;
mod index;
pub mod mpmc;
pub mod progress;
pub mod role;
pub mod slot;
pub mod split;
pub mod sync;
pub mod table;

pub use completion::{Consumer, PHASE_BIT, Producer};
pub use counter::Counter;
pub use credits::Credits;
pub use doorbell::{Doorbell, Roster, Rung, Sleep, Wake, Word};
pub use gate::{Gate, Passage};
pub use index::Words;
pub use mpmc::Lane;
pub use progress::Progress;
pub use role::Role;
pub use slot::Slots;
pub use split::Splits;
pub use table::Table;
