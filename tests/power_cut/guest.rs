//! The program in the guest of the power-cut test (`run`, beside this file): a log in a mapped file, each record of
//! which is made durable, then published, then acknowledged on the standard output.
//!
//! Any other program can stand in its place that takes the same arguments, `<log file> [mutant]`, keeps the same file
//! and prints the same lines; `journal.py` reads both:
//!
//! - The *word* at byte 0 (u64, little-endian) says how many records are published. It is stored only when their bytes
//!   are durable.
//! - Record `n`, from 1, is the `RECORD` bytes at `FIRST + (n - 1) * RECORD`: u64 words, the `j`th of which is
//!   `value(n, j)`. Records are no multiple of a page or a sector, so that neighbours share both.
//! - `recovered <n>`, first of all: the word that was found. `ack <n>`: records 1 to `n` are durable, and so is a word
//!   of at least `n`. `full`: there is no room left, and the program ends.
//!
//! The mutants are what the test must catch: `acknowledges-early` makes nothing durable, and `publishes-early` makes
//! the word durable together with its record, not after it.
#![expect(unsafe_code, reason = "maps a file")]
#![expect(clippy::print_stdout, reason = "the standard output is where it acknowledges")]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::future::IntoFuture;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::MmapMut;
use memring::{MappedFile, Region, Ring};

/// Bytes of the file.
const LOG: usize = 8 << 20;
const WORD: Range<usize> = 0..8;
/// Where the first record is: the word has a page to itself.
const FIRST: usize = 4096;
const RECORD: usize = 6000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    AcknowledgesEarly,
    PublishesEarly,
}

struct Log {
    ring: Ring,
    region: Region,
}

impl Log {
    /// Maps the file, which is made if it is not there or not whole.
    fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let is_new = file.metadata()?.len() < LOG as u64;
        file.set_len(LOG as u64)?;
        // SAFETY: nobody else has the file: this program is alone on the machine.
        let map = unsafe { MmapMut::map_mut(&file)? };
        let ring = Ring::builder().workers(1).build()?;
        let region = ring.register(MappedFile::new(&file, map, 0))?;
        if is_new {
            region.preallocate()?;
            file.sync_all()?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Self { ring, region })
    }

    fn word(&self) -> Result<u64, Box<dyn Error>> {
        Ok(u64::from_le_bytes(self.region.span(WORD)?[..].try_into()?))
    }

    /// Appends record `n`. It may be acknowledged when this returns.
    fn append(&mut self, n: u64, mutant: Mutant) -> Result<(), Box<dyn Error>> {
        let (record, word) = (self.region.span(place(n)?)?, self.region.span(WORD)?);
        let both = self.ring.batch().memcpy(record, bytes_of(n)).memcpy(word, n.to_le_bytes().to_vec());
        let append = match mutant {
            Mutant::None => both.linked().into_future().durable(),
            Mutant::PublishesEarly => both.into_future().durable(),
            Mutant::AcknowledgesEarly => both.linked().into_future(),
        };
        self.ring.block_on(append)??;
        Ok(())
    }
}

/// The `j`th word of record `n`: no two words of a log are the same, and none is zero.
fn value(n: u64, j: u64) -> u64 {
    (n << 32 | j).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn bytes_of(n: u64) -> Vec<u8> {
    (0..RECORD as u64 / 8).flat_map(|j| value(n, j).to_le_bytes()).collect()
}

fn place(n: u64) -> Result<Range<usize>, Box<dyn Error>> {
    let start = FIRST + (usize::try_from(n)? - 1) * RECORD;
    Ok(start..start + RECORD)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().map(PathBuf::from).ok_or("usage: power_cut_guest <log file> [mutant]")?;
    let mutant = match args.next().as_deref() {
        None => Mutant::None,
        Some("acknowledges-early") => Mutant::AcknowledgesEarly,
        Some("publishes-early") => Mutant::PublishesEarly,
        Some(other) => return Err(format!("there is no mutant {other:?}").into()),
    };
    let mut log = Log::open(&path)?;
    let mut n = log.word()?;
    println!("recovered {n}");
    while place(n + 1)?.end <= LOG {
        n += 1;
        log.append(n, mutant)?;
        println!("ack {n}");
    }
    println!("full");
    Ok(())
}
