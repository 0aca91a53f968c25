//! Each freedom that a device has is used: what differs between two devices differs here by a setting, and only that.

use memring::dsa::model::{Chance, Faults, Model, Order, Settings};
use memring::dsa::{Descriptor, Flags, Mode, Operation, RecordStatus};

use super::drawn::draw;
use super::map::{self, Device, Map, PAGE, RECORD, at};
use super::random::{Random, seed};

const A: u64 = at(0);
const B: u64 = at(2 * PAGE);
const C: u64 = at(4 * PAGE);
const LIST: u64 = at(6 * PAGE);

fn device(change: impl Fn(&mut Settings)) -> Device {
    let mut settings = Settings::default();
    change(&mut settings);
    map::device(settings)
}

/// Which of a record's bytes are the unused byte, whatever that is.
fn unused(operation: Operation, flags: Flags, change: impl Fn(&mut Settings)) -> Vec<usize> {
    let run = |byte: u8| {
        let mut device = device(|settings| {
            change(settings);
            settings.unused_byte = byte;
        });
        device.memory_mut().bytes[..9 * PAGE].fill(0);
        map::perform(&mut device, &operation, flags).to_bytes()
    };
    let (one, two) = (run(0x5a), run(0xff));
    let is_unused = |at: &usize| one[*at] != two[*at];
    let unused: Vec<usize> = (0..32).filter(is_unused).collect();
    assert!(unused.iter().all(|at| (one[*at], two[*at]) == (0x5a, 0xff)), "{operation:?}");
    unused
}

#[test]
fn what_a_record_leaves_unused_has_any_byte() {
    let all_but = |used: &[(usize, usize)]| -> Vec<usize> {
        (0..32).filter(|at| !used.iter().any(|(start, end)| (start..end).contains(&at))).collect()
    };
    let copy = Operation::Memmove { src: A, dst: B, len: 64 };
    let compare = Operation::Compare { src_1: A, src_2: B, len: 64, expected: 0 };
    let crc = Operation::Crc { src: A, len: 64, seed: 0, seed_address: 0 };
    let delta = Operation::CreateDelta { src_1: A, src_2: B, len: 64, record: C, max_record_len: 80, expected_mask: 0 };
    let batch = Operation::Batch { list: A, count: 2 };
    let calm = |_: &mut Settings| {};
    let stops = |settings: &mut Settings| settings.faults = Faults::At { operand: 1, offset: 8 };
    assert_eq!(unused(Operation::Nop, Flags::NONE, calm), all_but(&[(0, 1)]));
    assert_eq!(unused(copy, Flags::NONE, calm), all_but(&[(0, 1), (4, 8)]));
    assert_eq!(unused(copy, Flags::NONE, stops), all_but(&[(0, 3), (4, 16)]));
    assert_eq!(unused(copy, Flags::FENCE, calm), all_but(&[(0, 1), (4, 8), (16, 19)]));
    assert_eq!(unused(compare, Flags::NONE, calm), all_but(&[(0, 2), (4, 8)]));
    assert_eq!(unused(crc, Flags::NONE, calm), all_but(&[(0, 1), (4, 8), (16, 20)]));
    assert_eq!(unused(crc, Flags::CRC_64, calm), all_but(&[(0, 1), (4, 8), (16, 24)]));
    assert_eq!(unused(crc, Flags::NONE, stops), all_but(&[(0, 1), (2, 3), (4, 20)]));
    assert_eq!(unused(delta, Flags::NONE, calm), all_but(&[(0, 2), (4, 8), (16, 20)]));
    assert_eq!(unused(batch, Flags::NONE, calm), all_but(&[(0, 2), (4, 8)]));
}

/// Copies of different bytes to one place: what is there in the end is what ran last.
fn last_of_eight(order: Order, seed: u64) -> u8 {
    let mut device = device(|settings| (settings.members, settings.seed) = (order, seed));
    for number in 0..8_u8 {
        let pattern = u64::from_le_bytes([number; 8]);
        let fill = Operation::Fill { pattern, pattern_high: 0, dst: B, len: 8 };
        let place = LIST + 64 * u64::from(number);
        device.memory_mut().slice_mut(place, 64).copy_from_slice(&Descriptor::new(&fill, Flags::NONE, 0).to_bytes());
    }
    let view = map::perform(&mut device, &Operation::Batch { list: LIST, count: 8 }, Flags::NONE);
    assert_eq!((view.status(), view.descriptors_completed()), (RecordStatus::SUCCESS, 8));
    device.memory().slice(B, 1)[0]
}

#[test]
fn members_run_in_any_order() {
    assert_eq!(last_of_eight(Order::InOrder, 0), 7);
    assert_eq!(last_of_eight(Order::Reversed, 0), 0);
    let mut counts = [0; 8];
    for seed in 0..800 {
        counts[usize::from(last_of_eight(Order::Random, seed))] += 1;
    }
    assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
}

#[test]
fn offsets_may_be_too_low_and_never_too_high() {
    let mut device = device(|settings| settings.blurs_offsets = true);
    let mut seen = [false; 64];
    for difference in (0..2_000_u32).step_by(7).chain([0, 1, 62, 63, 64]) {
        device.memory_mut().bytes[..PAGE].fill(9);
        device.memory_mut().slice_mut(A + u64::from(difference), 1)[0] = 8;
        let pattern = u64::from_le_bytes([9; 8]);
        let compare = Operation::CompareValue { src: A, pattern, len: 4096, expected: 0 };
        let view = map::perform(&mut device, &compare, Flags::NONE);
        assert_eq!(view.result(), 1);
        let before = difference.checked_sub(view.bytes_completed()).expect("not beyond the difference");
        seen[before as usize] = true;
        // COMPARE is exact.
        let compare = Operation::Compare { src_1: A, src_2: A + 4096, len: 4096, expected: 0 };
        let from = device.memory().slice(A, 4096).to_vec();
        device.memory_mut().slice_mut(A + 4096, 4096).copy_from_slice(&from);
        device.memory_mut().slice_mut(A + 4096 + u64::from(difference), 1)[0] = 7;
        assert_eq!(map::perform(&mut device, &compare, Flags::NONE).bytes_completed(), difference);
    }
    assert!(seen.iter().filter(|seen| **seen).count() > 40, "{seen:?}");
}

#[test]
fn a_delta_record_may_be_full_with_room_left() {
    let create = |room| Operation::CreateDelta {
        src_1: A,
        src_2: B,
        len: 512,
        record: C,
        max_record_len: room,
        expected_mask: 0,
    };
    // All words differ: a line makes 80 bytes.
    for (room, ends_early, written, compared) in
        [(170, false, 170, 136), (170, true, 160, 128), (160, true, 160, 128), (159, true, 80, 64), (640, true, 640, 0)]
    {
        let mut device = device(|settings| settings.ends_deltas_early = ends_early);
        device.memory_mut().slice_mut(A, 512).fill(1);
        let view = map::perform(&mut device, &create(room), Flags::NONE);
        let result = if room == 640 { 1 } else { 2 };
        assert_eq!((view.result(), view.delta_record_len(), view.bytes_completed()), (result, written, compared));
    }
}

#[test]
fn what_is_read_back_or_durable_or_flushed_is_written_to_memory() {
    let copy = Operation::Memmove { src: A, dst: B + 1, len: 5000 };
    let fill = Operation::Fill { pattern: 0, pattern_high: 0, dst: B, len: 100 };
    let dual = Operation::Dualcast { src: A, dst_1: B, dst_2: C, len: 70 };
    let durable = Flags::CACHE_CONTROL_3;
    for (operation, flags, flushed) in [
        (copy, Flags::NONE, 0),
        (copy, Flags::CACHE_CONTROL, 0),
        (copy, Flags::DESTINATION_READBACK, 5000),
        (fill, durable, 100),
        (dual, Flags::DESTINATION_READBACK | durable, 140),
        (Operation::CacheFlush { address: B + 5, len: 9000 }, Flags::NONE, 9000),
        (Operation::Compare { src_1: A, src_2: A, len: 64, expected: 0 }, Flags::NONE, 0),
    ] {
        let mut device = device(|_| {});
        assert_eq!(map::perform(&mut device, &operation, flags).status(), RecordStatus::SUCCESS);
        assert_eq!(device.memory().flushed, flushed, "{operation:?} {flags:?}");
    }
}

#[test]
fn faults_come_at_every_operand_and_offset() {
    let mut device = device(|settings| settings.faults = Faults::Random(Chance::one_in(2)));
    let (mut stops, mut seen) = (0, [[false; 16]; 2]);
    for _ in 0..1_000 {
        let copy = Operation::Memmove { src: A, dst: B, len: 16 };
        let view = map::perform(&mut device, &copy, Flags::NONE);
        if view.fault().is_some() {
            stops += 1;
            seen[usize::from(view.status().fault_was_write())][view.bytes_completed() as usize] = true;
        }
    }
    assert!((400..600).contains(&stops), "{stops}");
    assert_eq!(seen, [[true; 16]; 2]);
}

/// Everything that a hostile device did to some operations, from memory to errors.
fn trace(device_seed: u64, drawn_seed: u64) -> (Vec<u8>, Vec<Option<[u8; 32]>>) {
    let mut random = Random::new(drawn_seed);
    let queue = map::queue(Mode::Shared);
    let mut device = Model::with_memory(map::everything(), queue, Settings::hostile(device_seed), Map::new());
    let mut image = Map::new();
    let mut records = Vec::new();
    for _ in 0..50 {
        let drawn = draw(&mut random, &mut image);
        device.memory_mut().bytes.copy_from_slice(&image.bytes);
        let view = map::run(&mut device, &Descriptor::new(&drawn.operation, drawn.flags | Flags::RECORD, RECORD));
        records.push(view.map(|view| view.to_bytes()));
    }
    (device.memory().bytes.clone(), records)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let seed = seed();
    let one = trace(seed, seed);
    assert_eq!(one, trace(seed, seed), "MEMRING_SEED={seed}");
    assert_ne!(one.1, trace(seed.wrapping_add(1), seed).1, "MEMRING_SEED={seed}");
}
