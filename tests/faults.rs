//! Goal: with the fault guard, an operation that meets a missing page says FAULT and where, in every drive; what lies
//! before is done and nothing else is; and all that is not such an operation goes on as if there were no guard.
//!
//! Method: an arena of mapped pages (`faults/arena.rs`) of which a test cuts some off, or forbids access to them. What
//! an operation must do is computed by a model that asks, byte by byte, which pages are there; then all of the arena is
//! compared. What must end a process runs in a process of its own (`faults/crashes.rs`).
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "pushes entries")]
#![expect(clippy::print_stdout, reason = "says its seed, and how far a process came")]

#[path = "faults/arena.rs"]
mod arena;
#[path = "support/child.rs"]
mod child;
#[path = "faults/crashes.rs"]
mod crashes;
#[path = "support/random.rs"]
mod random;
#[path = "support/subprocess.rs"]
mod subprocess;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::thread;

use memring::queue::{CompletionQueue, Driver, QueuePair, SubmissionQueue};
use memring::{Cqe, INLINE, MoverId, OpFlags, Opcode, Sqe, Status, WORKERS};

use arena::{Arena, PAGE, Trouble};
use random::{Random, seed};
use watchdog::must_end;

const VALUE: u8 = 252;

/// A queue with the guard, and who is to execute and how it is reaped.
struct Queue {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    on: MoverId,
    waits: bool,
}

impl Queue {
    fn new(workers: usize, on: MoverId, waits: bool) -> Self {
        let pair = QueuePair::builder().entries(64).workers(workers).fault_guard().build().expect("in range");
        let (sq, cq) = pair.split();
        Self { sq, cq, on, waits }
    }

    /// One for each drive. Where workers alone shall execute, nobody waits, since who waits helps.
    fn of_each_drive() -> [Self; 5] {
        [
            Self::new(0, INLINE, false),
            Self::new(0, WORKERS, false),
            Self::new(1, WORKERS, false),
            Self::new(2, WORKERS, false),
            Self::new(1, WORKERS, true),
        ]
    }

    fn run(&mut self, sqe: Sqe) -> Cqe {
        // SAFETY: what is there of the memory belongs to the arena of the test, which waits here for the end.
        unsafe { self.sq.push(sqe.on(self.on).user_data(7)) }.expect("there is room");
        assert_eq!(self.sq.submit(), 1);
        loop {
            if self.waits {
                self.cq.wait(1, None).expect("this process owns it");
            }
            if let Some(cqe) = self.cq.drain().next() {
                return cqe;
            }
            thread::yield_now();
        }
    }
}

/// An operation between places of an arena, and what is wrong there.
#[derive(Clone, Debug)]
struct Case {
    opcode: Opcode,
    past_cache: bool,
    dst: usize,
    src: usize,
    len: usize,
    trouble: Trouble,
}

impl Case {
    fn sqe(&self, arena: &Arena) -> Sqe {
        let (dst, src) = (arena.at(self.dst), arena.at(self.src));
        let sqe = match self.opcode {
            Opcode::Memcpy => Sqe::memcpy(dst, src, self.len),
            Opcode::Memmove => Sqe::memmove(dst, src, self.len),
            Opcode::Memset => Sqe::memset(dst, VALUE, self.len),
            Opcode::Flush => Sqe::flush(dst, self.len),
            other => panic!("{other:?} touches no memory"),
        };
        sqe.flags(if self.past_cache { OpFlags::NO_CACHE_HINT } else { OpFlags::NONE })
    }

    /// Whether it goes from its last byte to its first.
    fn is_backward(&self) -> bool {
        self.opcode == Opcode::Memmove && (self.src + 1..self.src + self.len).contains(&self.dst)
    }

    /// Whether it can do its byte of this offset.
    fn can_do(&self, at: usize) -> bool {
        match self.opcode {
            Opcode::Memset => self.trouble.lets_write(self.dst + at),
            Opcode::Flush => self.trouble.lets_read(self.dst + at),
            _ => self.trouble.lets_read(self.src + at) && self.trouble.lets_write(self.dst + at),
        }
    }

    /// The offset of the byte at which it must stop.
    fn stops_at(&self) -> Option<usize> {
        let mut offsets = 0..self.len;
        if self.is_backward() { offsets.rfind(|&at| !self.can_do(at)) } else { offsets.find(|&at| !self.can_do(at)) }
    }

    /// Does to the bytes what the operation does until it stops.
    fn apply(&self, stops_at: Option<usize>, bytes: &mut [u8]) {
        let done = match stops_at {
            None => 0..self.len,
            Some(at) if self.is_backward() => at + 1..self.len,
            Some(at) => 0..at,
        };
        match self.opcode {
            Opcode::Memset => bytes[self.dst..][done].fill(VALUE),
            Opcode::Flush => {}
            _ => bytes.copy_within(self.src + done.start..self.src + done.end, self.dst + done.start),
        }
    }

    /// Whether it is done in parts, and in any order: then what lies behind the byte at which one of them stops may be
    /// done too.
    fn has_parts_in_any_order(&self) -> bool {
        let overlaps = self.opcode == Opcode::Memmove && self.dst.abs_diff(self.src) < self.len;
        self.len >= 512 << 10 && !overlaps
    }

    /// Runs it, compares its completion and all of the arena, and restores that.
    fn check(&self, queue: &mut Queue, arena: &mut Arena, content: &[u8]) {
        let (mut expected, stops_at) = (content.to_vec(), self.stops_at());
        self.apply(stops_at, &mut expected);
        let mut possible = expected.clone();
        if self.has_parts_in_any_order() {
            let there = possible.len() - self.dst.max(self.src);
            Case { len: self.len.min(there), ..self.clone() }.apply(None, &mut possible);
        }
        arena.take_away(&self.trouble);
        let cqe = queue.run(self.sqe(arena));
        arena.give_back(&self.trouble);
        if let Trouble::CutFrom(page) = self.trouble {
            expected[page * PAGE..].fill(0);
            possible[page * PAGE..].fill(0);
        }
        let end = match stops_at {
            Some(at) => (Status::FAULT, u32::try_from(at).expect("it is small")),
            None => (Status::SUCCESS, 0),
        };
        assert_eq!((cqe.status(), cqe.value(), cqe.user_data()), (end.0, end.1, 7), "{self:?}");
        if arena.bytes() != expected {
            let mut bytes = arena.bytes().iter().zip(&expected).zip(&possible);
            let wrong = bytes.position(|((is, must), may)| is != must && is != may);
            assert!(wrong.is_none(), "a byte of the arena is wrong, the first at {wrong:?}: {self:?}");
        }
        arena.bytes_mut().copy_from_slice(content);
    }
}

/// Operations of this length that can do exactly `before` bytes: the pages end there, at the hole of the arena.
fn that_stop_after(before: usize, len: usize, hole: usize, misaligned: usize) -> Vec<Case> {
    let (at, apart) = (hole * PAGE - before, misaligned);
    let troubles = [Trouble::CutFrom(hole), Trouble::NoAccess(hole..hole + 1), Trouble::ReadOnly(hole..hole + 1)];
    let mut cases = Vec::new();
    for (trouble, past_cache) in troubles.into_iter().flat_map(|trouble| [(trouble.clone(), false), (trouble, true)]) {
        let case = |opcode, dst, src| Case { opcode, past_cache, dst, src, len, trouble: trouble.clone() };
        cases.extend([
            case(Opcode::Memset, at, 0),
            case(Opcode::Memcpy, at, apart),
            case(Opcode::Memmove, at, apart),
            // The destination a little behind the source, which meets the hole first unless it may be read.
            case(Opcode::Memmove, at - 1, at),
            case(Opcode::Memmove, at - 37, at),
        ]);
        if !matches!(trouble, Trouble::ReadOnly(_)) {
            cases.extend([
                case(Opcode::Flush, at, 0),
                case(Opcode::Memcpy, apart, at),
                case(Opcode::Memmove, apart, at),
            ]);
        }
    }
    cases
}

#[test]
fn operations_stop_exactly_where_the_pages_end() {
    must_end(|| {
        let mut queue = Queue::new(0, INLINE, false);
        let mut arena = Arena::new(8);
        let content = arena.bytes().to_vec();
        for len in [1, 2, 31, 32, 33, 63, 64, 65, 100, 1023, 1024, 1025, 1500, 4096, 5000] {
            let befores = [0, 1, 2, 7, 31, 32, 33, 63, 64, 65, 100, 1000, 1023, 1024, 1055, 4095, 4096, 4999];
            for before in befores.into_iter().filter(|&before| before < len) {
                for case in that_stop_after(before, len, 6, 13 + before % 64) {
                    // The model agrees with what the name says. (A read-only hole stops the moves by their
                    // destination, which comes to it later.)
                    let later = case.trouble == Trouble::ReadOnly(6..7) && case.src > case.dst;
                    assert!(later || case.stops_at() == Some(before), "{case:?}");
                    case.check(&mut queue, &mut arena, &content);
                }
            }
        }
    });
}

#[test]
fn so_do_long_ones() {
    const MIB: usize = 1 << 20;
    must_end(|| {
        let mut queue = Queue::new(1, WORKERS, true);
        let mut arena = Arena::new(9 * MIB / PAGE);
        let content = arena.bytes().to_vec();
        for (before, misaligned) in [(3 * MIB + 4095, 1), (MIB + 33, 4001), (5, 64)] {
            for case in that_stop_after(before, 3 * MIB + 5000, 8 * MIB / PAGE, misaligned) {
                case.check(&mut queue, &mut arena, &content);
            }
        }
    });
}

/// Any operation at any place with any pages missing: before, behind, in the middle, or not where it goes at all.
fn any_case(random: &mut Random, pages: usize) -> Case {
    const LENS: [usize; 6] = [1, 40, 300, 1200, 5000, 20_000];
    let opcodes = [Opcode::Memcpy, Opcode::Memmove, Opcode::Memmove, Opcode::Memset, Opcode::Flush];
    let opcode = opcodes[random.below(opcodes.len())];
    let most = LENS[random.below(LENS.len())];
    let len = 1 + random.below(most);
    let room = pages * PAGE - len;
    let dst = random.below(room + 1);
    let src = match opcode {
        Opcode::Memcpy => (dst + len + random.below((pages * PAGE).saturating_sub(2 * len) + 1)) % (pages * PAGE),
        // Often close to each other.
        Opcode::Memmove if random.below(2) == 0 => (dst + random.below(200)).saturating_sub(100),
        _ => random.below(room + 1),
    };
    let from = random.below(pages);
    let to = from + random.below(pages - from) + 1;
    let trouble = match random.below(3) {
        0 => Trouble::CutFrom(from),
        1 => Trouble::NoAccess(from..to),
        _ => Trouble::ReadOnly(from..to),
    };
    let case = Case { opcode, past_cache: random.below(2) == 0, dst, src: src.min(room), len, trouble };
    // The minimum may have made a memcpy overlap, which a push refuses.
    let opcode = if dst.abs_diff(case.src) < len && opcode == Opcode::Memcpy { Opcode::Memmove } else { opcode };
    Case { opcode, ..case }
}

#[test]
fn any_operation_in_every_drive() {
    const CASES: usize = if cfg!(debug_assertions) { 1500 } else { 10_000 };
    must_end(|| {
        let seed = seed();
        println!("MEMRING_SEED={seed}");
        let mut random = Random::new(seed);
        let mut arena = Arena::new(16);
        let content = arena.bytes().to_vec();
        for mut queue in Queue::of_each_drive() {
            let mut faults = 0;
            for _ in 0..CASES {
                let case = any_case(&mut random, 16);
                faults += usize::from(case.stops_at().is_some());
                case.check(&mut queue, &mut arena, &content);
            }
            assert!((CASES / 4..CASES).contains(&faults), "{faults} of {CASES} cases met a hole");
            let stats = queue.cq.stats();
            let by = |driver: fn(&Driver) -> bool| {
                let drivers = stats.drivers.iter().filter(|stats| stats.mover == queue.on && driver(&stats.driver));
                drivers.map(|stats| stats.operations).sum::<u64>()
            };
            let (threads, callers) =
                (by(|driver| matches!(driver, Driver::Thread(_))), by(|driver| *driver == Driver::Caller));
            match (queue.on == INLINE, stats.drivers.iter().any(|stats| matches!(stats.driver, Driver::Thread(_)))) {
                (true, _) => {}
                (_, false) => assert_eq!(callers, CASES as u64),
                _ if queue.waits => assert!(callers > 0, "the waiting caller has helped"),
                _ => assert_eq!(threads, CASES as u64),
            }
        }
    });
}

#[test]
fn nowhere_is_a_fault_at_the_first_byte() {
    // Below what the kernel lets anybody map; in its own half; and an address that no x86-64 has, for which it names
    // none.
    let nowhere = [64, 0xffff_ffff_ff60_1000, 0x8000_0000_0000_0000_u64];
    let mut buffer = vec![VALUE; 5000];
    let here = buffer.as_mut_ptr();
    for mut queue in Queue::of_each_drive() {
        for (address, flags) in nowhere.into_iter().flat_map(|at| [(at, OpFlags::NONE), (at, OpFlags::NO_CACHE_HINT)]) {
            let there = std::ptr::without_provenance_mut::<u8>(usize::try_from(address).expect("64 bits"));
            for len in [1, 40, 5000] {
                let operations = [
                    Sqe::memcpy(here, there, len),
                    Sqe::memcpy(there, here, len),
                    Sqe::memmove(here, there, len),
                    Sqe::memmove(there, here, len),
                    Sqe::memset(there, 0, len),
                    Sqe::flush(there, len),
                ];
                for sqe in operations {
                    let cqe = queue.run(sqe.flags(flags));
                    assert_eq!((cqe.status(), cqe.value()), (Status::FAULT, 0), "{sqe:?}");
                }
                // A move within nothing, from its end.
                let cqe = queue.run(Sqe::memmove(there.wrapping_add(len / 2), there, len).flags(flags));
                let last = if len == 1 { 0 } else { len - 1 };
                assert_eq!((cqe.status(), cqe.value() as usize), (Status::FAULT, last));
            }
        }
        assert!(queue.run(Sqe::nop()).status().is_success());
    }
    assert_eq!(buffer, [VALUE; 5000]);
}

#[test]
fn nothing_is_touched_where_there_is_nothing_to_do() {
    let mut queue = Queue::new(0, INLINE, false);
    let nowhere = std::ptr::without_provenance_mut(64);
    let operations = [
        Sqe::memcpy(nowhere, nowhere, 0),
        Sqe::memmove(nowhere, nowhere, 0),
        Sqe::memset(nowhere, 1, 0),
        Sqe::flush(nowhere, 0),
    ];
    for sqe in operations {
        assert!(queue.run(sqe).status().is_success(), "{sqe:?}");
    }
}

#[test]
fn a_thousand_faults_at_once_beside_good_copies() {
    const LEN: usize = 700;
    const ENTRIES: usize = 4096;
    must_end(|| {
        let mut source = Arena::new(4);
        let content = source.bytes().to_vec();
        source.take_away(&Trouble::CutFrom(2));
        let pair = QueuePair::builder().entries(ENTRIES).workers(4).fault_guard().build().expect("in range");
        let mut copies = vec![VALUE; ENTRIES * LEN];
        let (mut sq, mut cq) = pair.split();
        for _ in 0..3 {
            copies.fill(VALUE);
            // Every other one begins so close to the end that it stops after `index % LEN` bytes.
            let is_good = |index: usize| index.is_multiple_of(2);
            let start = |index: usize| if is_good(index) { index } else { 2 * PAGE - index % LEN };
            let entry = |(index, to): (usize, &mut [u8])| {
                Sqe::memcpy(to.as_mut_ptr(), source.at(start(index)), LEN).user_data(index as u64).on(WORKERS)
            };
            let batch: Vec<Sqe> = copies.chunks_mut(LEN).enumerate().map(entry).collect();
            // SAFETY: the copies are looked at when everything was reaped; what is there of the source is the arena's.
            unsafe { sq.push_batch(&batch) }.expect("there is room");
            assert_eq!(sq.submit(), ENTRIES);
            cq.wait(ENTRIES, None).expect("this process owns it");
            let mut faults = 0;
            for cqe in cq.drain() {
                let index = usize::try_from(cqe.user_data()).expect("it was an index");
                let (copy, from) = (&copies[index * LEN..][..LEN], start(index));
                let done = if is_good(index) { LEN } else { index % LEN };
                let end = if done == LEN { (Status::SUCCESS, 0) } else { (Status::FAULT, done) };
                assert_eq!((cqe.status(), cqe.value() as usize), end, "entry {index}");
                assert!(copy[..done] == content[from..][..done], "entry {index}");
                assert!(copy[done..].iter().all(|&byte| byte == VALUE), "entry {index}");
                faults += usize::from(done < LEN);
            }
            assert_eq!(faults, ENTRIES / 2);
        }
    });
}

#[test]
fn a_forked_child_has_the_guard_too() {
    let _queue = Queue::new(1, WORKERS, false);
    child::in_child(|| {
        for mut queue in Queue::of_each_drive() {
            let there = std::ptr::without_provenance_mut(64);
            assert_eq!(queue.run(Sqe::memset(there, 0, 9)).status(), Status::FAULT);
        }
    });
}

#[test]
fn a_worker_is_covered_though_its_builder_blocks_every_signal() {
    let mut queue = {
        let block = |how| {
            let mut set = std::mem::MaybeUninit::uninit();
            // SAFETY: the set has room; sigfillset fills it and cannot fail.
            unsafe { libc::sigfillset(set.as_mut_ptr()) };
            // SAFETY: the set was filled; nothing is asked back.
            unsafe { libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut()) };
        };
        block(libc::SIG_BLOCK);
        let queue = Queue::new(1, WORKERS, false);
        block(libc::SIG_UNBLOCK);
        queue
    };
    assert_eq!(queue.run(Sqe::memset(std::ptr::without_provenance_mut(64), 0, 9)).status(), Status::FAULT);
}
