//! What the loom models of `tests/` share: a runner, actors, payloads, two ways to sleep.
//!
//! A model is a function that loom runs once for every order of events and every value that a load may return, up to
//! a bound on preemptions. It passes if no execution panics: no assertion fails, no two accesses of a `Payload` go
//! unordered, no thread is left asleep for ever (loom calls that a deadlock).
//!
//! A model that cannot fail proves nothing. Each `Model` therefore lists the `Fault`s that it must catch, and how.
//! `run` is the main function of the one test binary: it checks every model as it is and once with every fault.
//!
//! House rules for models, each paid for with a false alarm, an endless search or a fault that went unnoticed:
//!
//! - Two to five actors `play`; the first is loom's main thread, and each is first once. Nobody is joined: what must
//!   be true in the end is a check, which knows all that the actors did.
//! - No spinning: try, and sleep through a doorbell where the protocol has one.
//! - Blocking is a condition variable's alone: loom keeps one token for parking, joining and condition variables.
//! - Every write of a doorbell's word is a read-modify-write, as in the rings themselves: loom keeps modification order
//!   as a partial order, and a plain store beside one goes astray.
//! - Rings have one or two slots, so that a few operations go round. Loom tells the last seven stores of an atomic
//!   apart.
//! - Threads are coroutines of one OS thread, so a world is shared by `Rc`, and `RefCell` holds what loom need not see.

#[cfg(memring_loom)]
mod parts;
#[cfg(memring_loom)]
mod runner;

#[cfg(memring_loom)]
pub use parts::{Blocking, Event, Notes, Payload, lock, play};
#[cfg(memring_loom)]
pub use runner::{ASLEEP, Fault, Model, RACE, is_faulty, run};

/// Without `--cfg memring_loom`: runs no model, and fails if one was expected.
#[cfg(not(memring_loom))]
#[must_use]
pub fn run() -> std::process::ExitCode {
    use std::io::Write;
    let expected = std::env::var_os("MEMRING_EXPECT_LOOM").is_some();
    let report = if expected {
        "FAILED: no model ran. `cargo loom` sets RUSTFLAGS through cargo's configuration, and the environment's \
         RUSTFLAGS win over that: unset RUSTFLAGS (and CARGO_ENCODED_RUSTFLAGS), or add `--cfg memring_loom` to them."
    } else {
        "not built for loom: no model ran (`cargo loom` runs them)"
    };
    // A closed standard output changes nothing about the verdict.
    let _ = writeln!(std::io::stdout(), "loom-tests: {report}");
    if expected { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}
