//! What a portal says, by the queue's mode and by how full it is.

use memring::dsa::model::{Chance, Instruction, Model, Order, Reply, Settings};
use memring::dsa::{Descriptor, Flags, Mode, Operation, RecordStatus, WorkQueueCapabilities};

use super::map::{self, Device, Map, RECORD};

const NOP: [u8; 64] = [0; 64];

fn with(queue: WorkQueueCapabilities, settings: Settings) -> Device {
    Model::with_memory(map::everything(), queue, settings, Map::new())
}

#[test]
fn a_dedicated_queue_drops_what_it_has_no_room_for() {
    let mut device = with(WorkQueueCapabilities::new(Mode::Dedicated, 3), Settings::default());
    for _ in 0..3 {
        assert_eq!(device.submit(&NOP), Reply::Accepted);
    }
    assert_eq!(device.submit(&NOP), Reply::Dropped);
    assert_eq!((device.errors().dropped, device.errors().last), (1, Some(RecordStatus::QUEUE_OVERFLOW)));
    assert_eq!(device.occupancy(), 3);
    assert!(map::step(&mut device));
    assert_eq!(device.submit(&NOP), Reply::Accepted);
    assert_eq!(map::drain(&mut device), 3);
    assert!(!map::step(&mut device));
    assert_eq!(device.submit_by(Instruction::Enqcmd, &NOP), Reply::Retry);
}

#[test]
fn a_shared_queue_asks_to_retry_from_its_threshold_on() {
    let mut queue = WorkQueueCapabilities::new(Mode::Shared, 8);
    queue.threshold = 2;
    let mut device = with(queue, Settings::default());
    assert_eq!(device.submit(&NOP), Reply::Accepted);
    assert_eq!(device.submit(&NOP), Reply::Accepted);
    assert_eq!(device.submit(&NOP), Reply::Retry);
    assert_eq!(device.errors().dropped, 0);
    map::drain(&mut device);
    assert_eq!(device.submit(&NOP), Reply::Accepted);
    assert_eq!(device.submit_by(Instruction::Movdir64b, &NOP), Reply::Dropped);
    let mut named = NOP;
    named[0] = 1;
    assert_eq!(device.submit(&named), Reply::Dropped);
    assert_eq!(device.errors().dropped, 2);
}

#[test]
fn pressure_makes_a_shared_queue_refuse_at_times() {
    let mut settings = Settings::default();
    settings.retries = Chance::one_in(2);
    let mut device = with(WorkQueueCapabilities::new(Mode::Shared, 10_000), settings);
    let accepted = (0..1000).filter(|_| device.submit(&NOP) == Reply::Accepted).count();
    assert!((300..700).contains(&accepted), "{accepted} of 1000");
    assert_eq!(device.occupancy(), accepted);
}

#[test]
fn a_queue_that_is_gone_accepts_nothing_and_ends_what_it_has() {
    for (mode, reply) in [(Mode::Dedicated, Reply::Dropped), (Mode::Shared, Reply::Retry)] {
        let mut device = with(WorkQueueCapabilities::new(mode, 8), Settings::default());
        assert_eq!(device.submit(&NOP), Reply::Accepted);
        device.disable();
        assert_eq!(device.submit(&NOP), reply);
        assert_eq!(map::drain(&mut device), 1);
    }
}

/// The records of so many no-ops that end one by one, in the order in which they end.
fn endings(settings: Settings, descriptors: &[Descriptor]) -> Vec<usize> {
    let mut device = with(WorkQueueCapabilities::new(Mode::Dedicated, 64), settings);
    for (index, descriptor) in descriptors.iter().enumerate() {
        device.memory_mut().clear(RECORD + 64 * index as u64);
        assert_eq!(device.submit(&descriptor.to_bytes()), Reply::Accepted);
    }
    let mut ended = Vec::new();
    while map::step(&mut device) {
        let new = (0..descriptors.len())
            .find(|index| !ended.contains(index) && device.memory().record(RECORD + 64 * *index as u64).is_some());
        ended.push(new.expect("one has ended"));
    }
    assert_eq!(ended.len(), descriptors.len());
    ended
}

#[test]
fn descriptors_end_in_any_order_but_drains_wait() {
    let record = |index: usize| RECORD + 64 * index as u64;
    let mut all: Vec<Descriptor> =
        (0..16).map(|index| Descriptor::new(&Operation::Nop, Flags::RECORD, record(index))).collect();
    let order = |completions| {
        let mut settings = Settings::default();
        settings.completions = completions;
        settings
    };
    let in_order: Vec<usize> = (0..16).collect();
    assert_eq!(endings(order(Order::InOrder), &all), in_order);
    assert_eq!(endings(order(Order::Reversed), &all), in_order.iter().rev().copied().collect::<Vec<_>>());
    let random = endings(order(Order::Random), &all);
    assert_ne!(random, in_order);
    assert_eq!(endings(order(Order::Random), &all), random, "the same seed, the same order");
    all[8] = Descriptor::new(&Operation::Drain { readback_1: 0, readback_2: 0 }, Flags::RECORD, record(8));
    let mut overtaken = false;
    for seed in 0..50 {
        let mut settings = order(Order::Random);
        settings.seed = seed;
        let ended = endings(settings, &all);
        let drain = ended.iter().position(|index| *index == 8).expect("it has ended");
        assert!(ended[drain..].iter().all(|index| *index >= 8), "{ended:?}");
        overtaken |= ended[..drain].iter().any(|index| *index > 8);
    }
    assert!(overtaken, "what comes after a drain may overtake it");
}
