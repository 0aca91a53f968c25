//! What stands in the way of devices and queues, and whether something is broken by it.
//!
//! A device has eight queues or so, and few administrators give all of them to programs: a queue that nobody has
//! configured, that the kernel has, that another user has, is in order *while this process can use another one*. Where
//! it can use none, one such obstacle of each device is the problem: the one that is nearest to being overcome.
//! Whatever cannot be somebody's wish is a problem always. A command is told for problems only: to take a queue from
//! others, or to stop a device for it, is no advice where nothing is broken.

use std::path::Path;

use memring::dsa::{QueueId, Reason, Unusable};
use serde_json::{Value, json};

use crate::doctor::boot;
use crate::doctor::kernel;
use crate::doctor::page::{Check, State};
use crate::doctor::places::Places;

/// A device, and one of its queues.
pub(super) type Place = (u32, Option<u32>);

/// Something in the way.
#[derive(Debug)]
pub(super) struct Obstacle {
    /// What it is in the way of; nothing, if it is in the way of all.
    place: Option<Place>,
    unusable: Unusable,
    state: State,
    remedy: Option<String>,
}

impl Obstacle {
    /// Judges all of them together; `has_one` says that this process can use some queue, or that only its present user
    /// keeps it from that.
    pub(super) fn judge(unusable: impl Iterator<Item = Unusable>, has_one: bool, places: &Places) -> Vec<Self> {
        let mut obstacles: Vec<Self> = unusable
            .map(|unusable| {
                let place = match unusable.queue {
                    Some(QueueId { device, queue }) => Some((device, Some(queue))),
                    None => device(&unusable.path, &places.dsa.sysfs).map(|device| (device, None)),
                };
                let state = if distance(&unusable.reason).is_some() { State::NotHere } else { State::Problem };
                let remedy = if unusable.reason.is_no_sva() {
                    Some(boot::remedy(&kernel::intel_iommu(places)))
                } else {
                    unusable.remedy.clone()
                };
                Self { place, unusable, state, remedy }
            })
            .collect();
        obstacles.sort_by_key(|each| each.place);
        if !has_one {
            let by_device = obstacles.chunk_by_mut(|a, b| a.device() == b.device());
            for of_device in by_device {
                let chosen = of_device.iter_mut().filter(|each| each.state == State::NotHere);
                if let Some(nearest) = chosen.min_by_key(|each| distance(&each.unusable.reason)) {
                    nearest.state = State::Problem;
                }
            }
        }
        obstacles
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.place
    }

    fn device(&self) -> Option<u32> {
        self.place.map(|(device, _)| device)
    }

    /// For problems.
    fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref().filter(|_| self.state == State::Problem)
    }

    fn name(&self) -> String {
        match self.place {
            Some((device, Some(queue))) => QueueId { device, queue }.to_string(),
            Some((device, None)) => format!("dsa{device}"),
            None => "bus".to_owned(),
        }
    }

    pub(super) fn check(&self) -> Check {
        let stops = self.remedy().is_some_and(|remedy| remedy.contains("disable-device"));
        let price = if stops { "; the command stops the device's other queues" } else { "" };
        let says = format!("{} ({}){price}", self.unusable.reason, self.unusable.path.display());
        Check::new(self.state, self.name(), says, self.remedy().map(str::to_owned))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name(),
            "path": self.unusable.path.to_string_lossy(),
            "reason": code(&self.unusable.reason),
            "says": self.unusable.reason.to_string(),
            "problem": self.state == State::Problem,
            "remedy": self.remedy(),
        })
    }
}

/// The device whose folder the path is in.
fn device(path: &Path, sysfs: &Path) -> Option<u32> {
    path.strip_prefix(sysfs).ok()?.iter().next()?.to_str()?.strip_prefix("dsa")?.parse().ok()
}

/// How far from usable a thing is that may be so by somebody's wish. Nothing: nobody wishes that.
fn distance(reason: &Reason) -> Option<u32> {
    match reason {
        Reason::Forbidden { .. } | Reason::NoNode => Some(0),
        Reason::QueueDisabled(_) => Some(1),
        Reason::DeviceDisabled(_) => Some(2),
        Reason::Type(_) | Reason::Driver(_) => Some(3),
        Reason::NoGroup | Reason::NoEngine => Some(4),
        _ => None,
    }
}

/// The word by which a program knows a reason.
fn code(reason: &Reason) -> &'static str {
    match reason {
        Reason::NoBus => "no_bus",
        Reason::NoDevice => "no_device",
        Reason::NoQueue => "no_queue",
        Reason::Unreadable(_) => "unreadable",
        Reason::Missing => "missing",
        Reason::Malformed { .. } => "malformed",
        Reason::NoPasid => "no_pasid",
        Reason::DeviceDisabled(_) => "device_disabled",
        Reason::DeviceState(_) => "device_state",
        Reason::Type(_) => "type",
        Reason::Driver(_) => "driver",
        Reason::QueueDisabled(_) => "queue_disabled",
        Reason::QueueState(_) => "queue_state",
        Reason::NoGroup => "no_group",
        Reason::NoEngine => "no_engine",
        Reason::NoNode => "no_node",
        Reason::NodeIsFolder => "node_is_folder",
        Reason::Forbidden { .. } => "forbidden",
        Reason::InUse => "in_use",
        Reason::NotOpened(_) => "not_opened",
        Reason::NotMapped(_) => "not_mapped",
        _ => "other",
    }
}
