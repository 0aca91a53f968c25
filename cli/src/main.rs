//! The command `memring`: memory operations on real files.
//!
//! This file is its outer edge: arguments in, one line on stderr and an exit code out. What a command does stands in a
//! file of its own name, and nothing below here ends the process or prints an error, except a signal's last words
//! (`signals.rs`), which can wait for nobody.

mod copy;
mod cp;
mod destination;
mod doctor;
mod durability;
mod emulate;
mod failed_chunks;
mod failure;
mod file_system;
mod info;
mod io_uring;
mod log;
mod mounts;
mod report;
mod signals;
mod size;
mod source;
mod synced_folder;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// io_uring for memory, on the command line.
#[derive(Debug, Parser)]
#[command(name = "memring", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy a file, mapped into memory, through a queue pair.
    Cp(cp::Options),
    /// Measure what durable records cost, in a small write-ahead log.
    Log(log::Options),
    /// Say what this machine offers: CPUs, cache flushes, io_uring, and whether a place can be durable.
    Info(info::Options),
    /// Say what stands in the way of Intel DSA and io_uring on this machine, and which command would mend it.
    #[command(after_help = doctor::STATUS)]
    Doctor(doctor::Options),
    /// Run a program on a machine with an Intel DSA that is not there: memring's strict model does the work.
    Emulate(emulate::Options),
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    let (who, done) = match &command {
        Command::Cp(options) => ("memring: cp", cp::run(options).map(|()| ExitCode::SUCCESS)),
        Command::Log(options) => ("memring: log", log::run(options).map(|()| ExitCode::SUCCESS)),
        Command::Info(options) => ("memring: info", info::run(options).map(|()| ExitCode::SUCCESS)),
        Command::Doctor(options) => ("memring: doctor", doctor::run(options)),
        Command::Emulate(options) => ("memring: emulate", emulate::run(options)),
    };
    match done {
        Ok(code) => code,
        Err(failure) => failed(who, &failure),
    }
}

/// What clap has to say: help and the version as they are, a wrong argument in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if let ErrorKind::DisplayHelp | ErrorKind::DisplayVersion = error.kind() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nothing useful can be done if stderr takes no text.
        let _ = error.print();
        return ExitCode::from(failure::USAGE);
    }
    let rendered = error.to_string();
    // The first paragraph says what is wrong; the rest repeats the usage and points to --help.
    let paragraph = rendered.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.strip_prefix("error: ").unwrap_or(paragraph).split_whitespace().collect();
    failed("memring", &Failure::usage(format!("{} (see --help)", words.join(" "))))
}

fn failed(who: &str, failure: &Failure) -> ExitCode {
    // As above: a closed stderr is no reason to panic, and the exit code still tells.
    let _ = writeln!(io::stderr(), "{who}: {failure}");
    ExitCode::from(failure.code())
}
