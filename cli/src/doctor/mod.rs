//! `memring doctor`: what of this machine memring could use, what stands in the way of the rest, and the command that
//! would mend it.
//!
//! It looks and changes nothing. Each file of this folder makes a section of the page: checks for a person, facts for a
//! program. What a machine lacks is *not here* and no failure; what it has and this process cannot use is a *problem*,
//! and makes the exit status 1. `docs/DOCTOR.md` is the page about it for users.
//!
//! | file | what it is |
//! |---|---|
//! | `page` | checks and sections, as text and as JSON |
//! | `places`, `texts` | the folders that are looked at, and what the kernel's texts in them say |
//! | `kernel`, `boot` | the kernel, its IOMMU, and how to have another command line |
//! | `cpu` | instructions |
//! | `dsa` | devices, queues, device files, portals |
//! | `uring`, `locked` | io_uring; limits of locked memory |

mod boot;
mod cpu;
mod dsa;
mod kernel;
mod locked;
mod page;
mod places;
mod texts;
mod uring;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::page::Page;
use self::places::Places;
use crate::failure::{Failure, reason};

/// Arguments of `memring doctor`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
    /// Look for dsa0 and so on in this folder, not in /sys/bus/dsa/devices
    #[arg(long, value_name = "FOLDER")]
    sysfs: Option<PathBuf>,
    /// Look for wq0.0 and so on in this folder, not in /dev/dsa
    #[arg(long, value_name = "FOLDER")]
    dev: Option<PathBuf>,
    /// Read what the kernel says of itself and of this process in this folder, not in /proc
    #[arg(long, value_name = "FOLDER")]
    proc: Option<PathBuf>,
}

/// What `--help` says at the end.
pub(crate) const STATUS: &str = "\
Exit status:
  0  nothing is broken: all is ok, or not here
  1  there is a problem: something that is here cannot be used; or the page cannot be written
  2  wrong arguments";

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let places = Places::named_by(options)?;
    let page = Page(vec![
        kernel::section(&places),
        cpu::section(),
        dsa::section(&places),
        uring::section(&places)?,
        locked::section(&places),
    ]);
    let text = if options.json { format!("{}\n", page.json()) } else { page.text() };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::new(format!("cannot say what it found: {}", reason(&error))))?;
    Ok(if page.problems() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
