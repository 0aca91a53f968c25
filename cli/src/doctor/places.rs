//! Where the doctor looks: the folders of Linux, or those that stand for them.
//!
//! Another machine's folders, or made-up ones, are as good. What they hold is not trusted: whatever cannot be read is
//! not there, and nothing is read without an end.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memring::dsa::Roots;

use super::Options;
use crate::failure::{Failure, reason};

/// Longer than any text of the kernel's that is read here, bytes.
const MAX_BYTES: u64 = 1 << 16;

/// The folders.
#[derive(Debug)]
pub(super) struct Places {
    /// Those of DSA.
    pub(super) dsa: Roots,
    proc: PathBuf,
}

impl Places {
    /// By the options; without them by the environment, as for every program with memring; else those of Linux.
    pub(super) fn named_by(options: &Options) -> Result<Self, Failure> {
        let Roots { sysfs, dev } = Roots::from_env();
        let named = |option: &Option<PathBuf>, otherwise| match option {
            Some(folder) => is_folder(folder).map(|()| folder.clone()),
            None => Ok(otherwise),
        };
        let dsa = Roots { sysfs: named(&options.sysfs, sysfs)?, dev: named(&options.dev, dev)? };
        Ok(Self { dsa, proc: named(&options.proc, "/proc".into())? })
    }

    /// What stands in a file of `/proc`.
    pub(super) fn proc(&self, file: &str) -> Option<String> {
        text(&self.proc.join(file))
    }

    /// A folder of `/sys`, if that of DSA is in one.
    pub(super) fn sys(&self, folder: &str) -> Option<PathBuf> {
        let bus = Path::new("bus/dsa/devices");
        let sys = self.dsa.sysfs.ancestors().nth(bus.components().count());
        sys.filter(|_| self.dsa.sysfs.ends_with(bus)).map(|sys| sys.join(folder))
    }
}

/// Who names a folder means one that is there.
fn is_folder(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Failure::usage(format!("{path:?} is not a folder"))),
        Err(error) => Err(Failure::usage(format!("cannot look at {path:?}: {}", reason(&error)))),
    }
}

/// A small file's text, without the newline at its end.
pub(super) fn text(path: &Path) -> Option<String> {
    // A pipe in a made-up tree must not hold us up.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The names in a folder, in their order; none, if it cannot be read.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}
