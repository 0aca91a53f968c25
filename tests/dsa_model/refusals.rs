//! Every rule that a descriptor can break, one at a time, and its status; and statuses that are no refusals.

use memring::dsa::model::{Chance, Faults, Model, Settings};
use memring::dsa::{
    Descriptor, DeviceCapabilities, DsaOpcode, Flags, GenCap, Mode, Operation, OperationSet, Preset, RecordStatus,
};

use super::map::{self, Device, Map, PAGE, RECORD, at};
use super::random::{Random, seed};

const A: u64 = at(0);
const B: u64 = at(2 * PAGE);
const C: u64 = at(4 * PAGE);
const COPY: Operation = Operation::Memmove { src: A, dst: B, len: 64 };
const BATCH: Operation = Operation::Batch { list: A, count: 2 };
const DELTA: Operation =
    Operation::CreateDelta { src_1: A, src_2: B, len: 64, record: C, max_record_len: 80, expected_mask: 0 };
const APPLY: Operation = Operation::ApplyDelta { record: A, dst: B, len: 64, record_len: 10 };

/// One of each that the model knows, with nothing wrong.
const EACH: [Operation; 14] = [
    COPY,
    BATCH,
    DELTA,
    APPLY,
    Operation::Nop,
    Operation::Drain { readback_1: 0, readback_2: 0 },
    Operation::Fill { pattern: 1, pattern_high: 0, dst: B, len: 64 },
    Operation::Compare { src_1: A, src_2: B, len: 64, expected: 0 },
    Operation::CompareValue { src: A, pattern: 1, len: 64, expected: 0 },
    Operation::Dualcast { src: A, dst_1: B, dst_2: C, len: 64 },
    Operation::TranslationFetch { address: A, len: 64, stride: 0 },
    Operation::Crc { src: A, len: 64, seed: 0, seed_address: 0 },
    Operation::CopyCrc { src: A, dst: B, len: 64, seed: 0, seed_address: 0 },
    Operation::CacheFlush { address: A, len: 64 },
];

fn with(device: DeviceCapabilities) -> Device {
    Model::with_memory(device, map::queue(Mode::Dedicated), Settings::default(), Map::new())
}

/// The status of an operation on a fresh device, which must have touched nothing if it refuses.
fn status_on(device: DeviceCapabilities, operation: Operation, flags: Flags) -> RecordStatus {
    let mut device = with(device);
    let before = device.memory().bytes.clone();
    let view = map::perform(&mut device, &operation, flags);
    if view.status().is_programming_error() {
        assert_eq!(
            device.memory().bytes[..9 * PAGE],
            before[..9 * PAGE],
            "{operation:?} is refused and touches memory"
        );
        assert_eq!(view.bytes_completed(), 0, "{operation:?}");
    }
    view.status()
}

fn status(operation: Operation, flags: Flags) -> RecordStatus {
    status_on(map::everything(), operation, flags)
}

#[test]
fn opcodes() {
    for preset in Preset::ALL {
        let device = preset.capabilities();
        for byte in 0..=u8::MAX {
            let opcode = DsaOpcode::from_u8(byte);
            let mut bytes = [0; 64];
            bytes[4] = 0x0c;
            bytes[7] = byte;
            bytes[8..16].copy_from_slice(&RECORD.to_le_bytes());
            let view = map::run(&mut with(device), &Descriptor::from_bytes(&bytes)).expect("it has a record");
            let is_known = device.op_cap.contains(opcode) && matches!(byte, 0..=0x0a | 0x10 | 0x11 | 0x20);
            assert_eq!(view.status() == RecordStatus::BAD_OPCODE, !is_known, "{preset}: {opcode:?}");
        }
    }
    // A queue takes operations away.
    let mut queue = map::queue(Mode::Dedicated);
    queue.op_config = OperationSet::ALL.without(DsaOpcode::MEMMOVE);
    let mut device = Model::with_memory(map::everything(), queue, Settings::default(), Map::new());
    assert_eq!(map::perform(&mut device, &COPY, Flags::NONE).status(), RecordStatus::BAD_OPCODE);
}

#[test]
fn flags_that_are_not_the_operations() {
    for operation in EACH {
        let allowed = Descriptor::allowed_flags(operation.opcode());
        for bit in (0..24).filter(|bit| !matches!(bit, 2 | 3)) {
            let flag = Flags::from_bits(1 << bit);
            let view = map::perform(&mut with(map::everything()), &operation, flag);
            let is_allowed = allowed.contains(flag)
                && flag != Flags::FENCE
                && !(operation.opcode() == DsaOpcode::DRAIN && matches!(bit, 9 | 10));
            assert_eq!(view.status() == RecordStatus::INVALID_FLAGS, !is_allowed, "{operation:?} with {flag:?}");
            let refused = if is_allowed { None } else { Some(flag) };
            assert_eq!(view.invalid_flags(), refused, "{operation:?} with {flag:?}");
        }
    }
}

#[test]
fn flags_that_need_a_capability() {
    let fill = Operation::Fill { pattern: 1, pattern_high: 0, dst: B, len: 64 };
    let crc = Operation::Crc { src: A, len: 64, seed: 0, seed_address: 0 };
    let drain = Operation::Drain { readback_1: A, readback_2: 0 };
    let fetch = Operation::TranslationFetch { address: A, len: 64, stride: 4096 };
    let needs = [
        (GenCap::BLOCK_ON_FAULT, COPY, Flags::BLOCK_ON_FAULT),
        (GenCap::CACHE_CONTROL, COPY, Flags::CACHE_CONTROL),
        (GenCap::DESTINATION_READBACK, COPY, Flags::DESTINATION_READBACK),
        (GenCap::DURABLE_WRITE, COPY, Flags::CACHE_CONTROL_3),
        (GenCap::FILL_16, fill, Flags::FILL_16),
        (GenCap::CRC64, crc, Flags::CRC_64),
        (GenCap::DRAIN_READBACK, drain, Flags::READBACK_1_VALID),
        (GenCap::FETCH_STRIDE, fetch, Flags::USE_STRIDE),
        (GenCap::BATCH_CONTINUATION, BATCH, Flags::BATCH_ERROR),
    ];
    for (bit, operation, flag) in needs {
        assert_ne!(status(operation, flag), RecordStatus::INVALID_FLAGS, "{flag:?}");
        let mut device = map::everything();
        device.gen_cap = device.gen_cap.without(bit);
        assert_eq!(status_on(device, operation, flag), RecordStatus::INVALID_FLAGS, "{flag:?}");
    }
    // One that takes something away.
    let mut device = map::everything();
    device.gen_cap = device.gen_cap.with(GenCap::NO_STRICT_ORDER_TO_MEMORY);
    assert_eq!(status_on(device, COPY, Flags::STRICT_ORDERING), RecordStatus::INVALID_FLAGS);
    // A queue that does not block on faults.
    let mut queue = map::queue(Mode::Dedicated);
    queue.blocks_on_fault = false;
    let mut device = Model::with_memory(map::everything(), queue, Settings::default(), Map::new());
    let view = map::perform(&mut device, &COPY, Flags::BLOCK_ON_FAULT);
    assert_eq!(view.invalid_flags(), Some(Flags::BLOCK_ON_FAULT));
}

#[test]
fn records_that_are_missing_or_cannot_be_written() {
    let mut device = map::device(Settings::default());
    let compare = Operation::Compare { src_1: A, src_2: B, len: 64, expected: 0 };
    let no_rcr = Descriptor::new(&compare, Flags::RECORD_ADDRESS_VALID, RECORD);
    let view = map::run(&mut device, &no_rcr).expect("an error is written");
    assert_eq!(view.invalid_flags(), Some(Flags::REQUEST_COMPLETION_RECORD));
    let unreported = [
        (Descriptor::new(&compare, Flags::NONE, 0), RecordStatus::INVALID_FLAGS),
        (Descriptor::new(&COPY, Flags::REQUEST_COMPLETION_RECORD, 0), RecordStatus::INVALID_FLAGS),
        (Descriptor::new(&COPY, Flags::NONE, RECORD), RecordStatus::RESERVED_NOT_ZERO),
        (Descriptor::new(&COPY, Flags::RECORD, RECORD + 8), RecordStatus::MISALIGNED_RECORD),
        (Descriptor::new(&COPY, Flags::RECORD, 0x1000), RecordStatus::RECORD_PAGE_FAULT.at_write()),
    ];
    for ((descriptor, status), count) in unreported.into_iter().zip(1..) {
        assert_eq!(map::run(&mut device, &descriptor), None, "{descriptor:?}");
        assert_eq!((device.errors().unreported, device.errors().last), (count, Some(status)), "{descriptor:?}");
    }
    let mut privileged = Descriptor::new(&COPY, Flags::RECORD, RECORD).to_bytes();
    privileged[3] = 0x80;
    assert_eq!(map::run(&mut device, &Descriptor::from_bytes(&privileged)), None);
    assert_eq!(device.errors().last, Some(RecordStatus::BAD_PRIVILEGE));
}

#[test]
fn a_record_comes_when_it_was_asked_for_or_when_something_is_wrong() {
    let mut device = map::device(Settings::default());
    let quiet = Descriptor::new(&COPY, Flags::RECORD_ADDRESS_VALID, RECORD);
    assert_eq!(map::run(&mut device, &quiet), None);
    assert_eq!(device.memory().slice(B, 64), device.memory().slice(A, 64));
    assert_eq!(device.errors().unreported, 0);
    let wrong = Operation::Memmove { src: A, dst: B, len: 0 };
    let view = map::run(&mut device, &Descriptor::new(&wrong, Flags::RECORD_ADDRESS_VALID, RECORD));
    assert_eq!(view.map(|view| view.status()), Some(RecordStatus::BAD_LENGTH));
}

/// Which they are `tests/dsa/rules.rs` compares with the specification's table.
#[test]
fn reserved_bytes() {
    let mut refused = 0;
    for operation in EACH {
        let right = Descriptor::new(&operation, Flags::RECORD, RECORD).to_bytes();
        for at in (2..4).chain(16..64) {
            let mut bytes = right;
            // Bit 7 of byte 3 is the privilege.
            bytes[at] |= 0x40;
            let descriptor = Descriptor::from_bytes(&bytes);
            if descriptor.reserved_byte() == Some(at) {
                let view = map::run(&mut with(map::everything()), &descriptor).expect("it has a record");
                assert_eq!(view.status(), RecordStatus::RESERVED_NOT_ZERO, "{operation:?}, byte {at}");
                refused += 1;
            }
        }
    }
    // At least those that none has: 2, 3, and 36 to 39; and of most of them those from 41 on.
    assert!(refused > 6 * EACH.len() + 200, "{refused}");
}

#[test]
fn flags_that_other_flags_forbid() {
    let drain = Operation::Drain { readback_1: 0, readback_2: 0 };
    let readback = Operation::Drain { readback_1: A, readback_2: 0 };
    let (cache, durable) = (Flags::CACHE_CONTROL, Flags::CACHE_CONTROL_3);
    let device = || with(map::everything());
    for flags in [cache | durable, cache | durable | Flags::DESTINATION_READBACK] {
        let view = map::perform(&mut device(), &COPY, flags);
        assert_eq!(view.invalid_flags(), Some(cache | durable), "{flags:?}");
    }
    for flags in [cache, durable, cache | Flags::DESTINATION_READBACK, durable | Flags::DESTINATION_READBACK] {
        assert_eq!(status(COPY, flags), RecordStatus::SUCCESS, "{flags:?}");
    }
    let class = Flags::ADDRESS_1_TRAFFIC_CLASS;
    assert_eq!(map::perform(&mut device(), &drain, class).invalid_flags(), Some(class));
    assert_eq!(status(readback, class | Flags::READBACK_1_VALID), RecordStatus::SUCCESS);
    // Without the address of a record, its traffic class.
    let mut device = device();
    let flags = Flags::RECORD_TRAFFIC_CLASS;
    assert_eq!(map::run(&mut device, &Descriptor::new(&COPY, flags, 0)), None);
    assert_eq!(device.errors().last, Some(RecordStatus::INVALID_FLAGS));
}

#[test]
fn all_flags_that_are_wrong_are_told() {
    let flags = Flags::FENCE | Flags::CHECK_RESULT | Flags::from_bits(1 << 23) | Flags::CACHE_CONTROL;
    let view = map::perform(&mut with(map::everything()), &COPY, flags);
    assert_eq!(view.invalid_flags(), Some(flags.without(Flags::CACHE_CONTROL)));
}

#[test]
fn lengths_and_counts() {
    let copy = |len| Operation::Memmove { src: A, dst: A + (1 << 31), len };
    let flush = |len| Operation::CacheFlush { address: A, len };
    let batch = |count| Operation::Batch { list: A, count };
    for operation in [copy(0), copy((2 << 20) + 1), flush(0), flush(u32::MAX)] {
        assert_eq!(status(operation, Flags::NONE), RecordStatus::BAD_LENGTH, "{operation:?}");
    }
    assert_ne!(status(copy(2 << 20), Flags::NONE), RecordStatus::BAD_LENGTH);
    let delta = |len| Operation::CreateDelta {
        src_1: 0x10_0000,
        src_2: 0x80_0000,
        len,
        record: C,
        max_record_len: 80,
        expected_mask: 0,
    };
    assert_eq!(status(delta(0x8_0008), Flags::NONE), RecordStatus::BAD_LENGTH);
    assert_eq!(status(delta(0x8_0000), Flags::NONE), RecordStatus::PAGE_FAULT);
    for count in [0, 33, u32::MAX] {
        assert_eq!(status(batch(count), Flags::NONE), RecordStatus::BAD_COUNT, "{count}");
    }
    assert_ne!(status(batch(1), Flags::NONE), RecordStatus::BAD_COUNT);
    assert_eq!(status_on(Preset::V2Full.capabilities(), batch(1), Flags::NONE), RecordStatus::BAD_COUNT);
    assert_ne!(status(batch(32), Flags::NONE), RecordStatus::BAD_COUNT);
}

#[test]
fn alignment() {
    let delta = |src_1, src_2, len| Operation::CreateDelta {
        src_1,
        src_2,
        len,
        record: C + 3,
        max_record_len: 81,
        expected_mask: 0,
    };
    let apply = |dst, len| Operation::ApplyDelta { record: A + 1, dst, len, record_len: 10 };
    let crc = |seed_address| Operation::Crc { src: A + 1, len: 3, seed: 0, seed_address };
    let fetch = |stride| Operation::TranslationFetch { address: A + 1, len: 3, stride };
    for wrong in [delta(A + 4, B, 64), delta(A, B + 1, 64), delta(A, B, 60), apply(B + 4, 64), apply(B, 65)] {
        assert_eq!(status(wrong, Flags::NONE), RecordStatus::MISALIGNED, "{wrong:?}");
    }
    assert_eq!(status(delta(A, B, 64), Flags::NONE), RecordStatus::SUCCESS);
    assert_eq!(status(crc(C + 2), Flags::READ_SEED), RecordStatus::MISALIGNED);
    assert_eq!(status(crc(C + 4), Flags::READ_SEED), RecordStatus::SUCCESS);
    assert_eq!(status(crc(C + 4), Flags::READ_SEED | Flags::CRC_64), RecordStatus::MISALIGNED);
    for (stride, is_right) in [(0, false), (2048, false), (4096, true), (5000, false), (1 << 20, true)] {
        let expected = if is_right { RecordStatus::SUCCESS } else { RecordStatus::MISALIGNED };
        assert_eq!(status(fetch(stride), Flags::USE_STRIDE), expected, "{stride}");
    }
    assert_eq!(status(Operation::Batch { list: A + 32, count: 2 }, Flags::NONE), RecordStatus::MISALIGNED_LIST);
}

#[test]
fn delta_records() {
    let room = |max_record_len| Operation::CreateDelta {
        src_1: A,
        src_2: B,
        len: 64,
        record: C,
        max_record_len,
        expected_mask: 0,
    };
    for len in [0, 79, (2 << 20) + 1] {
        assert_eq!(status(room(len), Flags::NONE), RecordStatus::BAD_DELTA_LENGTH, "{len}");
    }
    let apply = |record_len| Operation::ApplyDelta { record: A, dst: C, len: 8, record_len };
    for len in [0, 9, 15, (2 << 20) + 10] {
        assert_eq!(status(apply(len), Flags::NONE), RecordStatus::BAD_DELTA_LENGTH, "{len}");
    }
    let mut device = map::device(Settings::default());
    let entry = |number: u16| [&number.to_le_bytes()[..], &[7; 8]].concat();
    device.memory_mut().slice_mut(A, 30).copy_from_slice(&[entry(1), entry(3), entry(3)].concat());
    let apply = |len| Operation::ApplyDelta { record: A, dst: C, len, record_len: 30 };
    let view = map::perform(&mut device, &apply(64), Flags::NONE);
    assert_eq!((view.status(), view.bytes_completed()), (RecordStatus::DELTA_NOT_ASCENDING, 20));
    let view = map::perform(&mut device, &apply(24), Flags::NONE);
    assert_eq!((view.status(), view.bytes_completed()), (RecordStatus::DELTA_OUT_OF_RANGE, 10));
    assert_eq!(device.memory().slice(C + 8, 8), [7; 8]);
}

#[test]
fn overlap() {
    let dual = |src, dst_1, dst_2| Operation::Dualcast { src, dst_1, dst_2, len: 64 };
    let crc = |dst| Operation::CopyCrc { src: A, dst, len: 64, seed: 0, seed_address: 0 };
    let delta =
        |record| Operation::CreateDelta { src_1: A, src_2: B, len: 64, record, max_record_len: 80, expected_mask: 0 };
    let apply = |dst| Operation::ApplyDelta { record: A, dst, len: 64, record_len: 20 };
    let wrong = [
        dual(A, A + 63, C + 63),
        dual(A, C, A),
        dual(A, B, B),
        crc(A + 63),
        crc(A),
        delta(A + 63),
        delta(B - 79),
        apply(A + 16),
    ];
    for operation in wrong {
        assert_eq!(status(operation, Flags::NONE), RecordStatus::OVERLAP, "{operation:?}");
    }
    for operation in [dual(A, A + 64, C + 64), crc(A + 64), delta(A + 64), delta(B - 80)] {
        assert_eq!(status(operation, Flags::NONE), RecordStatus::SUCCESS, "{operation:?}");
    }
    for far in [1, 64, 0x801] {
        assert_eq!(status(dual(A, B, C + far), Flags::NONE), RecordStatus::DUALCAST_MISMATCH, "{far}");
    }
    let near = Operation::Memmove { src: A, dst: A + 63, len: 64 };
    assert_eq!(status(near, Flags::NONE), RecordStatus::SUCCESS);
    let mut device = map::everything();
    device.gen_cap = device.gen_cap.without(GenCap::OVERLAPPING_MOVE);
    assert_eq!(status_on(device, near, Flags::NONE), RecordStatus::OVERLAP);
}

#[test]
fn hardware_errors() {
    let mut settings = Settings::default();
    settings.breakdowns = Chance::ALWAYS;
    let mut device = map::device(settings);
    let mut seen = Vec::new();
    for _ in 0..64 {
        let status = map::perform(&mut device, &COPY, Flags::NONE).status();
        assert!(status.is_hardware_error(), "{status:?}");
        seen.push(status.to_u8());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0x20, 0x21, 0x22]);
}

#[test]
fn any_bytes_are_survived() {
    let mut random = Random::new(seed());
    let mut settings = Settings::hostile(random.next());
    settings.faults = Faults::Random(Chance::one_in(2));
    settings.breakdowns = Chance::one_in(5);
    let mut device = map::device(settings);
    for _ in 0..20_000 {
        let mut bytes: [u8; 64] = super::drawn::bytes(&mut random);
        // Often with an opcode that is known, few flags, and addresses that lead somewhere.
        if random.below(4) != 0 {
            bytes[..8].fill(0);
            bytes[7] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x10, 0x11, 0x20][random.below(14)];
            bytes[4] = 0x0c | (1 << random.below(8));
            bytes[34..].fill(0);
            for word in [8, 16, 24, 40] {
                let address = at(random.below(10 * PAGE)) & !0x1f;
                bytes[word..word + 8].copy_from_slice(&address.to_le_bytes());
            }
        }
        if device.submit(&bytes) == memring::dsa::model::Reply::Accepted {
            map::drain(&mut device);
        }
    }
}
