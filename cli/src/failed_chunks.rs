//! The chunks of a copy that failed, told in one line. Pure, since no mover of this version fails when a test would
//! like it to.

use std::fmt;

use memring::Status;

/// So many are named; of more, only the number is told.
const NAMED: usize = 8;

/// The chunks that failed, by offset. Displays as one line.
#[derive(Debug, Default)]
pub(crate) struct FailedChunks {
    first: Vec<(u64, Status)>,
    count: usize,
}

impl FailedChunks {
    pub(crate) fn add(&mut self, offset: u64, status: Status) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push((offset, status));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for FailedChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("copying failed")?;
        for (index, (offset, status)) in self.first.iter().enumerate() {
            write!(f, "{} at offset {offset}: {status}", if index == 0 { "" } else { ";" })?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
