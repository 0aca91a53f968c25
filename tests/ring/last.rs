//! The last handle: its drop waits for what is in flight, wherever it happens; and wakers are foreign code.
#![expect(unsafe_code, reason = "implements a buffer")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use memring::future::Memset;
use memring::mover::Capabilities;
use memring::queue::{Arm, Drive};
use memring::{IoBufMut, Opcode, Operation, OutOfRange, Ring};

use crate::canary::{Canary, Ledger};
use crate::movers::{Gate, gated, held, watched};
use crate::scripted::{promptly, scripted};
use crate::setup::{SETUPS, queued};
use crate::wakers::{Wakes, poll, poll_with, run};
use crate::watchdog::must_end;

/// So long a drop that does not wait has time to return. A drop that waits is not hurried by it.
const MOMENT: Duration = Duration::from_millis(20);

/// Drops something on a thread of its own, and says when that has returned.
fn drop_elsewhere(last: impl Send + 'static) -> Receiver<()> {
    let (sender, returned) = mpsc::channel();
    thread::spawn(move || {
        drop(last);
        let _ = sender.send(());
    });
    returned
}

/// It has not returned, and when the hold has let go, it does.
fn waits(returned: &Receiver<()>, let_go: impl FnOnce()) {
    assert_eq!(returned.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout), "it did not wait");
    let_go();
    returned.recv().expect("it returns");
}

#[test]
fn the_last_drop_waits_for_what_is_in_flight() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            for (name, builder) in SETUPS {
                for operation_last in [false, true] {
                    eprintln!("{name}, {drive:?}, the operation is last: {operation_last}");
                    let ledger = Ledger::default();
                    let (ring, mover, hold) = held(builder(), drive);
                    let clone = ring.clone();
                    let set = ring.memset(ledger.make(1000, 9), 1).on(mover).try_start().unwrap();
                    let idle = ring.memset(ledger.make(1000, 9), 1);
                    drop(ring);
                    let returned = if operation_last {
                        drop(clone);
                        drop(set);
                        drop_elsewhere(idle)
                    } else {
                        drop((set, idle));
                        drop_elsewhere(clone)
                    };
                    hold.wait_for(1);
                    waits(&returned, || hold.release(1));
                    assert_eq!(ledger.dropped(), 2, "what it owned is gone when it returns");
                    ledger.close();
                }
            }
        }
    });
}

/// A buffer whose drop stands before a gate.
struct Slow {
    bytes: Canary,
    gate: Gate,
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.gate.pass();
    }
}

// SAFETY: the canary's own.
unsafe impl IoBufMut for Slow {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        self.bytes.bytes_mut()
    }
}

#[test]
fn the_last_drop_waits_also_while_somebody_else_reaps() {
    must_end(|| {
        for (name, builder) in [
            ("one worker", (|| Ring::builder().workers(1)) as fn() -> memring::RingBuilder),
            ("a reaper", || Ring::builder().workers(1).reaper_thread()),
        ] {
            eprintln!("{name}");
            let ledger = Ledger::default();
            let (ring, mover, hold) = held(builder(), Drive::Threads(1));
            let gate = Gate::default();
            let slow = Slow { bytes: ledger.make(1000, 9), gate: gate.clone() };
            drop(ring.memset(slow, 1).on(mover).try_start().unwrap());
            drop(ring.memset(ledger.make(1000, 9), 1).on(mover).try_start().unwrap());
            hold.wait_for(2);
            hold.release(1);
            // Whoever has reaped it stands in the buffer's drop.
            gate.wait();
            let returned = drop_elsewhere(ring);
            waits(&returned, || {
                gate.open();
                hold.release(1);
            });
            ledger.close();
        }
    });
}

#[test]
fn nothing_is_left_when_the_last_drop_has_returned() {
    must_end(|| {
        for (name, builder) in queued() {
            for round in 0..100 {
                let ring = builder().entries(8).build().unwrap();
                let ledger = Ledger::default();
                for value in 0..8 {
                    drop(ring.memset(ledger.make(3000, 9), value).try_start().unwrap());
                }
                drop(ring);
                assert_eq!(ledger.dropped(), 8, "{name}, round {round}");
                ledger.close();
            }
        }
    });
}

#[test]
fn a_panic_drops_a_ring_like_any_other_end() {
    must_end(|| {
        for (name, builder) in queued() {
            let ledger = Ledger::default();
            let end = catch_unwind(AssertUnwindSafe(|| {
                let ring = builder().build().unwrap();
                let mut sets: Vec<_> = (0..20).map(|value| ring.memset(ledger.make(3000, 9), value)).collect();
                sets.iter_mut().take(10).for_each(|set| drop(poll(set)));
                panic!("as the test wants it");
            }));
            assert!(end.is_err());
            assert_eq!(ledger.dropped(), 20, "{name}");
            ledger.close();
        }
    });
}

/// A ring whose mover says farewell when it is dropped: the ring's end has come.
fn mortal(builder: memring::RingBuilder) -> (Ring, memring::MoverId, Receiver<()>) {
    struct Farewell(Sender<()>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (sender, farewell) = mpsc::channel();
    let last = Arc::new(Farewell(sender));
    let make = move || {
        let last = Arc::clone(&last);
        scripted(Capabilities::new(&[Opcode::Memset]), promptly, move |bell, deadline| {
            let _ = &last;
            bell.sleep(deadline);
        })
    };
    let ring = builder.mover("mortal", Drive::Threads(1), make).build().unwrap();
    let mover = ring.mover("mortal").unwrap();
    (ring, mover, farewell)
}

/// What a waker does when it is woken.
struct Does<F: FnOnce() + Send + 'static>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        let act = self.0.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
    }
}

fn waker(act: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(Does(Mutex::new(Some(act)))))
}

type Shelf<T> = Arc<Mutex<Option<T>>>;

#[test]
fn a_waker_may_drop_the_last_handle_on_a_drivers_thread() {
    must_end(|| {
        // Where callers drive it is their own poll that wakes.
        for (name, builder) in queued().filter(|(name, _)| !name.contains("caller")) {
            for operation_last in [false, true] {
                eprintln!("{name}, the operation is last: {operation_last}");
                let (ring, mover, farewell) = mortal(builder());
                let shelf: Shelf<(Ring, Operation<Memset<Vec<u8>>>)> = Arc::default();
                let part = move |found: &Shelf<_>| {
                    let (ring, set) = found.lock().unwrap().take().expect("it was put there");
                    if operation_last {
                        drop(ring);
                        drop(set);
                    } else {
                        drop(set);
                        drop(ring);
                    }
                };
                let mut set = ring.memset(vec![0; 1000], 1).on(mover);
                // The shelf is locked until both lie there, so a waker that comes early waits. But a poll that helps
                // may wake its own task, and that polls again.
                let mut place = shelf.lock().unwrap();
                let here = thread::current().id();
                let is_pending = loop {
                    let (found, (again, is_again)) = (Arc::clone(&shelf), mpsc::channel());
                    let waker = waker(move || match thread::current().id() == here {
                        true => again.send(()).expect("it is heard"),
                        false => part(&found),
                    });
                    let is_pending = poll_with(&mut set, &waker).is_pending();
                    if !is_pending || is_again.try_recv().is_err() {
                        break is_pending;
                    }
                };
                *place = Some((ring, set));
                drop(place);
                if !is_pending {
                    part(&shelf);
                }
                farewell.recv().expect("the ring ends");
            }
        }
    });
}

/// A buffer that keeps its ring alive.
struct Keeper {
    bytes: Vec<u8>,
    _ring: Ring,
}

// SAFETY: the vector's own.
unsafe impl IoBufMut for Keeper {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        self.bytes.bytes_mut()
    }
}

#[test]
fn a_buffer_may_be_the_last_to_hold_a_ring() {
    must_end(|| {
        for (name, builder) in queued() {
            eprintln!("{name}");
            let (ring, mover, farewell) = mortal(builder());
            for value in 0..10 {
                let keeper = Keeper { bytes: vec![0; 1000], _ring: ring.clone() };
                drop(ring.memset(keeper, value).on(mover).try_start().unwrap());
            }
            drop(ring);
            farewell.recv().expect("the ring ends");
        }
    });
}

#[test]
fn a_mover_may_drop_the_last_handle() {
    must_end(|| {
        let shelf: Shelf<Ring> = Arc::default();
        let found = Arc::clone(&shelf);
        let (sender, dropped) = mpsc::channel();
        let (ring, mover) = watched(Ring::builder().workers(1), Drive::Threads(1), move |_| {
            let last = found.lock().unwrap().take();
            let was_last = last.is_some();
            drop(last);
            let _ = sender.send(was_last);
        });
        let ledger = Ledger::default();
        let mut place = shelf.lock().unwrap();
        drop(ring.memset(ledger.make(1000, 9), 1).on(mover).try_start().unwrap());
        *place = Some(ring);
        drop(place);
        assert_eq!(dropped.recv(), Ok(true));
        assert!(dropped.recv().is_err(), "the mover is dropped, and what it holds");
        ledger.close();
    });
}

#[test]
fn a_waker_that_panics_harms_nobody() {
    must_end(|| {
        for (name, builder) in queued() {
            let ring = builder().build().unwrap();
            for value in 0..40 {
                let (wakes, good) = Wakes::new();
                let mut bad = ring.memset(vec![0; 4096], value);
                let mut other = ring.memset(vec![0; 4096], value);
                let panics = waker(|| std::panic::resume_unwind(Box::new("as the test wants it")));
                // Its own poll may be what wakes it.
                let polled = catch_unwind(AssertUnwindSafe(|| poll_with(&mut bad, &panics)));
                let mut pending = polled.unwrap_or(std::task::Poll::Pending);
                match poll_with(&mut other, &good) {
                    std::task::Poll::Ready(set) => assert_eq!(set.unwrap(), [value; 4096], "{name}"),
                    std::task::Poll::Pending => assert_eq!(run(other).unwrap(), [value; 4096], "{name}"),
                }
                while pending.is_pending() {
                    pending = poll(&mut bad);
                }
                assert!(matches!(pending, std::task::Poll::Ready(Ok(set)) if set == [value; 4096]), "{name}");
                drop(wakes);
            }
        }
    });
}

#[test]
fn a_waker_may_use_the_ring() {
    must_end(|| {
        for (name, builder) in queued() {
            eprintln!("{name}");
            let ring = builder().entries(4).build().unwrap();
            let (sender, done) = mpsc::channel();
            for round in 0..20 {
                let (inner, sender) = (ring.clone(), sender.clone());
                let waker = waker(move || {
                    let mut next = inner.memset(vec![0; 4096], 1);
                    let (_, noop) = Wakes::new();
                    let _: bool = poll_with(&mut next, &noop).is_pending();
                    let started = inner.try_memset(vec![0; 4096], 2);
                    inner.drive(1 << 20);
                    let _: Arm = inner.arm();
                    drop(inner.memset(vec![0; 4096], 3).cancel());
                    let _ = sender.send((next, started, round));
                });
                let mut set = ring.memset(vec![0; 4096], 9);
                while poll_with(&mut set, &waker).is_pending() {
                    thread::yield_now();
                }
                waker.wake(); // If it was never left with the ring, or was woken already: once.
                let (next, started, _) = done.recv().unwrap();
                if next.state() == memring::State::Running {
                    assert_eq!(run(next).unwrap(), [1; 4096]);
                }
                if let Ok(started) = started {
                    assert_eq!(run(started).unwrap(), [2; 4096]);
                }
            }
        }
    });
}

#[test]
fn a_gate_keeps_the_last_drop_as_long_as_it_is_shut() {
    must_end(|| {
        // A mover that works in its poll: the drop of a ring that its caller drives does the work itself.
        let (ring, mover, gate) = gated(Ring::builder().workers(0), Drive::Caller);
        let ledger = Ledger::default();
        drop(ring.memset(ledger.make(1000, 9), 1).on(mover).try_start().unwrap());
        let returned = drop_elsewhere(ring);
        gate.wait();
        waits(&returned, || gate.open());
        assert_eq!(ledger.dropped(), 1);
        ledger.close();
    });
}
