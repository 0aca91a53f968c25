//! Whatever an attribute holds, or is: a reason or a queue comes of it, never a panic, and nothing hangs.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use memring::dsa::Reason;

use super::tree::{DEVICE, QUEUE, Tree};

/// Things to put in an attribute's place.
const ODDITIES: &[fn(&Path)] = &[
    |_| {},
    |path| fs::write(path, "").unwrap(),
    |path| fs::write(path, "\n").unwrap(),
    |path| fs::write(path, "garbage\n").unwrap(),
    |path| fs::write(path, "two words\n").unwrap(),
    |path| fs::write(path, "-1\n").unwrap(),
    |path| fs::write(path, "-2\n").unwrap(),
    |path| fs::write(path, "0\n").unwrap(),
    |path| fs::write(path, "0x\n").unwrap(),
    |path| fs::write(path, "99999999999999999999\n").unwrap(),
    |path| fs::write(path, "0xffffffffffffffffff\n").unwrap(),
    |path| fs::write(path, "18446744073709551615\n").unwrap(),
    |path| fs::write(path, "4294967295\n").unwrap(),
    |path| fs::write(path, ",,,,\n").unwrap(),
    |path| fs::write(path, [0xff, 0, 0x80, b'\n']).unwrap(),
    |path| fs::write(path, "x".repeat(1 << 20)).unwrap(),
    |path| fs::create_dir(path).unwrap(),
    |path| symlink("nowhere", path).unwrap(),
    |path| symlink(path, path).unwrap(),
    |path| symlink("/dev/zero", path).unwrap(),
    |path| drop(UnixListener::bind(path).unwrap()),
    |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
];

#[test]
fn each_attribute_may_be_anything() {
    let tree = Tree::right();
    let of_device = DEVICE.iter().map(|(name, text)| (format!("devices/dsa0/{name}"), *text));
    let of_queue = QUEUE.iter().map(|(name, text)| (format!("devices/dsa0/wq0.0/{name}"), *text));
    let of_group = ("devices/dsa0/group0.0/engines".to_owned(), "engine0.0\n");
    for (attribute, right) in of_device.chain(of_queue).chain([of_group]) {
        tree.remove(&attribute);
        for (number, put) in ODDITIES.iter().enumerate() {
            let path = tree.path(&attribute);
            put(&path);
            let found = tree.discover();
            assert_eq!(found.usable.len() + found.unusable.len(), 1, "{attribute} {number}");
            for unusable in found.unusable {
                assert!(unusable.to_string().chars().count() < 1000, "{unusable}");
                let at_fault = tree.within(&unusable.path);
                assert_eq!(at_fault.file_name(), path.file_name(), "{attribute} {number}: {unusable}");
            }
            if path.symlink_metadata().is_ok() {
                tree.remove(&attribute);
            }
        }
        tree.set(&attribute, right);
        drop(tree.usable());
    }
}

#[test]
fn garbage_is_quoted() {
    for (attribute, text, expected) in [
        ("gen_cap", "0xx", "a hexadecimal number"),
        ("version", "0x1ffffffff", "a hexadecimal number"),
        ("op_cap", "", "a set of operations"),
        ("numa_node", "-2", "a number, or -1"),
        ("pasid_enabled", "yes", "0 or 1"),
        ("max_transfer_size", "0", "a number above zero"),
        ("wq0.0/mode", "private", "dedicated or shared"),
        ("wq0.0/size", "0", "a number above zero"),
        ("wq0.0/threshold", "0", "a number above zero"),
        ("wq0.0/state", "", "a word"),
        ("wq0.0/group_id", "none", "a number, or -1"),
        ("wq0.0/op_config", "1 2 3 4 5", "a set of operations"),
    ] {
        let tree = Tree::right();
        tree.set(&format!("devices/dsa0/{attribute}"), &format!("{text}\n"));
        let unusable = tree.unusable();
        assert_eq!(unusable.reason, Reason::Malformed { text: text.to_owned(), expected });
        assert_eq!(unusable.path, Path::new("bus/dsa0").join(attribute));
    }
    for attribute in ["state", "wq0.0/type", "wq0.0/state", "wq0.0/mode", "wq0.0/size"] {
        let tree = Tree::right();
        tree.remove(&format!("devices/dsa0/{attribute}"));
        assert_eq!(tree.unusable().reason, Reason::Missing, "{attribute}");
    }
}
