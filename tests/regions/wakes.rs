//! That nobody sleeps while there is something to hand to the kernel, or something has come back from it.
#![expect(unsafe_code, reason = "pushes raw entries, and limits what a process may have")]

use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use memring::queue::{Arm, Drive, QueuePair};
use memring::{Ring, Sqe, WORKERS};

use crate::files::{PAGE, Queue, file, mapped};
use crate::rings::sleep_on;
use crate::subprocess::{again, role, words};
use crate::watchdog::must_end;

fn by_caller() -> memring::queue::Builder {
    QueuePair::builder().workers(0).flush_drive(Drive::Caller)
}

/// However much it covers: what a flush is long does not count as copied.
#[test]
fn a_flush_longer_than_the_budget_is_handed_over() {
    must_end(|| {
        for budget in [1, 4096, 1 << 20] {
            let mut queue = Queue::new(by_caller().poll_budget(budget), 4096);
            // SAFETY: a flush of what is mapped.
            unsafe { queue.sq.push(Sqe::flush_in(&queue.region, 0..4096 * PAGE)) }.unwrap();
            queue.sq.submit();
            while queue.cq.drain().count() == 0 {
                if queue.cq.arm() == Arm::Armed {
                    assert_eq!(queue.cq.stats().fsyncs, 1, "armed, and nothing was begun");
                    sleep_on(&queue.cq);
                    queue.cq.clear();
                }
            }
        }
    });
}

/// A clear may take the kernel's signal away before anybody has looked.
#[test]
fn what_was_signalled_before_a_clear_is_not_forgotten() {
    must_end(|| {
        let mut queue = Queue::new(by_caller(), 256);
        let mut under_way = 0;
        for value in 0..50 {
            // Dirty pages, so that the disk has something to do.
            queue.run(&[Sqe::memset(queue.at(0), value, 256 * PAGE)]);
            // SAFETY: a flush of what is mapped.
            unsafe { queue.sq.push(Sqe::flush_in(&queue.region, 0..256 * PAGE)) }.unwrap();
            queue.sq.submit();
            if queue.cq.drain().count() == 1 {
                // It was over before the drain was.
                continue;
            }
            under_way += 1;
            loop {
                sleep_on(&queue.cq);
                queue.cq.clear();
                if queue.cq.arm() == Arm::NotEmpty {
                    break;
                }
                // The signal was of the one before.
            }
            assert_eq!(queue.cq.drain().count(), 1);
        }
        assert!(under_way > 0, "each fsync was over at once");
    });
}

/// A waker that says when it was woken.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }

    fn has_rung(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().unwrap())
    }

    fn wait(&self) {
        *self.changed.wait_while(self.rung.lock().unwrap(), |rung| !*rung).unwrap() = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// The worker that has sent the flush finds another task at the role, which ends and does not come again.
#[test]
fn a_durable_task_is_woken_whoever_passes_by() {
    must_end(|| {
        let ring = Ring::builder().workers(1).flush_drive(Drive::Caller).build().unwrap();
        let region = ring.register(mapped(&file(64 << 20))).unwrap();
        for value in 0..10 {
            let (own, other) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
            let fsyncs = ring.stats().fsyncs;
            let mut durable = ring.memset(region.span(0..64 << 20).unwrap(), value).durable();
            let mut end = own.poll(&mut durable);
            while end.is_pending() && own.has_rung() {
                end = own.poll(&mut durable);
            }
            while end.is_pending() && ring.stats().fsyncs == fsyncs && !own.has_rung() {
                std::thread::yield_now();
            }
            for _ in 0..3 {
                let mut passer = ring.memset(vec![0; 64], 1).on(WORKERS);
                while other.poll(&mut passer).is_pending() {
                    other.wait();
                }
            }
            while end.is_pending() {
                end = own.poll(&mut durable);
                if end.is_pending() {
                    own.wait();
                }
            }
        }
    });
}

/// The only worker is not kept by a disk that a task can wait for.
#[test]
fn a_worker_does_not_wait_for_the_disk() {
    must_end(|| {
        let ring = Ring::builder().workers(1).flush_drive(Drive::Caller).build().unwrap();
        let region = ring.register(mapped(&file(64 << 20))).unwrap();
        let bell = Arc::new(Bell::default());
        let mut durable = ring.memset(region.span(0..64 << 20).unwrap(), 1).durable();
        while bell.poll(&mut durable).is_pending() && bell.has_rung() {}
        // It sleeps, or will be woken. Meanwhile others' operations are done.
        let done = || ring.stats().mover(WORKERS).operations;
        let before = done();
        let plain = ring.memset(vec![0; 64], 1).on(WORKERS).try_start().unwrap();
        while done() == before {
            std::thread::yield_now();
        }
        ring.block_on(plain).unwrap().unwrap();
        ring.block_on(durable).unwrap().unwrap();
    });
}

fn limit(resource: libc::__rlimit_resource_t, most: u64) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut old) }, 0);
    let new = libc::rlimit { rlim_cur: most, rlim_max: old.rlim_max };
    // SAFETY: the kernel reads one rlimit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const new) }, 0);
    old.rlim_cur
}

/// With one descriptor left there is an io_uring, and none for the bell of its thread.
#[test]
fn descriptors_may_run_out() {
    if role().is_none() {
        let child = again("wakes::descriptors_may_run_out", "limited", &[]);
        return assert!(child.status.success(), "{}", words(&child));
    }
    must_end(|| {
        for left in 0..3 {
            let mut queue = Queue::new(QueuePair::builder().workers(0), 4096);
            let next = u64::try_from(file(1).as_raw_fd()).unwrap();
            let before = limit(libc::RLIMIT_NOFILE, next + left);
            let set = Sqe::memset(queue.at(0), 1, 4096 * PAGE).flags(memring::OpFlags::MEM_DURABLE);
            assert!(queue.run(&[set])[0].status().is_success(), "{left} descriptors left");
            limit(libc::RLIMIT_NOFILE, before);
        }
    });
}

/// A thread that was refused once may be had later.
#[test]
fn a_thread_may_be_refused() {
    if role().is_none() {
        let child = again("wakes::a_thread_may_be_refused", "limited", &[]);
        return assert!(child.status.success(), "{}", words(&child));
    }
    must_end(|| {
        let ring = Ring::builder().workers(0).build().unwrap();
        let (first, second) = (mapped(&file(PAGE)), mapped(&file(PAGE)));
        let before = limit(libc::RLIMIT_AS, 1);
        let refused = ring.register(first);
        limit(libc::RLIMIT_AS, before);
        let refused = refused.expect_err("there was no memory for a thread");
        assert!(matches!(refused.reason, memring::region::RegisterRefusal::Os(_)), "{refused}");
        let regions = [refused.mapped, second].map(|mapped| ring.register(mapped).unwrap());
        assert!(ring.block_on(ring.memset(regions[0].span(0..PAGE).unwrap(), 1).durable()).unwrap().is_ok());
    });
}
