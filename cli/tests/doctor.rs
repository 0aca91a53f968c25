//! Goal: `memring doctor` says what there is, what is broken and which command would mend it, to a person and to a
//! program alike, whatever the machine looks like; and its exit status says whether something is.
//!
//! Method: the made-up trees of `tests/dsa_discovery`, and made-up texts of the kernel, which options lead the command
//! to; limits and refusals of the kernel that it is started with. Each look is taken twice, as text and as JSON, and
//! `said` compares the two.
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]

mod support;
#[path = "../../tests/dsa_discovery/tree.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod tree;

#[path = "doctor/arguments.rs"]
mod arguments;
#[path = "doctor/buses.rs"]
mod buses;
#[path = "doctor/machines.rs"]
mod machines;
#[path = "doctor/portals.rs"]
mod portals;
#[path = "doctor/queues.rs"]
mod queues;
#[path = "doctor/said.rs"]
mod said;
#[path = "doctor/uring.rs"]
mod uring;
