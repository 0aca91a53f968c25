//! Goal: a program finds under `memring emulate` what it would find on a machine with a DSA: one of somebody else's,
//! and our own path to hardware, instruction by instruction. And the command leaves nothing behind, and refuses what it
//! cannot do in one line.
//!
//! Method: this program runs itself under the command. What is to happen in there is an ignored test with a name that
//! ends in `inside`; what runs it and judges stands beside it. The program of somebody else's is Debian's `dsa_test`
//! (package accel-config-test), unmodified; `.ci/emulator` installs it.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test, and the line says which it was")]

#[path = "../../tests/support/child.rs"]
mod child;
#[path = "../../tests/support/skip.rs"]
mod skip;

#[path = "emulate/command.rs"]
mod command;
#[path = "emulate/compiled.rs"]
mod compiled;
#[path = "emulate/dsa_test.rs"]
mod dsa_test;
#[path = "emulate/exceptions.rs"]
mod exceptions;
#[path = "emulate/files.rs"]
mod files;
#[path = "emulate/handlers.rs"]
mod handlers;
#[path = "emulate/instructions.rs"]
mod instructions;
#[path = "emulate/interrupted.rs"]
mod interrupted;
#[path = "emulate/ours.rs"]
mod ours;
#[path = "emulate/outside.rs"]
mod outside;
#[path = "emulate/portal.rs"]
mod portal;
#[path = "emulate/traces.rs"]
mod traces;
