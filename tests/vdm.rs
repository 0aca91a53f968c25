//! Goal: `memring::vdm` does what miniasync's page says of a virtual data mover, sentence by sentence: `docs/VDM.md`
//! names for each the test here that holds it, and `vdm/page.rs` holds `docs/VDM.md` to that.
//!
//! Method: the four operations beside `core::ptr` on each constructor; then what must not be done, what runs out, who
//! is told, and what is dropped or forgotten at which moment. A mover of the test's own (`vdm/scripted.rs`) writes down
//! how its verbs are called.
#![expect(unsafe_code, reason = "operations on raw addresses")]

#[path = "vdm/chains.rs"]
mod chains;
#[path = "support/child.rs"]
mod child;
#[expect(dead_code, reason = "its main is for `cargo run`")]
#[path = "../examples/vdm_mover.rs"]
mod courier;
#[path = "vdm/drops.rs"]
mod drops;
#[path = "vdm/notifiers.rs"]
mod notifiers;
#[path = "vdm/page.rs"]
mod page;
#[path = "vdm/plugged.rs"]
mod plugged;
#[path = "support/random.rs"]
mod random;
#[path = "vdm/resources.rs"]
mod resources;
#[path = "vdm/scripted.rs"]
mod scripted;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::ptr;

use memring::OpFlags;
use memring::dsa::Dsa;
use memring::vdm::{Notifier, OperationFuture, OperationOutput, OperationResult, OperationType, State, Vdm};

use courier::Courier;
use random::{Random, seed};

const NONE: OpFlags = OpFlags::NONE;

/// One of each kind, with its name.
fn each_kind() -> Vec<(&'static str, Vdm)> {
    vec![
        ("synchronous", Vdm::synchronous().expect("a mover")),
        ("threads", Vdm::threads(2, 64).expect("a mover")),
        ("no threads", Vdm::threads(0, 64).expect("a mover")),
        ("dsa", Vdm::dsa(&Dsa::software(), 1, 64).expect("a mover")),
        ("dsa, no threads", Vdm::dsa(&Dsa::software(), 0, 64).expect("a mover")),
        ("new", Vdm::new(Courier::new(64))),
    ]
}

/// Polls it until it is complete, and returns what it came to.
fn finish(mut future: OperationFuture) -> OperationOutput {
    while future.poll(&mut Notifier::none()) != State::Complete {
        std::thread::yield_now();
    }
    future.output().expect("it is complete")
}

/// An operation that makes sense, in a buffer of `len` bytes.
#[derive(Clone, Copy, Debug)]
struct Case {
    operation_type: OperationType,
    dst: usize,
    src: usize,
    n: usize,
    value: u8,
}

impl Case {
    const TYPES: [OperationType; 4] =
        [OperationType::Memcpy, OperationType::Memmove, OperationType::Memset, OperationType::Flush];

    fn random(random: &mut Random, len: usize) -> Self {
        let operation_type = Self::TYPES[random.below(4)];
        let n = random.below(len / 2 + 1);
        let (mut dst, mut src) = (random.below(len - n + 1), random.below(len - n + 1));
        if operation_type == OperationType::Memcpy {
            // Apart, in either order.
            src = random.below(len / 2 - n + 1);
            dst = len / 2 + random.below(len - len / 2 - n + 1);
            if random.below(2) == 0 {
                std::mem::swap(&mut dst, &mut src);
            }
        }
        Self { operation_type, dst, src, n, value: random.next().to_le_bytes()[0] }
    }

    /// # Safety
    ///
    /// The contract of `Vdm::memcpy`, for this buffer.
    unsafe fn on(&self, vdm: &Vdm, buffer: *mut u8, flags: OpFlags) -> OperationFuture {
        let (dst, src) = (buffer.wrapping_add(self.dst), buffer.wrapping_add(self.src));
        match self.operation_type {
            // SAFETY: the caller vouches for it.
            OperationType::Memcpy => unsafe { vdm.memcpy(dst, src, self.n, flags) },
            // SAFETY: as above.
            OperationType::Memmove => unsafe { vdm.memmove(dst, src, self.n, flags) },
            // SAFETY: as above.
            OperationType::Memset => unsafe { vdm.memset(dst, self.value, self.n, flags) },
            // SAFETY: as above.
            OperationType::Flush => unsafe { vdm.flush(dst, self.n, flags) },
        }
    }

    /// The same by `core::ptr`.
    fn on_model(&self, buffer: &mut [u8]) {
        match self.operation_type {
            OperationType::Memcpy | OperationType::Memmove => {
                let base = buffer.as_mut_ptr();
                // SAFETY: both lie in the buffer, which is ours.
                unsafe { ptr::copy(base.wrapping_add(self.src), base.wrapping_add(self.dst), self.n) };
            }
            OperationType::Memset => buffer[self.dst..self.dst + self.n].fill(self.value),
            OperationType::Flush => {}
        }
    }
}

#[test]
fn operations_do_what_core_ptr_does() {
    const LEN: usize = 3000;
    let mut random = Random::new(seed());
    let mut buffer: Vec<u8> = (0..251).cycle().take(LEN).collect();
    let mut model = buffer.clone();
    for (name, vdm) in each_kind() {
        let flags = if vdm.is_supported(OpFlags::NO_CACHE_HINT) { OpFlags::NO_CACHE_HINT } else { NONE };
        for round in 0..200 {
            let case = Case::random(&mut random, LEN);
            // SAFETY: the buffer outlives `vdm`, and nobody uses it until the operation is complete.
            let future = unsafe { case.on(&vdm, buffer.as_mut_ptr(), if round % 2 == 0 { flags } else { NONE }) };
            let output = finish(future);
            // The courier has no instruction to flush.
            let is_done = name != "new" || case.operation_type != OperationType::Flush;
            let expected = if is_done { OperationResult::Success } else { OperationResult::JobCorrupted };
            assert_eq!(output.result, expected, "{name}: {case:?}");
            assert_eq!(output.operation_type, case.operation_type);
            assert_eq!(output.destination, buffer.as_mut_ptr().wrapping_add(case.dst));
            case.on_model(&mut model);
            assert!(buffer == model, "{name}: {case:?}");
        }
    }
}

#[test]
fn long_operations_are_done_whole() {
    const LEN: usize = 5 << 20;
    let src: Vec<u8> = (0..249).cycle().take(LEN).collect();
    for (name, vdm) in each_kind() {
        let mut dst = vec![0; LEN];
        // SAFETY: `dst` is dropped before `vdm`, and not before the operation is complete; nobody else uses it.
        let output = finish(unsafe { vdm.memcpy(dst.as_mut_ptr(), src.as_ptr(), LEN, NONE) });
        assert_eq!(output.result, OperationResult::Success, "{name}");
        assert!(dst == src, "{name}");
    }
}

#[test]
fn an_operation_is_idle_until_it_is_polled() {
    for (name, vdm) in each_kind() {
        let mut page = [0; 64];
        // SAFETY: `page` is not used until the operation is complete, but for a look while it is idle.
        let mut set = unsafe { vdm.memset(page.as_mut_ptr(), 7, 64, NONE) };
        assert_eq!((set.state(), set.output()), (State::Idle, None), "{name}");
        assert_eq!(page, [0; 64], "{name}: it is idle");
        while set.poll(&mut Notifier::none()) != State::Complete {
            assert_eq!((set.state(), set.output()), (State::Running, None), "{name}");
        }
        assert_eq!(page, [7; 64], "{name}");
    }
}

#[test]
fn a_complete_one_can_be_polled_again() {
    for (name, vdm) in each_kind() {
        let mut page = [0; 64];
        // SAFETY: `page` is not used until the operation is complete.
        let mut set = unsafe { vdm.memset(page.as_mut_ptr(), 7, 64, NONE) };
        while set.poll(&mut Notifier::none()) != State::Complete {}
        let output = set.output();
        page = [1; 64];
        for _ in 0..3 {
            let mut notifier = Notifier::poller();
            assert_eq!(set.poll(&mut notifier), State::Complete, "{name}");
            assert_eq!(notifier.used(), memring::vdm::NotifierType::None, "{name}: nothing will come");
            assert_eq!(set.output(), output, "{name}");
        }
        drop(set);
        drop(vdm);
        assert_eq!(page, [1; 64], "{name}: it was done once");
    }
}

#[test]
fn a_future_is_a_future() {
    let ring = memring::Ring::builder().workers(0).build().expect("a ring");
    for (name, vdm) in each_kind() {
        let mut page = vec![0; 1 << 20];
        // SAFETY: `page` outlives the operation, which is awaited here.
        let mut set = unsafe { vdm.memset(page.as_mut_ptr(), 7, 1 << 20, NONE) };
        let output = ring.block_on(&mut set).expect("this thread may block");
        assert_eq!(output.result, OperationResult::Success, "{name}");
        assert!(page.iter().all(|byte| *byte == 7), "{name}");
        assert_eq!(ring.block_on(&mut set), Ok(output), "{name}: it gives the same again");
    }
}

#[test]
fn support_is_told_truly() {
    let durable = OpFlags::MEM_DURABLE;
    let hint = OpFlags::NO_CACHE_HINT;
    for (name, vdm) in each_kind() {
        assert!(vdm.is_supported(NONE), "{name}");
        assert!(!vdm.is_supported(durable), "{name}: nothing here makes durable");
        assert_eq!(vdm.is_supported(hint), name != "new", "{name}");
        assert!(!vdm.is_supported(durable | hint), "{name}: one of two is not both");
        for bits in [1 << 2, 1 << 31, u32::MAX] {
            assert!(!vdm.is_supported(OpFlags::from_bits(bits)), "{name}: nobody knows {bits:#x}");
        }
        // What is said is what happens.
        for bits in [0, 1, 2, 3, 4, 1 << 31] {
            let flags = OpFlags::from_bits(bits);
            let mut page = [0; 64];
            // SAFETY: `page` is not used until the operation is complete.
            let output = finish(unsafe { vdm.memset(page.as_mut_ptr(), 7, 64, flags) });
            let is_done = output.result == OperationResult::Success;
            assert_eq!(is_done, vdm.is_supported(flags), "{name}: {flags:?}");
            assert_eq!(page, if is_done { [7; 64] } else { [0; 64] }, "{name}: {flags:?}");
        }
    }
}

#[test]
fn what_is_refused_is_corrupted_and_touches_nothing() {
    const END: *mut u8 = ptr::without_provenance_mut(usize::MAX - 63);
    let null = ptr::null_mut::<u8>();
    for (name, vdm) in each_kind() {
        let mut page = [5; 64];
        let at = page.as_mut_ptr();
        // SAFETY, for all: they are refused, so nothing is touched; those of no bytes touch none.
        let make: [&dyn Fn() -> OperationFuture; 10] = [
            // SAFETY: as above.
            &|| unsafe { vdm.memcpy(null, at, 8, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memcpy(at, null, 8, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memcpy(at, at.wrapping_add(7), 8, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memcpy(at, at, 8, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memmove(at, null, 8, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memset(null, 1, 8, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.flush(null, 8, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memset(END, 1, 65, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memset(at, 1, isize::MAX as usize + 1, NONE) },
            // SAFETY: as above.
            &|| unsafe { vdm.memmove(at, at, usize::MAX, NONE) },
        ];
        for (number, make) in make.iter().enumerate() {
            let future = make();
            assert_eq!(future.state(), State::Idle, "{name}, number {number}: it had its resources");
            assert_eq!(finish(future).result, OperationResult::JobCorrupted, "{name}, number {number}");
        }
        // SAFETY: no byte is touched.
        let nothing = unsafe { vdm.memcpy(null, null, 0, NONE) };
        assert_eq!(finish(nothing).result, OperationResult::Success, "{name}: nothing is no mistake");
        drop(vdm);
        assert_eq!(page, [5; 64], "{name}");
    }
}

#[test]
fn many_threads_share_a_mover() {
    const LEN: usize = 20_000;
    for (name, vdm) in each_kind() {
        let first = seed();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let vdm = &vdm;
                scope.spawn(move || {
                    let mut random = Random::new(first.wrapping_add(thread));
                    let mut buffer = vec![0; LEN];
                    let mut model = buffer.clone();
                    for _ in 0..100 {
                        let case = Case::random(&mut random, LEN);
                        // SAFETY: the buffer stays until the operation is complete, and nobody else uses it.
                        let output = finish(unsafe { case.on(vdm, buffer.as_mut_ptr(), NONE) });
                        assert_ne!(output.result, OperationResult::OutOfMemory, "{name}: there is room for 64");
                        case.on_model(&mut model);
                        assert!(buffer == model, "{name}, seed {first}: {case:?}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_forked_child_is_refused() {
    const LONG: usize = 8 << 20;
    let mut page = [0; 64];
    let at = page.as_mut_ptr();
    for (name, vdm) in each_kind() {
        let mut pages = vec![0; 8 * LONG];
        // SAFETY: the pages outlive `vdm`, here and in the child, and nobody else uses them.
        let long = |page: &mut [u8]| unsafe { vdm.memset(page.as_mut_ptr(), 7, LONG, NONE) };
        let mut running: Vec<OperationFuture> = pages.chunks_mut(LONG).map(long).collect();
        for set in &mut running {
            set.poll(&mut Notifier::none());
        }
        // SAFETY: `page` outlives `vdm`, and nobody else uses it.
        let idle = unsafe { vdm.memset(at, 7, 64, NONE) };
        let in_child = move || {
            // Some were complete before; the others have no mover that would go on.
            let mut running = running.into_iter();
            for set in running.by_ref().take(4) {
                finish(set);
            }
            assert_eq!(finish(idle).result, OperationResult::JobCorrupted, "{name}: its mover is not here");
            // SAFETY: as above.
            let another = unsafe { vdm.memset(at, 7, 64, NONE) };
            assert_ne!(finish(another).result, OperationResult::Success, "{name}");
            drop(vdm);
            drop(running);
        };
        child::in_child(in_child);
    }
    assert_eq!(page, [0; 64], "the child's operations were refused, and the parent's was idle");
}
