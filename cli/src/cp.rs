//! `memring cp`: the steps of copying a file, in their order.
//!
//! Everything that can be refused is refused before anything is created. From the draft on, every way out removes it:
//! an error by dropping it, a signal in `signals.rs`, a kill by its having no name. It becomes the destination in one
//! step, after the last byte was copied, compared if asked, the source found whole, and, for a durable copy, everything
//! of it synced; the folder is synced after that step, and until then a signal waits.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use memmap2::MmapRaw;
use memring::queue::Stats;
use memring::{INLINE, MoverId, WORKERS};

use crate::copy::{Copier, Lost, Plan, Target};
use crate::destination::{Draft, Place};
use crate::failure::Failure;
use crate::report::{Report, Syncs};
use crate::source::Source;
use crate::verify::{self, Unreadable};
use crate::{durability, signals, size};

/// Arguments of `memring cp`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The file to copy
    source: PathBuf,
    /// Its copy's name, or a directory to copy it into
    destination: PathBuf,
    /// Replace the destination if it exists, in one step
    #[arg(short, long)]
    force: bool,
    /// Compare the bytes before the copy gets its name
    #[arg(long)]
    verify: bool,
    /// Return only when the copy would outlive a power cut: bytes, permissions and name
    #[arg(long)]
    durable: bool,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
    /// Bytes of one operation; K, M and G stand for 1024, 1024² and 1024³
    #[arg(long, value_name = "BYTES", default_value = "256K", value_parser = size::parse)]
    chunk: usize,
    /// Operations that can be under way at a time, 1 to 65536
    #[arg(long, value_name = "N", default_value_t = 1024)]
    entries: usize,
    /// Threads that copy, 0 to 64, beside this one, which helps [default: one less than there are CPUs, 1 to 4]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Who copies
    #[arg(long, value_name = "WHO", value_enum, default_value_t = On::Workers)]
    on: On,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum On {
    /// The submitting thread, alone
    Inline,
    /// The workers, and the waiting thread
    Workers,
}

impl On {
    fn mover(self) -> MoverId {
        match self {
            Self::Inline => INLINE,
            Self::Workers => WORKERS,
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let begin = Instant::now();
    signals::install("cp");
    let Options { chunk, entries, workers, .. } = *options;
    let plan = Plan { chunk, entries, workers, on: options.on.mover() };
    let copier = {
        // The workers inherit this: requests to end are for this thread, which can hold them while it publishes.
        let _held = signals::hold();
        Copier::build(plan)?
    };
    let source = Source::open(&options.source)?;
    let place = Place::find(&options.destination, &source, options.force)?;
    let folder = options.durable.then(|| place.synced_folder()).transpose()?;
    let from = source.map()?;
    let draft = Draft::create(&place)?;
    let reserved = draft.reserve(source.len())?;
    let done = match (&from, draft.map(source.len())?) {
        (Some(from), Some(to)) => copy_and_verify(options, copier, (&source, from), (&draft, to))?,
        _ => Done { stats: copier.stats(), verified: options.verify.then_some(Duration::ZERO) },
    };
    source.check_whole()?;
    drop(from);
    draft.finish(&source)?;
    let begin_sync = Instant::now();
    if folder.is_some() {
        draft.sync()?;
    }
    let held = signals::hold();
    let named = draft.publish(folder.as_ref())?;
    held.done();
    let synced =
        folder.map(|_| Syncs { fsyncs: durability::fsyncs(&done.stats) + 1 + named, last: begin_sync.elapsed() });
    let verifying = done.verified.unwrap_or_default();
    Report {
        source: source.path(),
        destination: place.path(),
        bytes: source.len() as u64,
        plan,
        reserved,
        elapsed: begin.elapsed().saturating_sub(verifying),
        verified: done.verified,
        synced,
        stats: &done.stats,
    }
    .print(options.json)
}

struct Done {
    stats: Stats,
    /// How long comparing took, if it was asked for.
    verified: Option<Duration>,
}

fn copy_and_verify(
    options: &Options,
    mut copier: Copier,
    (source, from): (&Source, &MmapRaw),
    (draft, to): (&Draft, MmapRaw),
) -> Result<Done, Failure> {
    // What the submitting thread copies by itself waits for nothing; the last fsync makes it durable.
    let to = if options.durable && matches!(options.on, On::Workers) {
        // Registering may start the thread that waits for fsyncs; as above, requests are not for it.
        let _held = signals::hold();
        copier.durable_target(draft.file(), to)?
    } else {
        Target::Plain(to)
    };
    let bar = progress_bar(source.len() as u64);
    let stats = copier.copy(from, &to, |bytes| bar.inc(bytes)).map_err(|lost| match lost {
        Lost::MissingPage(at) => source.check_readable(at).err().unwrap_or_else(|| draft.unwritable()),
        Lost::Unsynced(error) => draft.unsynced(error),
        Lost::Failed(failure) => failure,
    })?;
    drop(to);
    if !options.verify {
        return Ok(Done { stats, verified: None });
    }
    bar.set_message("comparing");
    let begin = Instant::now();
    match verify::first_difference(source.file(), draft.file(), source.len()) {
        Ok(None) => Ok(Done { stats, verified: Some(begin.elapsed()) }),
        Ok(Some(at)) => Err(Failure::file(source.path(), &format!("and its copy differ at offset {at}"))),
        Err(Unreadable::Source(error)) => Err(source.unreadable(error)),
        Err(Unreadable::Copy(error)) => Err(draft.unreadable(error)),
    }
}

/// On stderr, if that is a terminal; it is gone when this is dropped.
fn progress_bar(len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len).with_finish(ProgressFinish::AndClear);
    // A template of our own making: if it had a fault, the bar would have its standard looks.
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg}") {
        bar.set_style(style);
    }
    bar.tick();
    bar
}
