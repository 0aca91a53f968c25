//! Devices and queues: what is said of each, what is a problem, and what is somebody's wish.

use std::fs::{self, Permissions, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::said::{BOOT, Problem, Said};
use super::support::refuse::obey_permissions;
use super::tree::Tree;

const ENABLE: &str = "sudo accel-config enable-wq dsa0/wq0.0";

#[test]
fn all_is_right() {
    let tree = Tree::right();
    let said = Said::of(&tree);
    assert_eq!(said.problems(), []);
    assert_eq!(
        said.check("dsa0"),
        ("ok", "enabled, version 0x100, NUMA node 0, address spaces of processes (PASID): yes, batches: no")
    );
    let configured = "shared, 16 entries of which programs may take 12, up to 2097152 bytes a descriptor, \
                      batches: no, blocks on faults: no";
    assert_eq!(said.check("wq0.0"), ("ok", configured));
    let file = fs::metadata(tree.path("dev/dsa/wq0.0")).unwrap();
    let (mode, owner, group) = (file.mode() & 0o7777, file.uid(), file.gid());
    let allowed =
        format!("dev/dsa/wq0.0, mode {mode:04o}, owner {owner}, group {group}: this process may read and write it");
    assert_eq!(said.check("wq0.0 file"), ("ok", allowed.as_str()));
    let queue = said.queue("wq0.0");
    for (name, expected) in [("label", "memring"), ("mode", "shared"), ("device", "dsa0"), ("node", "dev/dsa/wq0.0")] {
        assert_eq!(queue[name].as_str(), Some(expected), "{queue}");
    }
    assert_eq!((queue["threshold"].as_u64(), queue["in_use"].as_bool()), (Some(12), Some(false)));
}

/// Changes to a right tree, what is said of the one problem, and its remedy.
type Case = (&'static [(&'static str, &'static str)], Problem<'static>);

const CASES: [Case; 9] = [
    (
        &[("state", "disabled")],
        (
            "dsa0",
            "the device is disabled (bus/dsa0/state)",
            Some("sudo accel-config enable-device dsa0 && sudo accel-config enable-wq dsa0/wq0.0"),
        ),
    ),
    (
        &[("state", "disabled"), ("cmd_status", "0x80110000")],
        (
            "dsa0",
            "the device is disabled (the driver refused it, status 0x80110000: processes share no address space) \
             (bus/dsa0/state)",
            Some(BOOT),
        ),
    ),
    (
        &[("state", "halted")],
        ("dsa0", "the device is halted, not enabled (bus/dsa0/state)", Some("sudo dmesg | grep idxd")),
    ),
    (
        &[("pasid_enabled", "0")],
        (
            "dsa0",
            "the device does not know the address spaces of processes (PASID is off), as user queues need \
             (bus/dsa0/pasid_enabled)",
            Some(BOOT),
        ),
    ),
    (&[("wq0.0/state", "disabled")], ("wq0.0", "the queue is disabled (bus/dsa0/wq0.0/state)", Some(ENABLE))),
    (
        &[("wq0.0/state", "disabled"), ("cmd_status", "0x80110000")],
        (
            "wq0.0",
            "the queue is disabled (the driver refused it, status 0x80110000: processes share no address space) \
             (bus/dsa0/wq0.0/state)",
            Some(BOOT),
        ),
    ),
    (
        &[("wq0.0/type", "kernel"), ("wq0.0/driver_name", "dmaengine")],
        (
            "wq0.0",
            "the queue is of type kernel, not user (bus/dsa0/wq0.0/type)",
            Some(
                "sudo accel-config disable-wq dsa0/wq0.0 && sudo accel-config config-wq dsa0/wq0.0 --type=user \
                 --driver-name=user --name=memring && sudo accel-config enable-wq dsa0/wq0.0",
            ),
        ),
    ),
    (
        &[("wq0.0/mode", "private")],
        ("wq0.0", "it says \"private\", which is not dedicated or shared (bus/dsa0/wq0.0/mode)", None),
    ),
    (
        &[("wq0.0/state", "locked")],
        ("wq0.0", "the queue is locked, not enabled (bus/dsa0/wq0.0/state)", Some("sudo dmesg | grep idxd")),
    ),
];

#[test]
fn one_thing_is_wrong() {
    for (changes, expected) in CASES {
        let tree = Tree::right();
        for (attribute, text) in changes {
            tree.set(&format!("devices/dsa0/{attribute}"), &format!("{text}\n"));
        }
        let said = Said::of(&tree);
        assert_eq!(said.problem(), expected);
        let device = &said.json["dsa"]["devices"][0];
        assert_eq!(device["pasid_enabled"].as_bool(), Some(changes[0].0 != "pasid_enabled"), "{device}");
        assert_eq!(said.json["dsa"]["queues"].as_array().unwrap().len(), 0);
        let unusable = &said.json["dsa"]["unusable"][0];
        assert_eq!((unusable["name"].as_str(), unusable["problem"].as_bool()), (Some(expected.0), Some(true)));
        assert_eq!(unusable["remedy"].as_str(), expected.2);
    }
}

#[test]
fn a_device_file_of_somebody_else() {
    let tree = Tree::right();
    let node = tree.path("dev/dsa/wq0.0");
    set_permissions(&node, Permissions::from_mode(0o440)).unwrap();
    let said = Said::by(&tree, obey_permissions);
    let owner = fs::metadata(&node).unwrap().uid();
    let says = format!("this process may not read and write it (mode 440, owner {owner}) (dev/dsa/wq0.0)");
    let remedy = format!("sudo chown \"$USER\" {}", node.display());
    // The tree's own folder is taken away from what is said, as it is here.
    let remedy = remedy.replace(&format!("{}/", tree.path("").display().to_string().trim_end_matches('/')), "");
    assert_eq!(said.problem(), ("wq0.0", says.as_str(), Some(remedy.as_str())));
    assert_eq!(said.json["dsa"]["unusable"][0]["reason"].as_str(), Some("forbidden"));
}

#[test]
fn two_nodes() {
    let tree = Tree::new();
    for (device, queue, node) in [("dsa10", "wq10.1", "1\n"), ("dsa2", "wq2.0", "0\n")] {
        tree.add_device(device);
        tree.add_queue(device, queue);
        tree.set(&format!("devices/{device}/numa_node"), node);
    }
    tree.set("devices/dsa10/wq10.1/mode", "dedicated\n");
    tree.set("devices/dsa10/wq10.1/group_id", "3\n");
    tree.set("devices/dsa10/group10.3/engines", "engine10.0\n");
    let said = Said::of(&tree);
    assert_eq!(said.problems(), []);
    let order: Vec<_> = said.in_state("ok").into_iter().map(|(about, ..)| about).collect();
    let of_dsa: Vec<_> =
        order.into_iter().filter(|about| about.starts_with("dsa") || about.starts_with("wq")).collect();
    assert_eq!(
        of_dsa,
        ["dsa2", "wq2.0", "wq2.0 file", "wq2.0 portal", "dsa10", "wq10.1", "wq10.1 file", "wq10.1 portal"]
    );
    for (device, node) in [("dsa2", "NUMA node 0,"), ("dsa10", "NUMA node 1,")] {
        assert!(said.check(device).1.contains(node), "{}", said.text);
    }
    let devices = said.json["dsa"]["devices"].as_array().unwrap();
    let numa: Vec<_> = devices.iter().map(|device| (&device["name"], device["numa_node"].as_u64())).collect();
    assert_eq!(numa, [(&"dsa2".into(), Some(0)), (&"dsa10".into(), Some(1))]);
    let (shared, dedicated) = (said.queue("wq2.0"), said.queue("wq10.1"));
    assert_eq!((shared["mode"].as_str(), shared["threshold"].as_u64()), (Some("shared"), Some(12)));
    assert_eq!((dedicated["mode"].as_str(), dedicated["threshold"].as_u64()), (Some("dedicated"), None));
    assert_eq!(dedicated["group"].as_u64(), Some(3));
    assert!(said.check("wq10.1").1.starts_with("dedicated, 16 entries, up to "), "{}", said.text);
}

/// A device has eight queues, and administrators give some of them to programs, some to the kernel, some to others.
#[test]
fn what_is_left_to_others_is_no_problem_beside_a_queue_that_can_be_used() {
    let tree = Tree::right();
    for (queue, changes) in [
        ("wq0.1", &[("type", "none\n"), ("size", "0\n"), ("state", "disabled\n")][..]),
        ("wq0.2", &[("type", "kernel\n")]),
        ("wq0.3", &[("state", "disabled\n")]),
        ("wq0.4", &[("group_id", "-1\n")]),
    ] {
        tree.add_queue("dsa0", queue);
        for (name, text) in changes {
            tree.set(&format!("devices/dsa0/{queue}/{name}"), text);
        }
    }
    tree.add_queue("dsa0", "wq0.5");
    tree.remove("dev/dsa/wq0.5");
    tree.add_device("dsa1");
    tree.add_queue("dsa1", "wq1.0");
    tree.set("devices/dsa1/state", "disabled\n");
    let said = Said::of(&tree);
    assert_eq!(said.problems(), []);
    for name in ["wq0.1", "wq0.2", "wq0.3", "wq0.4", "wq0.5", "dsa1"] {
        assert_eq!(said.check(name).0, "not_here", "{name}");
    }
    let unusable = said.json["dsa"]["unusable"].as_array().unwrap();
    let reasons: Vec<_> = unusable.iter().map(|each| each["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["type", "type", "queue_disabled", "no_group", "no_node", "device_disabled"]);
    assert!(unusable.iter().all(|each| each["problem"] == false && each["remedy"].is_null()), "{unusable:?}");
    // What nobody wishes is one all the same.
    tree.set("devices/dsa0/wq0.3/size", "many\n");
    tree.set("devices/dsa0/wq0.3/state", "enabled\n");
    assert_eq!(Said::of(&tree).problem().0, "wq0.3");
}

/// Each device has one thing to be done, and that is the least.
#[test]
fn where_no_queue_can_be_used_the_nearest_of_each_device_is_the_problem() {
    let tree = Tree::new();
    for (device, queues) in [("dsa0", ["wq0.0", "wq0.1", "wq0.2"]), ("dsa1", ["wq1.0", "wq1.1", "wq1.2"])] {
        tree.add_device(device);
        for queue in queues {
            tree.add_queue(device, queue);
            tree.set(&format!("devices/{device}/{queue}/type"), "none\n");
        }
    }
    let about =
        |said: &Said| -> Vec<String> { said.problems().iter().map(|(about, ..)| (*about).to_owned()).collect() };
    assert_eq!(about(&Said::of(&tree)), ["wq0.0", "wq1.0"]);
    tree.set("devices/dsa0/wq0.2/type", "user\n");
    tree.set("devices/dsa0/wq0.2/state", "disabled\n");
    tree.set("devices/dsa1/wq1.1/type", "user\n");
    tree.remove("dev/dsa/wq1.1");
    assert_eq!(about(&Said::of(&tree)), ["wq0.2", "wq1.1"]);
}

/// To give a queue entries, its device is stopped.
#[test]
fn what_a_command_costs_others_is_said() {
    for (attribute, text, is_told) in [("group_id", "-1\n", true), ("state", "disabled\n", false)] {
        let tree = Tree::right();
        tree.set(&format!("devices/dsa0/wq0.0/{attribute}"), text);
        let said = Said::of(&tree);
        let (_, says, remedy) = said.problem();
        assert_eq!(says.ends_with("; the command stops the device's other queues"), is_told, "{says}");
        assert_eq!(remedy.unwrap().contains("disable-device"), is_told);
    }
}

#[test]
fn garbage() {
    let long = "x".repeat(1 << 16);
    for attribute in ["state", "version", "gen_cap", "op_cap", "numa_node", "pasid_enabled", "wq0.0/type", "wq0.0/size"]
    {
        for text in ["", "\u{1b}[2J\n\n", "-9", "two words", &long] {
            let tree = Tree::right();
            tree.set(&format!("devices/dsa0/{attribute}"), text);
            let said = Said::of(&tree);
            let at = format!("(bus/dsa0/{attribute})");
            assert!(said.problem().1.ends_with(&at), "{text:?}: {}", said.text);
            assert!(!said.text.contains('\u{1b}'), "{}", said.text);
            assert!(said.text.lines().all(|line| line.len() < 1000), "{}", said.text);
        }
    }
}

/// A name of two lines, which would clear the screen, in a file's name and in a queue's.
#[test]
fn names_that_are_no_names() {
    let tree = Tree::right();
    tree.remove("dev/dsa/wq0.0");
    tree.set("dev/dsa/wq0.0-\n\u{1b}[2J\"\\", "");
    tree.set("devices/dsa0/wq0.0/name", "\u{1b}[2J\"\\\u{7f}\u{0}x");
    let said = Said::of(&tree);
    assert_eq!(said.queue("wq0.0")["node"].as_str(), Some("dev/dsa/wq0.0-\n\u{1b}[2J\"\\"));
    assert_eq!(said.queue("wq0.0")["label"].as_str(), Some("\u{1b}[2J\"\\\u{7f}\u{0}x"));
    assert!(said.text.contains("  wq0.0 file: dev/dsa/wq0.0-\\n\\u{1b}[2J\"\\, mode "), "{}", said.text);
}
