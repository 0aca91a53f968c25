//! Who drives the mover, and how it learns that there is something to do.
#![expect(unsafe_code, reason = "pushes entries whose memory the test keeps")]

use std::sync::mpsc;
use std::time::Duration;

use memring::Sqe;
use memring::dsa::{Dsa, DsaOpcode, Mode, WorkQueueCapabilities};
use memring::queue::{Arm, Drive, QueuePair};

use super::device::{Device, Plan};
use super::rig::{DONE, Rig, copies, noise};
use super::watchdog::must_end;

#[test]
fn a_reactor_does_not_sleep_over_what_a_device_has() {
    let (src, mut dst) = (noise(640), vec![0; 640]);
    let mut rig = Rig::of(&Plan::default());
    // A chain first: its members are claimed together.
    let chain: Vec<Sqe> = copies(&mut dst, &src, 64).into_iter().map(Sqe::link).collect();
    assert_eq!(rig.run(&chain), [DONE; 10]);
    assert_eq!(rig.cq.arm(), Arm::Armed);
    rig.device().let_run(false);
    rig.submit(&copies(&mut dst[..64], &src[..64], 64));
    for _ in 0..3 {
        assert!(rig.poll().is_empty());
        assert_eq!(rig.cq.arm(), Arm::MustPoll, "a device cannot wake it");
    }
    rig.device().let_run(true);
    assert_eq!(rig.finish(1), [DONE]);
    assert_eq!(rig.cq.arm(), Arm::Armed);
}

#[test]
fn a_thread_that_sleeps_finds_what_has_come_back() {
    must_end(|| {
        let (src, mut dst) = (noise(4096), vec![0; 4096]);
        let (device, attachment) = Device::new(&Plan::default());
        let dsa = Dsa::new([attachment]).unwrap();
        let builder = QueuePair::builder().workers(0).spin(Duration::ZERO);
        let pair = builder.mover("dsa", Drive::Threads(1), move || dsa.mover()).build().unwrap();
        let mover = pair.mover("dsa").unwrap();
        let (mut sq, mut cq) = pair.split();
        for _ in 0..20 {
            device.let_run(false);
            let sqes: Vec<Sqe> = copies(&mut dst, &src, 128).into_iter().map(|sqe| sqe.on(mover)).collect();
            // SAFETY: the memory outlives the queue, and nobody touches it meanwhile.
            unsafe { sq.push_batch(&sqes) }.unwrap();
            sq.submit();
            // Long enough that it has given up looking, whenever it begins.
            assert_eq!(cq.wait(1, Some(Duration::from_millis(2))).unwrap(), 0);
            device.let_run(true);
            let mut left = sqes.len();
            while left > 0 {
                cq.wait(1, None).unwrap();
                left -= cq.drain().count();
            }
            assert_eq!(dst, src);
            dst.fill(0);
        }
    });
}

#[test]
fn several_drivers_share_a_queue_that_can_be_opened_once() {
    must_end(|| {
        let (src, mut dst) = (noise(1 << 20), vec![0; 1 << 20]);
        let queue = WorkQueueCapabilities::new(Mode::Dedicated, 2);
        let (_, attachment) = Device::new(&Plan { queue, ..Plan::default() });
        let dsa = Dsa::new([attachment]).unwrap();
        let pair = QueuePair::builder().workers(0).entries(2048).mover("dsa", Drive::Threads(3), move || dsa.mover());
        let pair = pair.build().unwrap();
        let mover = pair.mover("dsa").unwrap();
        let (mut sq, mut cq) = pair.split();
        for _ in 0..10 {
            let sqes: Vec<Sqe> = copies(&mut dst, &src, 1 << 10).into_iter().map(|sqe| sqe.on(mover)).collect();
            // SAFETY: the memory outlives the queue, and nobody touches it meanwhile.
            unsafe { sq.push_batch(&sqes) }.unwrap();
            sq.submit();
            cq.wait(sqes.len(), None).unwrap();
            assert_eq!(cq.drain().filter(|cqe| cqe.status().is_success()).count(), 1024);
            assert_eq!(dst, src);
            dst.fill(0);
        }
        assert_eq!(cq.stats().mover(mover).fallbacks, 0);
    });
}

#[test]
fn it_goes_to_another_thread_with_its_queue() {
    let (sender, receiver) = mpsc::channel();
    let mut rig = Rig::of(&Plan::default());
    std::thread::spawn(move || {
        assert_eq!(rig.run(&[Sqe::nop()]), [DONE]);
        sender.send(rig.device().take().len()).unwrap();
    });
    assert_eq!(receiver.recv().unwrap(), 1);
}

#[test]
fn a_drain_has_the_cpu_do_no_more_than_its_budget_and_a_part() {
    const BUDGET: usize = 64 << 10;
    let mut plan = Plan::default().without(DsaOpcode::FILL);
    plan.queue.max_transfer_bytes = 32 << 10;
    let mut bytes = vec![0_u8; 4 << 20];
    let mut rig = Rig::built(&[plan], |dsa| dsa, |builder| builder.poll_budget(BUDGET));
    rig.submit(&[Sqe::memset(bytes.as_mut_ptr(), 1, bytes.len())]);
    let (mut before, mut drains) = (0, 0);
    loop {
        let ended = rig.poll();
        let done = rig.stats().bytes;
        assert!(done - before <= (BUDGET + (32 << 10)) as u64, "{} bytes in one drain", done - before);
        (before, drains) = (done, drains + 1);
        if !ended.is_empty() {
            break;
        }
    }
    assert!(drains >= 40, "{drains}");
    assert!(bytes.iter().all(|byte| *byte == 1));
}
