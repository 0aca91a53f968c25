//! Known answers: records to the byte, and what memory holds after them. From the fact sheet's vectors, or worked out
//! by hand from the specification's text; no code of ours made them.

use memring::dsa::model::{Access, Model, Settings};
use memring::dsa::{Flags, Mode, Operation, Preset, RecordView};

use super::map::{self, Device, Map, PAGE, at};

const A: u64 = at(0);
const B: u64 = at(2 * PAGE);
const C: u64 = at(4 * PAGE);
/// What nobody defines.
const X: u8 = 0xa5;

/// A record's bytes, by field.
fn record(first: [u8; 4], bytes_completed: u32, fault_address: Option<u64>, at_16: [u8; 8]) -> [u8; 32] {
    let mut bytes = [X; 32];
    bytes[..4].copy_from_slice(&first);
    bytes[4..8].copy_from_slice(&bytes_completed.to_le_bytes());
    if let Some(address) = fault_address {
        bytes[8..16].copy_from_slice(&address.to_le_bytes());
    }
    bytes[16..24].copy_from_slice(&at_16);
    bytes
}

/// Zeros, but for these bytes.
fn device(preset: Preset, contents: &[(u64, &[u8])]) -> Device {
    let mut map = Map::new();
    map.bytes.fill(0);
    for (address, bytes) in contents {
        map.slice_mut(*address, bytes.len()).copy_from_slice(bytes);
    }
    Model::with_memory(preset.capabilities(), map::queue(Mode::Dedicated), Settings::default(), map)
}

#[test]
fn records_of_what_succeeds() {
    let mut device = device(Preset::V2Full, &[(A, b"abcdefgh"), (B, b"abcdeXgh")]);
    let mut check = |operation: Operation, flags: Flags, bytes: [u8; 32]| {
        let view = map::perform(&mut device, &operation, flags);
        assert_eq!(view.to_bytes(), bytes, "{operation:?}");
    };
    let mut only_a_status = [X; 32];
    only_a_status[0] = 1;
    let plain = record([1, X, X, X], 0, None, [X; 8]);
    check(Operation::Nop, Flags::NONE, only_a_status);
    check(Operation::Drain { readback_1: 0, readback_2: 0 }, Flags::NONE, only_a_status);
    check(Operation::TranslationFetch { address: A, len: 99, stride: 0 }, Flags::NONE, only_a_status);
    check(Operation::Memmove { src: A, dst: C, len: 8 }, Flags::NONE, plain);
    check(Operation::CacheFlush { address: A, len: 8 }, Flags::NONE, plain);
    let compare = |len, expected| Operation::Compare { src_1: A, src_2: B, len, expected };
    check(compare(5, 0), Flags::CHECK_RESULT, record([1, 0, X, X], 0, None, [X; 8]));
    check(compare(5, 1), Flags::CHECK_RESULT, record([2, 0, X, X], 0, None, [X; 8]));
    check(compare(8, 0), Flags::CHECK_RESULT, record([2, 1, X, X], 5, None, [X; 8]));
    check(compare(8, 0xff), Flags::CHECK_RESULT, record([1, 1, X, X], 5, None, [X; 8]));
    check(compare(8, 0), Flags::NONE, record([1, 1, X, X], 5, None, [X; 8]));
    let value = Operation::CompareValue { src: A, pattern: u64::from_le_bytes(*b"abcdefgh"), len: 9, expected: 0 };
    check(value, Flags::CHECK_RESULT, record([2, 1, X, X], 8, None, [X; 8]));
}

#[test]
fn records_of_what_stops() {
    let copy = Operation::Memmove { src: A + 100, dst: B + 10, len: 8000 };
    for (preset, info) in [(Preset::V1Early, X), (Preset::V2Full, 3 << 1)] {
        let mut device = device(preset, &[]);
        device.memory_mut().unmap(3, Access::Write);
        // The second page of the destination, and bit 7 since it was to be written.
        let stopped = record([0x83, 0, info, X], 4086, Some(B + 4096), [X; 8]);
        assert_eq!(map::perform(&mut device, &copy, Flags::NONE).to_bytes(), stopped);
        let stopped = record([0x84, 0, info, X], 4086, Some(B + 4096), [X; 8]);
        assert_eq!(map::perform(&mut device, &copy, Flags::BLOCK_ON_FAULT).to_bytes(), stopped);
    }
    // From the end, since the destination begins inside of the source.
    let mut device = device(Preset::V2Full, &[]);
    device.memory_mut().unmap(0, Access::Read);
    let near = Operation::Memmove { src: A + 96, dst: A + 4096, len: 6000 };
    let stopped = record([0x03, 1, 1 << 1, X], 2000, Some(A), [X; 8]);
    assert_eq!(map::perform(&mut device, &near, Flags::NONE).to_bytes(), stopped);
    let compare = Operation::Compare { src_1: B, src_2: A, len: 8, expected: 0 };
    let stopped = record([0x03, 0, 2 << 1, X], 0, Some(A), [X; 8]);
    assert_eq!(map::perform(&mut device, &compare, Flags::NONE).to_bytes(), stopped);
    let drain = Operation::Drain { readback_1: 0, readback_2: A + 5 };
    let view = map::perform(&mut device, &drain, Flags::READBACK_2_VALID).to_bytes();
    assert_eq!(view[..4], [0x1f, X, 2 << 1, X]);
    assert_eq!(view[8..16], A.to_le_bytes());
}

#[test]
fn records_of_what_is_refused() {
    let mut device = device(Preset::V2Full, &[]);
    let view = map::perform(&mut device, &Operation::Nop, Flags::FENCE | Flags::CACHE_CONTROL);
    assert_eq!(view.to_bytes(), record([0x11, X, X, X], 0, None, [0x01, 0x01, 0x00, X, X, X, X, X]));
    let view = map::perform(&mut device, &Operation::Memmove { src: A, dst: B, len: 0 }, Flags::NONE);
    assert_eq!(view.to_bytes(), record([0x13, X, X, X], 0, None, [X; 8]));
}

#[test]
fn sums() {
    let mut device = device(Preset::V2Full, &[(A, b"123456789")]);
    let (bypass, data) = (Flags::BYPASS_CRC_REFLECTION, Flags::BYPASS_DATA_REFLECTION);
    let columns = [Flags::NONE, bypass, data, bypass | data];
    let rows = [
        (0, [0xe306_9283_u32, 0x045f_c71a, 0xa8f0_22a0, 0xc052_a8c8]),
        (0x1234_5678, [0x27d8_7b6a, 0xa1b2_03f2, 0x6c2e_cb49, 0x65bf_6c20]),
    ];
    for (seed, sums) in rows {
        for (flags, sum) in columns.into_iter().zip(sums) {
            let [a, b, c, d] = sum.to_le_bytes();
            let expected = record([1, X, X, X], 0, None, [a, b, c, d, X, X, X, X]);
            let crc = Operation::Crc { src: A, len: 9, seed, seed_address: 0 };
            assert_eq!(map::perform(&mut device, &crc, flags).to_bytes(), expected, "{flags:?}");
            let copy = Operation::CopyCrc { src: A, dst: B, len: 9, seed, seed_address: 0 };
            assert_eq!(map::perform(&mut device, &copy, flags).to_bytes(), expected, "{flags:?}");
            assert_eq!(device.memory().slice(B, 10), b"123456789\0");
            // The same seed, from memory.
            device.memory_mut().slice_mut(C, 8).copy_from_slice(&seed.to_le_bytes());
            let read = Operation::Crc { src: A, len: 9, seed: 0, seed_address: C };
            assert_eq!(map::perform(&mut device, &read, flags | Flags::READ_SEED).to_bytes(), expected, "{flags:?}");
        }
    }
    let crc = Operation::Crc { src: A, len: 9, seed: 0, seed_address: 0 };
    let expected = record([1, X, X, X], 0, None, 0xae8b_1486_0a79_9888_u64.to_le_bytes());
    assert_eq!(map::perform(&mut device, &crc, Flags::CRC_64).to_bytes(), expected);
}

#[test]
fn deltas() {
    let mut two = [0; 64];
    two[8..16].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    two[63] = 0xaa;
    let mut device = device(Preset::V2Full, &[(B, &two)]);
    let create = |len, expected_mask| Operation::CreateDelta {
        src_1: A,
        src_2: B,
        len,
        record: C,
        max_record_len: 80,
        expected_mask,
    };
    let told = |status, result, len: u8, bytes_completed| {
        record([status, result, X, X], bytes_completed, None, [len, 0, 0, 0, X, X, X, X])
    };
    let view = map::perform(&mut device, &create(64, 0b010), Flags::CHECK_RESULT);
    assert_eq!(view.to_bytes(), told(1, 1, 20, 0));
    let made = [1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0xaa];
    assert_eq!(device.memory().slice(C, 20), made);
    let view = map::perform(&mut device, &create(64, 0b101), Flags::CHECK_RESULT);
    assert_eq!(view.to_bytes(), told(2, 1, 20, 0));
    assert_eq!(map::perform(&mut device, &create(8, 0), Flags::NONE).to_bytes(), told(1, 0, 0, 0));
    let apply = Operation::ApplyDelta { record: C, dst: A, len: 64, record_len: 20 };
    let view = map::perform(&mut device, &apply, Flags::NONE);
    assert_eq!(view.to_bytes(), record([1, X, X, X], 0, None, [X; 8]));
    assert_eq!(device.memory().slice(A, 64), two);
    assert_eq!(map::perform(&mut device, &create(64, 0b001), Flags::CHECK_RESULT).to_bytes(), told(1, 0, 0, 0));
    // Eleven words differ, and there is room for eight.
    device.memory_mut().slice_mut(A, 88).fill(0);
    device.memory_mut().slice_mut(B, 88).fill(1);
    assert_eq!(map::perform(&mut device, &create(88, 0), Flags::NONE).to_bytes(), told(1, 2, 80, 64));
    let full = device.memory().slice(C, 81);
    assert_eq!(full[..10], [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(full[70..], [7, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn what_is_written() {
    let mut device = device(Preset::V2Full, &[(A, b"streaming")]);
    let fill = |pattern_high, len| Operation::Fill { pattern: 0x0807_0605_0403_0201, pattern_high, dst: B + 3, len };
    map::perform(&mut device, &fill(0, 11), Flags::NONE);
    assert_eq!(device.memory().slice(B, 15), [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 0]);
    map::perform(&mut device, &fill(0x100f_0e0d_0c0b_0a09, 17), Flags::FILL_16);
    assert_eq!(device.memory().slice(B + 2, 19), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 0]);
    let dual = Operation::Dualcast { src: A, dst_1: B + 64, dst_2: C + 64, len: 9 };
    map::perform(&mut device, &dual, Flags::NONE);
    assert_eq!(device.memory().slice(B + 63, 11), b"\0streaming\0");
    assert_eq!(device.memory().slice(C + 63, 11), b"\0streaming\0");
    map::perform(&mut device, &Operation::Memmove { src: A, dst: A + 2, len: 9 }, Flags::NONE);
    assert_eq!(device.memory().slice(A, 12), b"ststreaming\0");
    map::perform(&mut device, &Operation::Memmove { src: A + 2, dst: A, len: 9 }, Flags::NONE);
    assert_eq!(device.memory().slice(A, 12), b"streamingng\0");
}

/// The status is in the record's first byte, and its address is where the descriptor says.
#[test]
fn a_record_is_32_bytes_where_it_is_said_to_be() {
    let mut device = device(Preset::V2Full, &[]);
    let nop = memring::dsa::Descriptor::new(&Operation::Nop, Flags::RECORD, C + 32);
    assert_eq!(device.submit(&nop.to_bytes()), memring::dsa::model::Reply::Accepted);
    assert!(map::step(&mut device));
    assert_eq!(device.memory().record(C + 32).map(|view: RecordView| view.status().to_u8()), Some(1));
    assert_eq!(device.memory().slice(C, 32), [0; 32]);
    assert_eq!(device.memory().slice(C + 64, 32), [0; 32]);
}
