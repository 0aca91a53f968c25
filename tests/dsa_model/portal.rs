//! A model in the place of a device: what its portal lets through, when it executes, and what becomes of the rest.
#![expect(unsafe_code, reason = "submits descriptors")]

use memring::dsa::model::{Chance, ModelPortal, Order, Settings};
use memring::dsa::{
    CompletionRecord, Descriptor, Flags, Mode, Operation, Portal, Preset, RecordStatus, RecordView, Stopped, Submitted,
    WorkQueueCapabilities,
};

use super::child::in_child;

/// Memory for copies and their records, which lives longer than any portal here.
struct Arena {
    src: Vec<[u8; 64]>,
    dst: Vec<[u8; 64]>,
    records: Vec<CompletionRecord>,
}

impl Arena {
    fn new(count: usize) -> Self {
        let src = (0..count).map(|index| core::array::from_fn(|byte| (index * 7 + byte * 3 + 1).to_le_bytes()[0]));
        Self {
            src: src.collect(),
            dst: vec![[0; 64]; count],
            records: (0..count).map(|_| CompletionRecord::new()).collect(),
        }
    }

    fn copy(&mut self, index: usize) -> Descriptor {
        let (src, dst) = (self.src[index].as_ptr() as u64, self.dst[index].as_mut_ptr() as u64);
        let record = &raw const self.records[index] as u64;
        Descriptor::new(&Operation::Memmove { src, dst, len: 64 }, Flags::RECORD, record)
    }

    fn copies(&mut self) -> Vec<Descriptor> {
        (0..self.src.len()).map(|index| self.copy(index)).collect()
    }

    fn is_done(&self, index: usize) -> bool {
        let status = self.records[index].status();
        assert!(matches!(status, RecordStatus::PENDING | RecordStatus::SUCCESS), "{status:?}");
        assert_eq!(self.src[index] == self.dst[index], status == RecordStatus::SUCCESS);
        status == RecordStatus::SUCCESS
    }

    fn done(&self) -> usize {
        (0..self.src.len()).filter(|index| self.is_done(*index)).count()
    }
}

fn portal(mode: Mode, size: u32, settings: Settings) -> ModelPortal {
    ModelPortal::new(Preset::V1Early.capabilities(), WorkQueueCapabilities::new(mode, size), settings)
}

fn submit(portal: &mut ModelPortal, descriptors: &[Descriptor]) -> Submitted {
    // SAFETY: what they name outlives the portal, in every test here, or they name nothing.
    unsafe { portal.submit(descriptors) }
}

fn accepted(portal: &mut ModelPortal, descriptors: &[Descriptor]) {
    assert_eq!(submit(portal, descriptors), Submitted { accepted: descriptors.len(), stopped: None });
}

#[test]
fn a_turn_executes_so_many_and_no_more() {
    for (turn, executes) in [(1, 1), (5, 5), (0, 1), (8, 8)] {
        let mut arena = Arena::new(20);
        let mut portal = portal(Mode::Shared, 32, Settings::default()).with_turn(turn);
        accepted(&mut portal, &arena.copies());
        assert_eq!(arena.done(), 0, "a submission executes nothing");
        for ended in (0..20).step_by(executes) {
            assert_eq!((arena.done(), portal.occupancy()), (ended, 20 - ended));
            portal.attend();
        }
        portal.attend();
        assert_eq!((arena.done(), portal.occupancy()), (20, 0));
    }
}

#[test]
fn a_dedicated_queue_is_counted_by_the_portal() {
    let mut arena = Arena::new(6);
    let copies = arena.copies();
    let mut portal = portal(Mode::Dedicated, 4, Settings::default()).with_turn(2);
    assert_eq!(portal.room(), 4);
    assert_eq!(submit(&mut portal, &copies), Submitted { accepted: 4, stopped: Some(Stopped::Busy) });
    assert_eq!(portal.room(), 0);
    portal.attend();
    // The entries are free, and nobody has said so.
    assert_eq!(submit(&mut portal, &copies[4..]), Submitted { accepted: 0, stopped: Some(Stopped::Busy) });
    portal.completed(2);
    assert_eq!(portal.room(), 2);
    accepted(&mut portal, &copies[4..]);
    assert_eq!(portal.errors().dropped, 0);
    drop(portal);
    assert_eq!(arena.done(), 6);
}

#[test]
fn what_a_full_dedicated_queue_is_sent_vanishes() {
    let mut arena = Arena::new(3);
    let copies = arena.copies();
    let mut portal = portal(Mode::Dedicated, 2, Settings::default());
    accepted(&mut portal, &copies[..2]);
    // A lie.
    portal.completed(1);
    accepted(&mut portal, &copies[2..]);
    assert_eq!((portal.errors().dropped, portal.errors().last), (1, Some(RecordStatus::QUEUE_OVERFLOW)));
    portal.attend();
    assert!(arena.is_done(0) && arena.is_done(1) && !arena.is_done(2));
}

#[test]
fn a_shared_queue_that_stays_full_is_busy() {
    let mut arena = Arena::new(3);
    let copies = arena.copies();
    let mut shared = portal(Mode::Shared, 2, Settings::default());
    assert_eq!(shared.room(), usize::MAX);
    assert_eq!(submit(&mut shared, &copies), Submitted { accepted: 2, stopped: Some(Stopped::Busy) });
    shared.attend();
    accepted(&mut shared, &copies[2..]);
    // One that refuses at times is asked again; one that always refuses is not asked for ever.
    let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0);
    let mut settings = Settings::default();
    settings.retries = Chance::one_in(2);
    accepted(&mut portal(Mode::Shared, 64, settings), &[nop; 64]);
    settings.retries = Chance::ALWAYS;
    let refused = submit(&mut portal(Mode::Shared, 64, settings), &[nop]);
    assert_eq!(refused, Submitted { accepted: 0, stopped: Some(Stopped::Busy) });
}

#[test]
fn a_queue_that_goes_away() {
    let mut arena = Arena::new(2);
    let copies = arena.copies();
    for (mode, submitted) in [
        (Mode::Shared, Submitted { accepted: 0, stopped: Some(Stopped::Busy) }),
        (Mode::Dedicated, Submitted { accepted: 1, stopped: None }),
    ] {
        arena.records[0].clear();
        arena.dst[0] = [0; 64];
        let mut portal = portal(mode, 4, Settings::default());
        accepted(&mut portal, &copies[..1]);
        portal.disable();
        assert_eq!(submit(&mut portal, &copies[1..]), submitted);
        portal.attend();
        assert!(arena.is_done(0) && !arena.is_done(1), "what it had is executed, and nothing else");
    }
}

#[test]
fn what_no_portal_lets_through() {
    let mut arena = Arena::new(2);
    let copies = arena.copies();
    let misplaced = Descriptor::new(&Operation::Nop, Flags::RECORD, 0x1010);
    let mut named = copies[1].to_bytes();
    named[0] = 1;
    let batch = Descriptor::new(&Operation::Batch { list: 0x1000, count: 2 }, Flags::NONE, 0);
    for (wrong, stopped) in [
        (misplaced, Stopped::RecordAddress),
        (Descriptor::from_bytes(&named), Stopped::Privileged),
        (batch, Stopped::Batch),
    ] {
        let mut portal = portal(Mode::Dedicated, 8, Settings::default()).without_batch();
        assert!(!portal.passes_batch());
        arena.records[0].clear();
        let descriptors = [copies[0], wrong, copies[1]];
        assert_eq!(submit(&mut portal, &descriptors), Submitted { accepted: 1, stopped: Some(stopped) });
        assert_eq!(portal.room(), 7);
        portal.attend();
        assert!(arena.is_done(0) && !arena.is_done(1));
    }
}

#[test]
fn a_batch_goes_through_in_any_order() {
    for order in [Order::InOrder, Order::Reversed, Order::Random] {
        let mut arena = Arena::new(32);
        let list = arena.copies();
        let mut settings = Settings::default();
        settings.members = order;
        let mut portal = portal(Mode::Dedicated, 1, settings);
        assert!(portal.passes_batch());
        let record = CompletionRecord::new();
        let batch = Operation::Batch { list: list.as_ptr() as u64, count: 32 };
        accepted(&mut portal, &[Descriptor::new(&batch, Flags::RECORD, &raw const record as u64)]);
        portal.attend();
        assert_eq!(arena.done(), 32);
        let view = record.view().expect("it has ended");
        assert_eq!((view.status(), view.descriptors_completed()), (RecordStatus::SUCCESS, 32));
    }
}

#[test]
fn a_drop_executes_what_is_left() {
    let mut arena = Arena::new(20);
    let mut portal = portal(Mode::Shared, 32, Settings::default()).with_turn(3);
    accepted(&mut portal, &arena.copies());
    portal.attend();
    assert_eq!(arena.done(), 3);
    drop(portal);
    assert_eq!(arena.done(), 20);
}

/// The copy of a portal that a child has does nothing: neither when it is attended to nor when it is dropped.
#[test]
fn a_child_that_was_forked_has_no_portal() {
    let mut arena = Arena::new(3);
    let copies = arena.copies();
    let mut portal = portal(Mode::Dedicated, 4, Settings::default());
    accepted(&mut portal, &copies[..2]);
    in_child(|| {
        assert_eq!(submit(&mut portal, &copies[2..]), Submitted { accepted: 0, stopped: Some(Stopped::Forked) });
        portal.attend();
        drop(portal);
        assert_eq!(arena.done(), 0);
    });
}

/// As another thread's mover would have it.
#[test]
fn it_goes_to_another_thread() {
    let mut arena = Arena::new(4);
    let copies = arena.copies();
    let mut portal: Box<dyn Portal> = Box::new(portal(Mode::Shared, 8, Settings::default()));
    // SAFETY: the arena outlives the portal.
    assert_eq!(unsafe { portal.submit(&copies) }.accepted, 4);
    std::thread::scope(|scope| {
        scope.spawn(move || portal.attend());
    });
    assert_eq!(arena.done(), 4);
}

#[test]
fn the_null_device_writes_records_and_nothing_else() {
    let mut settings = Settings::default();
    settings.is_null = true;
    let success = RecordView::filled(RecordStatus::SUCCESS, 0xa5).with_bytes_completed(0);
    let mut arena = Arena::new(32);
    let mut list = arena.copies();
    // These want no record, and say nothing that a device would do.
    list[3] = Descriptor::new(&Operation::Memmove { src: 1, dst: 2, len: 0 }, Flags::NONE, 0);
    list[4] = Descriptor::new(&Operation::Nop, Flags::RECORD_ADDRESS_VALID, &raw const arena.records[4] as u64);
    let record = CompletionRecord::new();
    let batch = Operation::Batch { list: list.as_ptr() as u64, count: 32 };
    let mut portal = portal(Mode::Dedicated, 4, settings);
    let single = CompletionRecord::new();
    let copy = Operation::Memmove { src: 1, dst: 2, len: 64 };
    accepted(
        &mut portal,
        &[
            Descriptor::new(&batch, Flags::RECORD, &raw const record as u64),
            Descriptor::new(&copy, Flags::RECORD, &raw const single as u64),
        ],
    );
    portal.attend();
    assert_eq!(record.view(), Some(success.with_bytes_completed(32)));
    assert_eq!(single.view(), Some(success));
    for (index, record) in arena.records.iter().enumerate() {
        let expected = if matches!(index, 3 | 4) { None } else { Some(success) };
        assert_eq!(record.view(), expected, "{index}");
        assert_eq!(arena.dst[index], [0; 64], "{index}");
    }
}
