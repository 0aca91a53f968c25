//! Rounds of the DSA mover, on devices in software at their worst: batches, chains, long ones, faults that are resumed.
#![expect(unsafe_code, reason = "pushes entries")]

use memring::dsa::model::{ModelPortal, Settings};
use memring::dsa::{Dsa, Mode, Preset, WorkQueueCapabilities};
use memring::queue::{Drive, QueuePair};
use memring::{MoverId, Sqe};

use super::{ROUNDS, calls_during, until_others_sleep};

const LONG: usize = 100_000;
const SMALL: usize = 100;
const COUNT: usize = 40;

fn hostile() -> Dsa {
    let (device, mut queue) = (Preset::V2Full.capabilities(), WorkQueueCapabilities::new(Mode::Shared, 8));
    queue.max_transfer_bytes = 1 << 14;
    let portal = |seed| ModelPortal::new(device, queue, Settings::hostile(seed));
    Dsa::new((0..2).map(|seed| portal(seed).into())).expect("there are two")
}

/// Copies side by side, some of them linked; a long one, and one over its own source.
fn entries(dst: &mut [u8], src: &[u8], long: &mut [u8], mover: MoverId) -> Vec<Sqe> {
    let small = dst.chunks_mut(SMALL).zip(src.chunks(SMALL)).enumerate();
    let mut sqes: Vec<Sqe> = small
        .map(|(number, (dst, src))| {
            let copy = Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), SMALL);
            if number % 4 == 3 { copy.link() } else { copy }
        })
        .collect();
    let start = long.as_mut_ptr();
    sqes.push(Sqe::memset(start, 7, LONG));
    sqes.push(Sqe::memmove(start.wrapping_add(LONG + 10), start.wrapping_add(LONG), LONG - 10));
    sqes.into_iter().map(|sqe| sqe.on(mover)).collect()
}

pub(crate) fn dsa_at_its_worst() {
    let (src, mut dst, mut long) = (vec![3; COUNT * SMALL], vec![0; COUNT * SMALL], vec![0; 2 * LONG]);
    for drive in [Drive::Caller, Drive::Threads(2)] {
        let dsa = hostile();
        let pair = QueuePair::builder().entries(64).workers(0).mover("dsa", drive, move || dsa.mover()).build();
        let pair = pair.expect("a queue");
        let mover = pair.mover("dsa").expect("it was added");
        let (mut sq, mut cq) = pair.split();
        let sqes = entries(&mut dst, &src, &mut long, mover);
        let mut round = || {
            // SAFETY: the memory outlives the queue, and nobody touches it meanwhile.
            unsafe { sq.push_batch(&sqes) }.expect("room");
            sq.submit();
            let mut left = sqes.len();
            while left > 0 {
                cq.wait(1, None).expect("no fork");
                left -= cq.drain().inspect(|cqe| assert!(cqe.status().is_success())).count();
            }
        };
        // Until the model's scratch memory has its size, and each thread has begun.
        (0..ROUNDS).for_each(|_| round());
        until_others_sleep();
        assert_eq!(calls_during(|| (0..ROUNDS).for_each(|_| round())), 0, "{drive:?}");
        let stats = cq.stats();
        let busy = stats.drivers.iter().filter(|row| row.mover == mover && row.operations > 0).count();
        assert_eq!(busy, if drive == Drive::Caller { 1 } else { 2 }, "{stats:?}");
    }
    assert_eq!(dst, src);
}
