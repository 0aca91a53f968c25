//! Goal: whatever is wrong is said at once, with the entry, and costs nothing; what looks odd and is legal is done.
//!
//! Method: each `PushError` and each `BuildError` is produced. A refused push must give back the very words it was
//! given, alone and in the middle of a batch, say in its text what was wrong and with which entry, and leave the stage
//! as it was. Afterwards exactly as many pushes as the queue has entries must succeed: a credit more or fewer is a
//! leak. What the kernel refuses is refused to a process of its own, under a resource limit. Zero lengths, with
//! addresses of all kinds, must succeed on every drive.
#![expect(unsafe_code, reason = "pushes entries")]

#[path = "refusals/build.rs"]
mod build;
#[path = "support/child.rs"]
mod child;
#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::io;

use memring::mover::{Capabilities, DataMover};
use memring::queue::{Builder, CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue, WaitError};
use memring::{INLINE, MoverId, OpFlags, Opcode, ROUTED, Sqe, URING, WORKERS};

use child::in_child;
use scripted::{promptly, scripted};
use watchdog::must_end;

const ENTRIES: usize = 6;

/// Says yes to everything that it is given, without touching memory.
fn agreeing(capabilities: Capabilities) -> impl DataMover {
    scripted(capabilities, promptly, |bell, deadline| bell.sleep(deadline))
}

/// Both halves of a small queue without threads.
struct Queue {
    sq: SubmissionQueue,
    cq: CompletionQueue,
}

impl Queue {
    fn new() -> Self {
        Self::of(QueuePair::builder().workers(0))
    }

    fn of(builder: Builder) -> Self {
        let (sq, cq) = builder.entries(ENTRIES).build().expect("the options are in range").split();
        Self { sq, cq }
    }

    /// With one more mover, of these capabilities.
    fn with_mover(capabilities: Capabilities) -> (Self, MoverId) {
        let builder = QueuePair::builder().workers(0).entries(ENTRIES);
        let pair = builder.mover("agreeing", Drive::Caller, move || agreeing(capabilities)).build();
        let pair = pair.expect("the options are in range");
        let mover = pair.mover("agreeing").expect("it was added");
        let (sq, cq) = pair.split();
        (Self { sq, cq }, mover)
    }

    /// Pushes the entry alone and amid a batch; both must be refused like this.
    fn refuses(&mut self, sqe: Sqe, expected: fn(Sqe) -> PushError) {
        let sqe = sqe.user_data(0x7e57);
        let staged = self.sq.staged();
        // SAFETY: it is refused, or the assertion below ends the test before anything is submitted.
        let alone = unsafe { self.sq.push(sqe) };
        assert_eq!(alone, Err(expected(sqe)));
        let batch = [Sqe::nop().user_data(1), sqe, Sqe::nop().user_data(2)];
        // SAFETY: as above, and nops touch no memory.
        let amid = unsafe { self.sq.push_batch(&batch) };
        assert_eq!(amid, Err(expected(sqe)), "a batch is refused for the entry that is at fault");
        // Amid others with the same word 0, which the batch may have looked at only once. They may be at fault, too.
        let [head, ..] = sqe.to_raw();
        let alike = Sqe::from_raw([head, 3, 0x40_000, 0x80_000, 0, 0, 0]);
        // SAFETY: as above; their length is zero.
        let amid = unsafe { self.sq.push_batch(&[alike, sqe, alike]) };
        assert!(amid == Err(expected(sqe)) || amid == Err(expected(alike)), "{amid:?} for {sqe:?}");
        assert_eq!(self.sq.staged(), staged, "nothing was staged");

        let error = expected(sqe);
        assert_eq!((error.sqe().to_raw(), error.into_sqe().to_raw()), (sqe.to_raw(), sqe.to_raw()));
        let text = error.to_string();
        assert!(text.contains(keyword(error)), "{text:?} does not say what is wrong");
        assert!(text.contains(&format!("user_data: {}", 0x7e57)), "{text:?} does not say which entry");
    }

    /// Fills the queue and empties it: every credit is there, and none too many.
    fn has_all_credits(&mut self) {
        let staged = self.sq.staged();
        for index in staged..ENTRIES {
            // SAFETY: a nop touches no memory.
            let pushed = unsafe { self.sq.push(Sqe::nop()) };
            assert_eq!(pushed, Ok(()), "push {index} of {ENTRIES}");
        }
        // SAFETY: as above.
        assert_eq!(unsafe { self.sq.push(Sqe::nop()) }, Err(PushError::Full(Sqe::nop())));
        self.completes_with_success(ENTRIES);
    }

    fn completes_with_success(&mut self, count: usize) {
        self.completes_with_success_of(count, count);
    }

    /// Submits what is staged, and reaps that and what others have submitted.
    fn completes_with_success_of(&mut self, staged: usize, count: usize) {
        assert_eq!(self.sq.submit(), staged);
        assert_eq!(self.cq.wait(count, None), Ok(count));
        assert_eq!(self.cq.drain().filter(|cqe| cqe.status().is_success()).count(), count);
    }
}

/// A word that the text of each error must have.
fn keyword(error: PushError) -> &'static str {
    match error {
        PushError::Full(_) => "full",
        PushError::Closed(_) => "closed",
        PushError::Forked(_) => "parent process",
        PushError::TooLong(_) => "longer than the queue",
        PushError::Null(_) => "null",
        PushError::Wraps(_) => "address space",
        PushError::Overlap(_) => "overlap",
        PushError::UnknownOpcode(_) => "unknown opcode",
        PushError::UnknownFlags(_) => "unknown flags",
        PushError::UnknownMover(_) => "no mover of this id",
        PushError::Unsupported(_) => "supports",
        PushError::NotDurable(_) => "to be durable",
        PushError::OutsideRegion(_) => "inside one registered region",
        other => panic!("{other:?} is new: test it"),
    }
}

/// The entry with some bits of a word set.
fn with_bits(sqe: Sqe, word: usize, bits: u64) -> Sqe {
    let mut words = sqe.to_raw();
    words[word] |= bits;
    Sqe::from_raw(words)
}

/// An entry of these fields, sensible or not.
fn raw(opcode: Opcode, dst: usize, src: usize, len: usize) -> Sqe {
    Sqe::from_raw([opcode as u64, 0, dst as u64, src as u64, len as u64, 0, 0])
}

/// Two regions of 64 bytes that exist, for entries with nothing wrong but one thing.
fn regions() -> (*mut u8, *const u8) {
    (std::ptr::without_provenance_mut(0x1000), std::ptr::without_provenance(0x2000))
}

#[test]
fn null_addresses_with_a_length() {
    let mut queue = Queue::new();
    for opcode in [Opcode::Memcpy, Opcode::Memmove] {
        for (dst, src) in [(0, 0x1000), (0x1000, 0), (0, 0)] {
            for len in [1, 4096] {
                queue.refuses(raw(opcode, dst, src, len), PushError::Null);
            }
        }
    }
    queue.refuses(raw(Opcode::Memset, 0, 0, 1), PushError::Null);
    queue.refuses(raw(Opcode::Flush, 0, 0, 1), PushError::Null);
    queue.has_all_credits();
}

#[test]
fn regions_that_leave_the_address_space() {
    const TOP: usize = usize::MAX;
    const TOO_LONG: usize = isize::MAX as usize + 1;
    let mut queue = Queue::new();
    for opcode in [Opcode::Memcpy, Opcode::Memmove] {
        for (dst, src, len) in [
            (TOP - 10, 0x1000, 100),
            (0x1000, TOP - 10, 100),
            (TOP, 0x1000, 1),
            (TOP, 0x1000, 2),
            (0x1000, TOP, 2),
            (0x1000, 0x2000, TOO_LONG),
            (0x1000, 0x2000, TOP),
            (TOP - 10, TOP - 200, 100),
        ] {
            queue.refuses(raw(opcode, dst, src, len), PushError::Wraps);
        }
    }
    for opcode in [Opcode::Memset, Opcode::Flush] {
        for (dst, len) in [(TOP - 10, 100), (TOP, 2), (0x1000, TOO_LONG), (1, TOP)] {
            queue.refuses(raw(opcode, dst, 0, len), PushError::Wraps);
        }
    }
    queue.has_all_credits();
}

#[test]
fn memcpy_between_regions_that_overlap() {
    let mut queue = Queue::new();
    let base = 0x10_000;
    for len in [1, 2, 64, 4096] {
        for distance in [0, 1, len / 2, len - 1].into_iter().filter(|&distance| distance < len) {
            queue.refuses(raw(Opcode::Memcpy, base, base + distance, len), PushError::Overlap);
            queue.refuses(raw(Opcode::Memcpy, base + distance, base, len), PushError::Overlap);
        }
    }
    queue.has_all_credits();
}

#[test]
fn memcpy_between_regions_that_touch_is_done() {
    let mut queue = Queue::new();
    let mut buffer: Vec<u8> = (0..128).collect();
    let middle = buffer.as_mut_ptr().wrapping_add(64);
    // SAFETY: the buffer lives, untouched, until the completion is reaped.
    unsafe { queue.sq.push(Sqe::memcpy(middle, middle.wrapping_sub(64), 64)) }.expect("they only touch");
    queue.completes_with_success(1);
    assert_eq!(buffer[64..], buffer[..64]);

    buffer[64..].fill(9);
    let begin = buffer.as_mut_ptr();
    // SAFETY: as above.
    unsafe { queue.sq.push(Sqe::memcpy(begin, begin.wrapping_add(64), 64)) }.expect("they only touch");
    queue.completes_with_success(1);
    assert_eq!(buffer, [9; 128]);
    queue.has_all_credits();
}

#[test]
fn opcodes_of_other_versions() {
    let mut queue = Queue::new();
    let (dst, src) = regions();
    for opcode in 0..=u8::MAX {
        if Opcode::from_u8(opcode).is_none() {
            let mut words = Sqe::memcpy(dst, src, 64).to_raw();
            words[0] = u64::from(opcode);
            queue.refuses(Sqe::from_raw(words), PushError::UnknownOpcode);
            queue.refuses(Sqe::from_raw([u64::from(opcode), 0, 0, 0, 0, 0, 0]), PushError::UnknownOpcode);
        }
    }
    queue.has_all_credits();
}

/// Each bit of the sqe flags beyond the known five, the reserved byte, the op flags beyond the known two, and words 5
/// and 6.
fn unknown_bits() -> impl Iterator<Item = (usize, u64)> {
    let head = (13..16).chain(24..32).chain(34..64).map(|bit| (0, 1 << bit));
    head.chain((5..7).flat_map(|word| (0..64).map(move |bit| (word, 1 << bit))))
}

#[test]
fn flags_and_reserved_fields_of_other_versions() {
    let (dst, src) = regions();
    let broad = Capabilities::new(&Opcode::ALL).flags(OpFlags::from_bits(u32::MAX));
    let (mut queue, claims_all_flags) = Queue::with_mover(broad);
    let entries = [Sqe::nop(), Sqe::memcpy(dst, src, 64), Sqe::memmove(dst, src, 64), Sqe::memset(dst, 0, 64)];
    for sqe in entries.into_iter().chain([Sqe::flush(dst, 64), Sqe::memcpy(dst, src, 0)]) {
        for (word, bit) in unknown_bits() {
            for mover in [ROUTED, INLINE, WORKERS, claims_all_flags] {
                queue.refuses(with_bits(sqe, word, bit).on(mover), PushError::UnknownFlags);
            }
        }
    }
    queue.has_all_credits();
}

#[test]
fn nothing_is_durable_outside_of_a_region() {
    let mut queue = Queue::new();
    let (dst, src) = regions();
    for flags in [OpFlags::MEM_DURABLE, OpFlags::MEM_DURABLE | OpFlags::NO_CACHE_HINT] {
        for mover in [ROUTED, INLINE, WORKERS] {
            queue.refuses(Sqe::memcpy(dst, src, 64).flags(flags).on(mover), PushError::NotDurable);
            queue.refuses(Sqe::memcpy(dst, src, 0).flags(flags).on(mover), PushError::NotDurable);
            queue.refuses(Sqe::nop().flags(flags).on(mover), PushError::Unsupported);
        }
    }
    queue.has_all_credits();
}

#[test]
fn movers_that_are_not_there() {
    let (mut queue, mover) = Queue::with_mover(Capabilities::new(&Opcode::ALL));
    assert_eq!(mover.to_u8(), 16, "the first of the user's ids");
    for id in (4..16).chain(17..=255) {
        queue.refuses(Sqe::nop().on(MoverId::from_u8(id)), PushError::UnknownMover);
    }
    queue.refuses(Sqe::nop().on(URING), PushError::Unsupported);
    queue.has_all_credits();
}

#[test]
fn what_the_chosen_mover_cannot_do() {
    let can = Capabilities::new(&[Opcode::Memcpy, Opcode::Memset, Opcode::Nop]).max_len(4096).alignment(64);
    let (mut queue, mover) = Queue::with_mover(can.flags(OpFlags::MEM_DURABLE));
    let refused = [
        raw(Opcode::Memmove, 0x1000, 0x10_000, 64),
        raw(Opcode::Flush, 0x1000, 0, 64),
        raw(Opcode::Memcpy, 0x1000, 0x10_000, 4160),
        raw(Opcode::Memset, 0x1000, 0, 8192),
        raw(Opcode::Memcpy, 0x1001, 0x10_000, 64),
        raw(Opcode::Memcpy, 0x1020, 0x10_000, 64),
        raw(Opcode::Memcpy, 0x1000, 0x10_008, 64),
        raw(Opcode::Memcpy, 0x1000, 0x10_000, 65),
        raw(Opcode::Memset, 0x1000, 0, 32),
        raw(Opcode::Memset, 0x1010, 0, 64),
        raw(Opcode::Memcpy, 0x1000, 0x10_000, 64).flags(OpFlags::NO_CACHE_HINT),
        raw(Opcode::Memcpy, 0x1000, 0x10_000, 64).flags(OpFlags::NO_CACHE_HINT | OpFlags::MEM_DURABLE),
    ];
    for sqe in refused {
        queue.refuses(sqe.on(mover), PushError::Unsupported);
    }
    queue.has_all_credits();

    // The last that it can. It touches nothing, so the addresses need not exist.
    let fitting = [
        raw(Opcode::Memcpy, 0x1000, 0x10_000, 4096),
        raw(Opcode::Memcpy, 0x1040, 0x10_040, 64).flags(OpFlags::MEM_DURABLE),
        // The pattern is no address: it may be odd.
        raw(Opcode::Memset, 0x1000, 0x0101_0101, 64),
    ];
    for sqe in fitting {
        // SAFETY: this mover touches no memory.
        unsafe { queue.sq.push(sqe.on(mover)) }.expect("it can");
    }
    queue.completes_with_success(3);
    assert_eq!(queue.cq.stats().mover(mover).operations, 3);
}

#[test]
fn the_first_of_several_faults_is_named() {
    let mut queue = Queue::new();
    let (good, null, wild) = (Sqe::nop(), raw(Opcode::Memset, 0, 0, 8), raw(Opcode::Memset, usize::MAX, 0, 8));
    // SAFETY: the batch is refused.
    let refused = unsafe { queue.sq.push_batch(&[good, good, null.user_data(2), wild.user_data(3)]) };
    assert_eq!(refused, Err(PushError::Null(null.user_data(2))));
    queue.has_all_credits();
}

#[test]
fn full_queues_lose_nothing() {
    let mut queue = Queue::new();
    // SAFETY: here and below, nops touch no memory.
    unsafe { queue.sq.push_batch(&[Sqe::nop(); ENTRIES - 2]) }.expect("there is room");
    let batch: Vec<Sqe> = (0..3).map(|index| Sqe::nop().user_data(index)).collect();
    // SAFETY: as above.
    let refused = unsafe { queue.sq.push_batch(&batch) };
    assert_eq!(refused, Err(PushError::Full(batch[0])), "all or nothing");
    assert_eq!(queue.sq.staged(), ENTRIES - 2);
    let text = PushError::Full(batch[0]).to_string();
    assert!(text.contains("full") && text.contains("reap"), "{text:?} does not say what to do");

    // A fault is named even where there is no room.
    let null = raw(Opcode::Memset, 0, 0, 8);
    queue.refuses(null, PushError::Null);
    // SAFETY: as above.
    unsafe { queue.sq.push_batch(&batch[..2]) }.expect("two fit exactly");
    // SAFETY: as above.
    assert_eq!(unsafe { queue.sq.push_batch(&batch[..1]) }, Err(PushError::Full(batch[0])));
    queue.refuses(null, PushError::Null);
    // SAFETY: as above.
    assert_eq!(unsafe { queue.sq.push_batch(&[Sqe::nop(); ENTRIES]) }, Err(PushError::Full(Sqe::nop())));
    assert_eq!(queue.sq.staged(), ENTRIES);
    queue.completes_with_success(ENTRIES);
    queue.has_all_credits();
}

#[test]
fn credits_that_a_clone_holds_are_taken() {
    let mut queue = Queue::new();
    let mut clone = queue.sq.clone();
    // SAFETY: here and below, nops touch no memory.
    unsafe { clone.push_batch(&[Sqe::nop(); ENTRIES - 2]) }.expect("there is room");
    let batch: Vec<Sqe> = (0..3).map(|index| Sqe::nop().user_data(index)).collect();
    // SAFETY: as above.
    assert_eq!(unsafe { queue.sq.push_batch(&batch) }, Err(PushError::Full(batch[0])));
    assert_eq!((queue.sq.staged(), clone.staged()), (0, ENTRIES - 2));
    // SAFETY: as above.
    unsafe { queue.sq.push_batch(&batch[..2]) }.expect("two are left");
    // SAFETY: as above.
    assert_eq!(unsafe { queue.sq.push(batch[2]) }, Err(PushError::Full(batch[2])));
    assert_eq!((queue.sq.staged(), clone.submit()), (2, ENTRIES - 2));
    queue.completes_with_success_of(2, ENTRIES);
    queue.has_all_credits();
}

#[test]
fn a_queue_stays_full_until_completions_are_reaped() {
    let mut queue = Queue::new();
    // SAFETY: here and below, nops touch no memory.
    unsafe { queue.sq.push_batch(&[Sqe::nop(); ENTRIES]) }.expect("it is empty");
    assert_eq!(queue.sq.submit(), ENTRIES);
    assert_eq!(queue.cq.wait(ENTRIES, None), Ok(ENTRIES));
    // SAFETY: as above.
    assert!(matches!(unsafe { queue.sq.push(Sqe::nop()) }, Err(PushError::Full(_))), "done is not reaped");
    assert_eq!(queue.cq.drain().count(), ENTRIES);
    queue.has_all_credits();
}

#[test]
fn batches_that_never_fit() {
    let mut queue = Queue::new();
    let batch: Vec<Sqe> = (10..).take(ENTRIES + 1).map(|index| Sqe::nop().user_data(index)).collect();
    // SAFETY: here and below, nops touch no memory.
    let refused = unsafe { queue.sq.push_batch(&batch) };
    assert_eq!(refused, Err(PushError::TooLong(batch[0])));
    let text = PushError::TooLong(batch[0]).to_string();
    assert!(text.contains(keyword(PushError::TooLong(batch[0]))) && text.contains("user_data: 10"), "{text:?}");
    // SAFETY: as above.
    unsafe { queue.sq.push_batch(&[]) }.expect("nothing is asked for");
    assert_eq!(queue.sq.staged(), 0);
    // SAFETY: as above.
    unsafe { queue.sq.push_batch(&batch[1..]) }.expect("as many as there are entries");
    queue.completes_with_success(ENTRIES);
    queue.has_all_credits();
}

/// Whatever is pushed or submitted comes back: nobody would reap it.
fn is_closed(sq: &mut SubmissionQueue) {
    assert!(sq.is_closed());
    let batch = [Sqe::nop().user_data(3), Sqe::nop().user_data(4)];
    // SAFETY: here and below, nops touch no memory.
    assert_eq!(unsafe { sq.push(batch[0]) }, Err(PushError::Closed(batch[0])));
    // SAFETY: as above.
    assert_eq!(unsafe { sq.push_batch(&batch) }, Err(PushError::Closed(batch[0])));
    assert!(PushError::Closed(batch[0]).to_string().contains("closed"));
    assert_eq!(sq.submit(), 0, "what was staged is discarded");
    assert_eq!(sq.staged(), 0);
}

#[test]
fn closed_after_the_completion_queue_is_gone() {
    must_end(|| {
        for workers in [0, 1] {
            let Queue { mut sq, cq } = Queue::of(QueuePair::builder().workers(workers));
            assert!(!sq.is_closed());
            // SAFETY: a nop touches no memory.
            unsafe { sq.push(Sqe::nop()) }.expect("it is open");
            drop(cq);
            is_closed(&mut sq);
            is_closed(&mut sq.clone());
        }
    });
}

#[test]
fn closed_after_a_shutdown() {
    must_end(|| {
        for workers in [0, 1] {
            let mut queue = Queue::of(QueuePair::builder().workers(workers));
            // SAFETY: nops touch no memory.
            unsafe { queue.sq.push_batch(&[Sqe::nop(); 2]) }.expect("it is open");
            assert_eq!(queue.sq.submit(), 2);
            // SAFETY: as above.
            unsafe { queue.sq.push(Sqe::nop()) }.expect("it is open");
            assert_eq!(queue.cq.shutdown(None), Ok(0));
            is_closed(&mut queue.sq);
            assert_eq!(queue.cq.drain().count(), 2, "what was done before can still be reaped");
            assert_eq!(queue.cq.shutdown(None), Ok(0), "again is no error");
        }
    });
}

#[test]
fn in_a_forked_child() {
    must_end(|| {
        for workers in [0, 1] {
            let Queue { mut sq, mut cq } = Queue::of(QueuePair::builder().workers(workers));
            in_child(|| {
                let sqe = Sqe::nop().user_data(9);
                // SAFETY: a nop touches no memory.
                assert_eq!(unsafe { sq.push(sqe) }, Err(PushError::Forked(sqe)));
                // SAFETY: as above.
                assert_eq!(unsafe { sq.push_batch(&[sqe, Sqe::nop()]) }, Err(PushError::Forked(sqe)));
                assert!(PushError::Forked(sqe).to_string().contains("parent process"));
                assert_eq!(cq.wait(1, None), Err(WaitError::Forked));
                assert_eq!(cq.shutdown(None), Err(WaitError::Forked));
                let error = io::Error::from(WaitError::Forked);
                assert!(error.to_string().contains("parent process"), "{error}");
            });
            Queue { sq, cq }.has_all_credits();
        }
    });
}

#[test]
fn zero_lengths_succeed_wherever_they_point() {
    must_end(|| {
        let top = usize::MAX;
        let addresses = [(0, 0), (0, 1), (1, 0), (top, top), (top, 0), (8, 8), (0x1000, 0x1000), (top - 1, 1)];
        let builders: [fn() -> Builder; 4] = [
            || QueuePair::builder().workers(0),
            || QueuePair::builder().workers(1),
            || QueuePair::builder().workers(8),
            || QueuePair::builder().workers(0).inline_max(64),
        ];
        for builder in builders {
            let mut queue = Queue::of(builder());
            for (dst, src) in addresses {
                for opcode in [Opcode::Memcpy, Opcode::Memmove, Opcode::Memset, Opcode::Flush] {
                    let sqe = raw(opcode, dst, src, 0);
                    for sqe in [sqe, sqe.on(INLINE), sqe.on(WORKERS), sqe.flags(OpFlags::NO_CACHE_HINT)] {
                        // SAFETY: with a length of zero, no memory is named.
                        unsafe { queue.sq.push(sqe) }.unwrap_or_else(|error| panic!("{error}"));
                        queue.completes_with_success(1);
                    }
                }
            }
            queue.has_all_credits();
        }
    });
}

#[test]
fn nops_succeed_whatever_their_other_words_hold() {
    must_end(|| {
        for workers in [0, 1] {
            let mut queue = Queue::of(QueuePair::builder().workers(workers));
            for mover in [INLINE, WORKERS] {
                // Three of this length are more than 64 bits can count.
                let sqe = Sqe::from_raw([0, 7, u64::MAX, u64::MAX, isize::MAX as u64, 0, 0]).on(mover);
                // SAFETY: nops touch no memory.
                unsafe { queue.sq.push_batch(&[sqe; 3]) }.expect("a nop has no regions");
                queue.completes_with_success(3);
            }
            queue.has_all_credits();
        }
    });
}
