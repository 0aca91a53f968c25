//! Goal: a scope does not return while a mover may still touch what it has borrowed, even if that mover broke down.
//!
//! Method: a mover that keeps what it is given and then panics, without having said that it is quiescent. The scope is
//! run in a process of its own, which must end by SIGABRT, and not by a return; a scope beside it whose operations were
//! another mover's must return.

#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "support/watchdog.rs"]
mod watchdog;

#[expect(unsafe_code, reason = "implements a mover")]
mod broken {
    use memring::mover::{Capabilities, Completions, DataMover, Kept, Lane, Progress};
    use memring::{OpFlags, Opcode};

    /// Keeps one operation, and panics over the next.
    pub(crate) struct Panicking(pub(crate) Vec<Kept>);

    // SAFETY: it touches no memory.
    unsafe impl DataMover for Panicking {
        fn capabilities(&self) -> Capabilities {
            Capabilities::new(&Opcode::ALL).flags(OpFlags::NONE)
        }

        fn poll(&mut self, lane: &mut Lane<'_>, _: &mut Completions<'_>) -> Progress {
            while let Some(claimed) = lane.claim() {
                assert!(self.0.is_empty(), "as the test wants it");
                self.0.push(claimed.keep());
            }
            if self.0.is_empty() { Progress::Idle } else { Progress::Waiting }
        }
    }
}

use std::mem::ManuallyDrop;
use std::os::unix::process::ExitStatusExt;

use memring::queue::Drive;
use memring::{Ring, WORKERS};

use broken::Panicking;
use subprocess::{again, role, words};
use watchdog::must_end;

const DRIVES: [(&str, Drive); 2] = [("a thread", Drive::Threads(1)), ("the caller", Drive::Caller)];

fn ring(drive: Drive) -> Ring {
    Ring::builder().mover("panicking", drive, || Panicking(Vec::new())).build().expect("a ring")
}

#[test]
fn a_scope_over_a_broken_mover_aborts() {
    const NAME: &str = "a_scope_over_a_broken_mover_aborts";
    if let Some(role) = role() {
        let (_, drive) = DRIVES.into_iter().find(|(name, _)| *name == role).expect("a drive");
        let ring = ring(drive);
        let mover = ring.mover("panicking").expect("it was added");
        let mut pages = vec![0; 4 * 4096];
        let _ = ring.scope(|s| pages.chunks_mut(4096).for_each(|page| s.on(mover).memset(page, 1)));
        std::process::exit(0);
    }
    must_end(|| {
        for (name, _) in DRIVES {
            let output = again(NAME, name, &[]);
            assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{name}: {}", words(&output));
            assert!(words(&output).contains("may still touch memory"), "{name}: {}", words(&output));
        }
    });
}

#[test]
fn a_scope_beside_a_broken_mover_returns() {
    must_end(|| {
        for (name, drive) in DRIVES {
            // Its drop would abort the process.
            let ring = ManuallyDrop::new(ring(drive));
            let mover = ring.mover("panicking").expect("it was added");
            for _ in 0..2 {
                let lost = ring.memset(vec![0; 4096], 1).on(mover).try_start().expect("room");
                // It never ends, and its buffer is never freed.
                drop(lost);
            }
            let mut pages = vec![0; 64 * 4096];
            for value in 1..50 {
                ring.scope(|s| pages.chunks_mut(4096).for_each(|page| s.on(WORKERS).memset(page, value))).expect(name);
                assert!(pages.iter().all(|&byte| byte == value), "{name}");
            }
        }
    });
}
