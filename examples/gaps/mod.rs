//! What the examples of reactors share, none of which belongs to a reactor: options, buffers, and the meter of gaps.
//!
//! A *gap* is the time between two looks of a loop at its events: so long the loop served nobody. Two figures say how
//! bad the gaps were: the longest one, and the share of the time that lay in gaps over [`LONG`]. The longest alone may
//! be one bad moment of the machine; and a mean would be hidden by quick turns around one long stall, as the share is
//! not.
//!
//! Every round runs the loop three times: with copies through the queue; with none, for as long (the *control*: what it
//! shows over [`LONG`] is the machine's doing); and with one plain `memcpy` of the same bytes.
#![expect(clippy::print_stdout, reason = "an example reports on the standard output")]

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use memring::queue::Stats;
use memring::{Sqe, WORKERS};

/// Whoever waits for longer than this was kept waiting.
const LONG: Duration = Duration::from_micros(200);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Who copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A thread of the queue's own.
    Workers,
    /// The loop itself, inside `drain()`.
    Caller,
}

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// One of them, or both in turn.
    pub(crate) modes: Vec<Mode>,
    pub(crate) bytes: usize,
    /// Bytes of one copy.
    pub(crate) piece: usize,
    /// Bytes that one `drain()` may copy, where the loop copies.
    pub(crate) budget: usize,
    pub(crate) rounds: usize,
    /// The period of the timer that the loop serves, where it has one.
    pub(crate) tick: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let (modes, tick) = (vec![Mode::Workers, Mode::Caller], Duration::from_micros(100));
        Self { modes, bytes: 256 * MIB, piece: 4 * KIB, budget: 128 * KIB, rounds: 7, tick }
    }
}

impl Options {
    pub(crate) fn from_args() -> Result<Self, Misunderstood> {
        let mut options = Self::default();
        for argument in std::env::args().skip(1) {
            options.set(&argument).ok_or(Misunderstood(argument))?;
        }
        Ok(options)
    }

    fn set(&mut self, argument: &str) -> Option<()> {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        let number = || value.parse::<usize>().ok().filter(|number| (1..=1 << 20).contains(number));
        match name {
            "workers" if value.is_empty() => self.modes = vec![Mode::Workers],
            "caller" if value.is_empty() => self.modes = vec![Mode::Caller],
            "mib" => self.bytes = number()?.checked_mul(MIB)?,
            "piece_kib" => self.piece = number()? * KIB,
            "budget_kib" => self.budget = number()? * KIB,
            "rounds" => self.rounds = number()?,
            "tick_us" => self.tick = Duration::from_micros(number()? as u64),
            _ => return None,
        }
        Some(())
    }
}

/// An argument that is none.
pub(crate) struct Misunderstood(String);

impl fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = "[workers|caller] [mib=256] [piece_kib=4] [budget_kib=128] [rounds=7] [tick_us=100]";
        write!(f, "{:?} is not understood; arguments: {usage}", self.0)
    }
}

impl fmt::Debug for Misunderstood {
    /// What a `main` that returns it prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Misunderstood {}

/// A source and a destination, with no page of them still to be made by the kernel.
pub(crate) struct Buffers {
    memory: Vec<u8>,
    src: usize,
    dst: usize,
    bytes: usize,
}

impl Buffers {
    const PAGE: usize = 4 * KIB;
    /// Were they a multiple of 256 MiB apart, the CPU would take loads for stores to the same place.
    const APART: usize = MIB + 68 * KIB;

    fn new(bytes: usize) -> Result<Self, Box<dyn Error>> {
        let room = bytes.checked_mul(2).and_then(|both| both.checked_add(Self::APART + Self::PAGE));
        let room = room.ok_or("the buffers would be larger than the address space")?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(room)?;
        // Writes every page, so none faults while the loop is measured.
        memory.resize(room, 0);
        let src = memory.as_ptr().align_offset(Self::PAGE);
        let dst = src + bytes + Self::APART;
        let mut buffers = Self { memory, src, dst, bytes };
        let mut word = 0_u64;
        for bytes in buffers.both().0.chunks_mut(8) {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // No byte is zero: see below.
            bytes.copy_from_slice(&(word | 0x0101_0101_0101_0101).to_le_bytes()[..bytes.len()]);
        }
        Ok(buffers)
    }

    /// The source, and the destination.
    pub(crate) fn both(&mut self) -> (&mut [u8], &mut [u8]) {
        let (low, high) = self.memory.split_at_mut(self.dst);
        (&mut low[self.src..][..self.bytes], &mut high[..self.bytes])
    }

    /// The entries that copy the source to the destination, piece by piece, numbered.
    #[allow(dead_code, reason = "where copies are awaited they own their memory")]
    pub(crate) fn pieces(&mut self, piece: usize) -> Vec<Sqe> {
        let (src, dst) = self.both();
        let pieces = dst.chunks_mut(piece).zip(src.chunks(piece)).zip(0..);
        pieces.map(|((to, from), at)| Sqe::memcpy(to.as_mut_ptr(), from.as_ptr(), to.len()).user_data(at)).collect()
    }

    /// Makes every byte of the destination wrong.
    fn spoil(&mut self) {
        self.both().1.fill(0);
    }

    fn verify(&mut self) -> Result<(), String> {
        let (src, dst) = self.both();
        if dst == src {
            return Ok(());
        }
        let wrong = dst.iter().zip(src).filter(|(to, from)| to != from).count();
        Err(format!("{wrong} bytes were not copied"))
    }
}

/// The meter: how long a loop was away from its events.
#[derive(Debug)]
pub(crate) struct Gaps {
    begin: Instant,
    last: Instant,
    longest: Duration,
    long: Duration,
    ticks: u64,
    /// How long this thread had waited for a core before.
    waited: Duration,
}

/// What a meter has measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) wall: Duration,
    /// The longest gap.
    pub(crate) longest: Duration,
    /// The sum of the gaps over [`LONG`].
    pub(crate) long: Duration,
    /// What the loop has served.
    pub(crate) ticks: u64,
    /// How long the loop's thread was ready to run while other programs had the cores.
    pub(crate) waited: Duration,
}

impl Gaps {
    pub(crate) fn begin() -> Self {
        let waited = waited_for_a_core();
        let now = Instant::now();
        Self { begin: now, last: now, longest: Duration::ZERO, long: Duration::ZERO, ticks: 0, waited }
    }

    /// The loop looks at its events.
    pub(crate) fn look(&mut self) {
        self.look_at(Instant::now());
    }

    /// The same, for who has just read the clock.
    pub(crate) fn look_at(&mut self, now: Instant) {
        let gap = now.duration_since(std::mem::replace(&mut self.last, now));
        self.longest = self.longest.max(gap);
        if gap > LONG {
            self.long += gap;
        }
    }

    /// The loop has served a tick.
    pub(crate) fn tick(&mut self) {
        self.ticks += 1;
    }

    /// How long the loop has run.
    pub(crate) fn wall(&self) -> Duration {
        self.last.duration_since(self.begin)
    }

    /// The figures up to here.
    pub(crate) fn end(&mut self) -> Figures {
        self.look();
        let waited = waited_for_a_core().saturating_sub(self.waited);
        Figures { wall: self.wall(), longest: self.longest, long: self.long, ticks: self.ticks, waited }
    }
}

/// How long this thread has stood in a run queue so far. Zero where the kernel does not say.
fn waited_for_a_core() -> Duration {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited_ns = line.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(waited_ns.unwrap_or(0))
}

impl Figures {
    /// The percentage of the time that lay in long gaps.
    fn share(&self) -> f64 {
        self.percent(self.long)
    }

    fn percent(&self, part: Duration) -> f64 {
        100.0 * part.as_secs_f64() / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// What came of one run of a loop with copies.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    /// Completions, of which every one said success.
    pub(crate) reaped: usize,
    pub(crate) stats: Stats,
}

/// One round: the loop with copies, with nothing, and with one memcpy.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) copies: Outcome,
    pub(crate) control: Figures,
    pub(crate) memcpy: Figures,
}

/// What the loop without a queue does in each turn, told how long it has run; false ends the loop.
pub(crate) type Work<'a> = &'a mut dyn FnMut(Duration) -> bool;

/// All rounds of a loop: `copy` runs it with a queue, `without` with other work. Every byte is verified.
pub(crate) fn rounds(
    options: &Options,
    mut copy: impl FnMut(&mut Buffers) -> Result<Outcome, Box<dyn Error>>,
    mut without: impl FnMut(Work<'_>) -> Result<Figures, Box<dyn Error>>,
) -> Result<Vec<Round>, Box<dyn Error>> {
    let mut buffers = Buffers::new(options.bytes)?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        buffers.spoil();
        let copies = copy(&mut buffers)?;
        buffers.verify()?;
        let control = without(&mut |elapsed| elapsed < copies.figures.wall)?;
        buffers.spoil();
        let mut is_done = false;
        let memcpy = without(&mut |_| {
            let goes_on = !is_done;
            if !std::mem::replace(&mut is_done, true) {
                let (src, dst) = buffers.both();
                dst.copy_from_slice(src);
            }
            goes_on
        })?;
        buffers.verify()?;
        rounds.push(Round { copies, control, memcpy });
    }
    Ok(rounds)
}

/// Says what the rounds have shown.
pub(crate) fn print(name: &str, mode: Mode, options: &Options, rounds: &[Round]) {
    let Options { bytes, piece, budget, .. } = options;
    let who = match mode {
        Mode::Workers => "one worker thread copies".to_owned(),
        Mode::Caller => format!("the loop copies, {} KiB a drain at the most", budget / KIB),
    };
    let copies = bytes.div_ceil(*piece);
    println!("{name}: {who}; {} MiB in {copies} copies of {} KiB, {} rounds", bytes / MIB, piece / KIB, rounds.len());
    println!("  A gap: how long the loop did not look at its events. Without a core: it could run, and others did.");
    let (time, longest, share) = ("time, ms", "longest gap, us", "% in gaps > 200 us");
    println!("  {:28}| {time:20}| {longest:22}| {share:24}| % without a core", "median (least - most)");
    line("copies through the queue", rounds, |round| &round.copies.figures);
    line("no copies, as long (control)", rounds, |round| &round.control);
    line("one memcpy in the loop", rounds, |round| &round.memcpy);
    let beyond = rounds.iter().map(|round| round.copies.figures.share() - round.control.share());
    println!("  copies, % beyond their control: {}", Spread::of(beyond, 2));
    let sum = |of: fn(&Outcome) -> u64| rounds.iter().map(|round| of(&round.copies)).sum::<u64>();
    let (reaped, ticks) = (sum(|outcome| outcome.reaped as u64), sum(|outcome| outcome.figures.ticks));
    println!("  {reaped} copies reaped, all bytes verified; {ticks} ticks served while copies were under way");
    let wakes = sum(|outcome| outcome.stats.mover(WORKERS).wakes);
    let writes = sum(|outcome| outcome.stats.eventfd_writes);
    println!("  system calls of the queue: {writes} woke the loop, {wakes} woke the worker\n");
}

fn line(name: &str, rounds: &[Round], of: impl Fn(&Round) -> &Figures) {
    let spread =
        |value: fn(&Figures) -> f64, decimals| Spread::of(rounds.iter().map(|round| value(of(round))), decimals);
    let wall = spread(|figures| figures.wall.as_secs_f64() * 1e3, 1);
    let longest = spread(|figures| figures.longest.as_secs_f64() * 1e6, 0);
    let share = spread(Figures::share, 2);
    let waited = spread(|figures| figures.percent(figures.waited), 2);
    println!("  {name:28}| {wall:20}| {longest:22}| {share:24}| {waited}");
}

/// The median of some values, the least and the most.
struct Spread {
    values: Vec<f64>,
    decimals: usize,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>, decimals: usize) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self { values, decimals }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(least), Some(most)) = (self.values.first(), self.values.last()) else { return f.pad("-") };
        let (median, decimals) = (self.values[self.values.len() / 2], self.decimals);
        f.pad(&format!("{median:.decimals$} ({least:.decimals$} - {most:.decimals$})"))
    }
}
