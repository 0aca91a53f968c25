//! What is there at once only if somebody is slow: he is made to be, and nothing is allocated for it.

use memring::Ring;

use super::calls_during;

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
