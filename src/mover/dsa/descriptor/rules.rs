//! Rules: which flags an operation may have, and which bits must be zero.
//!
//! What depends on the device, on its work queue, or on whether a batch holds the descriptor, is for who knows that: a
//! flag that is allowed here may still need a capability.
//!
//! Source: SPEC table 5-3 and the operations' own sections; where they disagree (a pattern of 16 bytes, a CRC of 64
//! bits), the latter.

use super::operation::Body;
use super::{DsaOpcode, Flags};

/// Every way to say where written data goes; the first two are all that version 1 has.
const PLACEMENT: Flags = Flags::CACHE_CONTROL.with(Flags::DESTINATION_READBACK).with(Flags::CACHE_CONTROL_3);
const A1: Flags = Flags::ADDRESS_1_TRAFFIC_CLASS;
const A2: Flags = Flags::ADDRESS_2_TRAFFIC_CLASS;
const A3: Flags = Flags::ADDRESS_3_TRAFFIC_CLASS;
/// Those of an operation that reads, and of one that writes.
const READS: Flags = Flags::BLOCK_ON_FAULT;
const WRITES: Flags = READS.with(PLACEMENT).with(Flags::STRICT_ORDERING);
const CRC: Flags =
    Flags::READ_SEED.with(Flags::BYPASS_CRC_REFLECTION).with(Flags::BYPASS_DATA_REFLECTION).with(Flags::CRC_64);
const DRAIN: Flags = Flags::READBACK_1_VALID
    .with(Flags::READBACK_2_VALID)
    .with(Flags::NO_READBACK_CLASS_A)
    .with(Flags::NO_READBACK_CLASS_B);

/// Every flag that some device allows the operation.
pub(super) const fn allowed(opcode: DsaOpcode) -> Flags {
    let own = match opcode {
        DsaOpcode::BATCH => A1.with(Flags::BATCH_ERROR),
        DsaOpcode::DRAIN => A1.with(A2).with(DRAIN),
        DsaOpcode::FILL => WRITES.with(A2).with(Flags::FILL_16),
        DsaOpcode::COMPARE => READS.with(A1).with(A2).with(Flags::CHECK_RESULT),
        DsaOpcode::COMPVAL => READS.with(A1).with(Flags::CHECK_RESULT),
        DsaOpcode::CR_DELTA => WRITES.with(A1).with(A2).with(A3).with(Flags::CHECK_RESULT),
        DsaOpcode::DUALCAST => WRITES.with(A1).with(A2).with(A3),
        DsaOpcode::TRANSL_FETCH => READS.with(Flags::USE_STRIDE),
        DsaOpcode::CRCGEN => READS.with(A1).with(A3).with(CRC),
        DsaOpcode::COPY_CRC => WRITES.with(A1).with(A2).with(A3).with(CRC),
        DsaOpcode::DIF_CHECK => READS.with(A1),
        // Versions disagree on what bit 8 asks of a flush.
        DsaOpcode::CFLUSH => READS.with(A2).with(Flags::DESTINATION_READBACK).with(Flags::STRICT_ORDERING),
        DsaOpcode::MEMMOVE | DsaOpcode::AP_DELTA | DsaOpcode::DIF_INS | DsaOpcode::DIF_STRP => WRITES.with(A1).with(A2),
        DsaOpcode::DIF_UPDT | DsaOpcode::DIX_GEN => WRITES.with(A1).with(A2),
        _ => Flags::NONE,
    };
    let of_all = Flags::RECORD.with(Flags::RECORD_TRAFFIC_CLASS);
    let fence = if opcode.may_be_in_batch() { Flags::FENCE } else { Flags::NONE };
    own.with(of_all).with(fence)
}

/// Those of the flags that no device takes with the rest of them.
pub(super) const fn reserved_flags(opcode: DsaOpcode, flags: Flags) -> Flags {
    let mut allowed = allowed(opcode);
    if !flags.contains(Flags::RECORD_ADDRESS_VALID) {
        allowed = allowed.without(Flags::REQUEST_COMPLETION_RECORD).without(Flags::RECORD_TRAFFIC_CLASS);
    }
    if matches!(opcode, DsaOpcode::DRAIN) && !flags.contains(Flags::READBACK_1_VALID) {
        allowed = allowed.without(A1);
    }
    if matches!(opcode, DsaOpcode::DRAIN) && !flags.contains(Flags::READBACK_2_VALID) {
        allowed = allowed.without(A2);
    }
    // The cache control values 101 and 111 mean nothing.
    let both = Flags::CACHE_CONTROL.with(Flags::CACHE_CONTROL_3);
    if flags.contains(both) {
        allowed = allowed.without(both);
    }
    flags.without(allowed)
}

const ALL: u64 = u64::MAX;
const ABOVE_U8: u64 = !0xff;
const ABOVE_U32: u64 = !0xffff_ffff;
/// All of the words that no operation of the first kind uses.
const TAIL: Body = Body { at_16: 0, at_24: 0, at_32: 0, at_40: ALL, at_48: ALL, at_56: ALL };

/// The bits of the operation's fields that must be zero. Of an operation that is not known: none.
pub(super) const fn reserved(opcode: DsaOpcode, flags: Flags) -> Body {
    match opcode {
        DsaOpcode::NOP => Body { at_16: ALL, at_24: ALL, at_32: u32::MAX, ..TAIL },
        DsaOpcode::BATCH => Body { at_24: ALL, ..TAIL },
        DsaOpcode::DRAIN => Body {
            at_16: unless(flags.contains(Flags::READBACK_1_VALID), ALL),
            at_24: unless(flags.contains(Flags::READBACK_2_VALID), ALL),
            at_32: u32::MAX,
            ..TAIL
        },
        DsaOpcode::MEMMOVE => TAIL,
        DsaOpcode::FILL => Body { at_40: unless(flags.contains(Flags::FILL_16), ALL), ..TAIL },
        DsaOpcode::COMPARE | DsaOpcode::COMPVAL => Body { at_40: ABOVE_U8, ..TAIL },
        DsaOpcode::CR_DELTA => Body { at_40: 0, at_48: ABOVE_U32, at_56: ABOVE_U8, ..TAIL },
        DsaOpcode::AP_DELTA => Body { at_40: ABOVE_U32, ..TAIL },
        DsaOpcode::DUALCAST => Body { at_40: 0, ..TAIL },
        DsaOpcode::TRANSL_FETCH => Body { at_24: ALL, at_48: ABOVE_U32, ..TAIL },
        DsaOpcode::CRCGEN => Body { at_24: ALL, ..reserved_of_crc(flags) },
        DsaOpcode::COPY_CRC => reserved_of_crc(flags),
        DsaOpcode::DIF_CHECK => Body { at_24: ALL, at_40: !0xff_00ff, at_48: 0, ..TAIL },
        DsaOpcode::DIF_STRP => Body { at_40: !0xff_00ff, at_48: 0, ..TAIL },
        DsaOpcode::DIF_INS | DsaOpcode::DIX_GEN => Body { at_40: !0xff_ff00, at_56: 0, ..TAIL },
        DsaOpcode::DIF_UPDT => Body { at_40: !0xff_ffff, at_48: 0, at_56: 0, ..TAIL },
        DsaOpcode::CFLUSH => Body { at_16: ALL, ..TAIL },
        _ => Body { at_40: 0, at_48: 0, at_56: 0, ..TAIL },
    }
}

/// A seed is in the descriptor or in memory; the field for the other one must be zero.
const fn reserved_of_crc(flags: Flags) -> Body {
    if flags.contains(Flags::READ_SEED) {
        Body { at_48: 0, ..TAIL }
    } else {
        Body { at_40: unless(flags.contains(Flags::CRC_64), ABOVE_U32), ..TAIL }
    }
}

const fn unless(used: bool, mask: u64) -> u64 {
    if used { 0 } else { mask }
}
