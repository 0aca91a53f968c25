//! Which flags an operation may have, and which bytes must be zero: against the table in `opcodes.txt`.

use std::ops::RangeInclusive;

use memring::dsa::{Descriptor, DsaOpcode, Flags, Operation};

use crate::{facts, hex};

struct Row<'a> {
    opcode: DsaOpcode,
    name: &'a str,
    in_batch: bool,
    needs_record: bool,
    flags: u32,
    reserved: Vec<RangeInclusive<usize>>,
}

/// What the words for flags mean, as bits.
fn bits_of(word: &str) -> u32 {
    match word {
        "BOF" => 1 << 1,
        "CR" => 1 << 7,
        // The three bits of cache control.
        "CC" => 1 << 5 | 1 << 8 | 1 << 14,
        "RB" => 1 << 14,
        "SO" => 1 << 13,
        "A1" => 1 << 9,
        "A2" => 1 << 10,
        "A3" => 1 << 11,
        "-" => 0,
        bit => 1 << bit.parse::<u32>().expect("a word or a bit"),
    }
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    facts(include_str!("opcodes.txt")).map(|line| {
        let columns: Vec<&str> = line.split(" | ").collect();
        let [opcode, name, in_batch, needs_record, common, own, reserved] = columns[..] else { panic!("{line}") };
        // The record's three, and the fence.
        let (in_batch, record) = (in_batch == "yes", 1 << 2 | 1 << 3 | 1 << 12);
        let words = common.split(';').chain(own.split(';'));
        let ranges = reserved.split(';').map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().expect("an offset")..=last.parse().expect("an offset")
        });
        Row {
            opcode: DsaOpcode::from_u8(u8::try_from(hex(opcode)).expect("a byte")),
            name,
            in_batch,
            needs_record: needs_record == "yes",
            flags: words.fold(record | u32::from(in_batch), |all, word| all | bits_of(word)),
            reserved: ranges.collect(),
        }
    })
}

/// A descriptor of this opcode that has nothing else set.
fn image(opcode: DsaOpcode) -> [u8; 64] {
    let mut image = [0; 64];
    image[7] = opcode.to_u8();
    image
}

#[test]
fn opcodes_are_those_of_the_table() {
    let rows: Vec<Row> = rows().collect();
    let opcodes: Vec<DsaOpcode> = rows.iter().map(|row| row.opcode).collect();
    assert_eq!(opcodes, DsaOpcode::ALL);
    for row in rows {
        assert_eq!(row.opcode.to_string(), row.name);
        assert_eq!((row.opcode.may_be_in_batch(), row.opcode.needs_record()), (row.in_batch, row.needs_record));
    }
}

#[test]
fn flags_are_allowed_as_in_the_table() {
    for Row { opcode, name, flags, .. } in rows() {
        assert_eq!(Descriptor::allowed_flags(opcode).bits(), flags, "{name}");
        // One flag at a time, beside those that others need.
        for bit in 0..24 {
            let mut image = image(opcode);
            let beside = if opcode == DsaOpcode::DRAIN { Flags::READBACK_1_VALID.bits() | 1 << 17 } else { 0 };
            let set = 1 << bit | Flags::RECORD.bits() | beside;
            image[4..7].copy_from_slice(&set.to_le_bytes()[..3]);
            let reserved = Descriptor::from_bytes(&image).reserved_flags().bits();
            assert_eq!(reserved, set & !flags, "{name}, bit {bit}");
        }
    }
}

#[test]
fn bytes_are_reserved_as_in_the_table() {
    for Row { opcode, name, reserved, .. } in rows() {
        for at in 16..64 {
            let mut image = image(opcode);
            image[at] = 0xff;
            // The handle of an interrupt that nobody asks for is reserved as well.
            let must_be_zero = (36..38).contains(&at) || reserved.iter().any(|range| range.contains(&at));
            let told = Descriptor::from_bytes(&image).reserved_byte();
            assert_eq!(told, must_be_zero.then_some(at), "{name}, byte {at}");
        }
    }
}

fn reserved_of(operation: Operation, flags: Flags, record: u64) -> (Flags, Option<usize>) {
    let descriptor = Descriptor::new(&operation, flags, record);
    (descriptor.reserved_flags(), descriptor.reserved_byte())
}

#[test]
fn flags_decide_on_each_other_and_on_fields() {
    let asked = Flags::REQUEST_COMPLETION_RECORD | Flags::RECORD_TRAFFIC_CLASS;
    assert_eq!(reserved_of(Operation::Nop, asked, 0x40), (asked, Some(8)));
    assert_eq!(reserved_of(Operation::Nop, asked | Flags::RECORD_ADDRESS_VALID, 0x40), (Flags::NONE, None));

    let drain = Operation::Drain { readback_1: 1, readback_2: 1 };
    let classes = Flags::ADDRESS_1_TRAFFIC_CLASS | Flags::ADDRESS_2_TRAFFIC_CLASS;
    let (first, second) = (Flags::READBACK_1_VALID, Flags::READBACK_2_VALID);
    assert_eq!(reserved_of(drain, classes, 0), (classes, Some(16)));
    assert_eq!(reserved_of(drain, classes | first, 0), (Flags::ADDRESS_2_TRAFFIC_CLASS, Some(24)));
    assert_eq!(reserved_of(drain, classes | second, 0), (Flags::ADDRESS_1_TRAFFIC_CLASS, Some(16)));
    assert_eq!(reserved_of(drain, classes | first | second, 0), (Flags::NONE, None));

    // A seed of 64 bits, one of 32, and one in memory.
    let crc = |seed, seed_address| Operation::Crc { src: 1, len: 1, seed, seed_address };
    let reserved_byte = |operation, flags| reserved_of(operation, flags, 0).1;
    assert_eq!(reserved_byte(crc(u64::MAX, 0), Flags::NONE), Some(44));
    assert_eq!(reserved_byte(crc(u64::MAX, 0), Flags::CRC_64), None);
    assert_eq!(reserved_byte(crc(0, 8), Flags::CRC_64), Some(48));
    assert_eq!(reserved_byte(crc(0, 8), Flags::READ_SEED), None);
    assert_eq!(reserved_byte(crc(1, 8), Flags::READ_SEED | Flags::CRC_64), Some(40));

    // Cache control as three bits (5, 14, 8): 101 and 111 are reserved.
    let copy = Operation::Memmove { src: 1, dst: 2, len: 1 };
    let both = Flags::CACHE_CONTROL | Flags::CACHE_CONTROL_3;
    assert_eq!(reserved_of(copy, both, 0).0, both);
    assert_eq!(reserved_of(copy, both | Flags::DESTINATION_READBACK, 0).0, both);
    for one in [Flags::CACHE_CONTROL, Flags::CACHE_CONTROL_3] {
        assert_eq!(reserved_of(copy, one | Flags::DESTINATION_READBACK, 0).0, Flags::NONE);
    }
}
