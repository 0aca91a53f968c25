//! What is there at once only if somebody is slow: he is made to be, and nothing is allocated for it.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};

use memring::Ring;

use super::{calls_during, until_others_sleep};

/// A scope's operations stand in line, as many as ever can: others have all credits, and none of it is done before the
/// scope waits. In the scopes before it the line was as short as it can be.
pub(crate) fn scopes_whose_operations_are_late() {
    for entries in [1, 16, 100] {
        let ring = Ring::builder().entries(entries).workers(0).inline_max(0).build().expect("a ring");
        let mut pages = vec![Vec::from([0; 64]); entries];
        let mut sets = Vec::with_capacity(entries);
        let mut bytes = vec![0; 10 * 32 * entries.max(16)];
        for is_late in [false, false, true] {
            let calls = calls_during(|| {
                sets.extend(pages.drain(..).map(|page| ring.memset(page, 1).try_start().expect("there is room")));
                let drive = || while ring.drive(usize::MAX) > 0 {};
                let all = ring.scope(|s| {
                    for part in bytes.chunks_mut(10) {
                        if !is_late {
                            drive();
                        }
                        s.memset(part, 2);
                    }
                });
                all.expect("it is possible");
                pages.extend(sets.drain(..).map(|set| ring.block_on(set).expect("it may").expect("it can")));
            });
            assert!(!is_late || calls == 0, "{calls} calls of the allocator, with {entries} entries");
        }
    }
}

/// Wakes that are counted, and do not return while the door is shut.
#[derive(Default)]
struct Slow {
    /// How many wakes have come, and whether they may go.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Slow {
    fn open(&self) {
        self.state.lock().expect("nobody panics with it").1 = true;
        self.changed.notify_all();
    }

    fn wait_for(&self, wakes: usize) {
        let state = self.state.lock().expect("nobody panics with it");
        drop(self.changed.wait_while(state, |state| state.0 < wakes).expect("nobody panics with it"));
    }
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.1).expect("nobody panics with it"));
    }
}

/// The reaper finds more futures to wake than it carries at once, since it was busy when their operations ended.
pub(crate) fn more_wakers_than_are_carried() {
    const COUNT: usize = 60;
    let ring = Ring::builder().entries(64).workers(1).inline_max(0).reaper_thread().build().expect("a ring");
    let slow = Arc::new(Slow::default());
    let waker = Waker::from(Arc::clone(&slow));
    let begin = || {
        let mut set = ring.memset(vec![0; 64], 1);
        let is_pending = Pin::new(&mut set).poll(&mut Context::from_waker(&waker)).is_pending();
        is_pending.then_some(set)
    };
    // One that is awaited before it is done: its wake holds the reaper up.
    let first = std::iter::repeat_with(begin).flatten().next();
    slow.wait_for(1);
    // So nobody reaps these, though the worker does them at once.
    let sets: Vec<_> = (0..COUNT).map(|_| begin().expect("nobody reaps it")).collect();
    until_others_sleep();
    let calls = calls_during(|| {
        slow.open();
        slow.wait_for(1 + COUNT);
    });
    assert_eq!(calls, 0, "calls of the allocator for {COUNT} wakes");
    drop((first, sets));
}
