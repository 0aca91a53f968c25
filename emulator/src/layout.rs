//! The page that all processes of one emulation share: what lies where, in words of 64 bits.
//!
//! The library counts in it, the command reads it when all is over, and compiles this file into itself for that.

/// Its size, words.
pub(crate) const WORDS: usize = 512;

/// Not zero: the work queue was taken away.
pub(crate) const DISABLED: usize = 0;
/// Descriptors that were accepted, whichever way they came.
pub(crate) const ACCEPTED: usize = 1;
/// Of them, by MOVDIR64B.
pub(crate) const BY_MOVDIR64B: usize = 2;
/// Of them, by ENQCMD.
pub(crate) const BY_ENQCMD: usize = 3;
/// Of them, by write(2).
pub(crate) const BY_WRITE: usize = 4;
/// ENQCMD found no room: ZF was set.
pub(crate) const RETRIED: usize = 5;
/// MOVDIR64B found no room, or the wrong queue: nobody was told.
pub(crate) const DROPPED: usize = 6;
/// Portals that were mapped.
pub(crate) const MAPPED: usize = 7;
/// Processes that opened a queue.
pub(crate) const OPENED: usize = 8;
/// UMWAIT and TPAUSE.
pub(crate) const WAITED: usize = 9;
/// Completion records that were written.
pub(crate) const RECORDS: usize = 10;
/// Descriptors that failed and had no record to say it in.
pub(crate) const UNREPORTED: usize = 11;
/// From here on: descriptors by their opcode, members of batches too.
pub(crate) const OPCODES: usize = 64;
/// How many opcodes there are.
pub(crate) const OPCODE_COUNT: usize = 256;
/// From here on: records by the code of their status.
pub(crate) const STATUSES: usize = OPCODES + OPCODE_COUNT;
/// How many codes there are.
pub(crate) const STATUS_COUNT: usize = 64;

const _: () = assert!(STATUSES + STATUS_COUNT <= WORDS);
