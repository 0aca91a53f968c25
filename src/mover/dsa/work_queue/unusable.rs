//! Why a device or a queue cannot be used, and what would mend it.

use core::fmt;
use std::io;
use std::path::PathBuf;

use super::QueueId;

/// A device or a work queue that cannot be used: where the fault lies, what it is, and what would mend it.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Reason, Roots, discover};
/// let found = discover(&Roots { sysfs: "/nowhere".into(), dev: "/nowhere".into() });
/// assert_eq!(found.unusable[0].reason, Reason::NoBus);
/// assert!(found.unusable[0].to_string().starts_with("/nowhere: "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unusable {
    /// The attribute, folder or device file at fault.
    pub path: PathBuf,
    /// The queue at fault; nothing, if it is the device or the bus.
    pub queue: Option<QueueId>,
    /// What is wrong with it.
    pub reason: Reason,
    /// The command that would mend it, or what else there is to do.
    pub remedy: Option<String>,
}

impl Unusable {
    pub(in super::super) fn new(path: impl Into<PathBuf>, reason: Reason) -> Self {
        Self { path: path.into(), queue: None, reason, remedy: None }
    }

    pub(in super::super) fn of(self, queue: QueueId) -> Self {
        Self { queue: Some(queue), ..self }
    }

    pub(super) fn mended_by(self, remedy: String) -> Self {
        Self { remedy: Some(remedy), ..self }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; to mend it: {remedy}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Unusable {}

/// What is wrong with a device or a work queue.
///
/// The last three are found only when a queue is [opened](super::super::open).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The folder of the bus is missing.
    NoBus,
    /// The bus has no device whose name begins with `dsa`.
    NoDevice,
    /// The device has no work queue.
    NoQueue,
    /// It cannot be read; the errno.
    Unreadable(i32),
    /// An attribute that every kernel has is missing.
    Missing,
    /// An attribute says something else than it should.
    Malformed {
        /// What it says.
        text: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The device does not know the address spaces of processes.
    NoPasid,
    /// The device is disabled; the status of the driver's last command, if that failed.
    DeviceDisabled(Option<u32>),
    /// The device is in another state than enabled or disabled, as `halted`.
    DeviceState(String),
    /// The queue is of this type, not `user`.
    Type(String),
    /// The queue is bound to this driver, not to `user`.
    Driver(String),
    /// The queue is disabled; the status of the driver's last command, if that failed.
    QueueDisabled(Option<u32>),
    /// The queue is in another state than enabled or disabled.
    QueueState(String),
    /// The queue is in no group.
    NoGroup,
    /// No engine is in the queue's group.
    NoEngine,
    /// There is no device file for it.
    NoNode,
    /// What should be its device file is a folder.
    NodeIsFolder,
    /// This process may not read and write its device file.
    Forbidden {
        /// The file's permissions.
        mode: u32,
        /// The file's owner.
        owner: u32,
    },
    /// The queue is dedicated, and open already, here or elsewhere.
    InUse,
    /// Its device file cannot be opened; the errno.
    NotOpened(i32),
    /// Its device file cannot be mapped; the errno.
    NotMapped(i32),
}

impl Reason {
    pub(super) fn unreadable(error: &io::Error) -> Self {
        Self::Unreadable(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Whether what is missing is that the device knows the address spaces of processes: PASID is off, the driver
    /// refused the queue for that, or could not bind a process to it. Then no configuration of the device helps, but
    /// the IOMMU's does.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Reason;
    /// assert!(Reason::NoPasid.is_no_sva());
    /// assert!(!Reason::QueueDisabled(None).is_no_sva());
    /// ```
    #[must_use]
    pub fn is_no_sva(&self) -> bool {
        match self {
            Self::NoPasid => true,
            Self::DeviceDisabled(status) | Self::QueueDisabled(status) => *status == Some(NO_SVA),
            Self::NotOpened(errno) => matches!(*errno, libc::ENODEV | libc::ENXIO | libc::EINVAL),
            _ => false,
        }
    }
}

/// The driver's status `IDXD_SCMD_WQ_USER_NO_IOMMU`: a queue for users, and no SVA.
const NO_SVA: u32 = 0x8011_0000;

fn after_command(f: &mut fmt::Formatter<'_>, status: Option<u32>) -> fmt::Result {
    match status {
        Some(NO_SVA) => write!(f, " (the driver refused it, status {NO_SVA:#x}: processes share no address space)"),
        Some(status) => write!(f, " (the driver's last command failed with status {status:#x})"),
        None => Ok(()),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBus => f.write_str("there is no bus of DSA devices: no such device, or no driver idxd"),
            Self::NoDevice => f.write_str("no DSA device is on the bus"),
            Self::NoQueue => f.write_str("the device has no work queue"),
            Self::Unreadable(errno) => write!(f, "it cannot be read: {}", io::Error::from_raw_os_error(*errno)),
            Self::Missing => f.write_str("the attribute is missing, which every kernel has"),
            Self::Malformed { text, expected } => write!(f, "it says {text:?}, which is not {expected}"),
            Self::NoPasid => f.write_str(
                "the device does not know the address spaces of processes (PASID is off), as user queues need",
            ),
            Self::DeviceDisabled(status) => {
                f.write_str("the device is disabled")?;
                after_command(f, *status)
            }
            Self::DeviceState(state) => write!(f, "the device is {state}, not enabled"),
            Self::Type(kind) => write!(f, "the queue is of type {kind}, not user"),
            Self::Driver(driver) => write!(f, "the queue is bound to the driver {driver:?}, not to user"),
            Self::QueueDisabled(status) => {
                f.write_str("the queue is disabled")?;
                after_command(f, *status)
            }
            Self::QueueState(state) => write!(f, "the queue is {state}, not enabled"),
            Self::NoGroup => f.write_str("the queue is in no group, so no engine serves it"),
            Self::NoEngine => f.write_str("no engine is in the queue's group"),
            Self::NoNode => f.write_str("the queue's device file is not there"),
            Self::NodeIsFolder => f.write_str("it is a folder, and should be the queue's device file"),
            Self::Forbidden { mode, owner } => {
                write!(f, "this process may not read and write it (mode {mode:03o}, owner {owner})")
            }
            Self::InUse => f.write_str("it is open already, and the queue is dedicated"),
            Self::NotOpened(errno) => write!(f, "it cannot be opened: {}", io::Error::from_raw_os_error(*errno)),
            Self::NotMapped(errno) => write!(f, "it cannot be mapped: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}
