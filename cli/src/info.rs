//! `memring info`: what this machine offers memring, and what can be promised of a file system.
//!
//! It changes nothing and asks only what its commands ask too, so that what it says of a place is what `memring log`
//! and `memring cp --durable` would meet there.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::{Value, json};

use crate::durability;
use crate::failure::{Failure, reason};
use crate::file_system::FileSystem;
use crate::io_uring;
use crate::mounts::Durable;

/// Arguments of `memring info`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A file or folder: whether what is written there can be durable
    path: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found.
struct Found {
    cpus: Option<usize>,
    cache_flush: Option<&'static str>,
    /// Why io_uring cannot be used, if so.
    refusal: Option<String>,
    flushes_by: &'static str,
    place: Option<(PathBuf, FileSystem)>,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let found = Found {
        cpus: thread::available_parallelism().ok().map(usize::from),
        cache_flush: durability::cache_flush(),
        refusal: io_uring::refusal(),
        flushes_by: durability::flushes_by()?,
        place: options.path.as_deref().map(look_at).transpose()?,
    };
    let text = if options.json { format!("{}\n", found.json()) } else { found.lines() };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::new(format!("cannot say what it found: {}", reason(&error))))
}

fn look_at(path: &Path) -> Result<(PathBuf, FileSystem), Failure> {
    let cannot = |error| Failure::system("look at", path, io::Error::from(error));
    // Naming it is enough, so nothing happens to devices, and no permission to read is needed.
    let named: OwnedFd =
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(cannot)?;
    let file_system = FileSystem::of(File::from(named)).map_err(cannot)?;
    Ok((path.to_owned(), file_system))
}

impl Found {
    fn lines(&self) -> String {
        let cpus = self.cpus.map_or_else(|| "unknown".to_owned(), |cpus| cpus.to_string());
        let io_uring = match &self.refusal {
            None => "allowed".to_owned(),
            Some(why) => format!("refused: {why}"),
        };
        let by = match self.flushes_by {
            "io_uring" => "fsync through io_uring",
            _ => "fdatasync on a thread",
        };
        let mut lines = format!(
            "memring {}\nCPUs: {cpus}\ncache flush: {}\nio_uring: {io_uring}\ndurable flushes: {by}\n",
            env!("CARGO_PKG_VERSION"),
            self.cache_flush.unwrap_or("none"),
        );
        if let Some((path, file_system)) = &self.place {
            let at = file_system.mount.as_ref().map_or_else(String::new, |mount| format!(" at {:?}", mount.at));
            let dax = if file_system.is_dax { ", mapped without a page cache (DAX)" } else { "" };
            let (answer, why) = answer(&file_system.durable);
            let comma = if answer == "depends" { "" } else { "," };
            lines += &format!("{path:?}: {}{at}{dax}; durable: {answer}{comma} {why}\n", file_system.kind());
        }
        lines
    }

    fn json(&self) -> Value {
        let place = |(path, file_system): &(PathBuf, FileSystem)| {
            let (answer, why) = answer(&file_system.durable);
            json!({
                "path": path.to_string_lossy(),
                "file_system": file_system.mount.as_ref().map(|mount| &mount.kind),
                "mounted_at": file_system.mount.as_ref().map(|mount| &mount.at),
                "dax": file_system.is_dax,
                "durable": answer,
                "why": why,
            })
        };
        json!({
            "command": "info",
            "version": env!("CARGO_PKG_VERSION"),
            "cpus": self.cpus,
            "cache_flush": self.cache_flush,
            "io_uring": self.refusal.is_none(),
            "io_uring_refused": self.refusal,
            "flushes_by": self.flushes_by,
            "place": self.place.as_ref().map(place),
        })
    }
}

/// One word, and what is to be said to it.
fn answer(durable: &Durable) -> (&'static str, &str) {
    match durable {
        Durable::Yes => ("yes", "as far as its device keeps what it says it keeps"),
        Durable::No(why) => ("no", why),
        Durable::Depends(whom) => ("depends", whom),
    }
}
