//! Whether this process may use io_uring, what keeps it from that, and what memring does without.
//!
//! Sources: the kernel's Documentation/admin-guide/sysctl/kernel.rst (`io_uring_disabled`, `io_uring_group`);
//! proc_pid_status(5) (`Seccomp`); io_uring_setup(2), on locked memory before Linux 5.12.

use std::io;

use serde_json::json;

use super::page::{Check, Section};
use super::places::Places;
use super::texts::{field, has_capability};
use super::{kernel, locked};
use crate::durability;
use crate::failure::Failure;
use crate::io_uring::why_refused;

/// The capability that passes over the switch's 1.
const CAP_SYS_ADMIN: u32 = 21;
/// Before it, rings counted as locked memory.
const RINGS_ARE_NOT_LOCKED_SINCE: (u32, u32) = (5, 12);

/// What stands in `/proc` about it.
struct Rules {
    /// `kernel.io_uring_disabled`, since Linux 6.6.
    switch: Option<u32>,
    /// `kernel.io_uring_group`; -1 is none.
    group: Option<u32>,
    /// Whether the process is under a filter of system calls.
    is_filtered: bool,
    is_administrator: bool,
}

impl Rules {
    fn read(places: &Places) -> Self {
        let number = |file| places.proc(file).and_then(|text| text.parse().ok());
        let status = places.proc("self/status").unwrap_or_default();
        Self {
            switch: number("sys/kernel/io_uring_disabled"),
            group: number("sys/kernel/io_uring_group"),
            is_filtered: field(&status, "Seccomp") == Some("2"),
            is_administrator: has_capability(&status, CAP_SYS_ADMIN) == Some(true),
        }
    }

    /// The switch, where it is what refuses.
    fn refusing_switch(&self) -> Option<u32> {
        self.switch.filter(|switch| match switch {
            0 => false,
            // The capability counts over the whole machine only, which cannot be seen from inside a user namespace.
            1 => !(self.is_administrator && self.is_filtered),
            _ => true,
        })
    }
}

pub(super) fn section(places: &Places) -> Result<Section, Failure> {
    let (rules, refusal, flushes_by) = (Rules::read(places), durability::io_uring_refusal(), durability::flushes_by()?);
    let why = refusal.as_ref().map(|error| why_refused(error, rules.refusing_switch()));
    let by = match flushes_by {
        "io_uring" => "durable flushes go through it",
        _ => "durable flushes are made by fdatasync on a thread instead",
    };
    let remedy = refusal.as_ref().and_then(|error| remedy(error, &rules, places));
    let check = match (&refusal, &why) {
        (Some(error), Some(why)) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Check::not_here("io_uring", format!("{why}; {by}"))
        }
        (_, Some(why)) => Check::problem("io_uring", format!("refused: {why}; {by}"), remedy.clone()),
        _ => Check::ok("io_uring", format!("allowed; {by}")),
    };
    let switch = match rules.switch {
        Some(0) => Check::ok("kernel.io_uring_disabled", "0, it is disabled for nobody"),
        Some(1) => {
            let group = rules.group.map_or_else(|| "nobody".to_owned(), |group| format!("group {group}"));
            Check::ok("kernel.io_uring_disabled", format!("1, it is disabled for all but CAP_SYS_ADMIN and {group}"))
        }
        Some(other) => Check::ok("kernel.io_uring_disabled", format!("{other}, it is disabled for everybody")),
        None => Check::not_here("kernel.io_uring_disabled", "this kernel has no such switch; it came with Linux 6.6"),
    };
    let facts = json!({
        "allowed": refusal.is_none(),
        "refused": why,
        "remedy": remedy,
        "io_uring_disabled": rules.switch,
        "io_uring_group": rules.group,
        "seccomp_filter": rules.is_filtered,
        "flushes_by": flushes_by,
    });
    Ok(Section { name: "io_uring", title: "io_uring".to_owned(), checks: vec![check, switch], facts })
}

fn remedy(error: &io::Error, rules: &Rules, places: &Places) -> Option<String> {
    match (error.raw_os_error()?, rules.refusing_switch(), rules.group) {
        // It counts from the next login on.
        (libc::EPERM, Some(1), Some(group)) => Some(format!("sudo usermod -aG {group} \"$USER\" && su - \"$USER\"")),
        (libc::EPERM, Some(_), _) => Some("sudo sysctl kernel.io_uring_disabled=0".to_owned()),
        (libc::EPERM | libc::EACCES, None, _) if rules.is_filtered => Some(
            "let the filter pass io_uring_setup, io_uring_enter and io_uring_register, as by docker run --security-opt \
             seccomp=<profile>"
                .to_owned(),
        ),
        (libc::ENOMEM, ..) if kernel::age(places)? < RINGS_ARE_NOT_LOCKED_SINCE => locked::raise(places),
        _ => None,
    }
}
