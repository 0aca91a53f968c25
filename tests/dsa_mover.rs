//! Goal: the DSA mover sends what waits as a device wants it, makes of every answer what it means, and loses nothing,
//! whatever the device does.
//!
//! Method: a queue pair whose mover has devices in software, behind a portal of the test's own (`device.rs`) that takes
//! down what is submitted and executes it when it is let. What devices do is executed by the strict model; what the
//! model would never do, such as not to answer, the portal does.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]
#![expect(clippy::print_stdout, reason = "the seed of a run, seen when it fails")]

#[path = "dsa_mover/device.rs"]
mod device;
#[path = "support/random.rs"]
mod random;
#[path = "dsa_mover/rig.rs"]
mod rig;
#[path = "dsa_mover/script.rs"]
mod script;
#[path = "support/watchdog.rs"]
mod watchdog;

#[path = "dsa_mover/chains.rs"]
mod chains;
#[path = "dsa_mover/drawn.rs"]
mod drawn;
#[path = "dsa_mover/driving.rs"]
mod driving;
#[path = "dsa_mover/durable.rs"]
mod durable;
#[path = "dsa_mover/faults.rs"]
mod faults;
#[path = "dsa_mover/lost.rs"]
mod lost;
#[path = "dsa_mover/packing.rs"]
mod packing;
#[path = "dsa_mover/silent.rs"]
mod silent;
