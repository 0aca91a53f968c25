//! A machine with a DSA, as far as files show it: sysfs, the device file, and what the library needs.
//!
//! ```text
//!  /sys/bus/dsa/devices/       dsa0, wq0.0, group0.0, engine0.0: links
//!              /emulated/dsa0  the attributes; in it the folders of the queue, the group, the engine
//!  /sys/module/idxd            the driver, for who looks whether it is loaded
//!  /dev/dsa/wq0.0              the device file: a page
//!      /char/236:0             a link to it, by device numbers that nobody has
//!      /memring/               the library, and the page with the counts
//! ```
//!
//! Source: Linux `Documentation/ABI/stable/sysfs-driver-dma-idxd`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::iter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use memring::dsa::{DeviceCapabilities, Mode, VERSION_1, WorkQueueCapabilities};

use super::{layout, namespace};
use crate::failure::Failure;

const BUS: &str = "/sys/bus/dsa";
const DRIVER: &str = "/sys/module/idxd";
const DEVICE_FILES: &str = "/dev/dsa";
/// Where the library and the counts are.
const OWN: &str = "/dev/memring";
/// Links to device files, by their numbers.
const BY_NUMBERS: &str = "/dev/char";
/// The major number of the device file, as it was on the machine that the attributes are from, if nobody has it.
const MAJOR: u32 = 236;

/// What is to be there.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) device: DeviceCapabilities,
    pub(super) queue: WorkQueueCapabilities,
}

/// What the library is told of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) library: PathBuf,
    pub(super) page: PathBuf,
}

impl Machine {
    /// Makes the files, in the view that this process has to itself.
    pub(super) fn make(&self, library: &[u8]) -> Result<Made, Failure> {
        let chars = namespace::links(Path::new(BY_NUMBERS));
        let major = free_major(&chars)?;
        namespace::cover(Path::new("/sys/bus"), &["dsa"])?;
        namespace::cover(Path::new("/dev"), &["dsa", "char", "memring"])?;
        let modules = Path::new("/sys/module");
        if modules.exists() && !Path::new(DRIVER).exists() {
            namespace::cover(modules, &[])?;
            fs::create_dir(DRIVER).map_err(|error| Failure::system("make", Path::new(DRIVER), error))?;
        }
        self.show(major).map_err(|error| Failure::system("make", Path::new(BUS), error))?;
        device_file().map_err(|error| Failure::system("make", Path::new(DEVICE_FILES), error))?;
        by_numbers(&chars, major).map_err(|error| Failure::system("make", Path::new(BY_NUMBERS), error))?;
        own(library).map_err(|error| Failure::system("make", Path::new(OWN), error))
    }

    fn show(&self, major: u32) -> io::Result<()> {
        let bus = Path::new(BUS);
        let device = bus.join("emulated/dsa0");
        let [queue, group, engine] = ["wq0.0", "group0.0", "engine0.0"].map(|name| device.join(name));
        put(&device, &self.device_attributes(major))?;
        put(&queue, &self.queue_attributes())?;
        put(&group, &GROUP.map(|(name, value)| (name, value.to_owned())))?;
        put(&engine, &[("group_id", "0".to_owned())])?;
        for driver in ["idxd", "user", "dmaengine"] {
            fs::create_dir_all(bus.join("drivers").join(driver))?;
        }
        let devices = bus.join("devices");
        fs::create_dir(&devices)?;
        namespace::link(
            &devices,
            &[
                ("dsa0", PathBuf::from("../emulated/dsa0")),
                ("wq0.0", PathBuf::from("../emulated/dsa0/wq0.0")),
                ("group0.0", PathBuf::from("../emulated/dsa0/group0.0")),
                ("engine0.0", PathBuf::from("../emulated/dsa0/engine0.0")),
            ],
        )
    }

    fn device_attributes(&self, major: u32) -> Vec<(&'static str, String)> {
        let device = &self.device;
        let mut attributes = vec![
            ("version", format!("{:#x}", device.version)),
            ("state", "enabled".to_owned()),
            ("gen_cap", format!("{:#x}", device.gen_cap.bits())),
            ("op_cap", device.op_cap.to_string()),
            ("max_groups", "4".to_owned()),
            ("max_work_queues", "8".to_owned()),
            ("max_engines", "4".to_owned()),
            ("max_work_queues_size", MOST_ENTRIES.to_string()),
            ("max_batch_size", device.max_batch.to_string()),
            ("max_transfer_size", device.max_transfer_bytes.to_string()),
            ("ims_size", "2048".to_owned()),
            ("numa_node", "0".to_owned()),
            ("configurable", "1".to_owned()),
            ("clients", "0".to_owned()),
            ("pasid_enabled", "1".to_owned()),
            ("cdev_major", major.to_string()),
            ("cmd_status", "0x0".to_owned()),
            ("errors", "0x00000000 0x00000000 0x00000000 0x00000000".to_owned()),
            ("max_read_buffers", "96".to_owned()),
            ("read_buffer_limit", "0".to_owned()),
        ];
        if device.version > VERSION_1 {
            attributes.push(("event_log_size", "64".to_owned()));
        }
        attributes
    }

    fn queue_attributes(&self) -> Vec<(&'static str, String)> {
        let queue = &self.queue;
        let threshold = if queue.mode == Mode::Shared { queue.threshold } else { 0 };
        vec![
            ("type", "user".to_owned()),
            ("driver_name", "user".to_owned()),
            ("state", "enabled".to_owned()),
            ("mode", queue.mode.to_string()),
            ("group_id", "0".to_owned()),
            ("size", queue.size.to_string()),
            ("threshold", threshold.to_string()),
            ("priority", "10".to_owned()),
            ("block_on_fault", u8::from(queue.blocks_on_fault).to_string()),
            ("max_transfer_size", queue.max_transfer_bytes.to_string()),
            ("max_batch_size", queue.max_batch.to_string()),
            ("cdev_minor", "0".to_owned()),
            ("name", "memring".to_owned()),
            ("clients", "0".to_owned()),
            ("ats_disable", "0".to_owned()),
            ("prs_disable", "0".to_owned()),
            ("occupancy", "0".to_owned()),
            ("enqcmds_retries", "32".to_owned()),
            ("op_config", queue.op_config.intersection(self.device.op_cap).to_string()),
        ]
    }
}

/// The most entries that a device shares out to its queues.
pub(super) const MOST_ENTRIES: u32 = 128;

const GROUP: [(&str, &str); 9] = [
    ("engines", "engine0.0"),
    ("work_queues", "wq0.0"),
    ("read_buffers_reserved", "0"),
    ("read_buffers_allowed", "96"),
    ("use_read_buffer_limit", "0"),
    ("traffic_class_a", "1"),
    ("traffic_class_b", "1"),
    ("desc_progress_limit", "0"),
    ("batch_progress_limit", "0"),
];

fn put(folder: &Path, attributes: &[(&str, String)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    attributes.iter().try_for_each(|(name, value)| fs::write(folder.join(name), format!("{value}\n")))
}

/// A major number that no driver has and no link is for: there may be a real device, or an emulated one around this.
fn free_major(chars: &[(OsString, PathBuf)]) -> Result<u32, Failure> {
    // Where there is no such list, the links alone tell.
    let drivers = fs::read_to_string("/proc/devices").unwrap_or_default();
    let of_driver = |line: &str| line.split_whitespace().next().and_then(|number| number.parse().ok());
    let of_link = |name: &OsString| name.to_str()?.split_once(':')?.0.parse().ok();
    let taken: Vec<u32> =
        drivers.lines().filter_map(of_driver).chain(chars.iter().filter_map(|(name, _)| of_link(name))).collect();
    // Source: Linux Documentation/admin-guide/devices.txt: those that are given out as they are asked for.
    let mut candidates = iter::once(MAJOR).chain(234..=254).chain(384..=511);
    let free = candidates.find(|major| !taken.contains(major));
    free.ok_or_else(|| Failure::new("no number for a device file is left in /proc/devices"))
}

fn device_file() -> io::Result<()> {
    let folder = Path::new(DEVICE_FILES);
    fs::create_dir(folder)?;
    fs::write(folder.join("wq0.0"), [0; 4096])?;
    fs::set_permissions(folder.join("wq0.0"), fs::Permissions::from_mode(0o600))
}

fn by_numbers(chars: &[(OsString, PathBuf)], major: u32) -> io::Result<()> {
    let folder = Path::new(BY_NUMBERS);
    fs::create_dir(folder)?;
    namespace::link(folder, chars)?;
    namespace::link(folder, &[(format!("{major}:0"), PathBuf::from("../dsa/wq0.0"))])
}

fn own(library: &[u8]) -> io::Result<Made> {
    let folder = Path::new(OWN);
    fs::create_dir(folder)?;
    let made = Made { library: folder.join("libmemring_emulator.so"), page: folder.join("page") };
    fs::write(&made.library, library)?;
    fs::write(&made.page, [0; layout::WORDS * size_of::<u64>()])?;
    // For programs that have given up their rights.
    fs::set_permissions(&made.page, fs::Permissions::from_mode(0o666))?;
    Ok(made)
}
