//! The power is cut, at moments of our choosing: what was acknowledged is on the disk, whole and in order.
//!
//! Twice, since a disk can be looked at in two ways. The file under a loop device can only be copied while nobody
//! writes; a disk that this process is (`support/disk.rs`) shows what a cut at any moment could leave, also in the
//! middle of an fsync, and loses what it was not told to flush. SIGKILL would prove nothing here: the page cache lives
//! on.

use std::sync::{Barrier, Mutex};
use std::thread;

use super::RIGHT;
use super::log::{Kind, Trial};
use super::mounts::in_own_namespace;
use super::plain::{FLUSHES_NOTHING, JOINS_THE_ONE_IN_FLIGHT, PUBLISHES_TOO_EARLY, WRITES_PAGES_ONLY};
use super::random::{Random, seed};
use super::records::{Book, Record};
use super::rigs::{DiskRig, LOG, Layout, LoopRig};
use super::skip::skip;
use super::watchdog::must_end;

const THREADS: usize = 3;
/// The power is cut so often in each file system.
const CUTS: usize = 10;

const LAYOUTS: [Layout; 2] = [Layout::Sparse, Layout::Written];

/// How many file systems, so that there are a hundred cuts in full length.
fn rounds() -> usize {
    if std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full") { 10 } else { 2 }
}

/// Threads write one record each, at once; when all are acknowledged, the disk is copied.
fn cut_between_bursts(kind: Kind, layout: Layout, seed: u64) -> Trial {
    let rig = LoopRig::new(layout)?;
    let log = (kind.open)(rig.log()).map_err(|error| error.to_string())?;
    let book = Book::new(seed, LOG);
    for _ in 0..CUTS {
        let barrier = Barrier::new(THREADS);
        let burst = || {
            let record = book.begin(64 << 10).expect("the log is long enough");
            barrier.wait();
            record.write_to(&*log).map(|()| book.acknowledge(record))
        };
        let verdict = thread::scope(|threads| {
            let threads: Vec<_> = (0..THREADS).map(|_| threads.spawn(burst)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("it returns its failure"))
        });
        let verdict = verdict.and_then(|()| rig.judge(&book, &book.acknowledged()));
        if verdict.is_err() {
            return Ok(verdict);
        }
    }
    Ok(Ok(()))
}

/// The images that a storm leaves, with what had been acknowledged before each was taken.
type Images = Mutex<Vec<(Vec<Record>, Vec<u8>)>>;

/// Threads write one record after the other. The power is cut at acknowledgements, by whoever gets them, and in
/// between, by this thread; nobody waits for that.
fn cut_in_a_storm(kind: Kind, layout: Layout, seed: u64) -> Trial {
    let rig = DiskRig::new(layout, &[])?;
    let log = (kind.open)(rig.log()).map_err(|error| error.to_string())?;
    let (book, images) = (Book::new(seed, LOG), Images::default());
    let keep = |acknowledged, image| images.lock().expect("nobody panics with it").push((acknowledged, image));
    let is_enough = || images.lock().expect("nobody panics with it").len() >= CUTS;
    let storm = |mut random: Random| {
        while !is_enough() {
            let Some(record) = book.begin(12 << 10) else { break };
            record.write_to(&*log)?;
            book.acknowledge(record);
            if random.below(8) == 0 {
                let acknowledged = book.acknowledged();
                keep(acknowledged, rig.disk().image(&mut random));
            }
        }
        Ok(())
    };
    let mut random = Random::new(seed);
    let verdict = thread::scope(|threads| {
        let storms: Vec<_> = (0..THREADS).map(|_| Random::new(random.next())).collect();
        let storms: Vec<_> = storms.into_iter().map(|random| threads.spawn(|| storm(random))).collect();
        while !is_enough() && !storms.iter().all(thread::ScopedJoinHandle::is_finished) {
            let acknowledged = book.acknowledged();
            let requests = 1 + random.below(12);
            keep(acknowledged, rig.disk().image_in(requests, &mut random));
        }
        storms.into_iter().try_for_each(|storm| storm.join().expect("it returns its failure"))
    });
    let images = images.into_inner().expect("nobody panics with it");
    Ok(verdict.and_then(|()| images.iter().try_for_each(|(acknowledged, image)| rig.judge(image, &book, acknowledged))))
}

type Check = fn(Kind, Layout, u64) -> Trial;

/// The check, in a namespace of its own. What it finds begins with how to find it again.
fn run(check: Check, kind: Kind, layout: Layout) -> Trial {
    must_end(move || {
        in_own_namespace(|| {
            let seed = seed();
            let verdict = check(kind, layout, seed)?;
            Ok(verdict.map_err(|found| format!("{}, {layout:?}, seed {seed}: {found}", kind.name)))
        })?
    })
}

fn acquit(check: Check, what: &str) {
    for kind in RIGHT {
        for layout in (0..rounds()).map(|round| LAYOUTS[round % 2]) {
            match run(check, *kind, layout) {
                Ok(verdict) => assert_eq!(verdict, Ok(())),
                Err(reason) => return skip(what, reason),
            }
        }
    }
}

/// Each mutant is convicted in each layout: in one of so many file systems that the most elusive is sure to be.
fn convict(check: Check, what: &str, mutants: &[Kind]) {
    for (kind, layout) in mutants.iter().flat_map(|kind| LAYOUTS.map(|layout| (kind, layout))) {
        let mut verdict = Ok(());
        let mut rounds = 0;
        while verdict.is_ok() {
            assert!(rounds < 10, "{} is not found out in {layout:?}", kind.name);
            rounds += 1;
            verdict = match run(check, *kind, layout) {
                Ok(verdict) => verdict,
                Err(reason) => return skip(what, reason),
            };
        }
        let found = verdict.expect_err("it was found out");
        assert!(found.contains("is not there") || found.contains("and its word is"), "{found}");
        eprintln!("in {rounds} rounds: {found}");
    }
}

#[test]
fn what_was_acknowledged_is_in_a_copy_of_the_disk() {
    acquit(cut_between_bursts, "loop");
}

#[test]
fn a_copy_of_the_disk_convicts_the_mutants() {
    convict(cut_between_bursts, "loop", &[FLUSHES_NOTHING, JOINS_THE_ONE_IN_FLIGHT]);
}

/// Also for who forbids something before.
pub(crate) fn acquit_in_a_storm() {
    acquit(cut_in_a_storm, "fuse");
}

#[test]
fn what_was_acknowledged_outlives_a_power_cut() {
    acquit_in_a_storm();
}

#[test]
fn a_power_cut_convicts_the_mutants() {
    let mutants = [FLUSHES_NOTHING, JOINS_THE_ONE_IN_FLIGHT, PUBLISHES_TOO_EARLY, WRITES_PAGES_ONLY];
    convict(cut_in_a_storm, "fuse", &mutants);
}
