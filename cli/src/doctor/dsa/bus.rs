//! Devices on PCI that the driver has not put on the bus of DSA.
//!
//! Source: Linux `drivers/dma/idxd/init.c`, its table of PCI devices.

use std::fs;
use std::path::Path;

use memring::dsa::{Reason, Unusable};
use serde_json::{Value, json};

use crate::doctor::page::Check;
use crate::doctor::places::{Places, names, text};

const INTEL: &str = "0x8086";
/// DSA of Sapphire Rapids and most later Xeons, of Granite Rapids D, of Diamond Rapids.
const DSA: [&str; 3] = ["0x0b25", "0x11fb", "0x1212"];
const DRIVER: &str = "idxd";

/// A DSA, as PCI has it.
#[derive(Debug)]
pub(super) struct PciDevice {
    /// As `0000:6a:01.0`.
    address: String,
    /// The driver that has it.
    driver: Option<String>,
}

impl PciDevice {
    pub(super) fn json(&self) -> Value {
        json!({ "address": self.address, "driver": self.driver })
    }

    fn check(&self) -> Check {
        let Self { address, driver } = self;
        match driver.as_deref() {
            None => {
                let remedy = format!("echo {address} | sudo tee /sys/bus/pci/drivers/{DRIVER}/bind");
                Check::problem(address, "a DSA on PCI without a driver", Some(remedy))
            }
            Some(DRIVER) => {
                let remedy = format!("sudo dmesg | grep {DRIVER}");
                Check::problem(address, "its driver has it, and has put no device on the bus", Some(remedy))
            }
            Some(other) => Check::not_here(address, format!("a DSA on PCI that is given to the driver {other}")),
        }
    }
}

/// What PCI has, if a folder of it is beside that of DSA.
pub(super) fn on_pci(places: &Places) -> Option<Vec<PciDevice>> {
    let folder = places.sys("bus/pci/devices").filter(|folder| folder.is_dir())?;
    Some(names(&folder).into_iter().filter_map(|address| look_at(&folder.join(&address), address)).collect())
}

fn look_at(path: &Path, address: String) -> Option<PciDevice> {
    // It becomes a word of a command.
    let is_address = address.bytes().all(|letter| letter.is_ascii_hexdigit() || b":.".contains(&letter));
    let is_dsa = text(&path.join("vendor"))? == INTEL && DSA.contains(&text(&path.join("device"))?.as_str());
    let driver = fs::read_link(path.join("driver")).ok();
    let driver = driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
    (is_address && is_dsa).then_some(PciDevice { address, driver })
}

/// Why there is no bus, or no device on it.
pub(super) fn checks(unusable: &Unusable, on_pci: &[PciDevice]) -> Vec<Check> {
    let drivers_to_load = on_pci.iter().filter(|device| device.driver.is_none()).count();
    if unusable.reason == Reason::NoBus && drivers_to_load > 0 {
        let says = format!("there is none, though PCI has {drivers_to_load} DSA without a driver: idxd is not loaded");
        return vec![Check::problem("bus", says, unusable.remedy.clone())];
    }
    let bus = Check::not_here("bus", format!("{} ({})", unusable.reason, unusable.path.display()));
    let devices = on_pci.iter().map(PciDevice::check);
    if on_pci.is_empty() { vec![bus] } else { devices.collect() }
}
