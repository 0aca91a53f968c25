//! Offsets, sizes and constants, against what `linux/idxd.h` has.
//!
//! `idxd_offsets.c` prints that, and `idxd.txt` is what it printed. Where one of our fields lies is found by flipping
//! each bit in turn and seeing whether the field changes, and how: that asks decoding, and `descriptors.rs` shows that
//! encoding is the same backwards.

use std::process::Command;

use memring::dsa::{CompletionRecord, Descriptor, DsaOpcode, Flags, Operation, RecordStatus, RecordView};

use crate::skip::skip;
use crate::{facts, hex};

/// How a field is read, of bytes.
type Read<const N: usize> = fn(&[u8; N]) -> u64;

/// The first bit of a field and how many it has, all of which have their place in its value.
fn probe<const N: usize>(name: &str, base: [u8; N], read: Read<N>) -> (usize, usize) {
    let without = read(&base);
    let mut found: Vec<usize> = Vec::new();
    for bit in 0..N * 8 {
        let mut flipped = base;
        flipped[bit / 8] ^= 1 << (bit % 8);
        let changed = without ^ read(&flipped);
        if changed != 0 {
            let in_order = changed == 1 << found.len();
            assert!(in_order || name.contains("rsvd"), "{name}: bit {bit} changes {changed:#x}");
            found.push(bit);
        }
    }
    let first = *found.first().unwrap_or_else(|| panic!("{name} is nowhere"));
    assert!(found.iter().copied().eq(first..first + found.len()), "{name}: {found:?}");
    (first, found.len())
}

/// A field of an operation with this opcode, or of any.
fn descriptor_field(name: &str) -> (DsaOpcode, Read<64>) {
    macro_rules! of {
        ($opcode:ident, $variant:ident, $field:ident) => {
            (DsaOpcode::$opcode, |bytes| match Descriptor::from_bytes(bytes).operation() {
                Ok(Operation::$variant { $field: value, .. }) => u64::from(value),
                // Bits of the opcode make it another operation: no change of this field.
                _ => 0,
            })
        };
    }
    macro_rules! tags {
        ($opcode:ident, $variant:ident, $tags:ident, $field:ident) => {
            (DsaOpcode::$opcode, |bytes| match Descriptor::from_bytes(bytes).operation() {
                Ok(Operation::$variant { $tags, .. }) => u64::from($tags.$field),
                _ => 0,
            })
        };
    }
    match name {
        "src_addr" => of!(MEMMOVE, Memmove, src),
        "rdback_addr" => of!(DRAIN, Drain, readback_1),
        "pattern" => of!(FILL, Fill, pattern),
        "desc_list_addr" => of!(BATCH, Batch, list),
        "dst_addr" => of!(MEMMOVE, Memmove, dst),
        "rdback_addr2" => of!(DRAIN, Drain, readback_2),
        "src2_addr" => of!(COMPARE, Compare, src_2),
        "comp_pattern" => of!(COMPVAL, CompareValue, pattern),
        "xfer_size" => of!(CFLUSH, CacheFlush, len),
        "desc_count" => of!(BATCH, Batch, count),
        "expected_res" => of!(COMPARE, Compare, expected),
        "delta_addr" => of!(CR_DELTA, CreateDelta, record),
        "max_delta_size" => of!(CR_DELTA, CreateDelta, max_record_len),
        "expected_res_mask" => of!(CR_DELTA, CreateDelta, expected_mask),
        "delta_rec_size" => of!(AP_DELTA, ApplyDelta, record_len),
        "dest2" => of!(DUALCAST, Dualcast, dst_2),
        // The header knows no CRC of 64 bits.
        "crc_seed" => (DsaOpcode::CRCGEN, |bytes| match Descriptor::from_bytes(bytes).operation() {
            Ok(Operation::Crc { seed, .. }) => seed & 0xffff_ffff,
            _ => 0,
        }),
        "seed_addr" => of!(COPY_CRC, CopyCrc, seed_address),
        "src_dif_flags" => of!(DIF_CHECK, DifCheck, src_flags),
        "dif_chk_flags" => of!(DIF_STRP, DifStrip, dif_flags),
        "chk_ref_tag_seed" => tags!(DIF_CHECK, DifCheck, src_tags, reference),
        "chk_app_tag_mask" => tags!(DIF_STRP, DifStrip, src_tags, application_mask),
        "chk_app_tag_seed" => tags!(DIF_CHECK, DifCheck, src_tags, application),
        "dest_dif_flag" => of!(DIF_INS, DifInsert, dst_flags),
        "dif_ins_flags" => of!(DIX_GEN, DixGenerate, dif_flags),
        "ins_ref_tag_seed" => tags!(DIF_INS, DifInsert, dst_tags, reference),
        "ins_app_tag_mask" => tags!(DIX_GEN, DixGenerate, dst_tags, application_mask),
        "ins_app_tag_seed" => tags!(DIF_INS, DifInsert, dst_tags, application),
        "src_upd_flags" => of!(DIF_UPDT, DifUpdate, src_flags),
        "upd_dest_flags" => of!(DIF_UPDT, DifUpdate, dst_flags),
        "dif_upd_flags" => of!(DIF_UPDT, DifUpdate, dif_flags),
        "src_ref_tag_seed" => tags!(DIF_UPDT, DifUpdate, src_tags, reference),
        "src_app_tag_mask" => tags!(DIF_UPDT, DifUpdate, src_tags, application_mask),
        "src_app_tag_seed" => tags!(DIF_UPDT, DifUpdate, src_tags, application),
        "dest_ref_tag_seed" => tags!(DIF_UPDT, DifUpdate, dst_tags, reference),
        "dest_app_tag_mask" => tags!(DIF_UPDT, DifUpdate, dst_tags, application_mask),
        "dest_app_tag_seed" => tags!(DIF_UPDT, DifUpdate, dst_tags, application),
        _ => header_field(name),
    }
}

fn header_field(name: &str) -> (DsaOpcode, Read<64>) {
    let read: Read<64> = match name {
        "completion_addr" => |bytes| Descriptor::from_bytes(bytes).record_address(),
        "int_handle" => |bytes| Descriptor::from_bytes(bytes).interrupt_handle().into(),
        "flags" => |bytes| Descriptor::from_bytes(bytes).flags().bits().into(),
        "opcode" => |bytes| Descriptor::from_bytes(bytes).opcode().to_u8().into(),
        "pasid" => |bytes| (Descriptor::from_bytes(bytes).pasid_and_privilege() & 0xf_ffff).into(),
        "priv" => |bytes| (Descriptor::from_bytes(bytes).pasid_and_privilege() >> 31).into(),
        "rsvd" => |bytes| Descriptor::from_bytes(bytes).reserved_byte().is_some_and(|at| at < 4).into(),
        "rsvd1" => |bytes| Descriptor::from_bytes(bytes).reserved_byte().is_some_and(|at| at / 2 == 19).into(),
        _ => panic!("a field that memring does not know: {name}"),
    };
    // An opcode without fields between the header's.
    (DsaOpcode::MEMMOVE, read)
}

/// A field of a record with this status.
fn record_field(name: &str) -> (RecordStatus, Read<32>) {
    let read: Read<32> = match name {
        "status" => |bytes| RecordView::from_bytes(bytes).status().to_u8().into(),
        "result" | "dif_status" => |bytes| RecordView::from_bytes(bytes).result().into(),
        "bytes_completed" => |bytes| RecordView::from_bytes(bytes).bytes_completed().into(),
        "fault_addr" => |bytes| RecordView::from_bytes(bytes).fault().map_or(0, |fault| fault.address),
        "invalid_flags" => |bytes| RecordView::from_bytes(bytes).invalid_flags().map_or(0, |it| it.bits().into()),
        "delta_rec_size" => |bytes| RecordView::from_bytes(bytes).delta_record_len().into(),
        "crc_val" => |bytes| RecordView::from_bytes(bytes).crc64(),
        "dif_chk_ref_tag" | "dif_upd_src_ref_tag" => |bytes| RecordView::from_bytes(bytes).src_tags().reference.into(),
        "dif_chk_app_tag_mask" | "dif_upd_src_app_tag_mask" => {
            |bytes| RecordView::from_bytes(bytes).src_tags().application_mask.into()
        }
        "dif_chk_app_tag" | "dif_upd_src_app_tag" => {
            |bytes| RecordView::from_bytes(bytes).src_tags().application.into()
        }
        "dif_ins_ref_tag" | "dif_upd_dest_ref_tag" => |bytes| RecordView::from_bytes(bytes).dst_tags().reference.into(),
        "dif_ins_app_tag_mask" | "dif_upd_dest_app_tag_mask" => {
            |bytes| RecordView::from_bytes(bytes).dst_tags().application_mask.into()
        }
        "dif_ins_app_tag" | "dif_upd_dest_app_tag" => {
            |bytes| RecordView::from_bytes(bytes).dst_tags().application.into()
        }
        _ => panic!("a field that memring does not know: {name}"),
    };
    let status = match name {
        "fault_addr" => RecordStatus::PAGE_FAULT,
        "invalid_flags" => RecordStatus::INVALID_FLAGS,
        _ => RecordStatus::SUCCESS,
    };
    (status, read)
}

/// The first bit of a field and how many it has, with us.
fn ours(of: &str, field: &str) -> (usize, usize) {
    if of == "dsa_hw_desc" {
        let (opcode, read) = descriptor_field(field);
        let mut base = [0; 64];
        base[7] = opcode.to_u8();
        probe(field, base, read)
    } else {
        let (status, read) = record_field(field);
        let mut base = [0; 32];
        base[0] = status.to_u8();
        probe(field, base, read)
    }
}

fn constant(name: &str) -> u64 {
    let flag = |flags: Flags| u64::from(flags.bits());
    match name {
        "IDXD_OP_FLAG_FENCE" => flag(Flags::FENCE),
        "IDXD_OP_FLAG_BOF" => flag(Flags::BLOCK_ON_FAULT),
        "IDXD_OP_FLAG_CRAV" => flag(Flags::RECORD_ADDRESS_VALID),
        "IDXD_OP_FLAG_RCR" => flag(Flags::REQUEST_COMPLETION_RECORD),
        "IDXD_OP_FLAG_RCI" => flag(Flags::REQUEST_COMPLETION_INTERRUPT),
        "IDXD_OP_FLAG_CRSTS" => flag(Flags::CACHE_CONTROL_3),
        "IDXD_OP_FLAG_CR" => flag(Flags::CHECK_RESULT),
        "IDXD_OP_FLAG_CC" => flag(Flags::CACHE_CONTROL),
        "IDXD_OP_FLAG_ADDR1_TCS" => flag(Flags::ADDRESS_1_TRAFFIC_CLASS),
        "IDXD_OP_FLAG_ADDR2_TCS" => flag(Flags::ADDRESS_2_TRAFFIC_CLASS),
        "IDXD_OP_FLAG_ADDR3_TCS" => flag(Flags::ADDRESS_3_TRAFFIC_CLASS),
        "IDXD_OP_FLAG_CR_TCS" => flag(Flags::RECORD_TRAFFIC_CLASS),
        "IDXD_OP_FLAG_STORD" => flag(Flags::STRICT_ORDERING),
        "IDXD_OP_FLAG_DRDBK" => flag(Flags::DESTINATION_READBACK),
        "IDXD_OP_FLAG_DSTS" => flag(Flags::DESTINATION_STEERING_TAG),
        "DSA_COMP_STATUS_MASK" => u64::from(RecordStatus::from_u8(0xff).code().to_u8()),
        "DSA_COMP_STATUS_WRITE" => u64::from(RecordStatus::PENDING.at_write().to_u8()),
        _ => match name.strip_prefix("DSA_OPCODE_") {
            Some(opcode) => u64::from(named_opcode(opcode).to_u8()),
            None => u64::from(crate::records::named(name).to_u8()),
        },
    }
}

/// Ours have the header's names but for two.
fn named_opcode(name: &str) -> DsaOpcode {
    let name = match name {
        "NOOP" => "NOP",
        "MEMFILL" => "FILL",
        name => name,
    };
    let named = DsaOpcode::ALL.iter().find(|opcode| format!("{opcode:?}") == name);
    *named.unwrap_or_else(|| panic!("an opcode that memring does not know: {name}"))
}

/// Compares each line that the program printed.
fn agrees(printed: &str) {
    let lines = facts(printed).inspect(|line| {
        let columns: Vec<&str> = line.split(',').collect();
        let number = |text: &str| text.parse::<usize>().expect("a number");
        match columns[..] {
            ["size", "dsa_hw_desc", size] => assert_eq!(size_of::<Descriptor>(), number(size)),
            ["size", "dsa_completion_record", size] => assert_eq!(CompletionRecord::BYTES, number(size)),
            // A name for all the rest.
            ["offset", "dsa_hw_desc.op_specific", "40", "24"] => {}
            ["offset" | "bits", field, first, count] => {
                let (of, field) = field.split_once('.').expect("a field of a struct");
                let unit = if columns[0] == "offset" { 8 } else { 1 };
                assert_eq!(ours(of, field), (number(first) * unit, number(count) * unit), "{line}");
            }
            ["const", name, value] => assert_eq!(constant(name), hex(value), "{name}"),
            _ => panic!("{line:?}"),
        }
    });
    assert_eq!(lines.count(), 131);
}

#[test]
fn the_layout_is_that_of_linux_as_recorded() {
    agrees(include_str!("idxd.txt"));
}

#[test]
fn the_layout_is_that_of_linux_as_installed() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("idxd_offsets");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dsa/idxd_offsets.c");
    let compiled = match Command::new("gcc").arg("-o").arg(&program).arg(source).output() {
        Ok(compiled) => compiled,
        Err(why) => return skip("idxd", format_args!("gcc does not run: {why}")),
    };
    if !compiled.status.success() {
        let complaint = String::from_utf8_lossy(&compiled.stderr);
        let first = complaint.lines().find(|line| line.contains("error")).unwrap_or_default();
        return skip("idxd", format_args!("linux/idxd.h is missing, or old: {first}"));
    }
    let printed = Command::new(&program).output().expect("what was compiled runs");
    agrees(&String::from_utf8(printed.stdout).expect("it prints ASCII"));
}
