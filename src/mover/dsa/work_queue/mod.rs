//! Work queues: which there are, which of them this process can use, and why it cannot use the others.
//!
//! Read straight from sysfs, without a library in between. Both roots can be changed, so that a tree of made-up files
//! is as good as a machine with devices: nothing here asks the kernel for anything but files. What the tree holds is
//! not trusted: whatever is missing, garbled or forbidden becomes an [`Unusable`], with the path that is at fault.
//!
//! ```text
//!  /sys/bus/dsa/devices/        dsa0 ─▶ version state gen_cap op_cap numa_node pasid_enabled ...
//!   iax1: shares the bus,       dsa0/wq0.0/ type state mode size group_id max_batch_size op_config ...
//!   and is none of ours         dsa0/group0.0/engines
//!  /dev/dsa/                    wq0.0, or wq0.0-<something>; or ../char/<cdev_major>:<cdev_minor>
//! ```
//!
//! Kernels since 5.6 have the attributes without which nothing can be known (`state`, `type`, `mode`, `size`). What
//! else is missing means an old kernel: then the least is assumed that any device of that time offered.
//!
//! Sources: Linux `Documentation/ABI/stable/sysfs-driver-dma-idxd`; `drivers/dma/idxd/sysfs.c`.

mod attributes;
mod inspection;
mod remedy;
mod roots;
mod unusable;

use core::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::attributes::Attributes;
pub use self::roots::Roots;
pub use self::unusable::{Reason, Unusable};
use super::capabilities::{Allowance, DeviceCapabilities, Mode, WorkQueueCapabilities};

/// A device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Device {
    /// Its number: 0 of `dsa0`.
    pub id: u32,
    /// Its folder in sysfs.
    pub path: PathBuf,
    /// Its state: `enabled`, `disabled`, `halted`.
    pub state: String,
    /// What it can do.
    pub capabilities: DeviceCapabilities,
    /// The NUMA node that it is at, if the kernel knows.
    pub numa_node: Option<u32>,
}

impl Device {
    /// What one of its attributes says now, by the name that kernels since 5.17 give it; nothing, if there is none or
    /// it cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Roots, discover};
    /// for device in discover(&Roots::system()).devices {
    ///     println!("dsa{}: {:?}", device.id, device.attribute("max_read_buffers"));
    /// }
    /// ```
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        Attributes(&self.path).text(name)
    }
}

/// Which queue: 1 of device 0 is `wq0.1`.
///
/// # Examples
///
/// ```
/// use memring::dsa::QueueId;
/// assert_eq!(QueueId { device: 0, queue: 1 }.to_string(), "wq0.1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    /// The device's number.
    pub device: u32,
    /// The queue's number on the device.
    pub queue: u32,
}

impl QueueId {
    /// The inverse of Display.
    fn parse(name: &str) -> Option<Self> {
        let (device, queue) = name.strip_prefix("wq")?.split_once('.')?;
        Some(Self { device: number(device)?, queue: number(queue)? })
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wq{}.{}", self.device, self.queue)
    }
}

/// A work queue that this process can use, as far as files can tell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkQueue {
    /// Its numbers.
    pub id: QueueId,
    /// Its folder in sysfs.
    pub path: PathBuf,
    /// Its device file.
    pub node: PathBuf,
    /// What its administrator called it.
    pub name: String,
    /// Its group on the device, if the kernel says.
    pub group: Option<u32>,
    /// Its configuration.
    pub capabilities: WorkQueueCapabilities,
    /// Its device.
    pub device: Arc<Device>,
}

impl WorkQueue {
    /// What may be asked of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Roots, discover};
    /// for queue in discover(&Roots::system()).usable {
    ///     println!("{}: batches: {}", queue.id, queue.allowance().allows_batch());
    /// }
    /// ```
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        self.device.capabilities.through(&self.capabilities)
    }

    /// What one of its attributes says now, if there is one and it can be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Roots, discover};
    /// for queue in discover(&Roots::system()).usable {
    ///     println!("{}: {:?} clients", queue.id, queue.attribute("clients"));
    /// }
    /// ```
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        Attributes(&self.path).text(name)
    }

    /// Whether somebody has this dedicated queue, as its attribute `clients` tells without its being opened: then what
    /// [`open`](super::open) would say. To open a dedicated queue, for however short, keeps others out.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Roots, discover};
    /// for queue in discover(&Roots::system()).usable {
    ///     println!("{}: {}", queue.id, if queue.taken().is_some() { "taken" } else { "free, or shared" });
    /// }
    /// ```
    #[must_use]
    pub fn taken(&self) -> Option<Unusable> {
        let clients = || self.attribute("clients")?.parse::<u64>().ok();
        let is_taken = self.capabilities.mode == Mode::Dedicated && clients().is_some_and(|clients| clients > 0);
        is_taken.then(|| self.in_use())
    }

    fn in_use(&self) -> Unusable {
        let remedy = format!("sudo fuser -v {}", remedy::word(&self.node));
        self.unusable(Reason::InUse).mended_by(remedy)
    }

    /// It is its device file that is at fault.
    pub(super) fn unusable(&self, reason: Reason) -> Unusable {
        Unusable::new(&self.node, reason).of(self.id)
    }

    /// Why its device file could not be opened.
    pub(super) fn not_opened(&self, error: &io::Error) -> Unusable {
        let reason = match error.raw_os_error().unwrap_or(libc::EIO) {
            libc::EBUSY => return self.in_use(),
            libc::ENOENT => Reason::NoNode,
            errno => Reason::NotOpened(errno),
        };
        // The driver binds the process's address space here.
        if reason.is_no_sva() {
            return self.unusable(reason).mended_by(remedy::KERNEL_PARAMETERS.to_owned());
        }
        match (&reason, inspection::may_be_opened(&self.node)) {
            (Reason::NotOpened(_), Err(unusable)) => unusable.of(self.id),
            _ => self.unusable(reason),
        }
    }
}

/// What was found, in the order of the numbers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Discovery {
    /// The devices whose attributes make sense, enabled or not.
    pub devices: Vec<Arc<Device>>,
    /// The queues to choose from.
    pub usable: Vec<WorkQueue>,
    /// The devices and queues that are not to choose from. A device that cannot be used stands here once, without its
    /// queues.
    pub unusable: Vec<Unusable>,
}

/// Looks for work queues that this process can use. It opens no device file.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Roots, discover};
/// let found = discover(&Roots::from_env());
/// // Every machine has an answer: a queue, or why there is none.
/// assert!(!found.usable.is_empty() || !found.unusable.is_empty());
/// ```
#[must_use]
pub fn discover(roots: &Roots) -> Discovery {
    let mut found = Discovery::default();
    match names(&roots.sysfs) {
        Ok(names) => {
            let mut ids: Vec<u32> = names.iter().filter_map(|name| number(name.strip_prefix("dsa")?)).collect();
            ids.sort_unstable();
            if ids.is_empty() {
                found.unusable.push(Unusable::new(&roots.sysfs, Reason::NoDevice));
            }
            for id in ids {
                look_at_device(roots, id, &mut found);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let unusable = Unusable::new(&roots.sysfs, Reason::NoBus);
            found.unusable.push(unusable.mended_by(remedy::LOAD_DRIVER.to_owned()));
        }
        Err(error) => found.unusable.push(Unusable::new(&roots.sysfs, Reason::unreadable(&error))),
    }
    found
}

fn look_at_device(roots: &Roots, id: u32, found: &mut Discovery) {
    let path = roots.sysfs.join(format!("dsa{id}"));
    let (device, queues) = match inspection::device(id, &path).and_then(|device| Ok((device, queues(id, &path)?))) {
        Ok(looked_at) => looked_at,
        Err(unusable) => return found.unusable.push(unusable),
    };
    let device = Arc::new(device);
    found.devices.push(Arc::clone(&device));
    if let Err(unusable) = inspection::device_is_ready(&device, &queues) {
        return found.unusable.push(unusable);
    }
    for id in queues {
        match inspection::queue(roots, &device, id) {
            Ok(queue) => found.usable.push(queue),
            Err(unusable) => found.unusable.push(unusable.of(id)),
        }
    }
}

/// The numbers of a device's queues; at least one.
fn queues(device: u32, path: &Path) -> Result<Vec<QueueId>, Unusable> {
    let names = names(path).map_err(|error| Unusable::new(path, Reason::unreadable(&error)))?;
    let ids = names.iter().filter_map(|name| QueueId::parse(name));
    let mut ids: Vec<QueueId> = ids.filter(|id| id.device == device).collect();
    ids.sort_unstable();
    if ids.is_empty() { Err(Unusable::new(path, Reason::NoQueue)) } else { Ok(ids) }
}

/// The names of what is in a folder, as far as they are text.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// A number as the kernel prints it in names.
fn number(text: &str) -> Option<u32> {
    let is_canonical = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}
