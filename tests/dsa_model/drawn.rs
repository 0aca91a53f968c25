//! Operations drawn at random that a device must not refuse, and what they do by the pure operations.
//!
//! Each operand has two pages to itself, but for a MEMMOVE that may be inside of two; so what a device may not overlap
//! does not.

use memring::dsa::operations::{self, Crc, DeltaResult, apply_delta, create_delta};
use memring::dsa::{Flags, Operation, RecordStatus};

use super::map::{Map, PAGE, at};
use super::random::Random;

const ZONE: usize = 2 * PAGE;
/// The most that the record of two zones can be, bytes.
const MOST_DELTA: usize = ZONE / 8 * 10;
/// Where seeds lie, and what a drain reads back.
const SEEDS: u64 = at(8 * PAGE);

/// An operation and its flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) operation: Operation,
    pub(crate) flags: Flags,
}

/// What its record should say, besides what it does to memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) result: Option<u8>,
    /// The offset of the first difference.
    pub(crate) offset: Option<u32>,
    pub(crate) sum: Option<u64>,
    /// Every entry that there would be with room for it.
    pub(crate) delta: Option<Vec<u8>>,
    /// Whether the result is the one that the operation wants to be told of.
    pub(crate) is_wanted: bool,
}

impl Expected {
    pub(crate) fn status(&self, flags: Flags) -> RecordStatus {
        let is_checked = flags.contains(Flags::CHECK_RESULT);
        if is_checked && !self.is_wanted { RecordStatus::SUCCESS_PREDICATE } else { RecordStatus::SUCCESS }
    }
}

/// Random bytes.
pub(crate) fn bytes<const N: usize>(random: &mut Random) -> [u8; N] {
    core::array::from_fn(|_| random.next().to_le_bytes()[0])
}

/// A region of a zone: its offset there, and its length. Often short.
fn region(random: &mut Random, unit: usize) -> (u64, u32) {
    let start = random.below(ZONE / unit) * unit;
    let room = match random.below(3) {
        0 => 64.min(ZONE - start),
        1 => 2000.min(ZONE - start),
        _ => ZONE - start,
    };
    let len = (random.below(room / unit) + 1) * unit;
    (start as u64, u32::try_from(len).expect("a zone is short"))
}

fn zone(number: usize) -> u64 {
    at(number * ZONE)
}

fn maybe(random: &mut Random, flags: Flags) -> Flags {
    if random.below(2) == 0 { flags } else { Flags::NONE }
}

/// Changes a byte, or several, or none.
fn disturb(random: &mut Random, map: &mut Map, address: u64, len: u32, most: usize) {
    for _ in 0..random.below(most + 1) {
        let offset = random.below(len as usize) as u64;
        map.slice_mut(address + offset, 1)[0] = random.next().to_le_bytes()[0];
    }
}

/// Draws an operation, and puts into memory what makes it interesting.
pub(crate) fn draw(random: &mut Random, map: &mut Map) -> Drawn {
    let seed = zone(0) + random.below(ZONE) as u64;
    map.slice_mut(seed & !7, 8).copy_from_slice(&random.next().to_le_bytes());
    let (offset, len) = region(random, 1);
    let (src, dst) = (zone(0) + offset, zone(1) + random.below(ZONE - len as usize + 1) as u64);
    let write = maybe(random, Flags::CACHE_CONTROL) | maybe(random, Flags::DESTINATION_READBACK);
    let check = maybe(random, Flags::CHECK_RESULT);
    let pattern = if random.below(3) == 0 { 0 } else { random.next() };
    let (operation, flags) = match random.below(12) {
        0 | 1 => {
            let dst = if random.below(2) == 0 { dst } else { dst - ZONE as u64 };
            (Operation::Memmove { src, dst, len }, write)
        }
        2 => {
            let wide = maybe(random, Flags::FILL_16);
            let pattern_high = if wide.is_empty() { 0 } else { random.next() };
            (Operation::Fill { pattern, pattern_high, dst, len }, write | wide)
        }
        3 => {
            let (from, to) = map.two(src, dst, len as usize);
            to.copy_from_slice(&from);
            disturb(random, map, dst, len, 2);
            (Operation::Compare { src_1: src, src_2: dst, len, expected: random.next().to_le_bytes()[0] }, check)
        }
        4 => {
            operations::fill(map.slice_mut(src, len as usize), pattern);
            disturb(random, map, src, len, 2);
            (Operation::CompareValue { src, pattern, len, expected: random.next().to_le_bytes()[0] }, check)
        }
        5 => (draw_delta(random, map), check | write),
        6 => draw_apply(random, map).map_or((Operation::Nop, Flags::NONE), |apply| (apply, write)),
        7 => {
            let dst_2 = zone(2) + dst - zone(1);
            (Operation::Dualcast { src, dst_1: dst, dst_2, len }, write)
        }
        8 => draw_sum(random, map, src, None, len),
        9 => draw_sum(random, map, src, Some(dst), len),
        10 => (Operation::CacheFlush { address: dst, len }, Flags::NONE),
        _ if random.below(2) == 0 => (Operation::TranslationFetch { address: src, len, stride: 0 }, Flags::NONE),
        _ => {
            let (one, two) = (maybe(random, Flags::READBACK_1_VALID), maybe(random, Flags::READBACK_2_VALID));
            let readback_1 = if one.is_empty() { 0 } else { src };
            let readback_2 = if two.is_empty() { 0 } else { dst };
            (Operation::Drain { readback_1, readback_2 }, one | two)
        }
    };
    Drawn { operation, flags }
}

fn draw_delta(random: &mut Random, map: &mut Map) -> Operation {
    let (offset, len) = region(random, 8);
    let (src_1, src_2) = (zone(0) + offset, zone(1) + offset);
    let (from, to) = map.two(src_1, src_2, len as usize);
    to.copy_from_slice(&from);
    disturb(random, map, src_2, len, 40);
    // Zones two and three are the record's, since it may be longer than its sources.
    let most = if random.below(2) == 0 { 200 } else { MOST_DELTA };
    let max_record_len = 80 + u32::try_from(random.below(most)).unwrap_or(0);
    let record = zone(2) + random.below(1000) as u64;
    Operation::CreateDelta { src_1, src_2, len, record, max_record_len, expected_mask: random.next().to_le_bytes()[0] }
}

/// Nothing, if there is no difference to apply.
fn draw_apply(random: &mut Random, map: &mut Map) -> Option<Operation> {
    let (offset, len) = region(random, 8);
    let (one, two) = (zone(0) + offset, zone(1) + offset);
    disturb(random, map, two, len, 40);
    let mut delta = vec![0; MOST_DELTA];
    let created = create_delta(map.slice(one, len as usize), map.slice(two, len as usize), &mut delta);
    let record_len = created.map_or(0, |created| created.record_len);
    let record = zone(2) + random.below(1000) as u64;
    if record_len == 0 {
        return None;
    }
    map.slice_mut(record, record_len).copy_from_slice(&delta[..record_len]);
    Some(Operation::ApplyDelta { record, dst: one, len, record_len: u32::try_from(record_len).unwrap_or(0) })
}

fn draw_sum(random: &mut Random, map: &mut Map, src: u64, dst: Option<u64>, len: u32) -> (Operation, Flags) {
    let mut flags = maybe(random, Flags::BYPASS_CRC_REFLECTION) | maybe(random, Flags::BYPASS_DATA_REFLECTION);
    flags |= maybe(random, Flags::CRC_64) | maybe(random, Flags::READ_SEED);
    let [a, b, c, d, ..] = random.next().to_le_bytes();
    let narrow = u64::from(u32::from_le_bytes([a, b, c, d]));
    let seed = if flags.contains(Flags::CRC_64) { random.next() } else { narrow };
    let place = SEEDS + 8 * random.below(8) as u64;
    map.slice_mut(place, 8).copy_from_slice(&random.next().to_le_bytes());
    let (seed, seed_address) = if flags.contains(Flags::READ_SEED) { (0, place) } else { (seed, 0) };
    match dst {
        Some(dst) => (Operation::CopyCrc { src, dst, len, seed, seed_address }, flags),
        None => (Operation::Crc { src, len, seed, seed_address }, flags),
    }
}

/// Does it to this memory, by the pure operations; but for a delta record, which is only told.
pub(crate) fn expect(drawn: &Drawn, map: &mut Map) -> Expected {
    let mut expected = Expected { is_wanted: true, ..Expected::default() };
    match drawn.operation {
        Operation::Memmove { src, dst, len } => {
            let start = usize::try_from(src - at(0)).expect("it is in the memory");
            let dst = usize::try_from(dst - at(0)).expect("it is in the memory");
            operations::memmove_within(&mut map.bytes, start..start + len as usize, dst).expect("it is in the memory");
        }
        Operation::Fill { pattern, pattern_high, dst, len } => {
            let dst = map.slice_mut(dst, len as usize);
            if drawn.flags.contains(Flags::FILL_16) {
                operations::fill_16(dst, u128::from(pattern) | u128::from(pattern_high) << 64);
            } else {
                operations::fill(dst, pattern);
            }
        }
        Operation::Compare { src_1, src_2, len, expected: wanted } => {
            let found = operations::compare(map.slice(src_1, len as usize), map.slice(src_2, len as usize));
            compared(&mut expected, found, wanted);
        }
        Operation::CompareValue { src, pattern, len, expected: wanted } => {
            compared(&mut expected, operations::compare_value(map.slice(src, len as usize), pattern), wanted);
        }
        Operation::CreateDelta { src_1, src_2, len, max_record_len, expected_mask, .. } => {
            let mut delta = vec![0; MOST_DELTA];
            let (one, two) = (map.slice(src_1, len as usize), map.slice(src_2, len as usize));
            let limited = create_delta(one, two, &mut delta[..(max_record_len as usize).min(MOST_DELTA)]);
            let result = limited.expect("the sources are right").result;
            let all = create_delta(one, two, &mut delta).expect("the sources are right");
            assert_ne!(all.result, DeltaResult::Overflow, "there is room for all");
            delta.truncate(all.record_len);
            (expected.result, expected.delta) = (Some(result.to_u8()), Some(delta));
            expected.is_wanted = result.is_expected_by(expected_mask);
        }
        Operation::ApplyDelta { record, dst, len, record_len } => {
            let (record, dst) = (map.slice(record, record_len as usize).to_vec(), map.slice_mut(dst, len as usize));
            apply_delta(&record, dst).expect("the record is right");
        }
        Operation::Dualcast { src, dst_1, dst_2, len } => {
            for dst in [dst_1, dst_2] {
                let (src, dst) = map.two(src, dst, len as usize);
                operations::memmove(dst, &src);
            }
        }
        Operation::Crc { src, len, seed, seed_address } => {
            expected.sum = Some(sum(drawn.flags, map, src, len, seed, seed_address));
        }
        Operation::CopyCrc { src, dst, len, seed, seed_address } => {
            expected.sum = Some(sum(drawn.flags, map, src, len, seed, seed_address));
            let (src, dst) = map.two(src, dst, len as usize);
            operations::memmove(dst, &src);
        }
        _ => {}
    }
    expected
}

fn compared(expected: &mut Expected, found: Option<usize>, wanted: u8) {
    let result = u8::from(found.is_some());
    expected.result = Some(result);
    expected.offset = found.map(|offset| u32::try_from(offset).expect("a zone is short"));
    expected.is_wanted = wanted & 1 == result;
}

fn sum(flags: Flags, map: &Map, src: u64, len: u32, seed: u64, seed_address: u64) -> u64 {
    let crc = Crc::from_flags(flags);
    let mut bytes = [0; 8];
    if flags.contains(Flags::READ_SEED) {
        bytes[..crc.bytes()].copy_from_slice(map.slice(seed_address, crc.bytes()));
    } else {
        bytes = seed.to_le_bytes();
    }
    crc.sum(map.slice(src, len as usize), u64::from_le_bytes(bytes))
}
