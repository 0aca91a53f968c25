//! What goes to a device, and in which form.

use memring::dsa::{DsaOpcode, Flags, Mode, Operation, Preset, WorkQueueCapabilities};
use memring::{OpFlags, Sqe};

use super::device::{Entry, Plan, has};
use super::rig::{DONE, Rig, copies, noise};

#[test]
fn what_waits_together_goes_as_one_batch_and_a_single_one_alone() {
    let (src, mut dst) = (noise(32 * 100), vec![0; 32 * 100]);
    let mut rig = Rig::of(&Plan::default());
    assert_eq!(rig.run(&copies(&mut dst, &src, 100)), [DONE; 32]);
    assert!(matches!(&rig.device().take()[..], [Entry::Batch(members)] if members.len() == 32));
    assert_eq!(rig.run(&copies(&mut dst[..100], &src[..100], 100)), [DONE]);
    assert!(matches!(&rig.device().take()[..], [Entry::Single(_)]));
    assert_eq!((dst == src, rig.stats().fallbacks), (true, 0));
}

#[test]
fn a_batch_has_no_more_members_than_the_queue_allows() {
    let (src, mut dst) = (noise(100 * 10), vec![0; 100 * 10]);
    let mut plan = Plan::default();
    plan.queue.max_batch = 8;
    let mut rig = Rig::of(&plan);
    assert_eq!(rig.run(&copies(&mut dst, &src, 10)), [DONE; 100]);
    let entries = rig.device().take();
    assert_eq!(entries.iter().map(|entry| entry.members().len()).sum::<usize>(), 100);
    assert!(entries.iter().all(|entry| entry.members().len() <= 8), "{entries:?}");
    assert_eq!(dst, src);
}

#[test]
fn long_ones_go_by_themselves_and_hold_up_no_batch() {
    let (src, mut dst) = (noise(4 << 16), vec![0; 4 << 16]);
    let (small, mut small_dst) = (noise(4 * 64), vec![0; 4 * 64]);
    let mut rig = Rig::of(&Plan::default());
    let (long, short) = (copies(&mut dst, &src, 1 << 16), copies(&mut small_dst, &small, 64));
    let mixed: Vec<Sqe> = long.into_iter().zip(short).flat_map(<[Sqe; 2]>::from).collect();
    assert_eq!(rig.run(&mixed), [DONE; 8]);
    let entries = rig.device().take();
    let batches: Vec<usize> = entries.iter().map(|entry| entry.members().len()).filter(|count| *count > 1).collect();
    assert_eq!((entries.len(), batches), (5, vec![4]));
    assert_eq!((dst, small_dst), (src, small));
}

#[test]
fn where_there_are_no_batches_members_go_one_by_one_in_one_call() {
    let (src, mut dst) = (noise(32 * 10), vec![0; 32 * 10]);
    for plan in [
        Plan::preset(Preset::V1Production),
        Plan { passes_batch: false, ..Plan::default() },
        Plan {
            queue: {
                let mut queue = Plan::default().queue;
                queue.max_batch = 1;
                queue
            },
            ..Plan::default()
        },
    ] {
        let mut rig = Rig::of(&plan);
        assert_eq!(rig.run(&copies(&mut dst, &src, 10)), [DONE; 32]);
        let entries = rig.device().take();
        assert!(entries.len() == 32 && entries.iter().all(|entry| matches!(entry, Entry::Single(_))), "{entries:?}");
        assert_eq!((rig.device().calls(), rig.stats().fallbacks), (1, 0));
        assert_eq!(dst, src);
        dst.fill(0);
    }
}

#[test]
fn a_device_that_refuses_batches_is_sent_no_more_of_them() {
    let (src, mut dst) = (noise(32 * 10), vec![0; 32 * 10]);
    let mut plan = Plan { told: Some(Plan::default().device), ..Plan::default() }.without(DsaOpcode::BATCH);
    plan.settings.seed = 3;
    let mut rig = Rig::of(&plan);
    assert_eq!(rig.run(&copies(&mut dst, &src, 10)), [DONE; 32]);
    let entries = rig.device().take();
    assert!(matches!(entries[0], Entry::Batch(_)) && entries.len() == 33, "{entries:?}");
    assert_eq!((dst == src, rig.stats().fallbacks), (true, 1));
    dst.fill(0);
    assert_eq!(rig.run(&copies(&mut dst, &src, 10)), [DONE; 32]);
    assert!(rig.device().take().iter().all(|entry| matches!(entry, Entry::Single(_))));
    assert_eq!(dst, src);
}

#[test]
fn what_the_device_lacks_is_done_by_the_cpu_and_counted() {
    let mut dst = vec![0_u8; 300];
    // It says so, and then it does not.
    for told in [None, Some(Plan::default().device)] {
        let mut rig = Rig::of(&Plan { told, ..Plan::default() }.without(DsaOpcode::FILL));
        let sets: Vec<Sqe> = (0..3).map(|at| Sqe::memset(dst[100 * at..].as_mut_ptr(), 7, 100)).collect();
        assert_eq!(rig.run(&sets), [DONE; 3]);
        assert_eq!(dst, [7; 300]);
        assert_eq!(rig.stats().fallbacks, 3);
        rig.device().take();
        // By now it is known.
        assert_eq!(rig.run(&sets[..1]), [DONE]);
        assert!(rig.device().take().is_empty());
        dst.fill(0);
    }
}

#[test]
fn a_copy_over_its_own_source_needs_a_device_that_can() {
    let mut bytes = noise(1000);
    let mut expected = bytes.clone();
    expected.copy_within(..900, 100);
    let mut plan = Plan::default();
    plan.device.gen_cap = plan.device.gen_cap.without(memring::dsa::GenCap::OVERLAPPING_MOVE);
    let mut rig = Rig::of(&plan);
    let start = bytes.as_mut_ptr();
    assert_eq!(rig.run(&[Sqe::memmove(start.wrapping_add(100), start, 900)]), [DONE]);
    assert_eq!((rig.device().take().len(), rig.stats().fallbacks), (0, 1));
    assert_eq!(bytes, expected);
}

#[test]
fn a_device_is_kept_busy() {
    let (src, mut dst) = (noise(64 << 16), vec![0; 64 << 16]);
    let (small, mut small_dst) = (noise(1024 * 64), vec![0; 1024 * 64]);
    for mode in [Mode::Shared, Mode::Dedicated] {
        let mut rig = Rig::of(&Plan { queue: WorkQueueCapabilities::new(mode, 64), ..Plan::default() });
        rig.device().let_run(false);
        rig.submit(&copies(&mut dst, &src, 1 << 16));
        assert!(rig.poll().is_empty());
        assert!(rig.device().take().len() >= 32, "long ones");
        rig.device().let_run(true);
        assert_eq!(rig.finish(64), [DONE; 64]);
        rig.device().take();
        rig.device().let_run(false);
        rig.submit(&copies(&mut small_dst, &small, 64));
        assert!(rig.poll().is_empty());
        assert_eq!(rig.device().take().len(), 32, "1024 in batches of 32");
        rig.device().let_run(true);
        assert_eq!(rig.finish(1024), [DONE; 1024]);
    }
    assert_eq!((dst, small_dst), (src, small));
}

#[test]
fn a_dedicated_queue_is_never_sent_more_than_it_has_room_for() {
    let (src, mut dst) = (noise(500 << 10), vec![0; 500 << 10]);
    let mut plan = Plan::preset(Preset::V1Production);
    plan.queue = WorkQueueCapabilities::new(Mode::Dedicated, 3);
    let mut rig = Rig::of(&plan);
    rig.device().let_run(false);
    rig.submit(&copies(&mut dst, &src, 1 << 10));
    assert!(rig.poll().is_empty() && rig.poll().is_empty());
    assert_eq!(rig.device().take().len(), 3);
    rig.device().let_run(true);
    // One that was sent while it was full would have vanished, and this would not end.
    assert_eq!(rig.finish(500), [DONE; 500]);
    assert_eq!(dst, src);
}

#[test]
fn a_shared_queue_that_is_full_is_asked_again() {
    let (src, mut dst) = (noise(500 << 10), vec![0; 500 << 10]);
    let mut plan = Plan::default().set(|settings| settings.retries = memring::dsa::model::Chance::one_in(2));
    plan.queue = WorkQueueCapabilities::new(Mode::Shared, 1);
    let mut rig = Rig::of(&plan);
    assert_eq!(rig.run(&copies(&mut dst, &src, 1 << 10)), [DONE; 500]);
    assert_eq!((dst == src, rig.stats().fallbacks), (true, 0));
}

#[test]
fn the_work_is_shared_by_the_queues_of_the_nearest_devices() {
    let (src, mut dst) = (noise(256 << 16), vec![0; 256 << 16]);
    // Nothing is known of a node with this number: it is as far as can be.
    let far = Plan { numa_node: Some(4095), ..Plan::default() };
    let mut rig = Rig::with(&[far, Plan::default(), Plan::default()], |dsa| dsa);
    assert_eq!(rig.run(&copies(&mut dst, &src, 1 << 16)), [DONE; 256]);
    let counts: Vec<usize> = rig.devices.iter().map(|device| device.take().len()).collect();
    assert_eq!((counts[0], counts[1] + counts[2]), (0, 256));
    assert!(counts[1].abs_diff(counts[2]) <= 64, "{counts:?}");
    assert_eq!(dst, src);
}

#[test]
fn longer_than_the_queue_takes_goes_in_parts() {
    let (src, mut dst) = (noise(10 << 20), vec![0; 10 << 20]);
    let mut rig = Rig::of(&Plan::default());
    assert_eq!(rig.run(&copies(&mut dst, &src, 10 << 20)), [DONE]);
    let lengths = |rig: &Rig| -> Vec<u32> {
        let length = |descriptor: &_| match memring::dsa::Descriptor::operation(descriptor) {
            Ok(Operation::Memmove { len, .. } | Operation::Fill { len, .. }) => len,
            other => panic!("{other:?}"),
        };
        rig.device().take().iter().flat_map(|entry| entry.members().iter().map(length).collect::<Vec<_>>()).collect()
    };
    let parts = lengths(&rig);
    assert!(parts.len() > 5 && parts.iter().all(|len| *len <= 2 << 20), "{parts:?}");
    assert_eq!((parts.iter().sum::<u32>(), dst == src), (10 << 20, true));
    // Over its own source, either way: one after the other.
    for (to, from) in [(1000, 0), (0, 1000)] {
        let mut expected = dst.clone();
        expected.copy_within(from..from + (9 << 20), to);
        let start = dst.as_mut_ptr();
        assert_eq!(rig.run(&[Sqe::memmove(start.wrapping_add(to), start.wrapping_add(from), 9 << 20)]), [DONE]);
        let parts = lengths(&rig);
        assert_eq!((parts.len(), parts.iter().sum::<u32>()), (5, 9 << 20));
        assert_eq!(dst, expected);
    }
}

#[test]
fn the_cache_gets_the_destination_unless_it_is_not_wanted_there() {
    let (src, mut dst) = (noise(64), vec![0; 64]);
    for (preset, has_hint, expected) in
        [(Preset::V2Full, false, true), (Preset::V2Full, true, false), (Preset::V1Early, false, true)]
    {
        let mut rig = Rig::of(&Plan::preset(preset));
        let [copy] = copies(&mut dst, &src, 64)[..] else { panic!("one") };
        let hint = if has_hint { OpFlags::NO_CACHE_HINT } else { OpFlags::NONE };
        assert_eq!(rig.run(&[copy.flags(hint), Sqe::flush(src.as_ptr(), 64), Sqe::nop()]), [DONE; 3]);
        let entries = rig.device().take();
        let members: Vec<_> = entries.iter().flat_map(|entry| entry.members().to_vec()).collect();
        let of = |opcode| members.iter().find(|descriptor| descriptor.opcode() == opcode).unwrap();
        assert_eq!(has(of(DsaOpcode::MEMMOVE), Flags::CACHE_CONTROL), expected);
        assert!(!has(of(DsaOpcode::CFLUSH), Flags::CACHE_CONTROL) && !has(of(DsaOpcode::NOP), Flags::CACHE_CONTROL));
        assert!(members.iter().all(|descriptor| has(descriptor, Flags::RECORD)));
        assert!(members.iter().all(|descriptor| !has(descriptor, Flags::BLOCK_ON_FAULT)));
    }
}

#[test]
fn nothing_is_sent_for_nothing() {
    let mut dst = [0_u8; 8];
    let mut rig = Rig::of(&Plan::default());
    let start = dst.as_mut_ptr();
    assert_eq!(rig.run(&[Sqe::memset(start, 1, 0), Sqe::memmove(start, start, 0), Sqe::flush(start, 0)]), [DONE; 3]);
    assert!(rig.device().take().is_empty());
    assert_eq!((dst, rig.stats().fallbacks), ([0; 8], 0));
}
