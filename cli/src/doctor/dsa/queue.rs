//! Queues that look usable: what they are configured for, who may use their files, and how descriptors would go.
//!
//! Only an attempt tells whether the kernel maps a portal, so each queue is opened, and closed again at once; nothing
//! is submitted. Meanwhile a dedicated queue is taken, for the time of a few system calls. One that somebody has is
//! left alone, and is no problem.

use std::fs;
use std::os::unix::fs::MetadataExt;

use memring::dsa::{Mode, Reason, Unusable, Way, WorkQueue, open};
use serde_json::{Value, json};

use crate::doctor::cpu;
use crate::doctor::page::{Check, yes_or_no};

/// A queue that was looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) queue: WorkQueue,
    /// How descriptors would go to it, or why not.
    pub(super) portal: Result<Portal, Unusable>,
}

#[derive(Debug)]
pub(super) enum Portal {
    /// By instructions; what is odd about that, if something is.
    Mapped(Option<String>),
    /// By write(2), and why.
    Written(String),
    /// It is dedicated, and somebody has it; the command that tells who.
    Taken(Option<String>),
}

impl Looked {
    pub(super) fn at(queue: WorkQueue, asked: Way) -> Self {
        let opened = match queue.taken() {
            Some(taken) => Err(taken),
            None => open(&queue, asked).map(|opened| opened.way),
        };
        let portal = match opened {
            Ok(Way::Mmap) => Ok(Portal::Mapped(oddity(&queue))),
            Ok(_) => Ok(Portal::Written(why_written(&queue, asked))),
            Err(unusable) if unusable.reason == Reason::InUse => Ok(Portal::Taken(unusable.remedy)),
            Err(unusable) => Err(unusable),
        };
        Self { queue, portal }
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let (id, node) = (self.queue.id, self.queue.node.display());
        let file = match self.file() {
            Some((mode, owner, group)) => format!("{node}, mode {mode:04o}, owner {owner}, group {group}"),
            None => format!("{node}"),
        };
        let mut checks = vec![
            Check::ok(id.to_string(), self.configuration()),
            Check::ok(format!("{id} file"), format!("{file}: this process may read and write it")),
        ];
        // What cannot be opened is told of as an obstacle.
        let says = match &self.portal {
            Ok(Portal::Mapped(None)) => "descriptors go through a mapped portal (mmap)".to_owned(),
            Ok(Portal::Mapped(Some(oddity))) => format!("descriptors go through a mapped portal (mmap); {oddity}"),
            Ok(Portal::Written(why)) => format!("descriptors go by write(2), since {why}"),
            Ok(Portal::Taken(None)) => "in use: the queue is dedicated, and somebody has it".to_owned(),
            Ok(Portal::Taken(Some(who))) => {
                format!("in use: the queue is dedicated, and somebody has it; who, says {who}")
            }
            Err(_) => return checks,
        };
        checks.push(Check::ok(format!("{id} portal"), says));
        checks
    }

    fn configuration(&self) -> String {
        let (has, may) = (&self.queue.capabilities, self.queue.allowance());
        let threshold = match has.mode {
            Mode::Shared => format!(" of which programs may take {}", has.threshold),
            Mode::Dedicated => String::new(),
        };
        format!(
            "{}, {} entries{threshold}, up to {} bytes a descriptor, batches: {}, blocks on faults: {}",
            has.mode,
            has.size,
            may.max_transfer_bytes,
            yes_or_no(may.allows_batch()),
            yes_or_no(may.blocks_on_fault),
        )
    }

    /// The permissions of its device file, owner and group.
    fn file(&self) -> Option<(u32, u32, u32)> {
        let file = fs::metadata(&self.queue.node).ok()?;
        Some((file.mode() & 0o7777, file.uid(), file.gid()))
    }

    pub(super) fn json(&self) -> Value {
        let (queue, has, file) = (&self.queue, &self.queue.capabilities, self.file());
        let may = queue.allowance();
        let (portal, why) = match &self.portal {
            Ok(Portal::Mapped(why)) => (Some("mmap"), why.as_deref()),
            Ok(Portal::Written(why)) => (Some("write"), Some(why.as_str())),
            Ok(Portal::Taken(_)) | Err(_) => (None, None),
        };
        json!({
            "name": queue.id.to_string(),
            "device": format!("dsa{}", queue.id.device),
            "label": queue.name,
            "group": queue.group,
            "node": queue.node.to_string_lossy(),
            "node_mode": file.map(|(mode, ..)| format!("{mode:04o}")),
            "node_owner": file.map(|(_, owner, _)| owner),
            "node_group": file.map(|(.., group)| group),
            "mode": has.mode.to_string(),
            "size": has.size,
            "threshold": (has.mode == Mode::Shared).then_some(has.threshold),
            "max_transfer_bytes": may.max_transfer_bytes,
            "max_batch": may.max_batch,
            "batches": may.allows_batch(),
            "blocks_on_fault": may.blocks_on_fault,
            "operations": may.operations.to_string(),
            "in_use": matches!(self.portal, Ok(Portal::Taken(_))),
            "portal": portal,
            "portal_why": why,
        })
    }
}

/// The instruction that submits to the queue, and whether this CPU has it.
fn instruction(queue: &WorkQueue) -> (&'static str, bool) {
    match (queue.capabilities.mode, cpu::submits()) {
        (Mode::Dedicated, (has_it, _)) => ("MOVDIR64B", has_it),
        (Mode::Shared, (_, has_it)) => ("ENQCMD", has_it),
    }
}

fn oddity(queue: &WorkQueue) -> Option<String> {
    let (instruction, has_it) = instruction(queue);
    let traps = format!("this CPU has no {instruction}, so that is for processes whose instructions are trapped");
    (!has_it).then_some(traps)
}

fn why_written(queue: &WorkQueue, asked: Way) -> String {
    match (asked, instruction(queue)) {
        (Way::Write, _) => format!("{} asks for it", Way::VARIABLE),
        (Way::Best, (instruction, false)) => format!("this CPU has no {instruction}"),
        _ => "the kernel maps this device only for processes with CAP_SYS_RAWIO (INTEL-SA-01084)".to_owned(),
    }
}
