//! What is left of operations that stopped: done in parts, each does what it does at once.
//!
//! A stand-in for a device executes descriptors on one array, whose indices are the addresses, and stops each after a
//! random number of bytes, as often as it likes. What it executes are decoded descriptors, so that a rest also encodes.

use memring::dsa::operations::{
    Crc, DeltaResult, Direction, apply_delta, compare, compare_value, create_delta, fill, fill_16, memmove_within,
};
use memring::dsa::{Descriptor, Flags, Operation, RecordStatus, RecordView};

use crate::random::{Random, seed};

/// Where everything is, bytes.
const SIZE: usize = 4096;
type Memory = Vec<u8>;

fn at(address: u64) -> usize {
    usize::try_from(address).expect("it is an index")
}

fn len(len: u32) -> usize {
    at(len.into())
}

/// How far it comes: `None` when it is done, after which the record is that of a success.
type Stop = Option<u32>;

fn view(stop: Stop) -> RecordView {
    // What is unused may be anything.
    match stop {
        Some(done) => RecordView::filled(RecordStatus::PAGE_FAULT, 0xa5).with_bytes_completed(done),
        None => RecordView::filled(RecordStatus::SUCCESS, 0xa5).with_bytes_completed(0),
    }
}

fn copy_part(memory: &mut Memory, src: u64, dst: u64, n: u32, stop: Stop) -> Direction {
    let direction = Direction::of(src, dst, n.into());
    let part = direction.part(len(n), len(stop.unwrap_or(n)));
    memmove_within(memory, at(src) + part.start..at(src) + part.end, at(dst) + part.start).expect("it is inside");
    direction
}

/// Executes up to `stop`, and says what a device would.
fn execute(memory: &mut Memory, descriptor: &Descriptor, stop: Stop) -> RecordView {
    let flags = descriptor.flags();
    assert_eq!((descriptor.reserved_byte(), descriptor.reserved_flags()), (None, Flags::NONE), "{descriptor:?}");
    let end = |n: u32| len(stop.unwrap_or(n));
    let region = |from: u64, n: u32| at(from)..at(from) + end(n);
    match descriptor.operation().expect("its layout is known") {
        Operation::Memmove { src, dst, len } => {
            view(stop).with_result(copy_part(memory, src, dst, len, stop).to_result())
        }
        Operation::Fill { pattern, pattern_high, dst, len } => {
            let dst = &mut memory[region(dst, len)];
            if flags.contains(Flags::FILL_16) {
                fill_16(dst, u128::from(pattern) | u128::from(pattern_high) << 64);
            } else {
                fill(dst, pattern);
            }
            view(stop)
        }
        Operation::Compare { src_1, src_2, len, .. } => {
            compared(compare(&memory[region(src_1, len)], &memory[region(src_2, len)]), stop)
        }
        Operation::CompareValue { src, pattern, len, .. } => {
            compared(compare_value(&memory[region(src, len)], pattern), stop)
        }
        Operation::Dualcast { src, dst_1, dst_2, len } => {
            memory.copy_within(region(src, len), at(dst_1));
            memory.copy_within(region(src, len), at(dst_2));
            view(stop)
        }
        Operation::Crc { src, len, seed, seed_address } => {
            summed(flags, memory, region(src, len), seed, seed_address, stop)
        }
        Operation::CopyCrc { src, dst, len, seed, seed_address } => {
            memory.copy_within(region(src, len), at(dst));
            summed(flags, memory, region(src, len), seed, seed_address, stop)
        }
        Operation::ApplyDelta { record, dst, len: n, record_len } => {
            // Whole entries.
            let stop = stop.map(|stop| stop.min(record_len) / 10 * 10);
            let record = memory[at(record)..at(record) + len(stop.unwrap_or(record_len))].to_vec();
            apply_delta(&record, &mut memory[at(dst)..at(dst) + len(n)]).expect("it was made by CR_DELTA");
            view(stop)
        }
        Operation::CreateDelta { src_1, src_2, len: n, record, max_record_len, .. } => {
            let stop = stop.map(|stop| stop / 8 * 8);
            let part = len(stop.unwrap_or(n));
            let mut room = vec![0; len(max_record_len)];
            let sources = [src_1, src_2].map(|src| &memory[at(src)..at(src) + part]);
            let made = create_delta(sources[0], sources[1], &mut room).expect("the lengths are right");
            assert_ne!(made.result, DeltaResult::Overflow);
            memory[at(record)..at(record) + made.record_len].copy_from_slice(&room[..made.record_len]);
            let made_len = u32::try_from(made.record_len).expect("it is small");
            view(stop).with_result(made.result.to_u8()).with_delta_record_len(made_len)
        }
        other => panic!("not here: {other:?}"),
    }
}

/// A difference that was found wins over a page that is missing.
fn compared(difference: Option<usize>, stop: Stop) -> RecordView {
    match difference {
        Some(at) => view(None).with_result(1).with_bytes_completed(u32::try_from(at).expect("it is small")),
        None => view(stop).with_result(0),
    }
}

fn summed(
    flags: Flags,
    memory: &Memory,
    region: std::ops::Range<usize>,
    seed: u64,
    seed_address: u64,
    stop: Stop,
) -> RecordView {
    let crc = Crc::from_flags(flags);
    let mut from_memory = [0; 8];
    let in_memory = &memory[at(seed_address)..][..crc.bytes()];
    from_memory[..crc.bytes()].copy_from_slice(in_memory);
    let seed = if flags.contains(Flags::READ_SEED) { u64::from_le_bytes(from_memory) } else { seed };
    let sum = crc.sum(&memory[region], seed);
    match stop {
        // Nothing was done, and the record has no sum.
        Some(0) => view(stop),
        _ if crc.bytes() == 8 => view(stop).with_crc64(sum),
        _ => view(stop).with_crc32(u32::try_from(sum).expect("it has 32 bits")),
    }
}

fn size(operation: &Operation) -> u32 {
    match *operation {
        Operation::ApplyDelta { record_len, .. } => record_len,
        Operation::Memmove { len, .. }
        | Operation::Fill { len, .. }
        | Operation::Compare { len, .. }
        | Operation::CompareValue { len, .. }
        | Operation::Dualcast { len, .. }
        | Operation::Crc { len, .. }
        | Operation::CopyCrc { len, .. }
        | Operation::CreateDelta { len, .. } => len,
        _ => panic!("not here: {operation:?}"),
    }
}

/// Executes all of it, stopping up to four times. Gives the last record, and the bytes done before its part.
fn in_parts(memory: &mut Memory, whole: Operation, flags: Flags, random: &mut Random) -> (RecordView, u32) {
    let (mut operation, mut flags, mut before) = (whole, flags, 0);
    for _ in 0..random.below(5) {
        let stop = u32::try_from(random.below(len(size(&operation)))).expect("it is small");
        let record = execute(memory, &Descriptor::new(&operation, flags, 0x40), Some(stop));
        let Some((rest, of_rest)) = operation.rest(flags, &record) else {
            assert!(record.status().is_success(), "{operation:?} has a rest");
            return (record, before);
        };
        before += size(&operation) - size(&rest);
        (operation, flags) = (rest, of_rest);
    }
    (execute(memory, &Descriptor::new(&operation, flags, 0x40), None), before)
}

/// Begins at a seed that is shown if the test fails.
fn begin() -> Random {
    let seed = seed();
    eprintln!("seed {seed}");
    Random::new(seed)
}

fn memory(random: &mut Random) -> Memory {
    (0..SIZE).map(|_| random.next().to_le_bytes()[0]).collect()
}

/// Checks that parts leave what the whole leaves. Gives both last records, and what was done before the last part.
fn agree(memory: &Memory, whole: Operation, flags: Flags, random: &mut Random) -> (RecordView, RecordView, u32) {
    let (mut at_once, mut by_parts) = (memory.clone(), memory.clone());
    let expected = execute(&mut at_once, &Descriptor::new(&whole, flags, 0x40), None);
    let (last, before) = in_parts(&mut by_parts, whole, flags, random);
    assert!(at_once == by_parts, "{whole:?}, {flags:?}");
    (expected, last, before)
}

fn small(random: &mut Random, limit: usize) -> u32 {
    1 + u32::try_from(random.below(limit)).expect("it is small")
}

#[test]
fn writes_in_parts_are_the_same() {
    let mut random = begin();
    for _ in 0..500 {
        let random = &mut random;
        let memory = memory(random);
        let len = small(random, 900);
        let [src, dst, dst_2] = [0, 1024, 2048].map(|base| base + random.next() % 100);
        let over = src + random.next() % 50;
        agree(&memory, Operation::Memmove { src, dst, len }, Flags::RECORD, random);
        agree(&memory, Operation::Memmove { src, dst: over, len }, Flags::RECORD, random);
        agree(&memory, Operation::Memmove { src: over, dst: src, len }, Flags::RECORD, random);
        agree(&memory, Operation::Dualcast { src, dst_1: dst, dst_2, len }, Flags::RECORD, random);
        let (pattern, pattern_high) = (random.next(), random.next());
        agree(&memory, Operation::Fill { pattern, pattern_high: 0, dst, len }, Flags::RECORD, random);
        let fill_16 = Operation::Fill { pattern, pattern_high, dst, len };
        agree(&memory, fill_16, Flags::RECORD | Flags::FILL_16, random);
    }
}

#[test]
fn differences_in_parts_are_the_same() {
    let mut random = begin();
    for _ in 0..500 {
        let random = &mut random;
        let mut memory = memory(random);
        let len = small(random, 900);
        let pattern = random.next();
        fill(&mut memory[..1024], pattern);
        memory.copy_within(..1024, 1024);
        if random.below(4) != 0 {
            memory[random.below(1024)] ^= 1;
        }
        let compare = Operation::Compare { src_1: 0, src_2: 1024, len, expected: 0 };
        let value = Operation::CompareValue { src: 0, pattern, len, expected: 0 };
        for whole in [compare, value] {
            let (expected, last, before) = agree(&memory, whole, Flags::RECORD, random);
            assert_eq!(expected.result(), last.result());
            if last.result() == 1 {
                assert_eq!(expected.bytes_completed(), before + last.bytes_completed());
            }
        }
    }
}

#[test]
fn sums_in_parts_are_the_same() {
    let mut random = begin();
    let modes = [Flags::NONE, Flags::BYPASS_CRC_REFLECTION, Flags::BYPASS_DATA_REFLECTION, Flags::CRC_64];
    for turn in 0..400 {
        let random = &mut random;
        let memory = memory(random);
        let len = small(random, 900);
        let flags = Flags::RECORD | modes[turn % 4];
        let seed = random.next() & if flags.contains(Flags::CRC_64) { u64::MAX } else { u64::from(u32::MAX) };
        // A seed, or the address of one; and the part that is not used is zero.
        let read = flags | Flags::READ_SEED;
        for (seed, seed_address, flags) in [(seed, 0, flags), (0, 4000, read)] {
            let sum = Operation::Crc { src: 5, len, seed, seed_address };
            let copy = Operation::CopyCrc { src: 5, dst: 1024, len, seed, seed_address };
            for whole in [sum, copy] {
                let (expected, last, _) = agree(&memory, whole, flags, random);
                assert_eq!(expected.crc32(), last.crc32(), "{whole:?}, {flags:?}");
                assert!(!flags.contains(Flags::CRC_64) || expected.crc64() == last.crc64());
            }
        }
    }
}

#[test]
fn records_applied_in_parts_are_the_same() {
    let mut random = begin();
    for _ in 0..500 {
        let random = &mut random;
        let memory = memory(random);
        let mut first = memory[..512].to_vec();
        (0..random.below(20)).for_each(|_| first[random.below(512)] ^= 1);
        let mut record = vec![0; 640];
        let made = create_delta(&first, &memory[..512], &mut record).expect("the lengths are right");
        if made.record_len == 0 {
            continue;
        }
        let mut memory = memory;
        memory[512..1024].copy_from_slice(&first);
        memory[1024..1664].copy_from_slice(&record);
        let record_len = u32::try_from(made.record_len).expect("it is small");
        let whole = Operation::ApplyDelta { record: 1024, dst: 512, len: 512, record_len };
        agree(&memory, whole, Flags::RECORD, random);
    }
}

/// The parts' records lie one behind the other, each with offsets from its own start.
#[test]
fn records_made_in_parts_describe_their_parts() {
    let mut memory = vec![0; SIZE];
    memory[512..1024].fill(1);
    let (record, max_record_len) = (2048, 640);
    let whole = Operation::CreateDelta { src_1: 0, src_2: 512, len: 512, record, max_record_len, expected_mask: 0 };
    let stopped = execute(&mut memory, &Descriptor::new(&whole, Flags::RECORD, 0x40), Some(160));
    let rest = whole.rest(Flags::RECORD, &stopped);
    let expected = Operation::CreateDelta {
        src_1: 160,
        src_2: 672,
        len: 352,
        record: 2048 + 200,
        max_record_len: 440,
        expected_mask: 0,
    };
    assert_eq!(rest, Some((expected, Flags::RECORD)));
    // Too little room is left for a device.
    let full = stopped.with_delta_record_len(570);
    assert_eq!(whole.rest(Flags::RECORD, &full), None);
}

#[test]
fn what_did_not_stop_or_cannot_be_has_no_rest() {
    let copy = Operation::Memmove { src: 0, dst: 64, len: 64 };
    let rest = |status, done| copy.rest(Flags::RECORD, &RecordView::new(status).with_bytes_completed(done));
    assert_eq!(rest(RecordStatus::SUCCESS, 0), None);
    assert_eq!(rest(RecordStatus::OVERLAP, 0), None);
    assert_eq!(rest(RecordStatus::PAGE_FAULT, 64), None, "nothing would be left");
    assert_eq!(rest(RecordStatus::PAGE_FAULT, 65), None, "more than all cannot be done");
    assert_eq!(rest(RecordStatus::PAGE_FAULT.at_write(), 0), Some((copy, Flags::RECORD)));

    let batch = Operation::Batch { list: 0x1000, count: 4 };
    let stopped = RecordView::new(RecordStatus::BATCH_PAGE_FAULT).with_bytes_completed(3);
    let rest = Operation::Batch { list: 0x1000 + 192, count: 1 };
    assert_eq!(batch.rest(Flags::RECORD, &stopped), Some((rest, Flags::RECORD)));
    let drain = Operation::Drain { readback_1: 8, readback_2: 0 };
    let stopped = RecordView::new(RecordStatus::READBACK_PAGE_FAULT);
    assert_eq!(drain.rest(Flags::RECORD, &stopped), Some((drain, Flags::RECORD)));
}
