//! Chains: which future is polled when, what is made when, and what a drop leaves.
#![expect(unsafe_code, reason = "operations on raw addresses")]

use std::cell::RefCell;
use std::future::{Future, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use memring::Ring;
use memring::vdm::{Chain, OperationResult, State, Vdm};

use super::watchdog::must_end;
use super::{NONE, each_kind};

/// What happens, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    /// What was noted since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

/// Notes its polls and its drop, and completes with `value` after so many of them.
struct Noted {
    log: Log,
    name: &'static str,
    left: usize,
    value: u32,
}

impl Future for Noted {
    type Output = u32;

    fn poll(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
        self.log.note(format!("poll {}", self.name));
        assert!(self.left > 0, "{} was complete", self.name);
        self.left -= 1;
        if self.left == 0 { Poll::Ready(self.value) } else { Poll::Pending }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.log.note(format!("drop {}", self.name));
    }
}

fn noted(log: &Log, name: &'static str, polls: usize, value: u32) -> Noted {
    log.note(format!("make {name}"));
    Noted { log: log.clone(), name, left: polls, value }
}

#[test]
fn a_chain_goes_on_through_all_that_complete() {
    let log = Log::default();
    let own = log.clone();
    let chain = Chain::new(noted(&log, "a", 2, 1))
        .then(|one, b: &mut Noted| b.value += one, noted(&log, "b", 1, 10))
        .then_lazy(|eleven| noted(&own, "c", 2, eleven + 100))
        .then_lazy(|sum| ready(sum + 1000))
        .map(|sum| sum * 2);
    assert_eq!(log.take(), ["make a", "make b"], "what is lazy is not there yet");
    let mut chain = pin!(chain);
    let mut poll = || chain.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll(), Poll::Pending);
    assert_eq!(log.take(), ["poll a"], "one poll each");
    assert_eq!(poll(), Poll::Pending);
    assert_eq!(log.take(), ["poll a", "drop a", "poll b", "drop b", "make c", "poll c"]);
    assert_eq!(poll(), Poll::Ready(2222));
    assert_eq!(log.take(), ["poll c", "drop c"]);
    assert_eq!(poll(), Poll::Pending, "it has given its output");
    assert_eq!(log.take(), Vec::<String>::new());
}

#[test]
fn what_is_complete_is_gone_before_the_next_is_made() {
    let log = Log::default();
    let own = log.clone();
    let mut chain = pin!(Chain::new(noted(&log, "a", 1, 1)).then_lazy(|_| noted(&own, "b", 1, 2)));
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(chain.as_mut().poll(&mut context), Poll::Ready(2));
    assert_eq!(log.take(), ["make a", "poll a", "drop a", "make b", "poll b", "drop b"]);
    // So one that is not made is not waited for, nor what was before it polled again.
    let own = log.clone();
    let panics = move |_| -> Noted { panic!("{:?}", own.take()) };
    let mut chain = pin!(Chain::new(noted(&log, "a", 1, 1)).then_lazy(panics));
    let poll = AssertUnwindSafe(|| chain.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    assert!(catch_unwind(poll).is_err());
    assert_eq!(chain.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(log.take(), Vec::<String>::new());
}

#[test]
fn a_dropped_chain_begins_nothing_more() {
    let log = Log::default();
    let mut chain = Box::pin(
        Chain::new(noted(&log, "a", 2, 1))
            .then(|_, _| unreachable!("a has not completed"), noted(&log, "b", 1, 1))
            .then_lazy(|_| -> Noted { unreachable!("b has not completed") }),
    );
    assert!(chain.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    log.take();
    drop(chain);
    assert_eq!(log.take(), ["drop a", "drop b"]);
}

#[test]
fn a_chain_takes_resources_when_its_futures_are_made() {
    let mut bytes = [0_u8; 2];
    let at = bytes.as_mut_ptr();
    let vdm = Vdm::threads(1, 2).expect("a mover");
    // SAFETY: the bytes outlive `vdm`, and nobody uses them until the operations are complete.
    let set = |place: usize| unsafe { vdm.memset(at.wrapping_add(place), 7, 1, NONE) };
    let eager = Chain::new(set(0)).then(|first, _| assert_eq!(first.result, OperationResult::Success), set(1));
    assert_eq!(set(0).state(), State::Complete, "both are taken");
    drop(eager);
    let lazy = Chain::new(set(0)).then_lazy(|_| set(1));
    let other = set(0);
    assert_eq!(other.state(), State::Idle, "one is left");
    drop((other, lazy));
    assert_eq!(bytes, [0; 2]);
}

#[test]
fn chains_of_operations_run_in_order_on_each_mover() {
    must_end(|| {
        const LEN: usize = 700 << 10;
        let ring = Ring::builder().workers(0).build().expect("a ring");
        for (name, vdm) in each_kind() {
            let mut buffers = vec![vec![0_u8; LEN]; 3];
            let [a, b, c] = [0, 1, 2].map(|number| buffers[number].as_mut_ptr());
            let vdm = &vdm;
            for value in [3, 4, 5] {
                // SAFETY: the buffers are dropped after the operations are complete, which use them one after the
                // other; nobody else does.
                let first = unsafe { vdm.memset(a, value, LEN, NONE) };
                // SAFETY: as above.
                let second = unsafe { vdm.memcpy(b, a, LEN, NONE) };
                let chain = Chain::new(first)
                    .then(|set, _| assert_eq!(set.result, OperationResult::Success), second)
                    // SAFETY: as above.
                    .then_lazy(|_| unsafe { vdm.memset(a, 0, LEN, NONE) })
                    // SAFETY: as above.
                    .then_lazy(|_| unsafe { vdm.memcpy(c, b, LEN, NONE) })
                    .map(|copied| copied.result);
                assert_eq!(ring.block_on(chain), Ok(OperationResult::Success), "{name}");
                let [set, copy, last] = &buffers[..] else { unreachable!("there are three") };
                assert!(set.iter().all(|byte| *byte == 0), "{name}");
                assert!(copy == last && copy.iter().all(|byte| *byte == value), "{name}");
            }
        }
    });
}

#[test]
fn chains_take_futures_of_all_kinds() {
    let ring = Ring::builder().workers(0).build().expect("a ring");
    let vdm = Vdm::threads(0, 4).expect("a mover");
    let mut byte = 0_u8;
    let at = &raw mut byte;
    let mut polls = 0;
    let counts = poll_fn(|context| {
        polls += 1;
        context.waker().wake_by_ref();
        if polls == 3 { Poll::Ready(polls) } else { Poll::Pending }
    });
    let chain = Chain::new(ring.memset(vec![0; 4], 9))
        .then_lazy(|page| async move { page.map(|page| page[3]) })
        // SAFETY: the byte is not used until the chain is complete.
        .then_lazy(|nine| unsafe { vdm.memset(at, nine.expect("it was set"), 1, NONE) })
        .then(|set, _| assert_eq!(set.result, OperationResult::Success), counts);
    assert_eq!(ring.block_on(chain), Ok(3));
    assert_eq!(byte, 9);
}

#[test]
fn chains_can_be_sent_if_their_parts_can() {
    fn sent<F: Future + Send + Unpin>(chain: F) -> F {
        chain
    }
    let vdm = Vdm::synchronous().expect("a mover");
    // SAFETY: no byte is touched.
    let nothing = || unsafe { vdm.flush(std::ptr::null(), 0, NONE) };
    let chain = sent(Chain::new(nothing()).then(|_, _| (), nothing()).map(|output| output.result));
    let ring = Ring::builder().workers(0).build().expect("a ring");
    assert_eq!(ring.block_on(chain), Ok(OperationResult::Success));
}
