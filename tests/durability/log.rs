//! What is on trial: a log in a mapped file that acknowledges what it has made durable.
//!
//! Everything in `durability/` knows only this trait. To put another implementation on trial, implement [`Durably`]
//! for it and add its [`Kind`] to [`RIGHT`] of `durability.rs`.

use std::fs::File;
use std::io;
use std::ops::Range;

/// A shared mapping of a whole file, and who makes it durable. Threads use it at once, each its own bytes, which may
/// share pages.
pub(crate) trait Durably: Send + Sync {
    /// Copies the bytes to this offset; returns when that is acknowledged to be on stable storage.
    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what the file holds there, whoever has stored it.
    fn flush(&self, range: Range<usize>) -> io::Result<()>;

    /// Writes the bytes, and a word that says that they are there: on stable storage never before them. Returns when
    /// both are acknowledged.
    fn publish(&self, at: usize, bytes: &[u8], word_at: usize, word: u64) -> io::Result<()> {
        self.write(at, bytes)?;
        self.write(word_at, &word.to_le_bytes())
    }

    /// After a failure, everything fails with the same number of the error, until it is forgotten by this.
    fn clear_error(&self) -> Option<i32>;
}

/// What a check finds of a log: `Err` says what is wrong.
pub(crate) type Verdict = Result<(), String>;

/// A check may be impossible where it is made: then `Err` says why.
pub(crate) type Trial = Result<Verdict, String>;

/// One implementation, and its name for messages.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Maps all of the file, which is open for reading and writing.
    pub(crate) open: fn(&File) -> io::Result<Box<dyn Durably>>,
}
