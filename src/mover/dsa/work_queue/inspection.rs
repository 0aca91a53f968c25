//! Looking at one device, or at one queue of it: its attributes as values, then what stands in the way.
//!
//! The checks go from the outside in, since what is outside must be mended first: PASID, the device's state; the
//! queue's type, driver, state, group, numbers; its device file.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::attributes::Attributes;
use super::remedy::{self, Configured};
use super::unusable::{Reason, Unusable};
use super::{Device, QueueId, Roots, WorkQueue, names};
use crate::mover::dsa::capabilities::{
    DeviceCapabilities, GenCap, Mode, OperationSet, VERSION_1, WorkQueueCapabilities, hexadecimal,
};
use crate::mover::dsa::preset::Preset;

const A_WORD: &str = "a word";
const A_NUMBER: &str = "a number";
const A_POSITIVE_NUMBER: &str = "a number above zero";
const A_SWITCH: &str = "0 or 1";

/// Longer than any word of the kernel's, letters.
const LONG: usize = 32;

fn word(text: &str) -> Option<String> {
    word_or_nothing(text).filter(|word| !word.is_empty())
}

fn word_or_nothing(text: &str) -> Option<String> {
    let is_word = text.len() <= LONG && text.bytes().all(|letter| letter.is_ascii_graphic());
    is_word.then(|| text.to_owned())
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn positive<T: std::str::FromStr + PartialOrd + Default>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number| *number > T::default())
}

/// A number where -1 says that there is none.
fn or_none(text: &str) -> Option<Option<u32>> {
    if text == "-1" { Some(None) } else { Some(Some(text.parse().ok()?)) }
}

/// Reads a device's attributes.
pub(super) fn device(id: u32, path: &Path) -> Result<Device, Unusable> {
    // What else fails to be there would be taken for an old kernel.
    fs::read_dir(path).map_err(|error| Unusable::new(path, Reason::unreadable(&error)))?;
    let attributes = Attributes(path);
    let state = attributes.required("state", A_WORD, word)?;
    let capabilities = device_capabilities(attributes)?;
    let numa_node = attributes.value("numa_node", "a number, or -1", or_none)?.flatten();
    Ok(Device { id, path: path.to_owned(), state, capabilities, numa_node })
}

/// The registers, or what every device had when kernels did not tell of them: no general capability, and the
/// operations of the least of them.
fn device_capabilities(attributes: Attributes<'_>) -> Result<DeviceCapabilities, Unusable> {
    let version = attributes.value("version", "a hexadecimal number", |text| {
        hexadecimal(text, 32).and_then(|version| u32::try_from(version).ok())
    })?;
    let gen_cap = attributes.value("gen_cap", "a hexadecimal number", |text| hexadecimal(text, 64))?;
    let gen_cap = gen_cap.map(GenCap::from_bits);
    let op_cap = attributes.value("op_cap", "a set of operations", |text| text.parse::<OperationSet>().ok())?;
    let op_cap = op_cap.unwrap_or(Preset::V1Production.capabilities().op_cap);
    let mut capabilities = DeviceCapabilities::new(version.unwrap_or(VERSION_1), gen_cap.unwrap_or_default(), op_cap);
    // The driver derives both from GENCAP; without that, the limits of a queue that nobody has configured.
    let transfer = attributes.value("max_transfer_size", A_POSITIVE_NUMBER, positive)?;
    let batch = attributes.value("max_batch_size", A_NUMBER, |text| text.parse().ok())?;
    capabilities.max_transfer_bytes = transfer
        .or(gen_cap.map(GenCap::max_transfer_bytes))
        .unwrap_or(WorkQueueCapabilities::DEFAULT_MAX_TRANSFER_BYTES);
    capabilities.max_batch =
        batch.or(gen_cap.map(GenCap::max_batch)).unwrap_or(WorkQueueCapabilities::DEFAULT_MAX_BATCH);
    Ok(capabilities)
}

/// Whether queues of the device may be looked at.
pub(super) fn device_is_ready(device: &Device, queues: &[QueueId]) -> Result<(), Unusable> {
    let attributes = Attributes(&device.path);
    // Kernels before 5.11 do not tell.
    if attributes.value("pasid_enabled", A_SWITCH, switch)? == Some(false) {
        let unusable = Unusable::new(attributes.path("pasid_enabled"), Reason::NoPasid);
        return Err(unusable.mended_by(remedy::KERNEL_PARAMETERS.to_owned()));
    }
    let unusable = |reason| Unusable::new(attributes.path("state"), reason);
    match device.state.as_str() {
        "enabled" => Ok(()),
        "disabled" => {
            let reason = Reason::DeviceDisabled(command_status(device));
            let remedy =
                if reason.is_no_sva() { remedy::KERNEL_PARAMETERS.to_owned() } else { how_to_enable(device, queues) };
            Err(unusable(reason).mended_by(remedy))
        }
        state => Err(unusable(Reason::DeviceState(state.to_owned())).mended_by(remedy::READ_LOG.to_owned())),
    }
}

/// The status of the driver's last command, if that failed.
fn command_status(device: &Device) -> Option<u32> {
    let status = hexadecimal(&device.attribute("cmd_status")?, 32)?;
    u32::try_from(status).ok().filter(|status| *status != 0)
}

/// A disabled device: one of its queues may be configured already.
fn how_to_enable(device: &Device, queues: &[QueueId]) -> String {
    let is_for_users = |id: &&QueueId| {
        let path = device.path.join(id.to_string());
        let attributes = Attributes(&path);
        attributes.text("type").as_deref() == Some("user") && configured(**id, attributes).size > 0
    };
    match (queues.iter().find(is_for_users), queues.first()) {
        (Some(id), _) => configured(*id, Attributes(&device.path.join(id.to_string()))).enable_with_device(),
        (None, Some(id)) => configured(*id, Attributes(&device.path.join(id.to_string()))).configure_all(),
        (None, None) => format!("sudo accel-config enable-device dsa{}", device.id),
    }
}

/// What of a configuration can be read.
fn configured(id: QueueId, attributes: Attributes<'_>) -> Configured {
    Configured {
        id,
        mode: attributes.text("mode").as_deref().and_then(mode),
        size: attributes.text("size").and_then(|text| text.parse().ok()).unwrap_or(0),
        is_enabled: attributes.text("state").as_deref() == Some("enabled"),
        names_driver: attributes.text("driver_name").is_some(),
    }
}

fn mode(text: &str) -> Option<Mode> {
    match text {
        "dedicated" => Some(Mode::Dedicated),
        "shared" => Some(Mode::Shared),
        _ => None,
    }
}

/// Looks at a queue of a device that is enabled.
pub(super) fn queue(roots: &Roots, device: &Arc<Device>, id: QueueId) -> Result<WorkQueue, Unusable> {
    let path = device.path.join(id.to_string());
    fs::read_dir(&path).map_err(|error| Unusable::new(&path, Reason::unreadable(&error)))?;
    let attributes = Attributes(&path);
    let configured = configured(id, attributes);
    is_enabled_for_users(attributes, device, configured)?;
    let capabilities = queue_capabilities(attributes, &device.capabilities)?;
    let group = group(attributes, device, configured)?;
    let node = node(roots, device, attributes, id)?;
    may_be_opened(&node)?;
    let name = attributes.text("name").unwrap_or_default();
    Ok(WorkQueue { id, path, node, name, group, capabilities, device: Arc::clone(device) })
}

fn is_enabled_for_users(attributes: Attributes<'_>, device: &Device, configured: Configured) -> Result<(), Unusable> {
    let kind = attributes.required("type", A_WORD, word)?;
    if kind != "user" {
        let unusable = Unusable::new(attributes.path("type"), Reason::Type(kind));
        return Err(unusable.mended_by(configured.give_to_users()));
    }
    let state = attributes.required("state", A_WORD, word)?;
    // Kernels before 6.7 do not tell. Before a queue is given to a driver, nothing is said.
    let driver = attributes.value("driver_name", A_WORD, word_or_nothing)?;
    if let Some(driver) = driver.filter(|driver| !driver.is_empty() && driver != "user") {
        let unusable = Unusable::new(attributes.path("driver_name"), Reason::Driver(driver));
        return Err(unusable.mended_by(configured.give_to_users()));
    }
    let unusable = |reason| Unusable::new(attributes.path("state"), reason);
    match state.as_str() {
        "enabled" => Ok(()),
        "disabled" => {
            let reason = Reason::QueueDisabled(command_status(device));
            let remedy = if reason.is_no_sva() { remedy::KERNEL_PARAMETERS.to_owned() } else { configured.enable() };
            Err(unusable(reason).mended_by(remedy))
        }
        _ => Err(unusable(Reason::QueueState(state)).mended_by(remedy::READ_LOG.to_owned())),
    }
}

fn queue_capabilities(
    attributes: Attributes<'_>,
    device: &DeviceCapabilities,
) -> Result<WorkQueueCapabilities, Unusable> {
    let mode = attributes.required("mode", "dedicated or shared", mode)?;
    let size = attributes.required("size", A_POSITIVE_NUMBER, positive)?;
    let mut capabilities = WorkQueueCapabilities::new(mode, size);
    if mode == Mode::Shared {
        capabilities.threshold = attributes.value("threshold", A_POSITIVE_NUMBER, positive)?.unwrap_or(size);
    }
    capabilities.blocks_on_fault = attributes.value("block_on_fault", A_SWITCH, switch)?.unwrap_or(false);
    let transfer = attributes.value("max_transfer_size", A_POSITIVE_NUMBER, positive)?;
    capabilities.max_transfer_bytes = transfer.unwrap_or(device.max_transfer_bytes);
    let batch = attributes.value("max_batch_size", A_NUMBER, |text| text.parse().ok())?;
    capabilities.max_batch = batch.unwrap_or(device.max_batch);
    let operations = attributes.value("op_config", "a set of operations", |text| text.parse().ok())?;
    capabilities.op_config = operations.unwrap_or(OperationSet::ALL);
    Ok(capabilities)
}

/// The queue's group, which has an engine, as far as the kernel tells.
fn group(attributes: Attributes<'_>, device: &Device, configured: Configured) -> Result<Option<u32>, Unusable> {
    let Some(group) = attributes.value("group_id", "a number, or -1", or_none)? else { return Ok(None) };
    let Some(group) = group else {
        let unusable = Unusable::new(attributes.path("group_id"), Reason::NoGroup);
        return Err(unusable.mended_by(configured.regroup()));
    };
    let folder = device.path.join(format!("group{}.{group}", device.id));
    let of_group = Attributes(&folder);
    if of_group.text("engines").is_some_and(|engines| engines.is_empty()) {
        let unusable = Unusable::new(of_group.path("engines"), Reason::NoEngine);
        return Err(unusable.mended_by(configured.regroup()));
    }
    Ok(Some(group))
}

/// Finds the queue's device file.
fn node(roots: &Roots, device: &Device, attributes: Attributes<'_>, id: QueueId) -> Result<PathBuf, Unusable> {
    let plain = roots.dev.join(id.to_string());
    let mut candidates = vec![plain.clone()];
    // Some distributions and containers add to the name.
    let mut longer = names(&roots.dev).unwrap_or_default();
    longer.retain(|name| name.starts_with(&format!("{id}-")));
    longer.sort_unstable();
    candidates.extend(longer.iter().map(|name| roots.dev.join(name)));
    if let (Some(major), Some(minor), Some(parent)) =
        (device.attribute("cdev_major"), attributes.text("cdev_minor"), roots.dev.parent())
        && let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>())
    {
        candidates.push(parent.join(format!("char/{major}:{minor}")));
    }
    for candidate in candidates {
        match fs::metadata(&candidate) {
            Ok(metadata) if metadata.is_dir() => return Err(Unusable::new(candidate, Reason::NodeIsFolder)),
            Ok(_) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Unusable::new(candidate, Reason::unreadable(&error))),
        }
    }
    let remedy = format!("give it to the container, as by docker run --device {}", remedy::word(&plain));
    Err(Unusable::new(plain, Reason::NoNode).mended_by(remedy))
}

/// Asks for the permission only: to open a dedicated queue would keep others out.
pub(super) fn may_be_opened(node: &Path) -> Result<(), Unusable> {
    let wanted = Access::READ_OK | Access::WRITE_OK;
    // By the effective user, as open does; kernels before 5.8 can be asked for the real one only.
    let asked = match accessat(CWD, node, wanted, AtFlags::EACCESS) {
        Err(rustix::io::Errno::NOSYS) => accessat(CWD, node, wanted, AtFlags::empty()),
        asked => asked,
    };
    let Err(errno) = asked else { return Ok(()) };
    let unusable = |reason| Unusable::new(node, reason);
    match (errno, fs::metadata(node)) {
        (rustix::io::Errno::ACCESS | rustix::io::Errno::PERM, Ok(metadata)) => {
            let (mode, owner) = (metadata.permissions().mode() & 0o777, metadata.uid());
            let remedy = format!("sudo chown \"$USER\" {}", remedy::word(node));
            Err(unusable(Reason::Forbidden { mode, owner }).mended_by(remedy))
        }
        _ => Err(unusable(Reason::Unreadable(errno.raw_os_error()))),
    }
}
