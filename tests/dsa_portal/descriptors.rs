//! Descriptors to submit, none of which any device will see.
#![expect(unsafe_code, reason = "submits")]

use memring::dsa::{Descriptor, DsaOpcode, Flags, Mode, Operation, Portal, Submitted, WorkQueueCapabilities};

/// So many copies, each told from the others by its length.
pub(crate) fn copies(count: u32) -> Vec<Descriptor> {
    let copy = |len| Operation::Memmove { src: 0x1000, dst: 0x2000, len };
    (1..=count).map(|len| Descriptor::new(&copy(len), Flags::RECORD, u64::from(len) * 32)).collect()
}

pub(crate) fn plain(operation: &Operation) -> Descriptor {
    Descriptor::new(operation, Flags::RECORD, 0x1000)
}

pub(crate) fn nop() -> Descriptor {
    plain(&Operation::Nop)
}

/// With this opcode, and nothing else.
pub(crate) fn of_opcode(opcode: DsaOpcode) -> Descriptor {
    let mut bytes = [0; 64];
    bytes[7] = opcode.to_u8();
    Descriptor::from_bytes(&bytes)
}

/// A NOP with these bytes in place.
pub(crate) fn with_bytes(at: usize, patch: &[u8]) -> Descriptor {
    let mut bytes = nop().to_bytes();
    bytes[at..][..patch.len()].copy_from_slice(patch);
    Descriptor::from_bytes(&bytes)
}

pub(crate) fn bytes_of(descriptors: &[Descriptor]) -> Vec<u8> {
    descriptors.iter().flat_map(|descriptor| descriptor.to_bytes()).collect()
}

pub(crate) fn submit(portal: &mut dyn Portal, descriptors: &[Descriptor]) -> Submitted {
    // SAFETY: the portals of these tests lead to no device, so nobody touches what descriptors name.
    unsafe { portal.submit(descriptors) }
}

pub(crate) fn queue(mode: Mode, size: u32) -> WorkQueueCapabilities {
    WorkQueueCapabilities::new(mode, size)
}
