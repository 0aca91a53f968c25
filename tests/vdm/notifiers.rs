//! Who is told of a completion, and how often.
#![expect(unsafe_code, reason = "operations on raw addresses")]

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use memring::vdm::{Notifier, NotifierType, OperationResult, State, Vdm, Word};

use super::watchdog::must_end;
use super::{NONE, each_kind};

const LONG: usize = 1 << 20;

/// Counts how often it is woken.
#[derive(Default)]
pub(crate) struct Count(Mutex<usize>);

impl Count {
    pub(crate) fn get(&self) -> usize {
        *self.0.lock().expect("nobody panics with it")
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        *self.0.lock().expect("nobody panics with it") += 1;
    }
}

/// A count, and the waker that counts.
pub(crate) fn counting() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

/// Says that it was woken.
struct Tell(Mutex<std::sync::mpsc::Sender<()>>);

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        // Who listened may be gone: then one wake too many came, and is counted elsewhere.
        let _ = self.0.lock().expect("nobody panics with it").send(());
    }
}

#[test]
fn a_waker_is_woken_once_when_completion_is_visible() {
    must_end(|| {
        let mut pages = vec![0; LONG];
        let at = pages.as_mut_ptr();
        let vdm = Vdm::threads(1, 4).expect("a mover");
        let mut waited = 0;
        for _ in 0..200 {
            let (tell, told) = channel();
            let waker = Waker::from(Arc::new(Tell(Mutex::new(tell))));
            // SAFETY: the pages outlive `vdm`, and nobody uses them until the operation is complete.
            let mut set = unsafe { vdm.memset(at, 7, LONG, NONE) };
            let mut notifier = Notifier::waker(&waker);
            if set.poll(&mut notifier) == State::Running {
                assert_eq!(notifier.used(), NotifierType::Waker);
                told.recv().expect("a wake comes");
                assert_eq!(set.poll(&mut Notifier::none()), State::Complete, "it was woken too early");
                waited += 1;
            }
            drop((set, waker));
            assert_eq!(told.iter().count(), 0, "one wake too many");
        }
        assert!(waited > 0, "none of them had to be waited for");
    });
}

#[test]
fn the_notifier_of_the_last_poll_counts() {
    must_end(|| {
        let mut pages = vec![0; 4 * LONG];
        let vdm = Vdm::threads(0, 4).expect("a mover");
        // SAFETY: the pages outlive `vdm`, and nobody uses them until the operation is complete.
        let mut set = unsafe { vdm.memset(pages.as_mut_ptr(), 7, 4 * LONG, NONE) };
        let ((first, first_waker), (second, second_waker)) = (counting(), counting());
        // Whoever polls does a part, and is to come again: the waker says so at once.
        assert_eq!(set.poll(&mut Notifier::waker(&first_waker)), State::Running);
        let before = first.get();
        assert!(before > 0);
        assert_eq!(set.poll(&mut Notifier::waker(&second_waker)), State::Running);
        assert_eq!(set.poll(&mut Notifier::none()), State::Running);
        let after = second.get();
        while set.poll(&mut Notifier::none()) != State::Complete {}
        assert_eq!((first.get(), second.get()), (before, after), "who has gone is told");
    });
}

#[test]
fn a_pollers_word_changes_at_completion() {
    must_end(|| {
        let mut pages = vec![0; 2 * LONG];
        let at = pages.as_mut_ptr();
        for (name, vdm) in each_kind() {
            let mut waited = 0;
            for _ in 0..50 {
                // SAFETY: the pages outlive `vdm`, and nobody uses them until the operation is complete.
                let mut set = unsafe { vdm.memset(at, 7, 2 * LONG, NONE) };
                let mut notifier = Notifier::poller();
                while set.poll(&mut notifier) != State::Complete {
                    // The courier knows of no words, and says so.
                    let Some(word) = notifier.word() else {
                        assert_eq!((name, notifier.used()), ("new", NotifierType::None));
                        continue;
                    };
                    assert_eq!(notifier.used(), NotifierType::Poller);
                    let (address, seen) = (word.address(), word.seen());
                    word.wait();
                    assert!(word.has_changed());
                    // SAFETY: the word lies there while the poller lives, and nothing of this mover is under way that
                    // would write it now, but for one that would come without threads: there this thread writes it.
                    assert_ne!(unsafe { address.read_volatile() }, seen);
                    waited += 1;
                }
                assert_eq!(set.output().map(|output| output.result), Some(OperationResult::Success));
            }
            assert!(waited > 0 || ["synchronous", "new"].contains(&name), "{name}");
        }
    });
}

#[test]
fn one_word_serves_many_operations() {
    must_end(|| {
        let mut pages = vec![0; 8 * LONG];
        let vdm = Vdm::threads(2, 8).expect("a mover");
        // SAFETY: the pages outlive `vdm`, and nobody uses them until the operations are complete.
        let set = |page: &mut [u8]| unsafe { vdm.memset(page.as_mut_ptr(), 7, page.len(), NONE) };
        let mut sets: Vec<_> = pages.chunks_mut(LONG).map(set).collect();
        while !sets.is_empty() {
            let mut words = Vec::new();
            sets.retain_mut(|set| {
                let mut notifier = Notifier::poller();
                let state = set.poll(&mut notifier);
                words.extend(notifier.word().cloned());
                state != State::Complete
            });
            // The oldest: whatever completes after it was seen changes it.
            if let Some(word) = words.first() {
                assert!(words.iter().all(|other| other.address() == word.address()));
                word.wait();
            }
        }
    });
}

#[test]
fn none_tells_nobody() {
    let mut page = [0; 64];
    for (name, vdm) in each_kind() {
        // SAFETY: `page` outlives the operation, and nobody uses it until that is complete.
        let mut set = unsafe { vdm.memset(page.as_mut_ptr(), 7, 64, NONE) };
        let mut notifier = Notifier::none();
        while set.poll(&mut notifier) != State::Complete {
            assert_eq!(notifier.used(), NotifierType::None, "{name}");
            assert!(notifier.word().is_none(), "{name}");
        }
    }
}

#[test]
fn a_mover_uses_only_what_is_offered() {
    let waker = Waker::noop();
    for (mut notifier, wanted) in [
        (Notifier::none(), NotifierType::None),
        (Notifier::waker(waker), NotifierType::Waker),
        (Notifier::poller(), NotifierType::Poller),
    ] {
        assert_eq!((notifier.wanted(), notifier.used()), (wanted, NotifierType::None));
        notifier.use_poller(Word::poller(&Arc::new(Word::new())));
        assert_eq!(notifier.word().is_some(), wanted == NotifierType::Poller);
        assert_eq!(notifier.use_waker().is_some(), wanted == NotifierType::Waker);
        assert_eq!(notifier.used(), wanted);
    }
}

#[test]
fn values_are_those_of_the_seed() {
    assert_eq!([NotifierType::None as u32, NotifierType::Waker as u32, NotifierType::Poller as u32], [0, 1, 2]);
    assert_eq!(super::Case::TYPES.map(|operation_type| operation_type as u32), [0, 1, 2, 3]);
    let results = [OperationResult::Success, OperationResult::OutOfMemory, OperationResult::JobCorrupted];
    assert_eq!(results.map(|result| result as u32), [0, 1, 2]);
    assert_eq!([memring::OpFlags::MEM_DURABLE.bits(), memring::OpFlags::NO_CACHE_HINT.bits()], [1, 2]);
}
