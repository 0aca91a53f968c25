//! What is said of chunks that failed: every offset and status, up to a number, in one line.
//!
//! No mover of this version fails at a test's wish, so the text is tested by itself, from the command's own source
//! file.

#[path = "../src/failed_chunks.rs"]
mod failed_chunks;

use failed_chunks::FailedChunks;
use memring::Status;

#[test]
fn each_is_named_with_its_offset_and_status() {
    let mut failed = FailedChunks::default();
    assert!(failed.is_empty());
    failed.add(4096, Status::FAULT);
    failed.add(0, Status::JOB_CORRUPTED);
    assert!(!failed.is_empty());
    let line = "copying failed at offset 4096: fault: the memory could not be accessed; \
                at offset 0: job corrupted: the mover failed internally";
    assert_eq!(failed.to_string(), line);
}

#[test]
fn many_stay_one_line() {
    let mut failed = FailedChunks::default();
    for offset in 0..1000 {
        failed.add(offset, Status::CANCELLED);
    }
    let line = failed.to_string();
    assert!(line.ends_with("; at offset 7: cancelled before it began; and 992 more"), "{line}");
}
