//! A client that submits what is left of an operation until it is done, whatever faults: what memory holds in the end
//! is what the operation would have done at once, byte for byte.
#![expect(clippy::print_stdout, reason = "what to repeat, if it fails")]

use memring::dsa::model::{Access, Chance, Faults, Model, Settings};
use memring::dsa::{Flags, Mode, Operation, RecordStatus, RecordView};

use super::drawn::{Drawn, Expected, draw, expect};
use super::map::{self, Device, Map, PAGE};
use super::random::{Random, seed};

/// An operation that came to its end.
struct Done {
    view: RecordView,
    /// How much was compared or summed before its last part, bytes.
    before: u32,
    /// The length of the delta record of all parts.
    delta_len: u32,
    parts: u32,
}

/// Adds what was compared before to the offsets of a delta record.
fn shift(device: &mut Device, record: u64, len: u32, before: u32) {
    for entry in device.memory_mut().slice_mut(record, len as usize).chunks_mut(10) {
        let number = u32::from(u16::from_le_bytes([entry[0], entry[1]])) + before / 8;
        entry[..2].copy_from_slice(&number.to_le_bytes()[..2]);
    }
}

/// Submits it, and what is left of it, until it is done.
fn finish(device: &mut Device, drawn: &Drawn) -> Done {
    let Drawn { mut operation, mut flags } = *drawn;
    let (mut before, mut delta_len) = (0, 0);
    for parts in 1..10_000 {
        let view = map::perform(device, &operation, flags);
        let status = view.status();
        assert!(status.is_success() || status.is_resumable(), "{drawn:?}: {view:?}");
        let mut len = 0;
        if let Operation::CreateDelta { record, .. } = operation {
            len = view.delta_record_len();
            shift(device, record, len, before);
        }
        delta_len += len;
        let Some(fault) = view.fault() else {
            return Done { view, before, delta_len, parts };
        };
        assert_eq!(fault.address % PAGE as u64, 0, "the address is masked");
        device.memory_mut().touch(fault.address, fault.is_write);
        match operation.rest(flags, &view) {
            Some(rest) => {
                before += if matches!(operation, Operation::TranslationFetch { .. } | Operation::Drain { .. }) {
                    0
                } else {
                    view.bytes_completed()
                };
                (operation, flags) = rest;
            }
            // No room for the rest of a delta record: all of it once more.
            None => {
                assert!(matches!(operation, Operation::CreateDelta { .. }), "{drawn:?}: {view:?} has no rest");
                (operation, flags, before, delta_len) = (drawn.operation, drawn.flags, 0, 0);
            }
        }
    }
    panic!("{drawn:?} does not end");
}

fn check(drawn: &Drawn, done: &Done, expected: &Expected, settings: &Settings) {
    let Done { view, before, .. } = done;
    if let Some(sum) = expected.sum {
        let found = if drawn.flags.contains(Flags::CRC_64) { view.crc64() } else { view.crc32().into() };
        assert_eq!(found, sum, "{drawn:?} in {} parts", done.parts);
    }
    if expected.delta.is_some() {
        return;
    }
    assert_eq!(view.status(), expected.status(drawn.flags), "{drawn:?} in {} parts", done.parts);
    if let Some(result) = expected.result {
        assert_eq!(view.result(), result, "{drawn:?} in {} parts", done.parts);
    }
    match (expected.offset, drawn.operation) {
        (Some(offset), Operation::CompareValue { .. }) if settings.blurs_offsets => {
            let found = before + view.bytes_completed();
            assert!(found <= offset && offset - found < 64, "{drawn:?}: {found} for {offset}");
        }
        (Some(offset), _) => assert_eq!(before + view.bytes_completed(), offset, "{drawn:?} in {} parts", done.parts),
        (None, Operation::Nop | Operation::TranslationFetch { .. } | Operation::Drain { .. }) => {}
        (None, _) => assert_eq!(view.bytes_completed(), 0, "{drawn:?} succeeds"),
    }
}

/// The record is the first entries of all that there are, and all of them unless it is full.
fn check_delta(drawn: &Drawn, done: &Done, expected: &Expected, device: &Device, settings: &Settings) {
    let (Some(all), &Operation::CreateDelta { record, max_record_len, len, .. }) = (&expected.delta, &drawn.operation)
    else {
        return;
    };
    let view = &done.view;
    let made = device.memory().slice(record, done.delta_len as usize);
    assert!(all.starts_with(made), "{drawn:?} in {} parts", done.parts);
    let is_full = view.result() == 2;
    if is_full {
        let least = if settings.ends_deltas_early { 80 } else { 10 };
        assert!(made.len() < all.len() && made.len() + least > max_record_len as usize, "{drawn:?} ends too early");
        let next = u32::from(u16::from_le_bytes([all[made.len()], all[made.len() + 1]])) * 8;
        let compared = done.before + view.bytes_completed();
        assert!(compared <= next && next - compared < 64 && compared < len, "{drawn:?}: {compared} before {next}");
    } else {
        assert_eq!(made.len(), all.len(), "{drawn:?} in {} parts", done.parts);
        assert_eq!(view.bytes_completed(), 0, "{drawn:?}");
    }
    if !settings.ends_deltas_early {
        assert_eq!(is_full, expected.result == Some(2), "{drawn:?} in {} parts", done.parts);
    }
    if done.parts == 1 && !settings.ends_deltas_early {
        assert_eq!(Some(view.result()), expected.result, "{drawn:?}");
        assert_eq!(view.status(), expected.status(drawn.flags), "{drawn:?}");
    }
}

/// Draws operations, and finishes each; says how many took more than one part.
fn play(count: usize, settings: Settings, random: &mut Random, unmaps: bool) -> usize {
    let queue = map::queue(if random.below(2) == 0 { Mode::Dedicated } else { Mode::Shared });
    let mut device = Model::with_memory(map::everything(), queue, settings, Map::new());
    let mut image = Map::new();
    let mut resumed = 0;
    for _ in 0..count {
        let drawn = draw(random, &mut image);
        device.memory_mut().bytes.copy_from_slice(&image.bytes);
        if unmaps && random.below(2) == 0 {
            let access = if random.below(2) == 0 { Access::Read } else { Access::Write };
            device.memory_mut().unmap(random.below(9), access);
        }
        let expected = expect(&drawn, &mut image);
        let done = finish(&mut device, &drawn);
        check(&drawn, &done, &expected, &settings);
        check_delta(&drawn, &done, &expected, &device, &settings);
        if let Operation::CreateDelta { record, max_record_len, .. } = drawn.operation {
            // How it uses the room that it was given is its affair.
            let made = device.memory().slice(record, max_record_len as usize);
            image.slice_mut(record, max_record_len as usize).copy_from_slice(made);
        }
        let record = 9 * PAGE..9 * PAGE + 32;
        assert!(device.memory().bytes[..record.start] == image.bytes[..record.start], "{drawn:?}: wrong bytes");
        assert!(device.memory().bytes[record.end..] == image.bytes[record.end..], "{drawn:?}: writes past its record");
        resumed += usize::from(done.parts > 1);
    }
    resumed
}

fn operations() -> usize {
    let is_full = std::env::var("MEMRING_STRESS").is_ok_and(|length| length == "full");
    if is_full { 10_000_000 } else { 100_000 }
}

#[test]
fn without_faults_all_is_done_at_once() {
    let mut random = Random::new(seed());
    assert_eq!(play(operations() / 10, Settings::default(), &mut random, false), 0);
}

#[test]
fn with_faults_the_rest_is_done_later() {
    let seed = seed();
    println!("MEMRING_SEED={seed}");
    let mut random = Random::new(seed);
    let rounds = 100;
    let mut resumed = 0;
    for round in 0..rounds {
        let mut settings = Settings::hostile(random.next());
        settings.ends_deltas_early = round % 2 == 0;
        settings.blurs_offsets = round % 4 < 2;
        resumed += play(operations() / rounds, settings, &mut random, round % 3 != 0);
    }
    assert!(resumed > operations() / 4, "only {resumed} operations were resumed");
}

#[test]
fn missing_pages_alone_are_enough() {
    let mut random = Random::new(seed());
    let resumed = play(operations() / 20, Settings::default(), &mut random, true);
    assert!(resumed > operations() / 400, "only {resumed} operations were resumed");
}

#[test]
fn a_device_that_blocks_on_faults_was_refused() {
    let mut settings = Settings::default();
    settings.faults = Faults::Random(Chance::ALWAYS);
    let mut device = map::device(settings);
    let copy = Operation::Memmove { src: map::at(0), dst: map::at(2 * PAGE), len: 4096 };
    let view = map::perform(&mut device, &copy, Flags::BLOCK_ON_FAULT);
    assert_eq!(view.status().code(), RecordStatus::PAGE_FAULT_REFUSED);
    assert_eq!(map::perform(&mut device, &copy, Flags::NONE).status().code(), RecordStatus::PAGE_FAULT);
}
