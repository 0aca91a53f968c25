//! A record of the log, as it lies in the file: found again, and known for torn if it is. Pure.
//!
//! ```text
//!   0        4        8                16               24                    24 + length
//!   | length | thread | sequence       | checksum       | payload             | zeros to a multiple of 8
//! ```
//!
//! All numbers are little endian. The checksum covers everything else of the record, so a half-written one is known for
//! torn; the sequence follows from the place in the log, so one from elsewhere, or an old one in the same place, is
//! known too. A place where nothing was written holds zeros. The payload is made from the sequence, so that a reader
//! knows what it should be without trusting the checksum.

use std::fmt;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 24;
/// So many bytes are checked at a time, and a record's length is a multiple of them.
const WORD: usize = 8;

/// What is wrong with the bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing was written here.
    Missing,
    /// Its checksum does not fit its bytes, or it is none.
    Torn,
    /// It is whole, and another one than belongs here.
    Other(u64),
    /// It is whole and the right one, and its payload is not what was appended.
    Payload,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is not there"),
            Self::Torn => f.write_str("is torn"),
            Self::Other(sequence) => write!(f, "is not there, but record {sequence} is"),
            Self::Payload => f.write_str("has other bytes than were appended"),
        }
    }
}

/// The bytes that a record of this payload takes in the log.
pub(crate) const fn len(payload: usize) -> usize {
    HEADER + payload.next_multiple_of(WORD)
}

/// Writes the record into `bytes`, whose content does not matter.
pub(crate) fn write(bytes: &mut Vec<u8>, payload: u32, thread: u32, sequence: u64) {
    bytes.clear();
    bytes.extend_from_slice(&payload.to_le_bytes());
    bytes.extend_from_slice(&thread.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&[0; WORD]);
    let end = HEADER + payload as usize;
    for word in words_of(sequence).take((payload as usize).div_ceil(WORD)) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes[end..].fill(0);
    let sum = checksum(bytes).to_le_bytes();
    bytes[16..HEADER].copy_from_slice(&sum);
}

/// Checks that `bytes`, as many as [`len`] says, are the record of this sequence and payload; by which thread.
pub(crate) fn check(bytes: &[u8], payload: u32, sequence: u64) -> Result<u32, Broken> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + WORD].try_into().unwrap_or_default());
    let (length, thread) = (number(0) & u64::from(u32::MAX), number(0) >> 32);
    if bytes.iter().all(|&byte| byte == 0) {
        return Err(Broken::Missing);
    }
    if length != u64::from(payload) || number(16) != checksum(bytes) {
        return Err(Broken::Torn);
    }
    if number(8) != sequence {
        return Err(Broken::Other(number(8)));
    }
    let mut made = Vec::with_capacity(bytes.len());
    write(&mut made, payload, 0, sequence);
    if bytes[HEADER..] != made[HEADER..] {
        return Err(Broken::Payload);
    }
    Ok(u32::try_from(thread).unwrap_or_default())
}

/// Of a record, all but the checksum's own place. Not for secrets: it tells accidents.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64;
    for (index, word) in bytes.chunks_exact(WORD).enumerate() {
        if index != 2 {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            sum = mixed(sum ^ word).wrapping_add(index as u64);
        }
    }
    sum
}

/// What the payload of this record is made of.
fn words_of(sequence: u64) -> impl Iterator<Item = u64> {
    (0..).map(move |index: u64| mixed(sequence.rotate_left(32) ^ index.wrapping_add(1)))
}

/// A bijection in which every bit depends on every bit. Source: SplitMix64, by Sebastiano Vigna.
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
