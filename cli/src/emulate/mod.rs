//! `memring emulate`: runs a program of anybody's on a machine with an Intel DSA that is not there.
//!
//! The program gets a view of the file system of its own (`namespace.rs`) with a device in sysfs and a device file
//! (`machine.rs`), and a library is preloaded that traps its instructions and has memring's strict model do the work
//! (the crate `emulator`, carried by `library.rs`). Then the command becomes the program; only to count what it used
//! does it stay, and wait.

mod library;
mod machine;
mod namespace;
mod program;
mod statistics;

#[path = "../../../emulator/src/layout.rs"]
mod layout;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::{Args, ValueEnum, value_parser};
use memring::dsa::{Mode, Preset, Way, WorkQueueCapabilities};

use self::machine::{MOST_ENTRIES, Machine, Made};
use crate::failure::{Failure, reason};
use crate::signals;

/// Arguments of `memring emulate`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Who may submit to the work queue, and by which instruction
    #[arg(long, value_enum, default_value_t = QueueMode::Shared)]
    mode: QueueMode,
    /// What the device can do: v1-early, v1, v2-sierra-forest, v2
    #[arg(long, default_value_t = Preset::V2Full)]
    preset: Preset,
    /// The entries of the work queue
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u32).range(1..=i64::from(MOST_ENTRIES)))]
    entries: u32,
    /// Descriptors may ask the device to wait for missing pages
    #[arg(long)]
    block_on_fault: bool,
    /// Make page faults, full queues and random order up, from this seed
    #[arg(long, value_name = "SEED")]
    faults: Option<u64>,
    /// Where page faults are made up: before the first byte, at pages, after any byte
    #[arg(long, value_enum, default_value_t = FaultAt::Page, requires = "faults")]
    fault_at: FaultAt,
    /// Let nobody map the portal, as kernels do since INTEL-SA-01084: programs must write to the device file
    #[arg(long)]
    no_mmap: bool,
    /// Take the work queue away after so many descriptors
    #[arg(long, value_name = "DESCRIPTORS", value_parser = value_parser!(u64).range(1..))]
    disable_after: Option<u64>,
    /// Print each descriptor and each completion record, on stderr
    #[arg(long)]
    trace: bool,
    /// Print what the program used, on stderr, when it has ended
    #[arg(long)]
    stats: bool,
    /// The program, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// `Mode`, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum QueueMode {
    Shared,
    Dedicated,
}

/// Where page faults are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FaultAt {
    First,
    Page,
    Byte,
}

/// What the library reads.
const SETTINGS: &str = "MEMRING_EMULATE";
const PRELOAD: &str = "LD_PRELOAD";
/// What AddressSanitizer reads. Its library wants to be loaded before all others, and is not, but works.
const SANITIZER: &str = "ASAN_OPTIONS";
/// What a shell adds to the number of a signal that has ended a program.
const BY_SIGNAL: i32 = 128;

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let Some((name, arguments)) = options.program.split_first() else {
        return Err(Failure::usage("which program? (see --help)"));
    };
    let library = library::bytes().ok_or_else(|| Failure::new("this build has no emulator in it"))?;
    let path = program::find(name)?;
    let folder = env::current_dir();
    namespace::enter()?;
    let made = options.machine().make(library)?;
    // It may be one of those that are covered now. Who may not go there by its name stays where he was.
    let _ = folder.and_then(env::set_current_dir);
    let mut program = Command::new(&path);
    program
        .arg0(name)
        .args(arguments)
        .env(PRELOAD, before(PRELOAD, &made.library))
        .env(SETTINGS, options.settings(&made));
    program.env(SANITIZER, before(SANITIZER, "verify_asan_link_order=0"));
    if env::var_os(Way::VARIABLE).is_none() {
        // Or memring would see that the CPU has no such instructions, and not try them.
        program.env(Way::VARIABLE, "mmap");
    }
    if options.stats {
        return counted(program, &path, &made.page);
    }
    Err(Failure::system("run", &path, program.exec()))
}

impl Options {
    fn machine(&self) -> Machine {
        let device = self.preset.capabilities();
        let mode = match self.mode {
            QueueMode::Shared => Mode::Shared,
            QueueMode::Dedicated => Mode::Dedicated,
        };
        let mut queue = WorkQueueCapabilities::new(mode, self.entries);
        queue.blocks_on_fault = self.block_on_fault;
        Machine { device, queue }
    }

    /// The settings, as the library reads them.
    fn settings(&self, made: &Made) -> String {
        let mut settings = format!("page={}", made.page.display());
        if let Some(seed) = self.faults {
            let place = match self.fault_at {
                FaultAt::First => "first",
                FaultAt::Page => "page",
                FaultAt::Byte => "byte",
            };
            settings += &format!(",faults={seed},fault-at={place}");
        }
        for (is_set, word) in [(self.trace, ",trace"), (self.no_mmap, ",no-mmap")] {
            settings += if is_set { word } else { "" };
        }
        if let Some(count) = self.disable_after {
            settings += &format!(",disable-after={count}");
        }
        settings
    }
}

/// This, before whatever else the variable's list has.
fn before(variable: &str, first: impl AsRef<OsStr>) -> OsString {
    let mut list = first.as_ref().to_owned();
    if let Some(others) = env::var_os(variable).filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    list
}

/// Runs the program, and says what it used. What is sent to the whole group by the terminal is the program's.
fn counted(mut program: Command, path: &Path, page: &Path) -> Result<ExitCode, Failure> {
    signals::leave_to_child();
    namespace::end_with_command(&mut program);
    let cannot = |error| Failure::system("run", path, error);
    let mut child = program.spawn().map_err(cannot)?;
    signals::pass_on_to(child.id());
    let ended = child.wait().map_err(cannot)?;
    let text = statistics::of(page)?;
    io::stderr()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::new(format!("cannot say what the program used: {}", reason(&error))))?;
    let code = ended.code().unwrap_or_else(|| BY_SIGNAL + ended.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
