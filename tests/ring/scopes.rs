//! Scopes: nothing that they borrow is touched when they have returned, however they end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use memring::queue::Drive;
use memring::{INLINE, MoverId, OpError, OutOfRange, Ring, ScopeError, Status, WORKERS};

use crate::movers::{held, recorded};
use crate::setup::{SETUPS, on_each, queued};
use crate::verbs::pattern;
use crate::wakers::run;
use crate::watchdog::must_end;

/// So long a scope that does not wait has time to return.
const MOMENT: Duration = Duration::from_millis(20);

#[test]
fn every_verb_and_option() {
    must_end(|| {
        on_each(|ring, name| {
            let src = pattern(5000);
            let mut pages = vec![0; 7 * 5000];
            let mut moved = src.clone();
            let answer = ring.scope(|s| {
                let mut page = pages.chunks_mut(5000);
                let mut next = || page.next().unwrap();
                s.memcpy(next(), &src);
                s.memset(next(), 1);
                s.no_cache().memcpy(next(), &src);
                s.on(INLINE).memset(next(), 2);
                s.on(WORKERS).no_cache().memset(next(), 3);
                let view = s.no_cache();
                view.memset(&mut next()[..0], 9);
                view.on(WORKERS).memcpy(next(), &src);
                s.memmove(&mut moved, 0..3000, 1000);
                s.flush(&src);
                view.flush(&[]);
                "the answer"
            });
            assert_eq!(answer, Ok("the answer"), "{name}");
            let expected = [&src[..], &[1; 5000], &src, &[2; 5000], &[3; 5000], &[0; 5000], &src].concat();
            assert!(pages == expected, "{name}");
            let mut expected = src.clone();
            expected.copy_within(0..3000, 1000);
            assert_eq!(moved, expected);
            assert_eq!(ring.scope(|_| 5), Ok(5), "nothing is no mistake");
        });
    });
}

#[test]
fn it_returns_when_the_mover_is_done_and_not_before() {
    must_end(|| {
        for drive in [Drive::Threads(1), Drive::Caller] {
            for (name, builder) in SETUPS {
                for panics in [false, true] {
                    eprintln!("{name}, {drive:?}, panics: {panics}");
                    let (ring, mover, hold) = held(builder(), drive);
                    let (sender, returned) = mpsc::channel();
                    let scope = std::thread::spawn(move || {
                        let mut page = vec![0; 1000];
                        let end = catch_unwind(AssertUnwindSafe(|| {
                            ring.scope(|s| {
                                s.on(mover).memset(&mut page, 7);
                                assert!(!panics, "as the test wants it");
                            })
                        }));
                        sender.send(()).unwrap();
                        (end.map_err(|panic| panic.downcast_ref::<&str>().map(ToString::to_string)), page)
                    });
                    hold.wait_for(1);
                    assert_eq!(returned.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout), "it did not wait");
                    hold.release(1);
                    let (end, page) = scope.join().unwrap();
                    assert_eq!(page, [7; 1000]);
                    let panic = Err(Some("as the test wants it".to_owned()));
                    assert_eq!(end, if panics { panic } else { Ok(Ok(())) });
                }
            }
        }
    });
}

#[test]
fn ten_thousand_copies_through_four_entries() {
    must_end(|| {
        for (name, builder) in SETUPS {
            for entries in [1, 4, 1000] {
                let ring = builder().entries(entries).inline_max(0).build().unwrap();
                let src = pattern(10_000 * 16);
                let mut dst = vec![0; src.len()];
                ring.scope(|s| dst.chunks_mut(16).zip(src.chunks(16)).for_each(|(to, from)| s.memcpy(to, from)))
                    .unwrap();
                assert!(dst == src, "{name}");
            }
        }
    });
}

#[test]
fn scopes_inside_scopes() {
    must_end(|| {
        on_each(|ring, name| {
            let mut pages = vec![0; 400 * 1000];
            let mut chunks = pages.chunks_mut(1000);
            let inner = ring.scope(|outer| {
                for _ in 0..100 {
                    outer.memset(chunks.next().unwrap(), 1);
                    let mut own = [0; 3000];
                    let end = ring.scope(|inner| {
                        inner.memset(&mut own, 2);
                        outer.memset(chunks.next().unwrap(), 1);
                        run(ring.memset(vec![0; 3000], 3)).map(|set| set[0])
                    });
                    assert_eq!((end.unwrap().unwrap(), own), (3, [2; 3000]), "{name}");
                    outer.memset(chunks.next().unwrap(), 1);
                    chunks.next();
                }
            });
            inner.unwrap();
            for four in pages.chunks(4000) {
                assert!(four[..3000] == [1; 3000] && four[3000..] == [0; 1000]);
            }
        });
    });
}

/// What a scope has not submitted holds no entries while its body waits for others.
#[test]
fn a_body_may_wait_for_what_needs_the_whole_ring() {
    const ENTRIES: usize = 128;
    must_end(|| {
        for (name, builder) in queued() {
            eprintln!("{name}");
            let ring = builder().entries(ENTRIES).inline_max(0).build().unwrap();
            for before in [1, 31, 32, 33, 63, 64, 65, 97] {
                let mut bytes = vec![0; before];
                ring.scope(|s| {
                    bytes.chunks_mut(1).for_each(|byte| s.memset(byte, 1));
                    let chain = (0..ENTRIES).fold(ring.batch::<_, Vec<u8>>(), |batch, _| batch.memset(vec![0; 2], 5));
                    assert_eq!(ring.block_on(chain.linked().into_future()).unwrap().unwrap().len(), ENTRIES);
                })
                .unwrap();
                assert_eq!(bytes, vec![1; before]);
            }
            // Each of five scopes one inside the other has a fourth of the entries.
            nest(&ring, 5, ENTRIES / 4);
        }
    });

    fn nest(ring: &Ring, depth: usize, each: usize) {
        let mut bytes = vec![0; each];
        ring.scope(|s| {
            bytes.chunks_mut(1).for_each(|byte| s.memset(byte, 1));
            if depth > 1 {
                nest(ring, depth - 1, each);
            } else {
                assert_eq!(ring.block_on(ring.memset(vec![0; 3], 1)).unwrap().unwrap(), [1; 3]);
            }
        })
        .unwrap();
        assert_eq!(bytes, vec![1; each]);
    }
}

#[test]
fn what_is_refused_fails_the_scope_and_the_rest_is_done() {
    must_end(|| {
        for (name, builder) in SETUPS {
            let (ring, holder, hold) = held(builder().entries(8), Drive::Threads(1));
            hold.release(usize::MAX);
            let failure = |which: usize, error: OpError| {
                let (mut dst, mut wrong, src) = (vec![0; 40 * 700], vec![9; 100], pattern(100));
                let mut wrong_again = [9; 100];
                let mut both = Some((&mut wrong[..], &mut wrong_again[..]));
                let end = ring.scope(|s| {
                    for (page, at) in dst.chunks_mut(700).zip(0..) {
                        if at == 20
                            && let Some((wrong, wrong_again)) = both.take()
                        {
                            match which {
                                0 => s.memcpy(wrong, &src[..99]),
                                1 => s.memmove(wrong, 0..101, 0),
                                2 => s.memmove(wrong, usize::MAX..usize::MAX, 0),
                                3 => s.memmove(wrong, 0..100, usize::MAX),
                                4 => s.on(MoverId::from_u8(77)).memset(wrong, 1),
                                5 => s.on(holder).no_cache().memset(wrong, 1),
                                _ => s.on(holder).flush(wrong),
                            }
                            // Only the first failure is told.
                            s.memcpy(wrong_again, &src[..98]);
                        }
                        s.memset(page, 1);
                    }
                    vec!["dropped, as the scope has failed"]
                });
                let first = if which > 3 { OpError::Lengths { dst: 100, src: 98 } } else { error };
                assert!(
                    end == Err(ScopeError::Operation(error)) || end == Err(ScopeError::Operation(first)),
                    "{name}: {end:?}"
                );
                assert!(dst == vec![1; 40 * 700] && wrong == [9; 100] && wrong_again == [9; 100], "{name}");
            };
            let range = |start, end| OpError::Range(OutOfRange { start, end, len: 100 });
            failure(0, OpError::Lengths { dst: 100, src: 99 });
            failure(1, range(0, 101));
            failure(2, range(usize::MAX, usize::MAX));
            failure(3, range(usize::MAX, usize::MAX));
            failure(4, OpError::UnknownMover);
            failure(5, OpError::Unsupported);
            failure(6, OpError::Unsupported);
        }
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "maps memory that cannot be written")]
fn a_fault_fails_the_scope_and_the_rest_is_done() {
    must_end(|| {
        let len = 8192;
        // SAFETY: a new mapping, anywhere.
        let mapping = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        assert_ne!(mapping, libc::MAP_FAILED);
        // SAFETY: it is mapped, for as long as the process lives; rings with the guard may meet what cannot be
        // accessed.
        let nowhere: &'static [u8] = unsafe { std::slice::from_raw_parts(mapping.cast(), len) };
        for (name, builder) in SETUPS {
            let ring = builder().fault_guard().entries(8).build().unwrap();
            let mut dst = vec![0; 41 * 700];
            let end = ring.scope(|s| {
                for (page, at) in dst.chunks_mut(700).zip(0..) {
                    if at == 20 { s.memcpy(page, &nowhere[..700]) } else { s.memset(page, 1) }
                }
            });
            assert_eq!(end, Err(ScopeError::Operation(OpError::Mover(Status::FAULT, 0))), "{name}");
            let done = dst.chunks(700).filter(|page| *page == [1; 700]).count();
            assert_eq!(done, 40, "{name}");
        }
    });
}

#[test]
fn what_the_body_returns_is_dropped_if_the_scope_fails() {
    must_end(|| {
        let ring = Ring::new().unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let (mut dst, src) = ([0; 2], [0; 3]);
        let end = ring.scope(|s| {
            s.memcpy(&mut dst, &src);
            sender
        });
        assert_eq!(end.map(drop), Err(ScopeError::Operation(OpError::Lengths { dst: 2, src: 3 })));
        assert!(receiver.recv().is_err(), "it is gone");
    });
}

#[test]
fn operations_of_a_scope_go_in_order_to_a_mover_of_one_thread() {
    must_end(|| {
        for (name, builder) in queued() {
            for entries in [1, 4, 256] {
                let (ring, mover, record) = recorded(builder().entries(entries), Drive::Threads(1));
                let mut bytes = vec![0; 300 * 301 / 2];
                let mut rest = &mut bytes[..];
                ring.scope(|s| {
                    for len in 1..=300 {
                        let (piece, others) = std::mem::take(&mut rest).split_at_mut(len);
                        rest = others;
                        s.on(mover).memset(piece, 1);
                    }
                })
                .unwrap();
                assert_eq!(*record.lock().unwrap(), (1..=300).collect::<Vec<_>>(), "{name}, {entries} entries");
                assert!(bytes.iter().all(|&byte| byte == 1));
            }
        }
    });
}

#[test]
fn a_scope_in_a_ring_that_was_shut_down() {
    must_end(|| {
        on_each(|ring, name| {
            ring.block_on(ring.shutdown()).unwrap();
            for count in [1, 31, 32, 100] {
                let mut bytes = vec![0; count * 600];
                let end = ring.scope(|s| bytes.chunks_mut(600).for_each(|page| s.memset(page, 1)));
                assert_eq!(end, Err(ScopeError::Operation(OpError::ShutDown)), "{name}");
                assert_eq!(bytes, vec![0; count * 600]);
            }
        });
    });
}

#[test]
fn a_scope_that_meets_a_shutdown_half_way() {
    must_end(|| {
        for (name, builder) in SETUPS {
            for _ in 0..10 {
                let ring = builder().entries(64).build().unwrap();
                std::thread::scope(|threads| {
                    for _ in 0..2 {
                        threads.spawn(|| {
                            let mut pages = vec![0; 64 * 600];
                            loop {
                                let end = ring.scope(|s| pages.chunks_mut(600).for_each(|page| s.memset(page, 1)));
                                if let Err(error) = end {
                                    assert_eq!(error, ScopeError::Operation(OpError::ShutDown), "{name}");
                                    break;
                                }
                            }
                        });
                    }
                    (0..20).for_each(|_| std::thread::yield_now());
                    run(ring.shutdown());
                });
            }
        }
    });
}

#[test]
fn many_scopes_at_once() {
    must_end(|| {
        on_each(|ring, name| {
            std::thread::scope(|threads| {
                for value in 1..5 {
                    threads.spawn(move || {
                        for round in 0..20 {
                            let mut pages = vec![0; 100 * 800];
                            ring.scope(|s| pages.chunks_mut(800).for_each(|page| s.memset(page, value))).unwrap();
                            assert!(pages == vec![value; 100 * 800], "{name}, round {round}");
                        }
                    });
                }
            });
        });
    });
}
