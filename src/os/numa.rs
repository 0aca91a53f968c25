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
    // One number for each node that is online, in their order.
    let online = fs::read_to_string(format!("{NODES}/online")).ok()?;
    let at = online.trim().split(',').flat_map(range).position(|node| node == to)?;
    text.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// The numbers of a part of a list, such as `3` or `0-2`.
fn range(part: &str) -> impl Iterator<Item = u32> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let ends = first.parse().ok().zip(last.parse().ok());
    ends.into_iter().flat_map(|(first, last): (u32, u32)| first..=last)
}
