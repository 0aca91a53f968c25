//! Which memory is near: NUMA nodes, as sysfs tells of them.

use std::fs;

const NODES: &str = "/sys/devices/system/node";

/// The node of the CPU on which this thread runs just now.
pub(crate) fn this_node() -> Option<u32> {
    let stat = fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The name may have blanks and brackets; the CPU is the 37th field behind it (proc(5): the 39th).
    let (_, fields) = stat.rsplit_once(')')?;
    let cpu: u32 = fields.split_ascii_whitespace().nth(36)?.parse().ok()?;
    let cpu = format!("/sys/devices/system/cpu/cpu{cpu}");
    let names = fs::read_dir(cpu).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("node")?.parse().ok()).next()
}

/// How far `to` is from `from`, in the firmware's unit: 10 is a node itself.
pub(crate) fn distance(from: u32, to: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("{NODES}/node{from}/distance")).ok()?;
    text.split_ascii_whitespace().nth(usize::try_from(to).ok()?)?.parse().ok()
}
