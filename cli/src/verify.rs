//! Comparing the copy with its source, byte by byte, before it is published.
//!
//! By reading the files, not their mappings: a page that is missing is an error of the read, in the system's own words.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Compared at a time, bytes: small enough to stay in a cache, large enough that reading costs few system calls.
const BLOCK: usize = 256 << 10;

/// A file could not be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Source(io::Error),
    Copy(io::Error),
}

/// The first offset at which the first `len` bytes of the two differ.
pub(crate) fn first_difference(source: &File, copy: &File, len: usize) -> Result<Option<usize>, Unreadable> {
    let mut blocks = [vec![0; BLOCK.min(len)], vec![0; BLOCK.min(len)]];
    for at in (0..len).step_by(BLOCK) {
        let [one, other] = blocks.each_mut().map(|block| &mut block[..BLOCK.min(len - at)]);
        source.read_exact_at(one, at as u64).map_err(Unreadable::Source)?;
        copy.read_exact_at(other, at as u64).map_err(Unreadable::Copy)?;
        if one != other {
            let within = one.iter().zip(&*other).position(|(one, other)| one != other);
            return Ok(within.map(|within| at + within));
        }
    }
    Ok(None)
}
