//! The seam to `memring::dsa`: devices, their queues, device files and portals, as memring itself would find them.
//!
//! | file | what it is |
//! |---|---|
//! | `bus` | what is on PCI, and has not come as far as the bus of DSA |
//! | `queue` | queues that look usable: their configuration, their device files, their portals |
//! | `obstacle` | what stands in the way of the others, and whether anything is broken by that |

mod bus;
mod obstacle;
mod queue;

use std::env;

use memring::dsa::{Device, DsaOpcode, Reason, Way, discover};
use serde_json::{Value, json};

use self::obstacle::Obstacle;
use self::queue::Looked;
use super::page::{Check, Section, yes_or_no};
use super::places::Places;

pub(super) fn section(places: &Places) -> Section {
    let way = Way::from_env();
    let found = discover(&places.dsa);
    let looked: Vec<Looked> = found.usable.into_iter().map(|queue| Looked::at(queue, way)).collect();
    let on_pci = bus::on_pci(places);
    let is_bus = |reason: &Reason| matches!(reason, Reason::NoBus | Reason::NoDevice);
    let (no_bus, unusable): (Vec<_>, Vec<_>) = found.unusable.into_iter().partition(|each| is_bus(&each.reason));
    let not_opened = looked.iter().filter_map(|each| each.portal.as_ref().err()).cloned();
    let has_one = looked.iter().any(|each| each.portal.is_ok());
    let obstacles = Obstacle::judge(unusable.into_iter().chain(not_opened), has_one, places);

    let mut checks: Vec<Check> = asked().into_iter().collect();
    checks.extend(no_bus.iter().flat_map(|unusable| bus::checks(unusable, on_pci.as_deref().unwrap_or_default())));
    // In the order of the numbers: a device, then its queues.
    let is_in_the_way = |device: &Device| obstacles.iter().any(|each| each.place() == Some((device.id, None)));
    let devices = found.devices.iter().filter(|device| !is_in_the_way(device));
    let mut placed: Vec<_> = devices.map(|device| (Some((device.id, None)), device_check(device))).collect();
    let of_queue = |each: &Looked| (Some((each.queue.id.device, Some(each.queue.id.queue))), each.checks());
    placed.extend(looked.iter().map(of_queue).flat_map(|(at, checks)| checks.into_iter().map(move |each| (at, each))));
    placed.extend(obstacles.iter().map(|each| (each.place(), each.check())));
    placed.sort_by_key(|(place, _)| *place);
    checks.extend(placed.into_iter().map(|(_, check)| check));

    let facts = json!({
        "sysfs": places.dsa.sysfs.to_string_lossy(),
        "dev": places.dsa.dev.to_string_lossy(),
        "pci_devices": on_pci.map(|devices| devices.iter().map(bus::PciDevice::json).collect::<Vec<_>>()),
        "devices": found.devices.iter().map(|device| device_json(device)).collect::<Vec<_>>(),
        "queues": looked.iter().map(Looked::json).collect::<Vec<_>>(),
        "unusable": obstacles.iter().map(Obstacle::json).collect::<Vec<_>>(),
    });
    let title = format!("Intel DSA ({}, {})", places.dsa.sysfs.display(), places.dsa.dev.display());
    Section { name: "dsa", title, checks, facts }
}

/// What the environment says of portals, if it says something.
fn asked() -> Option<Check> {
    let text = env::var_os(Way::VARIABLE).filter(|text| !text.is_empty())?.to_string_lossy().into_owned();
    Some(match text.parse::<Way>() {
        Ok(_) => Check::ok(Way::VARIABLE, format!("it asks for {text}")),
        Err(error) => {
            let remedy = format!("unset {}", Way::VARIABLE);
            Check::problem(Way::VARIABLE, format!("it says {text:?} and is ignored: {error}"), Some(remedy))
        }
    })
}

/// Whether the device knows the address spaces of processes, if the kernel tells.
fn has_pasid(device: &Device) -> Option<bool> {
    match device.attribute("pasid_enabled")?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn device_check(device: &Device) -> Check {
    let node = device.numa_node.map_or_else(|| "unknown".to_owned(), |node| node.to_string());
    let can = &device.capabilities;
    let says = format!(
        "{}, version {:#x}, NUMA node {node}, address spaces of processes (PASID): {}, batches: {}",
        device.state,
        can.version,
        has_pasid(device).map_or("unknown", yes_or_no),
        yes_or_no(can.op_cap.contains(DsaOpcode::BATCH)),
    );
    Check::ok(format!("dsa{}", device.id), says)
}

fn device_json(device: &Device) -> Value {
    let can = &device.capabilities;
    json!({
        "name": format!("dsa{}", device.id),
        "path": device.path.to_string_lossy(),
        "state": device.state,
        "version": can.version,
        "numa_node": device.numa_node,
        "pasid_enabled": has_pasid(device),
        "gen_cap": format!("{:#x}", can.gen_cap.bits()),
        "operations": can.op_cap.to_string(),
        "batches": can.op_cap.contains(DsaOpcode::BATCH),
        "max_transfer_bytes": can.max_transfer_bytes,
        "max_batch": can.max_batch,
    })
}
