//! A device that does not answer. Nothing that it has completes before it is known to touch nothing any more.
#![expect(unsafe_code, reason = "pushes entries whose memory the test keeps")]

use std::time::{Duration, Instant};

use memring::dsa::{Dsa, OnFault, QueueState};
use memring::{Sqe, Status};

use super::device::Plan;
use super::rig::{DONE, Rig, copies, noise};
use super::watchdog::must_end;

const LIMIT: Duration = Duration::from_millis(50);

fn hasty(dsa: Dsa) -> Dsa {
    dsa.time_limit(LIMIT)
}

#[test]
fn nothing_completes_before_the_limit() {
    let (src, mut dst) = (noise(4096), vec![0; 4096]);
    for limit in [Duration::from_secs(3600), Duration::MAX] {
        dst.fill(0);
        let mut rig = Rig::with(&[Plan::default()], |dsa| dsa.time_limit(limit));
        rig.device().let_run(false);
        rig.submit(&copies(&mut dst, &src, 64));
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            assert!(rig.poll().is_empty());
        }
        assert!(rig.dsa.queues().all(|(_, state)| state == QueueState::Open));
        rig.device().let_run(true);
        assert_eq!(rig.finish(64), [DONE; 64]);
        assert_eq!((dst == src, rig.stats().fallbacks), (true, 0));
    }
}

#[test]
fn what_a_device_has_that_was_given_up_the_cpu_does() {
    must_end(|| {
        let (src, mut dst) = (noise(1 << 20), vec![0; 1 << 20]);
        let mut bytes = noise(64 * 5);
        let mut moved = noise(200);
        let before = moved.clone();
        let mut rig = Rig::with(&[Plan::default()], hasty);
        rig.device().let_run(false);
        let mut sqes = copies(&mut dst[..64 << 10], &src[..64 << 10], 1 << 10);
        sqes.extend(copies(&mut dst[64 << 10..], &src[64 << 10..], 64 << 10));
        let start = bytes.as_mut_ptr();
        let hop = |at: usize| Sqe::memcpy(start.wrapping_add(64 * (at + 1)), start.wrapping_add(64 * at), 64);
        sqes.extend([hop(0).link(), hop(1).link(), hop(2).link(), hop(3)]);
        // It may have been done in part, and then it cannot be done again.
        let over = moved.as_mut_ptr();
        sqes.push(Sqe::memmove(over.wrapping_add(10), over, 190));
        let mut expected = vec![DONE; sqes.len()];
        expected[sqes.len() - 1] = (Status::JOB_CORRUPTED, 0);
        assert_eq!(rig.run(&sqes), expected);
        assert_eq!((dst == src, moved == before), (true, true));
        assert!(bytes.chunks(64).all(|place| place == &bytes[..64]));
        assert!(rig.dsa.queues().all(|(_, state)| state == QueueState::GivenUp));
        // From now on there is no device.
        rig.device().take();
        dst.fill(0);
        assert_eq!(rig.run(&copies(&mut dst, &src, 1 << 14)), [DONE; 64]);
        assert_eq!((dst == src, rig.device().take().len()), (true, 0));
    });
}

#[test]
fn another_device_goes_on() {
    must_end(|| {
        let (src, mut dst) = (noise(256 << 10), vec![0; 256 << 10]);
        let mut rig = Rig::with(&[Plan::default(), Plan::default()], hasty);
        rig.devices[0].let_run(false);
        for _ in 0..2 {
            dst.fill(0);
            assert_eq!(rig.run(&copies(&mut dst, &src, 1 << 10)), [DONE; 256]);
            assert_eq!(dst, src);
        }
        let states: Vec<_> = rig.dsa.queues().map(|(_, state)| state).collect();
        assert_eq!(states, [QueueState::GivenUp, QueueState::Open]);
        let before = rig.stats().fallbacks;
        rig.devices[1].take();
        assert_eq!(rig.run(&copies(&mut dst, &src, 1 << 10)), [DONE; 256]);
        assert_eq!((rig.stats().fallbacks, rig.devices[1].take().len()), (before, 8));
    });
}

#[test]
fn what_nobody_knows_to_be_over_never_completes() {
    must_end(|| {
        // Never freed: the device may still have them.
        let src = Box::leak(noise(4096).into_boxed_slice());
        let dst = Box::leak(vec![0; 4096].into_boxed_slice());
        let mut rig = Rig::with(&[Plan { can_be_retired: false, ..Plan::default() }], hasty);
        rig.device().let_run(false);
        rig.submit(&copies(dst, src, 64));
        while rig.dsa.queues().any(|(_, state)| state != QueueState::Lost) {
            assert!(rig.poll().is_empty());
        }
        let mut other = [0_u8; 100];
        let mover = rig.mover;
        // SAFETY: the array outlives the operation, which is waited for.
        unsafe { rig.sq.push(Sqe::memset(other.as_mut_ptr(), 3, 100).on(mover).user_data(77)) }.unwrap();
        rig.sq.submit();
        let ended: Vec<_> = (0..1000).flat_map(|_| rig.poll()).collect();
        assert_eq!(ended.iter().map(memring::Cqe::user_data).collect::<Vec<_>>(), [77]);
        assert_eq!((other, rig.sq.in_flight()), ([3; 100], 64));
        assert!(dst.iter().all(|byte| *byte == 0));
        // Its drop would wait for them.
        Box::leak(Box::new(rig));
    });
}

#[test]
fn a_queue_that_is_dropped_waits_for_its_devices() {
    must_end(|| {
        let (src, mut dst) = (noise(256 << 10), vec![0; 256 << 10]);
        for turn in 0..20 {
            dst.fill(0);
            let mut rig = Rig::on_fault(&Plan::default(), OnFault::Resume);
            rig.submit(&copies(&mut dst, &src, 1 << 10));
            for _ in 0..turn {
                rig.poll();
            }
            drop(rig);
            assert_eq!(dst, src);
        }
    });
}
