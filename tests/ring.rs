//! Goal: a ring keeps every promise of its documents, whoever uses it, in every drive: what comes back, what is refused
//! and how, who owns the buffers when, who goes first, and that nobody waits for nothing.
//!
//! Method: through the public interface, one folder of chapters. Movers of the test hold, record or refuse what they
//! are given (`ring/movers.rs`, `support/hold.rs`), so that "while it runs" is a state and not a moment; buffers of the
//! test know who has them (`ring/canary.rs`); wakers count (`ring/wakers.rs`). Everything that could hang runs under a
//! limit.
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]

#[path = "support/hold.rs"]
mod hold;
#[path = "support/random.rs"]
mod random;
#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/watchdog.rs"]
mod watchdog;

#[path = "ring/canary.rs"]
mod canary;
#[path = "ring/movers.rs"]
mod movers;
#[path = "ring/setup.rs"]
mod setup;
#[path = "ring/wakers.rs"]
mod wakers;

#[path = "ring/batches.rs"]
mod batches;
#[path = "ring/blocking.rs"]
mod blocking;
#[path = "ring/buffers.rs"]
mod buffers;
#[path = "ring/executors.rs"]
mod executors;
#[path = "ring/hammer.rs"]
mod hammer;
#[path = "ring/last.rs"]
mod last;
#[path = "ring/line.rs"]
mod line;
#[path = "ring/owners.rs"]
mod owners;
#[path = "ring/reactor.rs"]
mod reactor;
#[path = "ring/refused.rs"]
mod refused;
#[path = "ring/scopes.rs"]
mod scopes;
#[path = "ring/shutdown.rs"]
mod shutdown;
#[path = "ring/states.rs"]
mod states;
#[path = "ring/turns.rs"]
mod turns;
#[path = "ring/verbs.rs"]
mod verbs;
