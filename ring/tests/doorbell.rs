//! Goal: announcements are answered once, by the right kind of wake, and not before their target. Method: random calls
//! on a doorbell and on a roster, beside a plain record of who is announced and how.
#![cfg(not(memring_loom))]

use core::time::Duration;
use std::cell::RefCell;

use memring_ring::{Doorbell, Roster, Rung, Sleep, Wake, Word};
use proptest::collection::vec;
use proptest::prelude::*;

/// Notes who was put to sleep and who was woken, by the address of the word.
#[derive(Default)]
struct Bedside {
    slept: RefCell<Vec<*const u32>>,
    woken: RefCell<Vec<*const u32>>,
}

impl Sleep for Bedside {
    fn sleep(&self, word: &Word, timeout: Option<Duration>) {
        assert!(timeout.is_some(), "nobody could wake this thread");
        self.slept.borrow_mut().push(word.address());
    }

    fn wake(&self, word: &Word) {
        assert!(word.blocked().is_none(), "the announcement is taken before the wake");
        self.woken.borrow_mut().push(word.address());
    }
}

impl Bedside {
    fn wakes(&self) -> usize {
        self.woken.borrow().len()
    }
}

fn how() -> impl Strategy<Value = Wake> {
    prop_oneof![Just(Wake::Blocked), Just(Wake::Armed)]
}

#[derive(Clone, Debug)]
enum BellCall {
    Announce(Wake, u64),
    Retract,
    Watch(u64),
    Unwatch,
    Ring(u64),
    Sleep,
}

fn bell_call() -> impl Strategy<Value = BellCall> {
    prop_oneof![
        (how(), 0..5_u64).prop_map(|(how, target)| BellCall::Announce(how, target)),
        Just(BellCall::Retract),
        (0..5_u64).prop_map(BellCall::Watch),
        Just(BellCall::Unwatch),
        (0..5_u64).prop_map(BellCall::Ring),
        Just(BellCall::Sleep),
    ]
}

#[derive(Clone, Debug)]
enum RosterCall {
    Announce(usize, Wake),
    Arm(usize),
    Retract(usize),
    Ring,
    Sleep(usize),
}

const MEMBERS: usize = 4;

fn roster_call() -> impl Strategy<Value = RosterCall> {
    let member = 0..MEMBERS;
    prop_oneof![
        3 => (member.clone(), how()).prop_map(|(member, how)| RosterCall::Announce(member, how)),
        1 => member.clone().prop_map(RosterCall::Arm),
        1 => member.clone().prop_map(RosterCall::Retract),
        3 => Just(RosterCall::Ring),
        1 => member.prop_map(RosterCall::Sleep),
    ]
}

proptest! {
    #[test]
    fn a_doorbell_answers_each_announcement_once(calls in vec(bell_call(), 1..60)) {
        let (bell, bedside) = (Doorbell::default(), Bedside::default());
        let mut standing = None;
        let mut watched = None;
        let mut wakes = 0;
        for call in calls {
            match call {
                BellCall::Announce(how, target) => {
                    let before = bell.announce(how, target);
                    prop_assert_eq!(before, standing.replace((how, target)).map(|(how, _)| how));
                }
                BellCall::Retract => prop_assert_eq!(bell.retract(), standing.take().is_some()),
                BellCall::Watch(target) => {
                    bell.watch(target);
                    watched = Some(target);
                }
                BellCall::Unwatch => prop_assert_eq!(bell.unwatch(), watched.take().is_some()),
                BellCall::Ring(progress) => {
                    let expected = standing.filter(|&(_, target)| progress >= target).map(|(how, _)| how);
                    let watcher = watched.take_if(|target| progress >= *target).is_some();
                    let rung = bell.ring_with(&bedside, |_, target| progress >= target, |target| progress >= target);
                    prop_assert_eq!(rung, Rung { wake: expected, watcher });
                    if expected.is_some() {
                        standing = None;
                    }
                    wakes += usize::from(expected == Some(Wake::Blocked));
                }
                BellCall::Sleep => bell.sleep(&bedside, Some(Duration::ZERO)),
            }
            prop_assert_eq!(bedside.wakes(), wakes);
        }
        prop_assert!(bedside.slept.take().is_sorted_by(|a, b| a == b), "a doorbell has one word");
    }

    #[test]
    fn a_roster_wakes_one_announced_member_at_a_time(calls in vec(roster_call(), 1..80)) {
        let (roster, bedside) = (Roster::new(MEMBERS), Bedside::default());
        let mut standing = [None; MEMBERS];
        let mut wakes = 0;
        for call in calls {
            match call {
                RosterCall::Announce(member, how) => {
                    roster.announce(member, how);
                    standing[member] = Some(how);
                }
                RosterCall::Arm(member) => {
                    prop_assert_eq!(roster.arm(member), standing[member].is_some());
                    standing[member] = standing[member].map(|_| Wake::Armed);
                }
                RosterCall::Retract(member) => {
                    roster.retract(member);
                    standing[member] = None;
                }
                RosterCall::Ring => match roster.ring_with(&bedside) {
                    None => prop_assert_eq!(standing, [None; MEMBERS]),
                    Some((member, how)) => {
                        prop_assert_eq!(standing[member].take(), Some(how));
                        wakes += usize::from(how == Wake::Blocked);
                    }
                },
                RosterCall::Sleep(member) => roster.sleep(member, &bedside, Some(Duration::ZERO)),
            }
            prop_assert_eq!(bedside.wakes(), wakes);
            for (member, standing) in standing.iter().enumerate() {
                prop_assert_eq!(roster.is_announced(member), standing.is_some());
            }
        }
    }
}

#[test]
fn a_progress_that_nobody_waits_for_is_not_read() {
    let rung = Doorbell::default().ring(|_, _| unreachable!("nobody sleeps"), |_| unreachable!("nobody watches"));
    assert_eq!(rung, Rung { wake: None, watcher: false });
}

#[test]
fn a_full_roster_wakes_each_of_its_members() {
    let roster = Roster::new(Roster::MAX);
    (0..Roster::MAX).for_each(|member| roster.announce(member, Wake::Armed));
    let mut rung: Vec<usize> = core::iter::from_fn(|| roster.ring()).map(|(member, _)| member).collect();
    rung.sort_unstable();
    assert!(rung.into_iter().eq(0..Roster::MAX));
}

#[test]
#[should_panic(expected = "at most 64 members")]
fn a_roster_has_no_more_members_than_bits() {
    let _ = Roster::new(Roster::MAX + 1);
}
