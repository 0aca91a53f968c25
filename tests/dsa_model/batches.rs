//! Batches: what a fence stops, what the batch's record says, and who gets no record; then batches drawn at random
//! against an interpreter of a few lines that knows nothing of the model.
//!
//! Members between two fences touch different memory, so their order must not be seen. Across a fence they read what
//! was written before it, so that order must be.

use memring::dsa::model::{Access, Chance, Model, Order, Reply, Settings};
use memring::dsa::{Descriptor, DeviceCapabilities, Flags, GenCap, Mode, Operation, Preset, RecordStatus, RecordView};

use super::map::{self, Device, Map, PAGE, RECORD, at};
use super::random::{Random, seed};

/// Blocks of 64 bytes that members work on: the first page.
const BLOCKS: usize = 64;
/// Never there.
const MISSING: u64 = at(2 * PAGE);
/// The list may cross into the next page.
const LIST: u64 = at(4 * PAGE) - 64 * 8;
/// The records of members.
const RECORDS: u64 = at(6 * PAGE);

fn block(number: usize) -> u64 {
    at(64 * number)
}

fn record_of(member: usize) -> u64 {
    RECORDS + 32 * member as u64
}

/// What a member does, and how that ends.
#[derive(Clone, Copy, Debug)]
enum Does {
    Nothing,
    Copy {
        from: usize,
        to: usize,
    },
    Fill {
        to: usize,
        byte: u8,
    },
    /// Succeeds, but for the result that was asked for.
    Check {
        block: usize,
        byte: u8,
    },
    /// Is refused.
    Wrong,
    /// Stops at once.
    Fault {
        to: usize,
    },
    /// Has no place in a batch.
    Drain,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    does: Does,
    fence: bool,
    /// A record in any case, or only of what fails, or none.
    record: Flags,
}

impl Member {
    fn descriptor(&self, number: usize) -> Descriptor {
        let operation = match self.does {
            Does::Nothing => Operation::Nop,
            Does::Copy { from, to } => Operation::Memmove { src: block(from), dst: block(to), len: 64 },
            Does::Fill { to, byte } => {
                Operation::Fill { pattern: u64::from_le_bytes([byte; 8]), pattern_high: 0, dst: block(to), len: 64 }
            }
            Does::Check { block: number, byte } => Operation::CompareValue {
                src: block(number),
                pattern: u64::from_le_bytes([byte; 8]),
                len: 64,
                expected: 0,
            },
            Does::Wrong => Operation::Fill { pattern: 0, pattern_high: 0, dst: block(0), len: 0 },
            Does::Fault { to } => Operation::Memmove { src: MISSING, dst: block(to), len: 64 },
            Does::Drain => Operation::Drain { readback_1: 0, readback_2: 0 },
        };
        let check = if matches!(self.does, Does::Check { .. }) { Flags::CHECK_RESULT } else { Flags::NONE };
        let fence = if self.fence { Flags::FENCE } else { Flags::NONE };
        let address = if self.record.is_empty() { 0 } else { record_of(number) };
        Descriptor::new(&operation, self.record | check | fence, address)
    }
}

/// What a batch leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    blocks: Vec<[u8; 64]>,
    statuses: Vec<Option<RecordStatus>>,
    processed: usize,
    has_failed: bool,
}

/// The interpreter: one member after the other, as the specification says it.
fn interpret(members: &[Member], mut blocks: Vec<[u8; 64]>) -> Outcome {
    let (mut has_failed, mut processed) = (false, 0);
    let mut statuses = vec![None; members.len()];
    for (member, written) in members.iter().zip(&mut statuses) {
        if member.fence && has_failed {
            break;
        }
        let status = match member.does {
            Does::Copy { from, to } => {
                blocks[to] = blocks[from];
                0x01
            }
            Does::Fill { to, byte } => {
                blocks[to] = [byte; 64];
                0x01
            }
            Does::Nothing => 0x01,
            Does::Check { block, byte } if blocks[block] == [byte; 64] => 0x01,
            Does::Check { .. } => 0x02,
            Does::Wrong => 0x13,
            Does::Fault { .. } => 0x03,
            Does::Drain => 0x10,
        };
        has_failed |= status != 0x01;
        processed += 1;
        let is_written = match member.record {
            Flags::RECORD => true,
            Flags::NONE => false,
            _ => status > 0x02,
        };
        *written = is_written.then_some(RecordStatus::from_u8(status));
    }
    Outcome { blocks, statuses, processed, has_failed }
}

fn device(capabilities: DeviceCapabilities, settings: Settings) -> Device {
    let mut queue = map::queue(Mode::Shared);
    queue.max_batch = 64;
    let mut map = Map::new();
    map.unmap(2, Access::Read);
    map.slice_mut(RECORDS, PAGE).fill(0);
    for number in 0..BLOCKS {
        map.slice_mut(block(number), 64).fill(u8::try_from(number).expect("there are few"));
    }
    Model::with_memory(capabilities, queue, settings, map)
}

fn blocks(device: &Device) -> Vec<[u8; 64]> {
    (0..BLOCKS).map(|number| device.memory().slice(block(number), 64).try_into().expect("it has 64 bytes")).collect()
}

fn put_list(device: &mut Device, members: &[Member]) {
    for (number, member) in members.iter().enumerate() {
        device
            .memory_mut()
            .slice_mut(LIST + 64 * number as u64, 64)
            .copy_from_slice(&member.descriptor(number).to_bytes());
    }
}

fn operation(members: &[Member]) -> Operation {
    Operation::Batch { list: LIST, count: u32::try_from(members.len()).expect("there are few") }
}

fn outcome(device: &Device, members: &[Member], view: &RecordView) -> Outcome {
    let status = |number| device.memory().record(record_of(number)).map(|view| view.status());
    let has_failed = view.status() != RecordStatus::SUCCESS;
    Outcome {
        blocks: blocks(device),
        statuses: (0..members.len()).map(status).collect(),
        processed: view.descriptors_completed() as usize,
        has_failed,
    }
}

fn run(preset: Preset, settings: Settings, members: &[Member]) -> (RecordView, Outcome) {
    let mut device = device(preset.capabilities(), settings);
    put_list(&mut device, members);
    let view = map::perform(&mut device, &operation(members), Flags::NONE);
    let outcome = outcome(&device, members, &view);
    (view, outcome)
}

const fn member(does: Does) -> Member {
    Member { does, fence: false, record: Flags::RECORD }
}

const fn fenced(does: Does) -> Member {
    Member { fence: true, ..member(does) }
}

/// Statuses of the members' records, zero for none; how many were processed; and the batch's status.
fn told(members: &[Member]) -> (Vec<u8>, u32, u8) {
    let (view, outcome) = run(Preset::V2Full, Settings::default(), members);
    let statuses = outcome.statuses.iter().map(|status| status.map_or(0, RecordStatus::to_u8)).collect();
    (statuses, view.descriptors_completed(), view.status().to_u8())
}

#[test]
fn a_fence_abandons_after_any_failure_and_nothing_else_does() {
    let (good, fence) = (member(Does::Nothing), fenced(Does::Nothing));
    let (wrong, odd) = (member(Does::Wrong), member(Does::Check { block: 1, byte: 0xff }));
    let fault = member(Does::Fault { to: 5 });
    assert_eq!(told(&[good, good, good]), (vec![1, 1, 1], 3, 0x01));
    assert_eq!(told(&[good, fence, fence]), (vec![1, 1, 1], 3, 0x01));
    // Without a fence all run.
    assert_eq!(told(&[wrong, good, fault, good]), (vec![0x13, 1, 3, 1], 4, 0x05));
    // What is abandoned keeps its record as it was, fence or not.
    assert_eq!(told(&[wrong, good, fence, good, fence]), (vec![0x13, 1, 0, 0, 0], 2, 0x05));
    // Any earlier member, however far before.
    assert_eq!(told(&[fault, good, good, good, fence]), (vec![3, 1, 1, 1, 0], 4, 0x05));
    // A false predicate is a failure to a fence, and to the batch.
    assert_eq!(told(&[odd, fence]), (vec![2, 0], 1, 0x05));
    // A member that fails behind a fence it has passed does not stop what is beside it.
    assert_eq!(told(&[good, fenced(Does::Wrong), good]), (vec![1, 0x13, 1], 3, 0x05));
    // A first fence waits for nothing.
    assert_eq!(told(&[fence, good]), (vec![1, 1], 2, 0x01));
}

#[test]
fn what_has_no_place_in_a_batch() {
    let batch = Descriptor::new(&Operation::Batch { list: LIST, count: 2 }, Flags::RECORD, record_of(0));
    let mut device = device(map::everything(), Settings::default());
    put_list(&mut device, &[member(Does::Nothing), member(Does::Drain)]);
    device.memory_mut().slice_mut(LIST, 64).copy_from_slice(&batch.to_bytes());
    let view = map::perform(&mut device, &operation(&[member(Does::Nothing); 2]), Flags::NONE);
    assert_eq!((view.status(), view.descriptors_completed()), (RecordStatus::BATCH_FAILED, 2));
    for number in 0..2 {
        let status = device.memory().record(record_of(number)).map(|view| view.status());
        assert_eq!(status, Some(RecordStatus::BAD_OPCODE));
    }
}

#[test]
fn address_space_and_privilege_of_members_are_ignored() {
    let mut device = device(map::everything(), Settings::default());
    put_list(&mut device, &[member(Does::Nothing); 2]);
    device.memory_mut().slice_mut(LIST, 4).copy_from_slice(&[0xff, 0xff, 0x0f, 0x80]);
    assert_eq!(map::perform(&mut device, &operation(&[member(Does::Nothing); 2]), Flags::NONE).status().to_u8(), 1);
}

/// With batch continuation the result says whether a member had failed; without, nothing does.
#[test]
fn the_result_of_a_batch() {
    let good = [member(Does::Nothing); 2];
    let wrong = [member(Does::Wrong), member(Does::Nothing)];
    for (preset, members, result) in [
        (Preset::V2Full, good, 0),
        (Preset::V2Full, wrong, 1),
        (Preset::V1Early, good, 0xa5),
        (Preset::V1Early, wrong, 0xa5),
    ] {
        assert_eq!(preset.capabilities().gen_cap.contains(GenCap::BATCH_CONTINUATION), preset == Preset::V2Full);
        assert_eq!(run(preset, Settings::default(), &members).0.result(), result, "{preset}");
    }
    // A batch that goes on after one in which a member had failed stops at its first fence.
    let mut device = device(map::everything(), Settings::default());
    put_list(&mut device, &[member(Does::Nothing), fenced(Does::Nothing)]);
    let view = map::perform(&mut device, &operation(&good), Flags::BATCH_ERROR);
    assert_eq!((view.status(), view.descriptors_completed(), view.result()), (RecordStatus::BATCH_FAILED, 1, 1));
}

/// Without being asked for, a record comes only for what is worse than members that failed.
#[test]
fn a_batch_that_wants_no_record() {
    for (wrong, missing, expected) in
        [(false, false, None), (true, false, None), (false, true, Some(RecordStatus::BATCH_PAGE_FAULT))]
    {
        let mut device = device(map::everything(), Settings::default());
        let does = if wrong { Does::Wrong } else { Does::Nothing };
        let members = [member(does); 20];
        put_list(&mut device, &members);
        if missing {
            device.memory_mut().unmap(4, Access::Read);
        }
        let batch = Descriptor::new(&operation(&members), Flags::RECORD_ADDRESS_VALID, RECORD);
        assert_eq!(map::run(&mut device, &batch).map(|view| view.status()), expected);
        assert_eq!(device.errors().unreported, 0);
        // Nor is it counted as unreported, without a place for a record.
        let nowhere = Descriptor::new(&operation(&members[..2]), Flags::NONE, 0);
        assert_eq!(map::run(&mut device, &nowhere), None);
        assert_eq!(device.errors().unreported, 0);
    }
}

/// A batch whose list is not all there stops there, and goes on from there.
#[test]
fn a_list_whose_second_page_is_missing() {
    for fails in [false, true] {
        let mut members = [member(Does::Nothing); 20];
        for (number, member) in members.iter_mut().enumerate() {
            member.does = Does::Fill { to: number, byte: 0x77 };
        }
        members[12].fence = true;
        if fails {
            members[3].does = Does::Wrong;
        }
        let mut device = device(map::everything(), Settings::default());
        let expected = interpret(&members, blocks(&device));
        put_list(&mut device, &members);
        device.memory_mut().unmap(4, Access::Read);
        let view = map::perform(&mut device, &operation(&members), Flags::NONE);
        assert_eq!((view.status(), view.descriptors_completed()), (RecordStatus::BATCH_PAGE_FAULT, 8));
        assert_eq!(view.fault().map(|fault| fault.address), Some(at(4 * PAGE)));
        assert_eq!((view.fault_info().map(|info| info.operand), view.result()), (Some(1), fails.into()));
        device.memory_mut().touch(at(4 * PAGE), false);
        let (rest, _) = operation(&members).rest(Flags::RECORD, &view).expect("it goes on");
        let flags = if fails { Flags::BATCH_ERROR } else { Flags::NONE };
        let view = map::perform(&mut device, &rest, flags);
        let mut found = outcome(&device, &members, &view);
        found.processed += 8;
        assert_eq!(found, expected);
    }
}

#[test]
fn a_batch_takes_one_entry() {
    let mut queue = map::queue(Mode::Dedicated);
    queue.size = 2;
    let mut device = Model::with_memory(map::everything(), queue, Settings::default(), Map::new());
    let batch = Descriptor::new(&Operation::Batch { list: LIST, count: 32 }, Flags::NONE, 0).to_bytes();
    assert_eq!([0; 3].map(|_: i32| device.submit(&batch)), [Reply::Accepted, Reply::Accepted, Reply::Dropped]);
    assert_eq!(device.occupancy(), 2);
}

/// Draws members of which those between two fences do not get in each other's way: each writes a block of its own that
/// none of them reads.
fn draw(random: &mut Random) -> Vec<Member> {
    let count = 2 + random.below(39);
    let mut members = Vec::new();
    let mut written: Vec<usize> = Vec::new();
    let mut read: Vec<usize> = Vec::new();
    let failures = random.below(2) == 0;
    for _ in 0..count {
        let fence = random.below(5) == 0;
        if fence {
            (written, read) = (Vec::new(), Vec::new());
        }
        let free = |random: &mut Random, taken: &[&[usize]]| {
            let candidates: Vec<usize> =
                (0..BLOCKS).filter(|block| !taken.iter().any(|taken| taken.contains(block))).collect();
            candidates[random.below(candidates.len())]
        };
        let to = free(random, &[&written, &read]);
        let from = free(random, &[&written, &[to]]);
        let byte = random.below(BLOCKS).to_le_bytes()[0];
        let does = match random.below(if failures { 12 } else { 7 }) {
            0 => Does::Nothing,
            1..=4 => Does::Copy { from, to },
            5 | 6 => Does::Fill { to, byte },
            7 | 8 => Does::Check { block: from, byte },
            9 => Does::Wrong,
            10 => Does::Fault { to },
            _ => Does::Drain,
        };
        match does {
            Does::Copy { .. } => (written, read) = ([written, vec![to]].concat(), [read, vec![from]].concat()),
            Does::Fill { .. } | Does::Fault { .. } => written.push(to),
            Does::Check { .. } => read.push(from),
            _ => {}
        }
        let needs_record = matches!(does, Does::Check { .. } | Does::Drain);
        let record = match random.below(4) {
            0 if !needs_record => Flags::NONE,
            1 if !needs_record => Flags::RECORD_ADDRESS_VALID,
            _ => Flags::RECORD,
        };
        members.push(Member { does, fence, record });
    }
    members
}

#[test]
fn any_batch_does_what_the_interpreter_says() {
    let seed = seed();
    let mut random = Random::new(seed);
    let (mut abandoned, mut failed) = (0, 0);
    let is_full = std::env::var("MEMRING_STRESS").is_ok_and(|length| length == "full");
    let rounds = if is_full { 200_000 } else { 3_000 };
    for round in 0..rounds {
        let members = draw(&mut random);
        let mut settings = Settings::default();
        settings.seed = random.next();
        settings.members = [Order::InOrder, Order::Reversed, Order::Random][round % 3];
        let (view, found) = run(Preset::V2Full, settings, &members);
        let fresh = blocks(&device(map::everything(), Settings::default()));
        let expected = interpret(&members, fresh);
        assert_eq!(found, expected, "{members:#?}\n{settings:?}, MEMRING_SEED={seed}");
        let status = if expected.has_failed { RecordStatus::BATCH_FAILED } else { RecordStatus::SUCCESS };
        assert_eq!((view.status(), view.result()), (status, expected.has_failed.into()));
        failed += usize::from(expected.has_failed);
        abandoned += usize::from(expected.processed < members.len());
    }
    assert!(failed > rounds / 4 && abandoned > rounds / 8, "{failed} failed, {abandoned} were abandoned in part");
}

/// The same, with a list that faults at any member, which goes on where it stopped; also with a last member alone.
#[test]
fn a_batch_in_parts_does_what_it_would_have_done_at_once() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut resumed = 0;
    for _ in 0..1_000 {
        let members = draw(&mut random);
        let mut settings = Settings::default();
        (settings.seed, settings.members) = (random.next(), Order::Random);
        settings.list_faults = Chance::one_in(12);
        let mut device = device(map::everything(), settings);
        let expected = interpret(&members, blocks(&device));
        put_list(&mut device, &members);
        let (mut rest, mut flags, mut before) = (operation(&members), Flags::NONE, 0);
        let view = loop {
            let view = map::perform(&mut device, &rest, flags);
            if view.status() != RecordStatus::BATCH_PAGE_FAULT {
                break view;
            }
            before += view.descriptors_completed() as usize;
            if view.result() == 1 {
                flags = Flags::BATCH_ERROR;
            }
            (rest, _) = rest.rest(Flags::RECORD, &view).expect("it goes on");
            resumed += 1;
        };
        let mut found = outcome(&device, &members, &view);
        found.processed += before;
        assert_eq!(found, expected, "{members:#?}\nMEMRING_SEED={seed}");
    }
    assert!(resumed > 300, "{resumed}");
}
