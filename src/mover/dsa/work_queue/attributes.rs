//! Reading attributes: small files of sysfs, of which older kernels lack some and which may hold anything.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::unusable::{Reason, Unusable};

/// More than an attribute has: the kernel prints them into a page.
const MAX_BYTES: u64 = 4096;
/// How much of garbage is quoted.
const QUOTED_CHARACTERS: usize = 80;

/// What a kernel calls an attribute, and what it called it before 5.17.
const RENAMED: [(&str, &str); 2] = [("max_read_buffers", "max_tokens"), ("read_buffer_limit", "token_limit")];

/// The attributes in a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(pub(super) &'a Path);

impl Attributes<'_> {
    pub(super) fn path(self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What it says, without the newline; nothing, if there is none here or the kernel says that it has no value.
    fn read(self, name: &str) -> Result<Option<String>, Unusable> {
        match read(&self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENXIO | libc::ENODEV | libc::EOPNOTSUPP) => Ok(None),
                _ => Err(Unusable::new(self.path(name), Reason::unreadable(&error))),
            },
        }
    }

    /// What it says, by this name or by that of an older kernel, if it can be read at all.
    pub(super) fn text(self, name: &str) -> Option<String> {
        let old = RENAMED.iter().find(|(new, _)| *new == name).map(|(_, old)| *old);
        let names = [Some(name), old].into_iter().flatten();
        names.filter_map(|name| self.read(name).ok().flatten()).next()
    }

    /// Its value. Nothing, if there is none here.
    pub(super) fn value<T>(
        self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Unusable> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => {
                let text = text.chars().take(QUOTED_CHARACTERS).collect();
                Err(Unusable::new(self.path(name), Reason::Malformed { text, expected }))
            }
        }
    }

    /// Its value, where every kernel has it.
    pub(super) fn required<T>(
        self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Unusable> {
        self.value(name, expected, parse)?.ok_or_else(|| Unusable::new(self.path(name), Reason::Missing))
    }
}

fn read(path: &Path) -> io::Result<String> {
    // A pipe in a made-up tree must not hold us up.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
