//! Goal: whatever entries are linked, drained, skipped and coalesced, across whatever movers, it comes out as the flags
//! say: the right ones fail and are cancelled, the right ones are told, in the right order, and the bytes are right.
//!
//! Method: random programs, each of several submits through two submission queues, run on a queue and on a reference
//! interpreter (`programs/plan.rs`), which is a loop over the entries. Failures follow from the user data, so the
//! interpreter knows each status. Members of a chain read what those before them wrote, as does what comes after a
//! barrier, so a violation of the order shows in the bytes; it is looked for in the order of the completions and in a
//! log that the test's own movers keep, too. One of them keeps its tokens and completes them later, in another order,
//! perhaps by another instance. At the end of a queue's life every operation is in the books and every credit is back.
//!
//! By default some hundred programs for each drive; `MEMRING_STRESS=full` makes it a million in total.
#![expect(unsafe_code, reason = "pushes entries")]
#![expect(clippy::print_stdout, reason = "the figures of a run, seen when it fails or with --nocapture")]

#[path = "programs/judge.rs"]
mod judge;
#[path = "programs/movers.rs"]
mod movers;
#[path = "programs/plan.rs"]
mod plan;
#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use memring::dsa::model::{ModelPortal, Settings};
use memring::dsa::{Dsa, Mode, Preset, WorkQueueCapabilities};
use memring::queue::{CompletionQueue, Drive, PushError, QueuePair, SubmissionQueue};
use memring::{Cqe, INLINE, MoverId, Sqe, SqeFlags, WORKERS};

use judge::{Seen, judge};
use movers::{Keeping, Log, Prompt};
use plan::{BYTES, Entry, Program, Who};
use random::{Random, seed};
use watchdog::must_end;

const ENTRIES: usize = 64;
/// Programs that one queue runs before the next is built.
const PROGRAMS_OF_QUEUE: u64 = 5_000;

/// Who drives the movers of a queue.
#[derive(Clone, Copy, Debug)]
struct Drives {
    workers: usize,
    poll_budget: usize,
    prompt: Drive,
    keeping: Drive,
}

const fn drives(workers: usize, poll_budget: usize, prompt: Drive, keeping: Drive) -> Drives {
    Drives { workers, poll_budget, prompt, keeping }
}

/// How many programs a test of one drive runs.
fn programs() -> u64 {
    let is_full = std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full");
    if is_full { 1_000_000 / 6 + 1 } else { 500 }
}

/// Two work queues at their worst, of which one takes no batches.
fn hostile_devices(seed: u64) -> Dsa {
    let (device, queue) = (Preset::V2Full.capabilities(), WorkQueueCapabilities::new(Mode::Shared, 4));
    let portals = [seed, !seed].map(|seed| ModelPortal::new(device, queue, Settings::hostile(seed)).with_turn(2));
    let [with, without] = portals;
    Dsa::new([with.into(), without.without_batch().into()]).expect("there are two")
}

/// One queue, and what its movers share.
struct Machine {
    sqs: [SubmissionQueue; 2],
    cq: CompletionQueue,
    prompt: MoverId,
    keeping: MoverId,
    dsa: MoverId,
    log: Log,
    random: Random,
    submitted: u64,
    /// Dropped after the queue, which works on it.
    memory: Vec<u8>,
}

impl Machine {
    fn new(drives: Drives, seed: u64) -> Self {
        let (log, pool) = (Log::default(), Arc::new(Mutex::new(Vec::new())));
        let (prompt_log, keeping_log) = (log.clone(), log.clone());
        let devices = hostile_devices(seed);
        let builder = QueuePair::builder().entries(ENTRIES).workers(drives.workers).poll_budget(drives.poll_budget);
        let pair = builder
            .mover("prompt", drives.prompt, move || Prompt(prompt_log.clone()))
            .mover("keeping", drives.keeping, move || Keeping::new(keeping_log.clone(), &pool, seed))
            .mover("dsa", drives.keeping, move || devices.mover())
            .build()
            .expect("a queue");
        let mover = |name| pair.mover(name).expect("it was added");
        let (prompt, keeping, dsa) = (mover("prompt"), mover("keeping"), mover("dsa"));
        let (sq, cq) = pair.split();
        let random = Random::new(seed);
        Self { sqs: [sq.clone(), sq], cq, prompt, keeping, dsa, log, random, submitted: 0, memory: vec![0; BYTES] }
    }

    fn mover(&self, who: Who) -> MoverId {
        match who {
            Who::Inline => INLINE,
            Who::Workers => WORKERS,
            Who::Prompt => self.prompt,
            Who::Keeping => self.keeping,
            Who::Dsa => self.dsa,
        }
    }

    /// Runs a program and tells what was seen of it.
    fn run(&mut self, program: &Program) -> Seen {
        self.memory.copy_from_slice(&program.before);
        let memory = self.memory.as_mut_ptr();
        let mut cqes = Vec::new();
        for (range, queue) in &program.submits {
            let mut sqes: Vec<Sqe> = program.entries[range.clone()]
                .iter()
                .map(|entry| entry.sqe(memory).on(self.mover(entry.who)))
                .collect();
            // One that looks for overlaps asks for it, since it looks at each push.
            if cfg!(feature = "check-overlap") {
                bring_barriers_forward(&mut sqes);
            }
            let (alone, together) = sqes.split_at(self.random.below(sqes.len() + 1));
            let sq = &mut self.sqs[*queue];
            for sqe in alone {
                // SAFETY: units that may run together share no memory, and none is touched until all has ended.
                unsafe { sq.push(*sqe) }.expect("a program is no longer than the queue");
            }
            // SAFETY: as above.
            unsafe { sq.push_batch(together) }.expect("a program is no longer than the queue");
            assert_eq!(sq.submit(), sqes.len());
            self.submitted += sqes.len() as u64;
            if self.random.below(2) == 0 {
                cqes.extend(self.cq.drain());
            }
        }
        let told = program.entries.iter().filter(|entry| entry.is_told()).count();
        self.reap(told, &mut cqes);
        Seen { cqes, log: self.log.take(), bytes: self.memory.clone() }
    }

    /// Reaps until so many ends were told and nothing is in flight.
    fn reap(&mut self, told: usize, cqes: &mut Vec<Cqe>) {
        let count = |cqes: &[Cqe]| cqes.iter().map(|cqe| cqe.count() as usize).sum::<usize>();
        while count(cqes) < told || self.cq.in_flight() > 0 {
            match self.random.below(4) {
                0 => drop(self.cq.wait(1, Some(Duration::from_micros(1)))),
                1 => drop(self.cq.wait(1 + self.random.below(ENTRIES), None)),
                _ => {}
            }
            cqes.extend(self.cq.drain());
        }
        cqes.extend(self.cq.drain());
    }

    /// Every operation is in the books, and every credit is back.
    fn is_settled(&mut self) {
        let stats = self.cq.stats();
        assert_eq!(stats.drivers.iter().map(|row| row.operations).sum::<u64>(), self.submitted, "{stats:?}");
        let sq = &mut self.sqs[0];
        // SAFETY: nops touch no memory.
        unsafe { sq.push_batch(&[Sqe::nop(); ENTRIES]) }.expect("all credits are back");
        // SAFETY: as above.
        assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))), "a credit too many");
        sq.submit();
        self.submitted += ENTRIES as u64;
        self.reap(ENTRIES, &mut Vec::new());
    }
}

/// Has each chain that is a barrier say so on its first entry, which comes to the same.
fn bring_barriers_forward(sqes: &mut [Sqe]) {
    let is_linked =
        |sqe: &Sqe| [SqeFlags::LINK, SqeFlags::HARD_LINK].iter().any(|&link| sqe.sqe_flags().contains(link));
    for chain in sqes.chunk_by_mut(|entry, _| is_linked(entry)) {
        if chain.iter().any(|sqe| sqe.sqe_flags().contains(SqeFlags::DRAIN)) {
            chain[0] = chain[0].drain();
        }
    }
}

fn run(drives: Drives) {
    let (begin, seed, count) = (Instant::now(), seed(), programs());
    println!("{drives:?}: MEMRING_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut left, mut operations) = (count, 0);
    while left > 0 {
        let (seed, programs) = (random.next(), left.min(PROGRAMS_OF_QUEUE));
        left -= programs;
        operations += must_end(move || live(drives, seed, programs));
    }
    println!("{drives:?}: {count} programs, {operations} operations, {:.1?}", begin.elapsed());
}

/// The life of a queue: so many programs, judged; returns how many operations that were.
fn live(drives: Drives, seed: u64, programs: u64) -> u64 {
    let (mut machine, mut random) = (Machine::new(drives, seed), Random::new(seed));
    for _ in 0..programs {
        let program = Program::random(&mut random);
        let seen = machine.run(&program);
        if let Err(error) = judge(&program, &seen, |who| machine.mover(who)) {
            show(&program);
            panic!("{error}\n{:?}", seen.cqes);
        }
    }
    machine.is_settled();
    machine.submitted
}

fn show(program: &Program) {
    for (submit, queue) in &program.submits {
        println!("submit through queue {queue}:");
        for Entry { user_data, flags, who, act, unit, epoch, status } in &program.entries[submit.clone()] {
            println!(
                "  {user_data:#x} flags {:05b} {who:?} {act:?} unit {unit} epoch {epoch}: {status:?}",
                flags.bits()
            );
        }
    }
}

#[test]
fn all_by_the_caller() {
    run(drives(0, 1 << 20, Drive::Caller, Drive::Caller));
}

#[test]
fn all_by_the_caller_in_small_steps() {
    run(drives(0, 20, Drive::Caller, Drive::Caller));
}

#[test]
fn all_by_one_thread_each() {
    run(drives(1, 1 << 20, Drive::Threads(1), Drive::Threads(1)));
}

#[test]
fn all_by_several_threads() {
    run(drives(2, 1 << 20, Drive::Threads(2), Drive::Threads(2)));
}

#[test]
fn cpu_by_a_thread_the_rest_by_the_caller() {
    run(drives(1, 1 << 20, Drive::Caller, Drive::Caller));
}

#[test]
fn cpu_by_the_caller_the_rest_by_threads() {
    run(drives(0, 64, Drive::Threads(1), Drive::Threads(2)));
}
