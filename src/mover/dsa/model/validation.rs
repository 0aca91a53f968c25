//! Validation: what a device refuses before it does anything.
//!
//! The checks come in this order, one status each; the specification leaves the order open, so a program may only count
//! on the status of a descriptor that breaks one rule.
//!
//! | what | status |
//! |---|---|
//! | opcode, by OPCAP, the queue, the batch, and what the model knows | 0x10 |
//! | flags that are reserved, by the operation, other flags, the queue, GENCAP, the batch; no record | 0x11 |
//! | reserved bytes | 0x12 |
//! | interrupt handles do not occur: the flag is reserved | 0x19 |
//! | lengths, counts | 0x13, 0x14 |
//! | alignment of the list; of deltas, a seed, a stride | 0x18, 0x1c |
//! | lengths of delta records | 0x15 |
//! | distance of dualcast destinations | 0x17 |
//! | overlap | 0x16 |
//!
//! A record whose address is misaligned, or a descriptor with the privilege bit, ends before all of these, and without
//! a record (0x1b, 0x1d). Traffic classes are all configured (no 0x1e).
//!
//! Source: SPEC chapters 5 (table 5-3) and 8. That 0x13 applies to CFLUSH, and 0x15 to records whose length is no
//! multiple of ten, is inferred.

use crate::mover::dsa::operations::Crc;
use crate::mover::dsa::{Allowance, Descriptor, DsaOpcode, Flags, GenCap, Operation, RecordStatus};

/// The least room for a delta record, bytes.
const LEAST_DELTA: u32 = 80;
/// An entry of one, bytes.
const DELTA_ENTRY: u32 = 10;
/// The most that is compared for one, bytes.
const MOST_COMPARED: u32 = 0x8_0000;
/// The least stride of a translation fetch, bytes.
const LEAST_STRIDE: u32 = 4096;

/// Why a descriptor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: RecordStatus,
    /// With [`RecordStatus::INVALID_FLAGS`]: which.
    pub(super) flags: Flags,
}

impl From<RecordStatus> for Refusal {
    fn from(status: RecordStatus) -> Self {
        Self { status, flags: Flags::NONE }
    }
}

/// What the descriptor asks for, if a device that allows this may do it.
pub(super) fn check(descriptor: &Descriptor, may: &Allowance, is_member: bool) -> Result<Operation, Refusal> {
    let (opcode, flags) = (descriptor.opcode(), descriptor.flags());
    let operation = descriptor.operation().map_err(|_| RecordStatus::BAD_OPCODE)?;
    let is_known = !matches!(opcode.to_u8(), 0x12..=0x17);
    if !may.operations.contains(opcode) || !is_known || (is_member && !opcode.may_be_in_batch()) {
        return Err(RecordStatus::BAD_OPCODE.into());
    }
    let refused = descriptor.reserved_flags().with(unavailable_flags(opcode, flags, may, is_member));
    let refused = if refused.is_empty() { missing_record(opcode, flags) } else { refused };
    if !refused.is_empty() {
        return Err(Refusal { status: RecordStatus::INVALID_FLAGS, flags: refused });
    }
    if descriptor.reserved_byte().is_some() {
        return Err(RecordStatus::RESERVED_NOT_ZERO.into());
    }
    check_lengths(&operation, may)?;
    check_alignment(&operation, flags)?;
    check_deltas(&operation, may)?;
    check_overlap(&operation, may)?;
    Ok(operation)
}

/// Flags that the operation has, but not here.
fn unavailable_flags(opcode: DsaOpcode, flags: Flags, may: &Allowance, is_member: bool) -> Flags {
    let gen_cap = |bit: GenCap| may.gen_cap.contains(bit);
    let generic = [
        (Flags::FENCE, is_member),
        (Flags::BLOCK_ON_FAULT, may.blocks_on_fault),
        (Flags::CACHE_CONTROL, gen_cap(GenCap::CACHE_CONTROL)),
        (Flags::CACHE_CONTROL_3, gen_cap(GenCap::DURABLE_WRITE)),
        (Flags::DESTINATION_READBACK, gen_cap(GenCap::DESTINATION_READBACK)),
        (Flags::STRICT_ORDERING, !gen_cap(GenCap::NO_STRICT_ORDER_TO_MEMORY)),
    ];
    let (own, capability) = match opcode {
        DsaOpcode::BATCH => (Flags::BATCH_ERROR, GenCap::BATCH_CONTINUATION),
        DsaOpcode::DRAIN => (Flags::READBACK_1_VALID.with(Flags::READBACK_2_VALID), GenCap::DRAIN_READBACK),
        DsaOpcode::FILL => (Flags::FILL_16, GenCap::FILL_16),
        DsaOpcode::TRANSL_FETCH => (Flags::USE_STRIDE, GenCap::FETCH_STRIDE),
        DsaOpcode::CRCGEN | DsaOpcode::COPY_CRC => (Flags::CRC_64, GenCap::CRC64),
        _ => (Flags::NONE, GenCap::NONE),
    };
    let all = generic.into_iter().chain([(own, gen_cap(capability))]);
    let refused = all.filter(|(_, is_available)| !is_available).fold(Flags::NONE, |all, (flag, _)| all.with(flag));
    Flags::from_bits(flags.bits() & refused.bits())
}

/// The flags that ask for a record, where there must be one and they do not.
fn missing_record(opcode: DsaOpcode, flags: Flags) -> Flags {
    if opcode.needs_record() { Flags::RECORD.without(flags) } else { Flags::NONE }
}

/// The length of what the operation goes through.
pub(super) fn length(operation: &Operation) -> Option<u32> {
    match *operation {
        Operation::Memmove { len, .. }
        | Operation::Fill { len, .. }
        | Operation::Compare { len, .. }
        | Operation::CompareValue { len, .. }
        | Operation::CreateDelta { len, .. }
        | Operation::ApplyDelta { len, .. }
        | Operation::Dualcast { len, .. }
        | Operation::TranslationFetch { len, .. }
        | Operation::Crc { len, .. }
        | Operation::CopyCrc { len, .. }
        | Operation::CacheFlush { len, .. } => Some(len),
        _ => None,
    }
}

fn check_lengths(operation: &Operation, may: &Allowance) -> Result<(), RecordStatus> {
    if let Some(len) = length(operation) {
        let is_delta = matches!(operation, Operation::CreateDelta { .. });
        if len == 0 || u64::from(len) > may.max_transfer_bytes || (is_delta && len > MOST_COMPARED) {
            return Err(RecordStatus::BAD_LENGTH);
        }
    }
    if let Operation::Batch { count, .. } = *operation {
        let least = if may.gen_cap.contains(GenCap::BATCH_OF_ONE) { 1 } else { 2 };
        if count < least || count > may.max_batch {
            return Err(RecordStatus::BAD_COUNT);
        }
    }
    Ok(())
}

fn check_alignment(operation: &Operation, flags: Flags) -> Result<(), RecordStatus> {
    let is_aligned = match *operation {
        Operation::Batch { list, .. } if !list.is_multiple_of(Descriptor::BYTES as u64) => {
            return Err(RecordStatus::MISALIGNED_LIST);
        }
        Operation::CreateDelta { src_1, src_2, len, .. } => (src_1 | src_2 | u64::from(len)).is_multiple_of(8),
        Operation::ApplyDelta { dst, len, .. } => (dst | u64::from(len)).is_multiple_of(8),
        Operation::Crc { seed_address, .. } | Operation::CopyCrc { seed_address, .. } => {
            !flags.contains(Flags::READ_SEED) || seed_address.is_multiple_of(Crc::from_flags(flags).bytes() as u64)
        }
        Operation::TranslationFetch { stride, .. } => {
            !flags.contains(Flags::USE_STRIDE) || (stride.is_power_of_two() && stride >= LEAST_STRIDE)
        }
        _ => true,
    };
    if is_aligned { Ok(()) } else { Err(RecordStatus::MISALIGNED) }
}

fn check_deltas(operation: &Operation, may: &Allowance) -> Result<(), RecordStatus> {
    let is_right = match *operation {
        Operation::CreateDelta { max_record_len: len, .. } => {
            len >= LEAST_DELTA && u64::from(len) <= may.max_transfer_bytes
        }
        Operation::ApplyDelta { record_len: len, .. } => {
            len != 0 && len.is_multiple_of(DELTA_ENTRY) && u64::from(len) <= may.max_transfer_bytes
        }
        _ => true,
    };
    if is_right { Ok(()) } else { Err(RecordStatus::BAD_DELTA_LENGTH) }
}

fn check_overlap(operation: &Operation, may: &Allowance) -> Result<(), RecordStatus> {
    let overlaps = match *operation {
        Operation::Memmove { src, dst, len } => {
            !may.gen_cap.contains(GenCap::OVERLAPPING_MOVE) && overlap((src, len), (dst, len))
        }
        Operation::CopyCrc { src, dst, len, .. } => overlap((src, len), (dst, len)),
        Operation::CreateDelta { src_1, src_2, len, record, max_record_len, .. } => {
            let record = (record, max_record_len);
            overlap(record, (src_1, len)) || overlap(record, (src_2, len))
        }
        Operation::ApplyDelta { record, dst, len, record_len } => overlap((record, record_len), (dst, len)),
        Operation::Dualcast { src, dst_1, dst_2, len } => {
            if (dst_1 ^ dst_2) & 0xfff != 0 {
                return Err(RecordStatus::DUALCAST_MISMATCH);
            }
            overlap((src, len), (dst_1, len))
                || overlap((src, len), (dst_2, len))
                || overlap((dst_1, len), (dst_2, len))
        }
        _ => false,
    };
    if overlaps { Err(RecordStatus::OVERLAP) } else { Ok(()) }
}

/// Whether two regions that are not empty have a byte in common.
fn overlap((one, one_len): (u64, u32), (two, two_len): (u64, u32)) -> bool {
    if one <= two { two - one < u64::from(one_len) } else { one - two < u64::from(two_len) }
}
