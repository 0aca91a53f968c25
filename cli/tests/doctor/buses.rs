//! Machines without devices, or with devices that have not come as far as the bus.

use std::os::unix::fs::symlink;

use memring::dsa::Roots;

use super::said::{Said, bare, doctor};
use super::support::run;
use super::tree::Tree;

/// A tree in which the bus and PCI lie as in `/sys`, with these devices on PCI: address, identity, driver.
fn with_pci(devices: &[(&str, &str, Option<&str>)]) -> Tree {
    let tree = Tree::new();
    for (address, identity, driver) in devices {
        tree.set(&format!("sys/bus/pci/devices/{address}/vendor"), "0x8086\n");
        tree.set(&format!("sys/bus/pci/devices/{address}/device"), &format!("{identity}\n"));
        if let Some(driver) = driver {
            let link = tree.path(&format!("sys/bus/pci/devices/{address}/driver"));
            symlink(format!("../../drivers/{driver}"), link).unwrap();
        }
    }
    tree
}

/// What is said of it, by roots that the environment names, since the folder of the bus need not be there.
fn said(tree: &Tree) -> Said {
    let ask = |arguments: &[&str]| {
        let mut command = bare(arguments);
        command.env(Roots::SYSFS_VARIABLE, tree.path("sys/bus/dsa/devices"));
        command.env(Roots::DEV_VARIABLE, tree.path("dev/dsa"));
        run(command)
    };
    Said::read(tree, &ask(&["--json"]), &ask(&[]))
}

const NO_BUS: &str = "there is no bus of DSA devices: no such device, or no driver idxd (sys/bus/dsa/devices)";

#[test]
fn nothing_is_there_and_nothing_is_broken() {
    let tree = Tree::new();
    let empty = Said::of(&tree);
    assert_eq!(empty.check("bus"), ("not_here", "no DSA device is on the bus (bus)"));
    assert_eq!(empty.problems(), []);
    assert_eq!(empty.json["dsa"]["pci_devices"].as_array(), None);
    let none = said(&tree);
    assert_eq!(none.check("bus"), ("not_here", NO_BUS));
    assert_eq!(none.problems(), []);
    // Other devices of the same maker, and one of another.
    let tree = with_pci(&[("0000:00:02.0", "0x1234", None), ("0000:6a:02.0", "0x0cfe", Some("idxd"))]);
    tree.set("sys/bus/pci/devices/0000:00:03.0/vendor", "0x1022\n");
    tree.set("sys/bus/pci/devices/0000:00:03.0/device", "0x0b25\n");
    let others = said(&tree);
    assert_eq!(others.check("bus"), ("not_here", NO_BUS));
    assert_eq!(others.json["dsa"]["pci_devices"].as_array().unwrap().len(), 0);
}

#[test]
fn the_driver_is_not_loaded() {
    let tree = with_pci(&[("0000:6a:01.0", "0x0b25", None), ("0000:6f:01.0", "0x1212", None)]);
    assert_eq!(
        said(&tree).problem(),
        ("bus", "there is none, though PCI has 2 DSA without a driver: idxd is not loaded", Some("sudo modprobe idxd"))
    );
}

#[test]
fn the_driver_has_put_nothing_on_the_bus() {
    for (driver, says, remedy) in [
        (None, "a DSA on PCI without a driver", "echo 0000:6a:01.0 | sudo tee /sys/bus/pci/drivers/idxd/bind"),
        (Some("idxd"), "its driver has it, and has put no device on the bus", "sudo dmesg | grep idxd"),
    ] {
        let tree = with_pci(&[("0000:6a:01.0", "0x11fb", driver)]);
        std::fs::create_dir_all(tree.path("sys/bus/dsa/devices")).unwrap();
        let said = said(&tree);
        assert_eq!(said.problem(), ("0000:6a:01.0", says, Some(remedy)));
        assert_eq!(said.json["dsa"]["pci_devices"][0]["driver"].as_str(), driver);
    }
}

/// A folder of another name says nothing of where PCI is.
#[test]
fn pci_is_beside_the_bus_or_nowhere() {
    let tree = with_pci(&[("0000:6a:01.0", "0x0b25", None)]);
    std::fs::create_dir_all(tree.path("sys/three/folders/down")).unwrap();
    let ask = |folder: &str| {
        let mut command = bare(&["--json", "--sysfs"]);
        command.arg(tree.path(folder));
        serde_json::from_slice::<serde_json::Value>(&run(command).stdout).unwrap()
    };
    std::fs::create_dir_all(tree.path("sys/bus/dsa/devices")).unwrap();
    assert_eq!(ask("sys/bus/dsa/devices")["dsa"]["pci_devices"].as_array().unwrap().len(), 1);
    assert!(ask("sys/three/folders/down")["dsa"]["pci_devices"].is_null());
}

/// As SPDK and DPDK have it: that is somebody's wish.
#[test]
fn another_driver_has_it() {
    let tree = with_pci(&[("0000:6a:01.0", "0x0b25", Some("vfio-pci"))]);
    let said = said(&tree);
    let expected = ("not_here", "a DSA on PCI that is given to the driver vfio-pci");
    assert_eq!((said.check("0000:6a:01.0"), said.problems()), (expected, vec![]));
}

/// An address becomes a word of a command.
#[test]
fn an_address_that_is_none_is_passed_over() {
    let tree = with_pci(&[("$(reboot)", "0x0b25", None)]);
    assert_eq!(said(&tree).problems(), []);
}

#[test]
fn a_bus_that_cannot_be_read() {
    let tree = Tree::new();
    std::fs::create_dir_all(tree.path("sys/bus/dsa")).unwrap();
    tree.set("sys/bus/dsa/devices", "a file");
    let said = said(&tree);
    let (about, says, remedy) = said.problem();
    assert_eq!((about, remedy), ("bus", None));
    assert!(says.starts_with("it cannot be read: Not a directory"), "{says}");
}

/// The options have the last word, and other roots are those of the environment.
#[test]
fn options_pass_over_the_environment() {
    let (tree, other) = (Tree::right(), Tree::new());
    let mut command = doctor(&tree, &["--json"]);
    command.env(Roots::SYSFS_VARIABLE, other.path("bus")).env(Roots::DEV_VARIABLE, other.path("dev/dsa"));
    let json: serde_json::Value = serde_json::from_slice(&run(command).stdout).unwrap();
    assert_eq!(json["dsa"]["queues"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["dsa"]["sysfs"].as_str(), tree.path("bus").to_str());
}
