//! Opening a queue: its file, then the better way of submitting that the kernel and the CPU allow.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use super::{Portal, WritePortal};
use crate::mover::dsa::{Reason, Unusable, WorkQueue};

/// How descriptors go to a queue.
///
/// # Examples
///
/// ```
/// assert_eq!("write".parse(), Ok(memring::dsa::Way::Write));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// By instructions where the CPU has them and the kernel allows it, else by the kernel.
    #[default]
    Best,
    /// By instructions where the kernel allows it, whether the CPU has them or not: for who traps them.
    Mmap,
    /// By the kernel.
    Write,
}

impl Way {
    /// Set to `mmap` or `write`, this takes the place of the best way.
    pub const VARIABLE: &'static str = "MEMRING_DSA_PORTAL";

    /// What the environment says by [`VARIABLE`](Self::VARIABLE), if it says a way.
    ///
    /// # Examples
    ///
    /// ```
    /// println!("{:?}", memring::dsa::Way::from_env());
    /// ```
    #[must_use]
    pub fn from_env() -> Self {
        env::var(Self::VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

impl core::str::FromStr for Way {
    type Err = UnknownWay;

    fn from_str(text: &str) -> Result<Self, UnknownWay> {
        match text {
            "best" => Ok(Self::Best),
            "mmap" => Ok(Self::Mmap),
            "write" => Ok(Self::Write),
            _ => Err(UnknownWay),
        }
    }
}

/// No way of submitting has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWay;

impl core::fmt::Display for UnknownWay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a way is one of best, mmap, write")
    }
}

impl core::error::Error for UnknownWay {}

/// A portal, and which it is.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The portal.
    pub portal: Box<dyn Portal>,
    /// The way that descriptors go; not [`Way::Best`].
    pub way: Way,
}

/// Opens a queue. The process that does it is the one that may submit, so it is done after any fork.
///
/// # Errors
///
/// Another process has the dedicated queue, the file cannot be opened, or it cannot be mapped for another reason than
/// the kernel's mistrust of the device.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Roots, Way, discover, open};
/// for queue in discover(&Roots::system()).usable {
///     match open(&queue, Way::Best) {
///         Ok(opened) => println!("{}: by {:?}", queue.id, opened.way),
///         Err(unusable) => println!("{unusable}"),
///     }
/// }
/// ```
pub fn open(queue: &WorkQueue, way: Way) -> Result<Opened, Unusable> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(&queue.node);
    let file = file.map_err(|error| queue.not_opened(&error))?;
    if way == Way::Write || (way == Way::Best && !has_instruction(queue)) {
        return Ok(write(file, queue));
    }
    map(file, queue).or_else(|(file, error)| match error.raw_os_error().unwrap_or(libc::EIO) {
        libc::EPERM => Ok(write(file, queue)),
        errno => Err(queue.unusable(Reason::NotMapped(errno))),
    })
}

fn write(file: File, queue: &WorkQueue) -> Opened {
    let portal = WritePortal::new(file, &queue.device.capabilities, &queue.capabilities);
    Opened { portal: Box::new(portal), way: Way::Write }
}

#[cfg(target_arch = "x86_64")]
fn has_instruction(queue: &WorkQueue) -> bool {
    super::instructions::has(queue.capabilities.mode)
}

#[cfg(target_arch = "x86_64")]
fn map(file: File, queue: &WorkQueue) -> Result<Opened, (File, io::Error)> {
    let portal = super::MmapPortal::new(file, &queue.capabilities)?;
    Ok(Opened { portal: Box::new(portal), way: Way::Mmap })
}

/// Other processors reach no DSA.
#[cfg(not(target_arch = "x86_64"))]
fn has_instruction(_queue: &WorkQueue) -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn map(file: File, _queue: &WorkQueue) -> Result<Opened, (File, io::Error)> {
    Err((file, io::ErrorKind::Unsupported.into()))
}
