//! The records that are written to a log on trial, and the verdict on what a disk holds of them.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use super::log::{Durably, Verdict};
use super::random::Random;

const PAGE: usize = 4096;

/// The log begins with the words that publish records, eight bytes for each.
const WORDS: usize = 2 * PAGE;

/// A record: where it lies, and what is in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    number: usize,
    at: usize,
    len: usize,
    /// Its bytes differ from those of other records, and of other runs.
    seed: u64,
    /// Whether a word publishes it.
    pub(crate) is_published: bool,
}

impl Record {
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Writes or publishes it; returns when that is acknowledged.
    pub(crate) fn write_to(&self, log: &dyn Durably) -> Verdict {
        let done = if self.is_published {
            log.publish(self.at, &self.bytes(), self.word_at(), self.word())
        } else {
            log.write(self.at, &self.bytes())
        };
        done.map_err(|error| format!("{self:?}: {error}"))
    }

    pub(crate) fn last_page(&self) -> usize {
        (self.at + self.len - 1) / PAGE
    }

    fn word_at(&self) -> usize {
        self.number * 8
    }

    fn word(&self) -> u64 {
        self.number as u64 + 1
    }

    fn bytes(&self) -> Vec<u8> {
        let mut random = Random::new(self.seed);
        // No byte is zero: those are the bytes of what was never written.
        let words = (0..self.len.div_ceil(8)).map(|_| random.next() | 0x0101_0101_0101_0101);
        words.flat_map(u64::to_le_bytes).take(self.len).collect()
    }

    fn range(&self) -> Range<usize> {
        self.at..self.at + self.len
    }
}

/// Hands out records, and keeps book of those that were acknowledged.
pub(crate) struct Book {
    pages: Mutex<Pages>,
    len: usize,
}

struct Pages {
    random: Random,
    begun: Vec<Record>,
    acknowledged: Vec<Record>,
    end: usize,
}

impl Book {
    /// For a log of so many bytes.
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        let (begun, acknowledged) = (Vec::new(), Vec::new());
        Self { pages: Mutex::new(Pages { random: Random::new(seed), begun, acknowledged, end: WORDS }), len }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("nobody panics with it")
    }

    /// Begins the next record, of up to so many bytes, right behind the one before. None when the log is full.
    pub(crate) fn begin(&self, limit: usize) -> Option<Record> {
        let mut pages = self.pages();
        let (number, at) = (pages.begun.len(), pages.end);
        let len = 1 + pages.random.below(limit);
        if at + len > self.len || (number + 1) * 8 > WORDS {
            return None;
        }
        let seed = pages.random.next();
        let record = Record { number, at, len, seed, is_published: pages.random.below(2) == 0 };
        pages.end += len;
        pages.begun.push(record);
        Some(record)
    }

    /// Notes that this one was acknowledged.
    pub(crate) fn acknowledge(&self, record: Record) {
        self.pages().acknowledged.push(record);
    }

    /// Those that are acknowledged now.
    pub(crate) fn acknowledged(&self) -> Vec<Record> {
        self.pages().acknowledged.clone()
    }

    /// Finds what is wrong with what the disk holds of the log: each of `acknowledged` must be there and whole, and no
    /// word may be there without its record.
    pub(crate) fn judge(&self, acknowledged: &[Record], log: &[u8]) -> Verdict {
        if log.len() != self.len {
            return Err(format!("the log has {} bytes, not {}", log.len(), self.len));
        }
        let word =
            |record: &Record| u64::from_le_bytes(log[record.word_at()..][..8].try_into().expect("these are eight"));
        for record in acknowledged {
            if log[record.range()] != record.bytes() {
                return Err(format!("{record:?} was acknowledged, and is not there"));
            }
            if record.is_published && word(record) != record.word() {
                return Err(format!("{record:?} was acknowledged, and its word is {}", word(record)));
            }
        }
        for record in &self.pages().begun {
            if word(record) != 0 && (word(record) != record.word() || log[record.range()] != record.bytes()) {
                return Err(format!("{record:?} is not there, and its word is {}", word(record)));
            }
        }
        Ok(())
    }
}
