//! Movers that wait in ways of their own: in the kernel, with the bell as a descriptor, or spinning on it.
#![expect(unsafe_code, reason = "poll(2) and epoll(7) have no safe wrapper in std")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use memring::Status;
use memring::mover::{Bell, Completions, Lane, Progress};
use memring::queue::{Drive, Driver};

use super::scripted::{promptly, scripted};
use super::watchdog::must_end;
use super::{Queue, all, build, each_once, reap, submit_nops};

fn check(result: libc::c_int, what: &str) -> libc::c_int {
    assert!(result >= 0, "{what}: {}", io::Error::last_os_error());
    result
}

/// Blocks in poll(2) until the descriptor is readable, and reads it.
fn poll_readable(fd: RawFd) {
    let mut wanted = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    check(unsafe { libc::poll(&raw mut wanted, 1, -1) }, "poll");
    let mut counter = 0_u64;
    // SAFETY: eight bytes that live; the descriptor is an eventfd that is readable.
    let read = unsafe { libc::read(fd, (&raw mut counter).cast(), 8) };
    assert_eq!(read, 8, "read: {}", io::Error::last_os_error());
}

/// An epoll instance that watches the descriptor, edge-triggered.
fn epoll_on(fd: RawFd) -> OwnedFd {
    // SAFETY: takes a number.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }, "epoll_create1");
    // SAFETY: it has just been made, and nobody else owns it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let events = u32::try_from(libc::EPOLLIN | libc::EPOLLET).unwrap_or(libc::EPOLLIN as u32 | 1 << 31);
    let mut event = libc::epoll_event { events, u64: 0 };
    // SAFETY: `event` lives through the call.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) }, "epoll_ctl");
    epoll
}

/// Submits rounds of nops, each when the mover has said that it is about to wait in its own way.
fn is_woken(mut queue: Queue, waits: &Receiver<()>) {
    let (sq, cq, mover) = (&mut queue.0, &mut queue.1, queue.2);
    for round in 1..=20 {
        waits.recv().expect("the mover comes to its wait");
        submit_nops(sq, 3, mover);
        each_once(&reap(cq, 3), Status::SUCCESS);
        assert!(cq.stats().mover(mover).wakes >= round, "it was announced, so it had to be woken");
    }
}

/// A mover that does nops, says when it is about to wait, and waits like this. On one thread.
fn build_waiter<W>(make_wait: impl Fn() -> W + 'static) -> (Queue, Receiver<()>)
where
    W: FnMut(&Bell<'_>, Option<Instant>, &Sender<()>) + Send + 'static,
{
    let (about, waits) = mpsc::channel();
    let queue = build(Drive::Threads(1), move || {
        let (about, mut wait) = (about.clone(), make_wait());
        scripted(all().system_calls(), promptly, move |bell, deadline| wait(bell, deadline, &about))
    });
    (queue, waits)
}

#[test]
fn a_mover_may_wait_in_poll() {
    must_end(|| {
        let (queue, waits) = build_waiter(|| {
            |bell: &Bell<'_>, _, about: &Sender<()>| {
                let fd = bell.fd().expect("an eventfd is to be had").as_raw_fd();
                let _ = about.send(());
                poll_readable(fd);
            }
        });
        is_woken(queue, &waits);
    });
}

#[test]
fn a_mover_may_wait_in_an_edge_triggered_epoll() {
    must_end(|| {
        let (queue, waits) = build_waiter(|| {
            let mut epoll = None;
            move |bell: &Bell<'_>, _, about: &Sender<()>| {
                let fd = bell.fd().expect("an eventfd is to be had").as_raw_fd();
                // Nobody ever reads the descriptor: each ring is an edge of its own.
                let epoll: &OwnedFd = epoll.get_or_insert_with(|| epoll_on(fd));
                let _ = about.send(());
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                // SAFETY: room for one event.
                let ready = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1) };
                assert_eq!(ready, 1, "epoll_wait: {}", io::Error::last_os_error());
            }
        });
        is_woken(queue, &waits);
    });
}

#[test]
fn a_mover_may_spin_on_its_bell() {
    must_end(|| {
        let (queue, waits) = build_waiter(|| {
            |bell: &Bell<'_>, _, about: &Sender<()>| {
                let _ = about.send(());
                while !bell.is_rung() {
                    std::thread::yield_now();
                }
            }
        });
        is_woken(queue, &waits);
    });
}

#[test]
fn a_mover_may_sleep_on_its_bell_after_arming_its_descriptor() {
    must_end(|| {
        let (queue, waits) = build_waiter(|| {
            |bell: &Bell<'_>, _, about: &Sender<()>| {
                let fd = bell.fd().expect("an eventfd is to be had").as_raw_fd();
                let again = bell.fd().expect("it is the same one").as_raw_fd();
                assert_eq!(fd, again);
                let _ = about.send(());
                // Armed for the kernel now, so sleep must not block on the word.
                while !bell.is_rung() {
                    bell.sleep(None);
                }
            }
        });
        is_woken(queue, &waits);
    });
}

#[test]
fn a_mover_that_returns_early_from_its_wait_is_polled_again() {
    must_end(|| {
        let (queue, waits) = build_waiter(|| {
            |_: &Bell<'_>, deadline: Option<Instant>, about: &Sender<()>| {
                assert_eq!(deadline, None, "nothing is under way that would need another look");
                let _ = about.send(());
            }
        });
        let (mut sq, mut cq, mover) = queue;
        for _ in 0..20 {
            waits.recv().expect("the mover comes to its wait");
            submit_nops(&mut sq, 3, mover);
            each_once(&reap(&mut cq, 3), Status::SUCCESS);
        }
        let stats = cq.stats();
        assert_eq!(stats.driver(mover, Driver::Thread(0)).map(|driver| driver.operations), Some(60));
    });
}

#[test]
fn a_wait_for_operations_under_way_has_a_deadline() {
    must_end(|| {
        let (about, deadlines) = mpsc::channel();
        let (mut sq, mut cq, mover) = build(Drive::Threads(1), move || {
            let about = about.clone();
            let mut kept = None;
            let poll = move |lane: &mut Lane<'_>, done: &mut Completions<'_>| {
                // One poll claims it, the next one completes it.
                if let Some(token) = kept.take() {
                    done.complete(token, Status::SUCCESS);
                    return Progress::Idle;
                }
                kept = lane.claim().map(memring::mover::Claimed::keep);
                if kept.is_some() { Progress::Waiting } else { Progress::Idle }
            };
            scripted(all(), poll, move |bell, deadline| {
                let _ = about.send(deadline.is_some());
                bell.sleep(deadline);
            })
        });
        submit_nops(&mut sq, 1, mover);
        each_once(&reap(&mut cq, 1), Status::SUCCESS);
        drop(cq);
        let deadlines: Vec<bool> = deadlines.into_iter().collect();
        assert_eq!(deadlines.iter().filter(|&&has_one| has_one).count(), 1, "{deadlines:?}");
    });
}
