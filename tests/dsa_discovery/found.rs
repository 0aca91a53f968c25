//! Queues that can be used: their attributes, from kernels new and old, where their device files may be, and what
//! stands beside them.

use std::fs;
use std::path::Path;

use memring::dsa::{DsaOpcode, Mode, OperationSet, Preset, QueueId, Roots, discover};

use super::subprocess::{again, role, words};
use super::tree::Tree;

#[test]
fn every_attribute_arrives() {
    let tree = Tree::right();
    tree.set("devices/dsa0/wq0.0/block_on_fault", "1\n");
    let queue = tree.usable();
    assert_eq!(queue.id, QueueId { device: 0, queue: 0 });
    assert_eq!((queue.name.as_str(), queue.group), ("memring", Some(0)));
    assert_eq!(tree.within(&queue.node), Path::new("dev/dsa/wq0.0"));
    assert_eq!(tree.within(&queue.path), Path::new("bus/dsa0/wq0.0"));
    let has = queue.capabilities;
    assert_eq!((has.mode, has.size, has.threshold, has.blocks_on_fault), (Mode::Shared, 16, 12, true));
    assert_eq!((has.max_transfer_bytes, has.max_batch), (2 << 20, 32));
    assert_eq!((queue.device.id, queue.device.state.as_str(), queue.device.numa_node), (0, "enabled", Some(0)));
    assert_eq!(queue.device.capabilities, Preset::V1Production.capabilities());
    assert!(!queue.allowance().allows_batch() && queue.allowance().blocks_on_fault);
    assert_eq!(queue.attribute("priority").as_deref(), Some("10"));
    assert_eq!(queue.device.attribute("max_read_buffers").as_deref(), Some("96"));
    assert_eq!(queue.device.attribute("nonsense"), None);
}

#[test]
fn a_dedicated_queue_needs_no_threshold() {
    let tree = Tree::right();
    tree.set("devices/dsa0/wq0.0/mode", "dedicated\n");
    tree.set("devices/dsa0/wq0.0/threshold", "0\n");
    assert_eq!(tree.usable().capabilities.mode, Mode::Dedicated);
}

/// Linux 5.6 to 5.16, as far as attributes are missing or have other names.
#[test]
fn old_kernels_say_less_and_in_other_words() {
    let tree = Tree::right();
    for name in ["version", "pasid_enabled", "cmd_status", "max_read_buffers", "read_buffer_limit"] {
        tree.remove(&format!("devices/dsa0/{name}"));
    }
    tree.set("devices/dsa0/max_tokens", "96\n");
    tree.set("devices/dsa0/token_limit", "0\n");
    tree.set("devices/dsa0/op_cap", "0x1003f03ff 0 0 0\n");
    tree.set("devices/dsa0/max_transfer_size", "1048576\n");
    tree.set("devices/dsa0/max_batch_size", "8\n");
    let absent = ["driver_name", "op_config", "ats_disable", "prs_disable", "occupancy", "enqcmds_retries"];
    for name in absent.into_iter().chain(["threshold", "block_on_fault", "max_transfer_size", "max_batch_size"]) {
        tree.remove(&format!("devices/dsa0/wq0.0/{name}"));
    }
    let queue = tree.usable();
    assert_eq!(queue.device.attribute("max_read_buffers").as_deref(), Some("96"));
    assert_eq!(queue.device.attribute("read_buffer_limit").as_deref(), Some("0"));
    let device = queue.device.capabilities;
    assert_eq!((device.version, device.op_cap), (0x100, Preset::V1Early.capabilities().op_cap));
    let has = queue.capabilities;
    assert_eq!((has.threshold, has.blocks_on_fault, has.op_config), (16, false, OperationSet::ALL));
    // What the queue does not limit, the device does.
    assert_eq!((has.max_transfer_bytes, has.max_batch), (1 << 20, 8));
    assert!(queue.allowance().operations.contains(DsaOpcode::BATCH));
}

/// Without the registers, no more is assumed than that it is a device of the first version.
#[test]
fn a_device_without_registers_is_the_least_of_all() {
    let tree = Tree::right();
    for name in ["version", "gen_cap", "op_cap", "max_transfer_size", "max_batch_size", "numa_node"] {
        tree.remove(&format!("devices/dsa0/{name}"));
    }
    let queue = tree.usable();
    let device = queue.device.capabilities;
    assert_eq!((device.gen_cap.bits(), device.op_cap), (0, Preset::V1Production.capabilities().op_cap));
    assert_eq!((device.max_transfer_bytes, device.max_batch, queue.device.numa_node), (2 << 20, 32, None));
}

#[test]
fn the_limits_follow_from_the_register_where_there_is_one() {
    let tree = Tree::right();
    tree.remove("devices/dsa0/max_transfer_size");
    tree.remove("devices/dsa0/max_batch_size");
    let device = tree.usable().device.capabilities;
    assert_eq!((device.max_transfer_bytes, device.max_batch), (1 << 31, 1024));
}

#[test]
fn the_queues_mask_counts() {
    let tree = Tree::right();
    tree.set("devices/dsa0/op_cap", "0x7b00bf07ff 0 0 0\n");
    tree.set("devices/dsa0/wq0.0/op_config", "00000000,00000009\n");
    let operations = tree.usable().allowance().operations;
    assert_eq!(operations, OperationSet::NONE.with(DsaOpcode::NOP).with(DsaOpcode::MEMMOVE));
}

#[test]
fn two_nodes_in_the_order_of_numbers() {
    let tree = Tree::new();
    for (device, queues) in [("dsa10", ["wq10.0", "wq10.1"]), ("dsa2", ["wq2.0", "wq2.10"])] {
        tree.add_device(device);
        queues.iter().for_each(|queue| tree.add_queue(device, queue));
    }
    tree.set("devices/dsa10/numa_node", "1\n");
    tree.set("devices/dsa2/numa_node", "-1\n");
    // Its own queues stand in a device's folder; another's do not belong there.
    tree.set("devices/dsa2/wq10.5/type", "user\n");
    let found = tree.discover();
    assert_eq!(found.unusable, []);
    let ids: Vec<_> = found.usable.iter().map(|queue| (queue.id.to_string(), queue.device.numa_node)).collect();
    let expected = [("wq2.0", None), ("wq2.10", None), ("wq10.0", Some(1)), ("wq10.1", Some(1))];
    assert_eq!(ids, expected.map(|(id, node)| (id.to_owned(), node)));
    assert_eq!(found.devices.iter().map(|device| device.id).collect::<Vec<_>>(), [2, 10]);
}

#[test]
fn other_devices_of_the_bus_are_passed_over() {
    let tree = Tree::right();
    tree.add_device("iax1");
    tree.add_queue("iax1", "wq1.0");
    for name in ["dsa", "dsa-1", "dsa01", "dsa0x", "dsa4294967296", "engine0.0", "group0.0"] {
        tree.set(&format!("bus/{name}/state"), "enabled\n");
    }
    for name in ["wq0", "wq0.", "wq0.x", "wq0.00", "wq.0", "wq0.1.2", "wq1.0"] {
        tree.set(&format!("devices/dsa0/{name}/state"), "enabled\n");
    }
    assert_eq!(tree.usable().id.to_string(), "wq0.0");
    tree.remove("bus/dsa0");
    assert_eq!(tree.unusable().path, Path::new("bus"));
}

#[test]
fn device_files_with_other_names() {
    let tree = Tree::right();
    tree.remove("dev/dsa/wq0.0");
    tree.set("dev/dsa/wq0.01", "");
    tree.set("dev/char/236:0", "");
    assert_eq!(tree.within(&tree.usable().node), Path::new("dev/char/236:0"));
    for name in ["wq0.0-b", "wq0.0-a"] {
        tree.set(&format!("dev/dsa/{name}"), "");
    }
    assert_eq!(tree.within(&tree.usable().node), Path::new("dev/dsa/wq0.0-a"));
    fs::remove_dir_all(tree.path("dev/dsa")).unwrap();
    assert_eq!(tree.within(&tree.usable().node), Path::new("dev/char/236:0"));
}

const BY_ENVIRONMENT: &str = "found::the_environment_names_the_roots";

#[test]
fn the_environment_names_the_roots() {
    if role().is_some() {
        assert_eq!(discover(&Roots::from_env()).usable.len(), 1);
        return;
    }
    let tree = Tree::right();
    let Roots { sysfs, dev } = tree.roots();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let named = [(Roots::SYSFS_VARIABLE, text(&sysfs)), (Roots::DEV_VARIABLE, text(&dev))];
    let output = again(BY_ENVIRONMENT, "look", &named);
    assert!(output.status.success(), "{}", words(&output));
    // Nothing is no name, so this one looks at the machine itself; it has no such tree.
    let empty = named.map(|(name, _)| (name, String::new()));
    if !Path::new("/sys/bus/dsa").exists() {
        assert!(!again(BY_ENVIRONMENT, "look", &empty).status.success());
    }
}
