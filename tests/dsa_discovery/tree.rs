//! Trees of files that look like a machine with devices.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use memring::dsa::{Discovery, Roots, Unusable, WorkQueue, discover};
use tempfile::TempDir;

/// What a device of Linux 6.17 on a Xeon of 2023 says.
pub(crate) const DEVICE: &[(&str, &str)] = &[
    ("version", "0x100\n"),
    ("state", "enabled\n"),
    ("gen_cap", "0x40915f0107\n"),
    ("op_cap", "00000000,00000000,00000000,00000000,00000000,00000000,00000001,003f027d\n"),
    ("max_groups", "4\n"),
    ("max_work_queues", "8\n"),
    ("max_engines", "4\n"),
    ("max_work_queues_size", "128\n"),
    ("max_batch_size", "1024\n"),
    ("max_transfer_size", "2147483648\n"),
    ("numa_node", "0\n"),
    ("configurable", "1\n"),
    ("clients", "0\n"),
    ("pasid_enabled", "1\n"),
    ("cdev_major", "236\n"),
    ("cmd_status", "0x0\n"),
    ("errors", "0x00000000 0x00000000 0x00000000 0x00000000\n"),
    ("max_read_buffers", "96\n"),
    ("read_buffer_limit", "0\n"),
];

/// What a queue of it says that is configured as the driver does by itself.
pub(crate) const QUEUE: &[(&str, &str)] = &[
    ("type", "user\n"),
    ("driver_name", "user\n"),
    ("state", "enabled\n"),
    ("mode", "shared\n"),
    ("group_id", "0\n"),
    ("size", "16\n"),
    ("threshold", "12\n"),
    ("priority", "10\n"),
    ("block_on_fault", "0\n"),
    ("max_transfer_size", "2097152\n"),
    ("max_batch_size", "32\n"),
    ("cdev_minor", "0\n"),
    ("name", "memring\n"),
    ("clients", "0\n"),
    ("ats_disable", "0\n"),
    ("prs_disable", "0\n"),
    ("occupancy", "0\n"),
    ("enqcmds_retries", "32\n"),
    ("op_config", "00000000,00000000,00000000,00000000,00000000,00000000,00000001,003f027d\n"),
];

/// A tree. It vanishes when it is dropped.
pub(crate) struct Tree {
    folder: TempDir,
}

impl Tree {
    /// Both roots, and nothing in them.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        // For who has no rights to it otherwise.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let tree = Self { folder };
        for path in ["devices", "bus", "dev/dsa", "dev/char"] {
            fs::create_dir_all(tree.path(path)).unwrap();
        }
        tree
    }

    /// One device with one queue, all right.
    pub(crate) fn right() -> Self {
        let tree = Self::new();
        tree.add_device("dsa0");
        tree.add_queue("dsa0", "wq0.0");
        tree
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots { sysfs: self.path("bus"), dev: self.path("dev/dsa") }
    }

    pub(crate) fn discover(&self) -> Discovery {
        discover(&self.roots())
    }

    /// As in sysfs: the bus has links to devices, whose folders hold those of their queues.
    pub(crate) fn add_device(&self, name: &str) {
        self.add(&format!("devices/{name}"), DEVICE);
        let number = name.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        self.set(&format!("devices/{name}/group{number}.0/engines"), &format!("engine{number}.0\n"));
        symlink(format!("../devices/{name}"), self.path("bus").join(name)).unwrap();
    }

    pub(crate) fn add_queue(&self, device: &str, name: &str) {
        self.add(&format!("devices/{device}/{name}"), QUEUE);
        symlink(format!("../devices/{device}/{name}"), self.path("bus").join(name)).unwrap();
        self.set(&format!("dev/dsa/{name}"), "");
    }

    fn add(&self, folder: &str, attributes: &[(&str, &str)]) {
        for (name, text) in attributes {
            self.set(&format!("{folder}/{name}"), text);
        }
    }

    pub(crate) fn set(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    /// The one queue, which must be usable.
    pub(crate) fn usable(&self) -> WorkQueue {
        let found = self.discover();
        assert_eq!(found.unusable, []);
        assert_eq!(found.usable.len(), 1);
        found.usable.into_iter().next().unwrap()
    }

    /// The one thing that is wrong; the path begins after the tree's own.
    pub(crate) fn unusable(&self) -> Unusable {
        let found = self.discover();
        assert_eq!((found.usable.len(), found.unusable.len()), (0, 1), "{found:?}");
        let mut unusable = found.unusable.into_iter().next().unwrap();
        let text = unusable.to_string();
        assert!(text.starts_with(&format!("{}: ", unusable.path.display())), "{text}");
        unusable.path = self.within(&unusable.path);
        unusable
    }

    pub(crate) fn within(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.folder.path()).unwrap_or_else(|_| panic!("{path:?} is elsewhere")).to_owned()
    }
}
