//! Random operations through devices at their worst, each byte checked: by default a hundred thousand,
//! `MEMRING_STRESS=full` makes it ten millions.

use memring::dsa::model::Settings;
use memring::dsa::{Mode, OnFault, Preset, WorkQueueCapabilities};
use memring::{OpFlags, Opcode, Sqe};

use super::device::Plan;
use super::random::{Random, seed};
use super::rig::{DONE, Rig};
use super::watchdog::must_end;

/// Each operation has a window of its own among this many bytes.
const ARENA: usize = 1 << 20;
const TOGETHER: usize = 512;

fn operations() -> usize {
    let is_full = std::env::var("MEMRING_STRESS").is_ok_and(|mode| mode == "full");
    if is_full { 10_000_000 } else { 100_000 }
}

/// Two queues of a device at its worst.
fn hostile(preset: Preset, mode: Mode, random: &mut Random) -> [Plan; 2] {
    [(); 2].map(|()| {
        let mut queue = WorkQueueCapabilities::new(mode, 1 + u32::try_from(random.below(16)).unwrap());
        queue.max_transfer_bytes = 1 << (9 + random.below(8));
        queue.max_batch = 1 << random.below(6);
        let passes_batch = random.below(4) != 0;
        Plan { queue, settings: Settings::hostile(random.next()), passes_batch, ..Plan::preset(preset) }
    })
}

/// The length of an operation: mostly short.
fn length(random: &mut Random, most: usize) -> usize {
    let bits = random.below(12);
    random.below(1 << bits).min(most)
}

/// Draws an operation within a window of both arenas, and does it in the second.
fn draw(random: &mut Random, live: *mut u8, window: (usize, usize), twin: &mut [u8]) -> Sqe {
    let (begin, bytes) = window;
    let opcode = Opcode::ALL[random.below(Opcode::ALL.len())];
    let len = length(random, bytes / 2);
    let at = |random: &mut Random, from: usize, room: usize| from + random.below(room - len + 1);
    let (low, high) = (at(random, begin, bytes / 2), at(random, begin + bytes / 2, bytes / 2));
    let (dst, src) = if random.below(2) == 0 { (low, high) } else { (high, low) };
    let (to, from) = (live.wrapping_add(dst), live.wrapping_add(src).cast_const());
    let sqe = match opcode {
        Opcode::Memcpy => {
            twin.copy_within(src..src + len, dst);
            Sqe::memcpy(to, from, len)
        }
        Opcode::Memmove => {
            // Over itself, as likely as not.
            let (dst, src) =
                if random.below(2) == 0 { (dst, src) } else { (at(random, begin, bytes), at(random, begin, bytes)) };
            twin.copy_within(src..src + len, dst);
            Sqe::memmove(live.wrapping_add(dst), live.wrapping_add(src), len)
        }
        Opcode::Memset => {
            let [byte, ..] = random.next().to_le_bytes();
            twin[dst..dst + len].fill(byte);
            Sqe::memset(to, byte, len)
        }
        Opcode::Flush => Sqe::flush(to, len),
        _ => Sqe::nop(),
    };
    // A set or a copy that is linked to the next one, whose window is another, changes nothing of that.
    let sqe = if random.below(4) == 0 { sqe.link() } else { sqe };
    if random.below(4) == 0 { sqe.flags(OpFlags::NO_CACHE_HINT) } else { sqe }
}

fn run(preset: Preset, mode: Mode, on_fault: OnFault, share: usize) {
    let seed = seed();
    must_end(move || {
        println!("MEMRING_SEED={seed}");
        let mut random = Random::new(seed);
        let mut live: Vec<u8> = (0..ARENA / 8).flat_map(|_| random.next().to_ne_bytes()).collect();
        let mut twin = live.clone();
        let mut left = operations() / share;
        while left > 0 {
            let mut rig = Rig::with(&hostile(preset, mode, &mut random), |dsa| dsa.on_fault(on_fault));
            for _ in 0..64 {
                let count = 1 + random.below(TOGETHER);
                let bytes = (ARENA / count).min(8192) & !1;
                let start = live.as_mut_ptr();
                let draw = |number| draw(&mut random, start, (number * bytes, bytes), &mut twin);
                let sqes: Vec<Sqe> = (0..count).map(draw).collect();
                assert!(rig.run(&sqes).iter().all(|end| *end == DONE));
                assert!(live == twin, "seed {seed}");
                left = left.saturating_sub(count);
            }
        }
    });
}

#[test]
fn on_a_device_of_the_second_version() {
    run(Preset::V2Full, Mode::Shared, OnFault::Resume, 4);
}

#[test]
fn on_a_dedicated_queue() {
    run(Preset::V2SierraForest, Mode::Dedicated, OnFault::Resume, 4);
}

#[test]
fn on_a_device_as_it_was_sold() {
    run(Preset::V1Production, Mode::Shared, OnFault::Resume, 4);
}

#[test]
fn with_the_cpu_for_what_is_left() {
    run(Preset::V1Early, Mode::Shared, OnFault::Cpu, 4);
}
