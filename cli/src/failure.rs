//! Why a command failed: one line for a person, one exit code for a script.
//!
//! The line names the file, quoted and escaped, since a name may hold a line break and the line must stay one.

use std::fmt;
use std::io;
use std::path::Path;

/// The exit code of a wrong argument; clap's, too.
pub(crate) const USAGE: u8 = 2;
/// The exit code of everything else that goes wrong.
const FAILED: u8 = 1;

/// A command failed. Displays as one line.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: FAILED }
    }

    /// The user's arguments make no sense.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: USAGE }
    }

    /// What is wrong with this file, in words that follow its name.
    pub(crate) fn file(path: &Path, text: &str) -> Self {
        Self::new(format!("{path:?} {text}"))
    }

    /// What could not be done with this file, and what the system says to that.
    pub(crate) fn system(verb: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::new(format!("cannot {verb} {path:?}: {}", reason(&error.into())))
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The system's own words, without the number that std appends.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
