//! One thing is wrong: where it is, what it is, and how to mend it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use memring::dsa::{QueueId, Reason, Roots, discover};

use super::skip::skip;
use super::tree::Tree;

/// A change to a right tree, the path at fault, the reason, and the remedy.
type Case = (&'static [(&'static str, &'static str)], &'static str, Reason, &'static str);

const BOOT: &str = "boot with intel_iommu=on,sm_on on the kernel's command line";
const CONFIGURE: &str = "sudo accel-config config-engine dsa0/engine0.0 --group-id=0 && sudo accel-config config-wq \
                         dsa0/wq0.0 --group-id=0 --mode=shared --wq-size=16 --threshold=16 --type=user \
                         --driver-name=user --name=memring --priority=10 --block-on-fault=0 --max-batch-size=32 \
                         --max-transfer-size=2097152 && sudo accel-config enable-device dsa0 && sudo accel-config \
                         enable-wq dsa0/wq0.0";

fn state(reason: impl Fn(String) -> Reason, state: &str) -> Reason {
    reason(state.to_owned())
}

fn device_cases() -> Vec<Case> {
    vec![
        (
            &[("state", "disabled\n")],
            "bus/dsa0/state",
            Reason::DeviceDisabled(None),
            "sudo accel-config enable-device dsa0 && sudo accel-config enable-wq dsa0/wq0.0",
        ),
        (
            &[("state", "disabled\n"), ("wq0.0/type", "none\n"), ("wq0.0/size", "0\n")],
            "bus/dsa0/state",
            Reason::DeviceDisabled(None),
            CONFIGURE,
        ),
        (
            &[("state", "disabled\n"), ("cmd_status", "0x80110000\n")],
            "bus/dsa0/state",
            Reason::DeviceDisabled(Some(0x8011_0000)),
            BOOT,
        ),
        (&[("state", "halted\n")], "bus/dsa0/state", state(Reason::DeviceState, "halted"), "sudo dmesg | grep idxd"),
        (&[("pasid_enabled", "0\n")], "bus/dsa0/pasid_enabled", Reason::NoPasid, BOOT),
        // What must be mended first is said first.
        (&[("pasid_enabled", "0\n"), ("state", "disabled\n")], "bus/dsa0/pasid_enabled", Reason::NoPasid, BOOT),
    ]
}

fn queue_cases() -> Vec<Case> {
    const ENABLE: &str = "sudo accel-config enable-wq dsa0/wq0.0";
    vec![
        (
            &[("wq0.0/state", "disabled\n")],
            "bus/dsa0/wq0.0/state",
            Reason::QueueDisabled(None),
            "sudo accel-config enable-wq dsa0/wq0.0",
        ),
        (
            &[("wq0.0/state", "disabled\n"), ("cmd_status", "0x2e\n")],
            "bus/dsa0/wq0.0/state",
            Reason::QueueDisabled(Some(0x2e)),
            ENABLE,
        ),
        (
            &[("wq0.0/state", "disabled\n"), ("cmd_status", "0x80110000\n")],
            "bus/dsa0/wq0.0/state",
            Reason::QueueDisabled(Some(0x8011_0000)),
            BOOT,
        ),
        (
            &[("wq0.0/state", "locked\n")],
            "bus/dsa0/wq0.0/state",
            state(Reason::QueueState, "locked"),
            "sudo dmesg | grep idxd",
        ),
        (
            &[("wq0.0/type", "kernel\n"), ("wq0.0/driver_name", "dmaengine\n")],
            "bus/dsa0/wq0.0/type",
            state(Reason::Type, "kernel"),
            "sudo accel-config disable-wq dsa0/wq0.0 && sudo accel-config config-wq dsa0/wq0.0 --type=user \
             --driver-name=user --name=memring && sudo accel-config enable-wq dsa0/wq0.0",
        ),
        (
            &[("wq0.0/driver_name", "vfio\n"), ("wq0.0/state", "disabled\n")],
            "bus/dsa0/wq0.0/driver_name",
            state(Reason::Driver, "vfio"),
            "sudo accel-config config-wq dsa0/wq0.0 --type=user --driver-name=user --name=memring && sudo accel-config \
             enable-wq dsa0/wq0.0",
        ),
        (&[("wq0.0/group_id", "-1\n")], "bus/dsa0/wq0.0/group_id", Reason::NoGroup, "disable-device"),
        (&[("group0.0/engines", "\n")], "bus/dsa0/group0.0/engines", Reason::NoEngine, "disable-device"),
    ]
}

#[test]
fn each_reason_has_its_path_and_its_remedy() {
    for (changes, path, reason, remedy) in device_cases().into_iter().chain(queue_cases()) {
        let tree = Tree::right();
        for (name, text) in changes {
            tree.set(&format!("devices/dsa0/{name}"), text);
        }
        let unusable = tree.unusable();
        assert_eq!((unusable.path.as_path(), &unusable.reason), (Path::new(path), &reason));
        let is_of_queue = path.contains("wq0.0") || path.contains("group0.0");
        assert_eq!(unusable.queue, is_of_queue.then_some(QueueId { device: 0, queue: 0 }), "{path}");
        assert_eq!(unusable.reason.is_no_sva(), remedy == BOOT, "{reason:?}");
        let told = unusable.remedy.as_deref().unwrap();
        let is_right = if remedy == "disable-device" {
            told == format!("sudo accel-config disable-device dsa0 && {CONFIGURE}")
        } else {
            told == remedy
        };
        assert!(is_right, "{changes:?}: {told:?}");
        assert!(unusable.to_string().contains(told));
    }
}

/// `accel-config` of the time of old kernels does not know the option.
#[test]
fn no_driver_is_named_to_kernels_that_have_no_name_for_it() {
    let tree = Tree::right();
    tree.remove("devices/dsa0/wq0.0/driver_name");
    tree.set("devices/dsa0/wq0.0/type", "none\n");
    tree.set("devices/dsa0/wq0.0/size", "0\n");
    tree.set("devices/dsa0/wq0.0/mode", "dedicated\n");
    tree.set("devices/dsa0/wq0.0/state", "disabled\n");
    let unusable = tree.unusable();
    assert_eq!(unusable.reason, Reason::Type("none".to_owned()));
    let expected =
        CONFIGURE.replace(" --driver-name=user", "").replace("shared", "dedicated").replace(" --threshold=16", "");
    assert_eq!(unusable.remedy.unwrap(), format!("sudo accel-config disable-device dsa0; {expected}"));
}

#[test]
fn a_disabled_device_is_told_of_once_and_does_not_hide_another() {
    let tree = Tree::right();
    tree.add_queue("dsa0", "wq0.1");
    tree.add_device("dsa1");
    tree.add_queue("dsa1", "wq1.0");
    tree.set("devices/dsa0/state", "disabled\n");
    let found = tree.discover();
    assert_eq!((found.devices.len(), found.usable.len(), found.unusable.len()), (2, 1, 1));
    tree.set("devices/dsa0/state", "enabled\n");
    tree.set("devices/dsa0/wq0.0/state", "disabled\n");
    let found = tree.discover();
    assert_eq!((found.devices.len(), found.usable.len(), found.unusable.len()), (2, 2, 1));
}

#[test]
fn nothing_there() {
    let tree = Tree::new();
    let unusable = tree.unusable();
    assert_eq!((unusable.path.as_path(), unusable.reason), (Path::new("bus"), Reason::NoDevice));
    tree.remove("bus");
    let unusable = tree.unusable();
    assert_eq!((unusable.reason, unusable.remedy.as_deref()), (Reason::NoBus, Some("sudo modprobe idxd")));
    tree.set("bus", "a file");
    assert_eq!(tree.unusable().reason, Reason::Unreadable(libc::ENOTDIR));
    tree.remove("bus");
    symlink("bus", tree.path("bus")).unwrap();
    assert_eq!(discover(&Roots { ..tree.roots() }).unusable[0].reason, Reason::Unreadable(libc::ELOOP));
}

#[test]
fn folders_that_are_none() {
    let tree = Tree::right();
    fs::remove_dir_all(tree.path("devices/dsa0/wq0.0")).unwrap();
    assert_eq!(tree.unusable().reason, Reason::NoQueue);
    tree.set("devices/dsa0/wq0.0", "a file");
    let unusable = tree.unusable();
    assert_eq!(unusable.path, Path::new("bus/dsa0/wq0.0"));
    assert_eq!(unusable.reason, Reason::Unreadable(libc::ENOTDIR));
    tree.remove("devices/dsa0/wq0.0");
    symlink("nowhere", tree.path("devices/dsa0/wq0.0")).unwrap();
    assert_eq!(tree.unusable().reason, Reason::Unreadable(libc::ENOENT));
    // The link of the bus leads nowhere.
    fs::remove_dir_all(tree.path("devices/dsa0")).unwrap();
    let unusable = tree.unusable();
    assert_eq!((unusable.path.as_path(), unusable.reason), (Path::new("bus/dsa0"), Reason::Unreadable(libc::ENOENT)));
}

#[test]
fn device_files_that_are_none() {
    let tree = Tree::right();
    tree.remove("dev/dsa/wq0.0");
    let unusable = tree.unusable();
    assert_eq!((unusable.path.as_path(), &unusable.reason), (Path::new("dev/dsa/wq0.0"), &Reason::NoNode));
    assert!(unusable.remedy.unwrap().starts_with("give it to the container, as by docker run --device /"));
    fs::create_dir(tree.path("dev/dsa/wq0.0")).unwrap();
    assert_eq!(tree.unusable().reason, Reason::NodeIsFolder);
    tree.remove("dev/dsa/wq0.0");
    symlink("wq0.0", tree.path("dev/dsa/wq0.0")).unwrap();
    assert_eq!(tree.unusable().reason, Reason::Unreadable(libc::ELOOP));
}

/// What a shell makes of the path in a remedy is the path.
#[test]
fn remedies_quote_what_they_name() {
    let tree = Tree::right();
    let names: [&[u8]; 6] =
        [b"two words", b"it's", b"$HOME;*", "\u{e9}".as_bytes(), b"a\nb\\1'\x1b[2J", b"no text \xff\xfe7"];
    for name in names {
        let dev = tree.path("dev").join(OsStr::from_bytes(name));
        fs::create_dir(&dev).unwrap();
        let found = discover(&Roots { dev: dev.clone(), ..tree.roots() });
        let remedy = found.unusable[0].remedy.as_deref().unwrap();
        assert!(!remedy.contains(char::is_control), "{remedy:?}");
        let word = remedy.strip_prefix("give it to the container, as by docker run --device ").unwrap();
        let said = Command::new("bash").args(["-c", &format!("printf %s {word}")]).output();
        let Ok(said) = said else { return skip("bash", "there is none") };
        assert_eq!(said.stdout, dev.join("wq0.0").as_os_str().as_bytes(), "{word}");
    }
}
