//! Goal: the software model of a DSA device refuses what a device refuses, does what a device does, and uses every
//! freedom that a device has, so that a program which works with it has been tried hard.
//!
//! Method: the model gets a memory of the test's: a few pages that can be there or not, all of whose bytes are compared
//! with what they should be, so that nothing else was touched. What they should be comes from
//! `memring::dsa::operations`, which `tests/dsa.rs` compares with facts from elsewhere. `dsa_model/resumption.rs` is a
//! client that submits what is left of operations until they are done; `MEMRING_STRESS=full` gives it 10 million of
//! them. `MEMRING_SEED` repeats a run.

#[path = "dsa_model/batches.rs"]
mod batches;
#[path = "support/child.rs"]
mod child;
#[path = "dsa_model/drawn.rs"]
mod drawn;
#[path = "dsa_model/faults.rs"]
mod faults;
#[path = "dsa_model/freedom.rs"]
mod freedom;
#[path = "dsa_model/golden.rs"]
mod golden;
#[path = "dsa_model/map.rs"]
mod map;
#[path = "dsa_model/portal.rs"]
mod portal;
#[path = "dsa_model/process.rs"]
mod process;
#[path = "dsa_model/queues.rs"]
mod queues;
#[path = "support/random.rs"]
mod random;
#[path = "dsa_model/refusals.rs"]
mod refusals;
#[path = "dsa_model/resumption.rs"]
mod resumption;
#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "support/watchdog.rs"]
mod watchdog;
