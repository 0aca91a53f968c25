//! Intel's Data Streaming Accelerator, which copies, fills, compares and sums memory beside the cores.
//!
//! What goes to the device is a [`Descriptor`] of 64 bytes that says one [`Operation`]; what comes back is a
//! [`CompletionRecord`] of 32 bytes that the device writes to memory, its status byte last. Both are plain values here,
//! made and read without a device, so that the strict software model, the tests and the hardware path share them.
//!
//! | file | what it is |
//! |---|---|
//! | `descriptor` | opcodes, flags, the fields of operations, what must be zero, what is left when one stopped |
//! | `completion_record` | records: the status, and what may be read once it was seen |
//! | `operations` | what the operations do to memory, byte for byte |
//! | `capabilities`, `preset` | what a device can do, and what a queue leaves of it; devices that were seen |
//! | `work_queue` | which queues there are, which can be used, and why the others cannot |
//! | `portal` | the ways of descriptors to a queue: instructions, or write(2) |
//! | `model` | a device in software, stricter than one of silicon |
//! | `mover` | what waits in a lane goes to devices, and what comes back is reported or goes on |
//! | `handle` | [`Dsa`]: which queues a mover uses, and how |
//!
//! Sources: Intel DSA Architecture Specification, 341204-006US, revision 3.0 ("SPEC" in this folder), and Linux's
//! `linux/idxd.h` ("UAPI"). `tests/dsa/` compares this code with both.

mod capabilities;
mod completion_record;
mod descriptor;
mod handle;
pub mod model;
mod mover;
pub mod operations;
mod portal;
mod preset;
mod work_queue;

pub use capabilities::{
    Allowance, DeviceCapabilities, GenCap, Mode, NotAnOperationSet, OperationSet, VERSION_1, VERSION_2,
    WorkQueueCapabilities,
};
use completion_record::Fields as RecordFields;
pub use completion_record::{CompletionRecord, Fault, FaultInfo, RecordStatus, RecordView, StatusClass};
pub use descriptor::{Descriptor, DifTags, DsaOpcode, Flags, Operation, UnknownOpcode};
pub use handle::{Attachment, Dsa, NoQueue};
pub use mover::{DsaMover, OnFault, QueueState};
#[cfg(target_arch = "x86_64")]
pub use portal::MmapPortal;
pub use portal::{Opened, Portal, Stopped, Submitted, UnknownWay, Way, WritePortal, open};
pub use preset::{Preset, UnknownPreset};
pub use work_queue::{Device, Discovery, QueueId, Reason, Roots, Unusable, WorkQueue, discover};
