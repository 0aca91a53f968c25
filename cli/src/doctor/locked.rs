//! How much memory this process may lock.
//!
//! memring locks none: a DSA reaches memory through the process's own page tables. Only the rings of io_uring counted
//! as locked before Linux 5.12.
//!
//! Sources: getrlimit(2); capabilities(7); proc_pid_limits(5).

use serde_json::{Value, json};

use super::page::{Check, Section};
use super::places::Places;
use super::texts::{Limit, has_capability, kib, locked_memory};

/// The capability to lock any amount of memory.
const CAP_IPC_LOCK: u32 = 14;

/// The limit, and what it may be raised to.
fn limits(places: &Places) -> Option<(Limit, Limit)> {
    locked_memory(&places.proc("self/limits")?)
}

/// The command that raises the limit of the shell it is given to, if there is something to raise.
pub(super) fn raise(places: &Places) -> Option<String> {
    match limits(places)? {
        (None, _) => None,
        (Some(_), None) => Some("ulimit -l unlimited".to_owned()),
        (Some(bytes), Some(most)) if bytes < most => Some(format!("ulimit -l {}", most / 1024)),
        (Some(_), Some(_)) => Some("sudo prlimit --pid $$ --memlock=unlimited".to_owned()),
    }
}

pub(super) fn section(places: &Places) -> Section {
    let status = places.proc("self/status").unwrap_or_default();
    let (locked, pinned) = (kib(&status, "VmLck"), kib(&status, "VmPin"));
    let (limits, has_capability) = (limits(places), has_capability(&status, CAP_IPC_LOCK));
    let raise = raise(places);
    let bytes = |limit: Limit| limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
    let limit = match limits {
        Some((now, most)) => {
            let says = format!("{}, at most {}; memring locks no memory", bytes(now), bytes(most));
            Check::ok("RLIMIT_MEMLOCK", says)
        }
        None => Check::not_here("RLIMIT_MEMLOCK", "unknown, since self/limits of /proc cannot be read"),
    };
    let capability = match has_capability {
        Some(true) => Check::ok("CAP_IPC_LOCK", "the limit does not bind this process, unless in a user namespace"),
        Some(false) => Check::not_here("CAP_IPC_LOCK", "the limit binds this process"),
        None => Check::not_here("CAP_IPC_LOCK", "unknown, since self/status of /proc does not say"),
    };
    let number = |limit: Limit| limit.map_or_else(|| Value::from("unlimited"), Value::from);
    let facts = json!({
        "limit_bytes": limits.map(|(now, _)| number(now)),
        "limit_max_bytes": limits.map(|(_, most)| number(most)),
        "raise": raise,
        "cap_ipc_lock": has_capability,
        "locked_kib": locked,
        "pinned_kib": pinned,
    });
    Section { name: "locked_memory", title: "Locked memory".to_owned(), checks: vec![limit, capability], facts }
}
