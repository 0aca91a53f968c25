//! The operations of memring's own virtual data movers: they allocate nothing, told by whichever notifier.
#![expect(unsafe_code, reason = "makes operations on raw addresses")]

use std::task::Waker;

use memring::OpFlags;
use memring::dsa::Dsa;
use memring::vdm::{BuildError, Notifier, OperationResult, State, Vdm};

use super::{ROUNDS, calls_during, until_others_sleep};

const LEN: usize = 4096;

/// Sets some bytes, as often as it takes to see each kind of notifier, and drops one that is idle.
fn round(vdm: &Vdm, bytes: &mut [u8; LEN]) {
    for mut notifier in [Notifier::none(), Notifier::waker(Waker::noop()), Notifier::poller()] {
        // SAFETY: the bytes are not touched until the operation is complete, below.
        let mut set = unsafe { vdm.memset(bytes.as_mut_ptr(), 7, LEN, OpFlags::NONE) };
        while set.poll(&mut notifier) != State::Complete {
            std::thread::yield_now();
        }
        assert_eq!(set.output().map(|output| output.result), Some(OperationResult::Success));
        // SAFETY: it is not polled.
        drop(unsafe { vdm.memset(bytes.as_mut_ptr(), 7, LEN, OpFlags::NONE) });
    }
}

pub(crate) fn virtual_data_movers() {
    // Each when its turn comes: the thread of another one might begin in this one's time.
    let kinds: [fn() -> Result<Vdm, BuildError>; 4] =
        [Vdm::synchronous, || Vdm::threads(0, 8), || Vdm::threads(1, 8), || Vdm::dsa(&Dsa::software(), 1, 8)];
    for make in kinds {
        let vdm = make().expect("a mover");
        let mut bytes = [0; LEN];
        // A thread that begins allocates: the first rounds are not counted.
        (0..ROUNDS).for_each(|_| round(&vdm, &mut bytes));
        until_others_sleep();
        let calls = calls_during(|| (0..ROUNDS).for_each(|_| round(&vdm, &mut bytes)));
        assert_eq!(calls, 0, "calls of the allocator, {vdm:?}");
        drop(vdm);
        assert_eq!(bytes, [7; LEN]);
    }
}
