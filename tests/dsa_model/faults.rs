//! Faults: each operand of each operation stops at each offset, the record says where, and exactly what it says is
//! done.

use memring::dsa::model::{Access, Faults, Model, Settings};
use memring::dsa::{FaultInfo, Flags, Mode, Operation, RecordStatus, RecordView};

use super::map::{self, Device, Map, PAGE, at};

const A: u64 = at(0);
const B: u64 = at(2 * PAGE);
const C: u64 = at(4 * PAGE);
const D: u64 = at(6 * PAGE);
const LEN: u32 = 6000;
const OFFSETS: [u32; 12] = [0, 1, 7, 8, 63, 64, 100, 1000, 4095, 4096, 4100, 5999];

/// A device with something in its pages, the operands of which fault here.
fn device(operand: u8, offset: u32) -> Device {
    let mut settings = Settings::default();
    settings.faults = Faults::At { operand, offset };
    let mut map = Map::new();
    for (index, byte) in map.bytes.iter_mut().enumerate() {
        *byte = (index * 7 + index / 251).to_le_bytes()[0];
    }
    Model::with_memory(map::everything(), map::queue(Mode::Dedicated), settings, map)
}

/// What it says of the place at which it stopped.
fn assert_place(view: &RecordView, operand: u8, address: u64, is_write: bool) {
    let code = if is_write { RecordStatus::PAGE_FAULT.at_write() } else { RecordStatus::PAGE_FAULT };
    assert_eq!(view.status(), code);
    assert_eq!(view.fault_info(), Some(FaultInfo { is_masked: false, operand }));
    let fault = view.fault().expect("it has an address");
    assert_eq!((fault.address, fault.is_write), (address / 4096 * 4096, is_write), "masked");
}

#[test]
fn what_goes_through_regions_stops_in_each() {
    let crc = Operation::Crc { src: A + 9, len: LEN, seed: 7, seed_address: 0 };
    let copy_crc = Operation::CopyCrc { src: A + 9, dst: C, len: LEN, seed: 7, seed_address: 0 };
    let cases = [
        (Operation::Memmove { src: A + 9, dst: B + 5, len: LEN }, vec![(1, A + 9, false), (3, B + 5, true)]),
        (
            Operation::Fill { pattern: 0x0807_0605_0403_0201, pattern_high: 0, dst: A + 3, len: LEN },
            vec![(3, A + 3, true)],
        ),
        (
            Operation::Compare { src_1: A + 1, src_2: A + 1, len: LEN, expected: 0 },
            vec![(1, A + 1, false), (2, A + 1, false)],
        ),
        (
            Operation::Dualcast { src: A + 9, dst_1: B + 5, dst_2: C + 5, len: LEN },
            vec![(1, A + 9, false), (3, B + 5, true), (4, C + 5, true)],
        ),
        (crc, vec![(1, A + 9, false)]),
        (copy_crc, vec![(1, A + 9, false), (3, C, true)]),
        (Operation::CacheFlush { address: A + 1, len: LEN }, vec![(3, A + 1, false)]),
    ];
    for (operation, operands) in cases {
        for (number, address, is_write) in operands {
            for offset in OFFSETS {
                let mut device = device(number, offset);
                let mut image = device.memory().clone();
                let view = map::perform(&mut device, &operation, Flags::NONE);
                assert_place(&view, number, address + u64::from(offset), is_write);
                assert_eq!(view.bytes_completed(), offset, "{operation:?}");
                do_first(&operation, offset, &mut image, &view);
                assert!(device.memory().bytes[..9 * PAGE] == image.bytes[..9 * PAGE], "{operation:?} at {offset}");
            }
            // Where it does not come to, it does not stop.
            let view = map::perform(&mut device(number, LEN), &operation, Flags::NONE);
            assert_eq!((view.status(), view.bytes_completed()), (RecordStatus::SUCCESS, 0), "{operation:?}");
        }
    }
}

/// Does so much of it.
fn do_first(operation: &Operation, done: u32, image: &mut Map, view: &RecordView) {
    let len = done as usize;
    match *operation {
        Operation::Memmove { src, dst, .. } => {
            assert_eq!(view.result(), 0, "forward");
            let from = image.slice(src, len).to_vec();
            image.slice_mut(dst, len).copy_from_slice(&from);
        }
        Operation::Fill { pattern, dst, .. } => {
            let pattern = pattern.to_le_bytes();
            for (byte, from) in image.slice_mut(dst, len).iter_mut().zip(pattern.iter().cycle()) {
                *byte = *from;
            }
        }
        Operation::Dualcast { src, dst_1, dst_2, .. } => {
            let from = image.slice(src, len).to_vec();
            image.slice_mut(dst_1, len).copy_from_slice(&from);
            image.slice_mut(dst_2, len).copy_from_slice(&from);
        }
        Operation::CopyCrc { src, dst, .. } => {
            let from = image.slice(src, len).to_vec();
            image.slice_mut(dst, len).copy_from_slice(&from);
            assert_sum(&from, view);
        }
        Operation::Crc { src, .. } => assert_sum(image.slice(src, len), view),
        Operation::Compare { .. } => assert_eq!(view.result(), 0, "no difference so far"),
        _ => {}
    }
}

/// Of nothing there is no sum.
fn assert_sum(bytes: &[u8], view: &RecordView) {
    let sum = memring::dsa::operations::Crc::from_flags(Flags::NONE).sum(bytes, 7);
    assert_eq!(u64::from(view.crc32()), if bytes.is_empty() { 0xa5a5_a5a5 } else { sum });
}

#[test]
fn a_copy_that_must_goes_from_its_end() {
    for (operand, address, is_write) in [(1, A + 9, false), (3, A + 1009, true)] {
        for offset in OFFSETS {
            let mut device = device(operand, offset);
            let mut image = device.memory().clone();
            let copy = Operation::Memmove { src: A + 9, dst: A + 1009, len: LEN };
            let view = map::perform(&mut device, &copy, Flags::NONE);
            assert_place(&view, operand, address + u64::from(LEN - offset - 1), is_write);
            assert_eq!((view.bytes_completed(), view.result()), (offset, 1));
            let done = offset as usize;
            let from = image.slice(A + 9 + u64::from(LEN - offset), done).to_vec();
            image.slice_mut(A + 1009 + u64::from(LEN - offset), done).copy_from_slice(&from);
            assert!(device.memory().bytes[..9 * PAGE] == image.bytes[..9 * PAGE], "{offset}");
        }
    }
    // The other way round it must not.
    let back = Operation::Memmove { src: A + 1009, dst: A + 9, len: LEN };
    assert_eq!(map::perform(&mut device(3, 10), &back, Flags::NONE).result(), 0);
}

#[test]
fn a_copy_that_may_goes_from_either_end() {
    let copy = Operation::Memmove { src: A, dst: C, len: LEN };
    let mut seen = [0; 2];
    for seed in 0..64 {
        let mut settings = Settings::default();
        (settings.seed, settings.turns_copies) = (seed, true);
        settings.faults = Faults::At { operand: 3, offset: 100 };
        let mut device = Model::with_memory(map::everything(), map::queue(Mode::Dedicated), settings, Map::new());
        device.memory_mut().slice_mut(A, LEN as usize).fill(1);
        let view = map::perform(&mut device, &copy, Flags::NONE);
        let (done, left) = if view.result() == 0 { (C, C + 100) } else { (C + u64::from(LEN) - 100, C) };
        assert_eq!(device.memory().slice(done, 100), [1; 100]);
        assert!(!device.memory().slice(left, LEN as usize - 100).contains(&1));
        seen[usize::from(view.result())] += 1;
    }
    assert!(seen[0] > 16 && seen[1] > 16, "{seen:?}");
}

/// The word that is being looked at when it stops is not done, nor is the one whose entry cannot be written.
#[test]
fn deltas_stop_at_words_and_entries() {
    let create =
        Operation::CreateDelta { src_1: A, src_2: B, len: 800, record: C + 3, max_record_len: 1000, expected_mask: 0 };
    for offset in [0, 1, 7, 8, 63, 64, 100, 799] {
        for operand in [1, 2] {
            let mut device = device(operand, offset);
            let from = device.memory().slice(B, 800).to_vec();
            device.memory_mut().slice_mut(A, 800).copy_from_slice(&from);
            // The first word differs.
            device.memory_mut().slice_mut(A, 1)[0] ^= 1;
            let view = map::perform(&mut device, &create, Flags::NONE);
            let words = offset / 8;
            assert_place(&view, operand, [A, B][usize::from(operand) - 1] + u64::from(words * 8), false);
            let is_written = words > 0;
            assert_eq!(view.bytes_completed(), words * 8);
            assert_eq!((view.result(), view.delta_record_len()), (is_written.into(), 10 * u32::from(is_written)));
        }
    }
    for offset in [0, 1, 9, 10, 11, 500, 999] {
        let mut device = device(3, offset);
        device.memory_mut().slice_mut(A, 800).fill(1);
        device.memory_mut().slice_mut(B, 800).fill(2);
        let view = map::perform(&mut device, &create, Flags::NONE);
        let entries = offset / 10;
        assert_place(&view, 3, C + 3 + u64::from(entries * 10), true);
        assert_eq!((view.bytes_completed(), view.delta_record_len()), (8 * entries, 10 * entries));
        assert_eq!(view.result(), u8::from(entries > 0));
        let made = device.memory().slice(C + 3, entries as usize * 10).to_vec();
        assert!(
            made.chunks(10)
                .zip(0_u16..)
                .all(|(entry, number)| { entry[..2] == number.to_le_bytes() && entry[2..] == [2; 8] })
        );
    }
    let apply = Operation::ApplyDelta { record: C, dst: A, len: 800, record_len: 30 };
    for (operand, offset, done) in [(1, 0, 0), (1, 9, 0), (1, 10, 10), (3, 0, 0), (3, 15, 10), (3, 29, 20)] {
        let mut device = device(operand, offset);
        for (number, entry) in (0_u16..).zip(device.memory_mut().slice_mut(C, 30).chunks_mut(10)) {
            entry[..2].copy_from_slice(&(number * 10).to_le_bytes());
            entry[2..].fill(9);
        }
        let before = device.memory().slice(A, 800).to_vec();
        let view = map::perform(&mut device, &apply, Flags::NONE);
        let address = if operand == 1 { C + u64::from(done) } else { A + u64::from(done * 8) };
        assert_place(&view, operand, address, operand == 3);
        assert_eq!(view.bytes_completed(), done);
        let changed = device.memory().slice(A, 800).chunks(8).zip(before.chunks(8)).filter(|(a, b)| a != b).count();
        assert_eq!(changed, done as usize / 10);
    }
}

#[test]
fn what_says_nothing_of_how_far_it_came() {
    const NOTHING: u32 = 0xa5a5_a5a5;
    let fetch = |stride| Operation::TranslationFetch { address: A, len: 20_000, stride };
    let view = map::perform(&mut device(1, 10_000), &fetch(0), Flags::NONE);
    assert_place(&view, 1, A + 10_000, false);
    assert_eq!(view.bytes_completed(), NOTHING);
    for (offset, page) in [(0, 0), (1, 1), (4096, 1), (8192, 2), (10_000, 3)] {
        let view = map::perform(&mut device(1, offset), &fetch(4096), Flags::USE_STRIDE);
        assert_place(&view, 1, A + page * 4096, false);
    }
    let mut other = device(9, 0);
    other.memory_mut().unmap(1, Access::Read);
    // With a stride of two pages, only every other page.
    assert_eq!(map::perform(&mut other, &fetch(8192), Flags::USE_STRIDE).status(), RecordStatus::SUCCESS);
    assert_place(&map::perform(&mut other, &fetch(4096), Flags::USE_STRIDE), 1, A + 4096, false);
    let crc = Operation::Crc { src: A, len: 64, seed: 0, seed_address: D };
    let view = map::perform(&mut device(2, 0), &crc, Flags::READ_SEED);
    assert_place(&view, 2, D, false);
    assert_eq!((view.bytes_completed(), view.crc32()), (0, NOTHING));
    for (operand, address) in [(1, A + 70), (2, D + 9)] {
        let drain = Operation::Drain { readback_1: A + 70, readback_2: D + 9 };
        let view = map::perform(&mut device(operand, 0), &drain, Flags::READBACK_1_VALID | Flags::READBACK_2_VALID);
        assert_eq!(view.status(), RecordStatus::READBACK_PAGE_FAULT);
        assert_eq!(view.fault().map(|fault| fault.address), Some(address / 4096 * 4096));
        assert_eq!(view.fault_info().map(|info| info.operand), Some(operand));
    }
}

#[test]
fn a_difference_is_told_rather_than_a_fault_behind_it() {
    for (at, offset) in [(0, 1), (99, 100), (99, 5000)] {
        let mut device = device(2, offset);
        let from = device.memory().slice(A, LEN as usize).to_vec();
        device.memory_mut().slice_mut(C, LEN as usize).copy_from_slice(&from);
        device.memory_mut().slice_mut(C + u64::from(at), 1)[0] ^= 0x80;
        let compare = Operation::Compare { src_1: A, src_2: C, len: LEN, expected: 0 };
        let view = map::perform(&mut device, &compare, Flags::CHECK_RESULT);
        assert_eq!(view.status(), RecordStatus::SUCCESS_PREDICATE);
        assert_eq!((view.result(), view.bytes_completed()), (1, at));
    }
}

#[test]
fn one_that_blocks_on_faults_was_refused_the_page() {
    let copy = Operation::Memmove { src: A, dst: B, len: 4096 };
    for (operand, is_write) in [(1, false), (3, true)] {
        let view = map::perform(&mut device(operand, 17), &copy, Flags::BLOCK_ON_FAULT);
        let refused = RecordStatus::PAGE_FAULT_REFUSED;
        assert_eq!(view.status(), if is_write { refused.at_write() } else { refused });
        assert_eq!(view.bytes_completed(), 17);
    }
}

/// Pages that are missing, in each operand in its turn; both destinations hold the same number of bytes.
#[test]
fn pages_that_are_missing() {
    for (page, operand, access, done) in
        [(1, 1, Access::Read, 4086), (3, 3, Access::Write, 4091), (5, 4, Access::Write, 4091), (2, 3, Access::Read, 0)]
    {
        let mut device = device(9, 0);
        device.memory_mut().unmap(page, access);
        let before = device.memory().clone();
        let dual = Operation::Dualcast { src: A + 10, dst_1: B + 5, dst_2: C + 5, len: LEN };
        let view = map::perform(&mut device, &dual, Flags::NONE);
        let place = if done == 0 { B } else { at(page * PAGE) };
        assert_place(&view, operand, place, operand != 1);
        assert_eq!(view.bytes_completed(), done);
        let done = done as usize;
        for dst in [B + 5, C + 5] {
            assert_eq!(device.memory().slice(dst, done), before.slice(A + 10, done));
            let left = LEN as usize - done;
            assert_eq!(device.memory().slice(dst + done as u64, left), before.slice(dst + done as u64, left));
        }
    }
}
