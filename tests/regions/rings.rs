//! Durable operations of rings.
#![expect(unsafe_code, reason = "poll has no safe wrapper in std")]

use std::os::fd::{AsFd, AsRawFd};

use memring::queue::Drive;
use memring::{OpError, Ring, RingBuilder, Status};

use crate::files::{PAGE, file, mapped};
use crate::watchdog::must_end;

/// Sleeps until a descriptor is readable.
pub(crate) fn sleep_on(fd: &impl AsFd) {
    let mut wanted = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    assert_eq!(unsafe { libc::poll(&raw mut wanted, 1, 60_000) }, 1, "a wake was lost");
}

/// A ring, and its name for a failure's message.
type Setup = (&'static str, fn() -> RingBuilder);

const RINGS: [Setup; 6] = [
    ("a worker", || Ring::builder().workers(1)),
    ("no worker", || Ring::builder().workers(0)),
    ("the caller", || Ring::builder().workers(0).flush_drive(Drive::Caller)),
    ("the caller beside a worker", || Ring::builder().workers(1).flush_drive(Drive::Caller)),
    ("a reaper's thread", || Ring::builder().workers(0).reaper_thread().flush_drive(Drive::Caller)),
    ("fdatasync", || Ring::builder().workers(0).io_uring(false)),
];

#[test]
fn durable_futures_end_and_give_the_span_back() {
    must_end(|| {
        for (name, builder) in RINGS {
            let ring = builder().build().unwrap();
            let region = ring.register(mapped(&file(16 * PAGE))).unwrap();
            let span = region.span(0..PAGE).unwrap();
            let (span, _) = ring.block_on(ring.memcpy(span, vec![7; PAGE]).durable()).unwrap().unwrap();
            assert_eq!((&span[..], span.range()), (&[7; PAGE][..], 0..PAGE), "{name}");
            let span = ring.block_on(ring.memset(span, 9).durable()).unwrap().unwrap();
            let span = ring.block_on(ring.flush(span)).unwrap().unwrap();
            assert_eq!(ring.stats().fsyncs, 3, "{name}");
            drop(span);
            region.deregister().unwrap();
        }
    });
}

/// In an executor that knows nothing of the ring, and sleeps until it is woken.
#[test]
fn tasks_that_sleep_are_woken_by_the_disk() {
    must_end(|| {
        for (name, builder) in RINGS {
            let ring = builder().build().unwrap();
            let region = ring.register(mapped(&file(64 * PAGE))).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let task = |page: usize| {
                    let (ring, region) = (&ring, &region);
                    async move {
                        let mut span = region.span(page * PAGE..(page + 1) * PAGE).unwrap();
                        for value in 0..10 {
                            span = ring.memset(span, value).durable().await.unwrap();
                        }
                        assert_eq!(span[..], [9; PAGE], "{name}");
                    }
                };
                futures_util::future::join_all((0..64).map(task)).await;
            });
            let fsyncs = ring.stats().fsyncs;
            assert!((10..=640).contains(&fsyncs), "{name}: {fsyncs}");
        }
    });
}

#[test]
fn a_batch_can_be_durable_and_linked() {
    must_end(|| {
        for (name, builder) in RINGS {
            let ring = builder().build().unwrap();
            let region = ring.register(mapped(&file(16 * PAGE))).unwrap();
            let [record, word] = [PAGE..2 * PAGE, 0..8].map(|range| region.span(range).unwrap());
            let batch = ring.batch().memcpy(record, vec![5; PAGE]).memcpy(word, vec![1; 8]).linked();
            let done = ring.block_on(std::future::IntoFuture::into_future(batch).durable()).unwrap().unwrap();
            assert!(done[0].0[..] == [5; PAGE] && done[1].0[..] == [1; 8], "{name}");
            assert_eq!(ring.stats().fsyncs, 2, "{name}: in order, so one after the other");
        }
    });
}

#[test]
fn a_reactor_on_the_rings_descriptor_hears_of_the_disk() {
    must_end(|| {
        for (name, builder) in RINGS {
            let ring = builder().build().unwrap();
            let region = ring.register(mapped(&file(16 * PAGE))).unwrap();
            let mut span = Some(region.span(0..PAGE).unwrap());
            for value in 0..20 {
                let mut set = ring.memset(span.take().unwrap(), value).durable().try_start().unwrap();
                loop {
                    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                    if let std::task::Poll::Ready(end) =
                        std::future::Future::poll(std::pin::Pin::new(&mut set), &mut context)
                    {
                        span = Some(end.unwrap());
                        break;
                    }
                    match ring.arm() {
                        memring::queue::Arm::Armed => {
                            sleep_on(&ring);
                            ring.clear();
                        }
                        memring::queue::Arm::NotEmpty => _ = ring.drive(1 << 20),
                        memring::queue::Arm::MustPoll => panic!("{name}: the kernel tells"),
                    }
                }
            }
        }
    });
}

#[test]
fn a_span_comes_back_from_a_disk_that_failed() {
    must_end(|| {
        for (name, builder) in RINGS {
            let ring = builder().build().unwrap();
            let region = ring.register(mapped(&file(PAGE))).unwrap();
            region.inject_failure(28);
            let failed = ring.block_on(ring.memset(region.span(0..PAGE).unwrap(), 1).durable()).unwrap().unwrap_err();
            assert_eq!(failed.error, OpError::Mover(Status::IO, 28), "{name}");
            assert!(failed.to_string().contains("No space left"), "{name}: {failed}");
            assert_eq!(failed.buffers.len(), PAGE);
        }
    });
}

#[test]
fn a_dropped_durable_operation_keeps_its_span_until_it_has_ended() {
    must_end(|| {
        for (name, builder) in RINGS {
            let ring = builder().build().unwrap();
            let region = ring.register(mapped(&file(PAGE))).unwrap();
            for _ in 0..20 {
                drop(ring.memset(region.span(0..PAGE).unwrap(), 1).durable().try_start().unwrap());
                // The span is somebody else's until then.
                while region.span(0..PAGE).is_err() {
                    ring.drive(1 << 20);
                    std::thread::yield_now();
                }
            }
            drop(ring);
            assert!(region.deregister().is_ok(), "{name}");
        }
    });
}
