//! After an acknowledgement, the kernel knows of no page in the range that is dirty or under writeback; it did before.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate, fstatfs};

use super::RIGHT;
use super::cachestat::cachestat;
use super::log::{Durably, Kind, Verdict};
use super::plain::FLUSHES_NOTHING;
use super::skip::skip;

const PAGE: usize = 4096;
const PAGES: usize = 64;

/// `TMPFS_MAGIC` of include/uapi/linux/magic.h.
const TMPFS: u64 = 0x0102_1994;

/// An empty file on the disk that the build is on, or why there is none.
pub(crate) fn file_on_disk(len: usize) -> Result<File, String> {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let kind = fstatfs(&file).map_err(|error| error.to_string())?.f_type;
    if kind.cast_unsigned() == TMPFS {
        return Err("the build's folder is on a tmpfs".to_owned());
    }
    fallocate(&file, FallocateFlags::empty(), 0, len as u64).map_err(|error| format!("fallocate: {error}"))?;
    Ok(file)
}

fn check(kind: Kind, file: &File) -> Verdict {
    let log = (kind.open)(file).expect("the file can be mapped");
    flushed_pages_are_clean(&*log, file)?;
    written_pages_are_clean(&*log, file)
}

/// Pages that the test has made dirty itself, in one piece and in holes, are clean when their flush returns.
fn flushed_pages_are_clean(log: &dyn Durably, file: &File) -> Verdict {
    for (step, range) in [(1, 0..PAGES), (1, 3..4), (2, 7..PAGES - 5)] {
        for page in range.clone().step_by(step) {
            file.write_all_at(&[1], (page * PAGE + page) as u64).expect("it can be written");
        }
        let bytes = range.start * PAGE..range.end * PAGE;
        let before = cachestat(file, bytes.clone()).expect("it was asked before");
        assert!(before.dirty > 0, "pages that were written are dirty: {before:?}");
        log.flush(bytes.clone()).map_err(|error| format!("flush: {error}"))?;
        let after = cachestat(file, bytes).expect("it was asked before");
        if !after.are_clean() {
            return Err(format!("pages {range:?} were flushed, but {after:?}"));
        }
    }
    Ok(())
}

/// The same of what it copies itself, wherever that lies in its pages.
fn written_pages_are_clean(log: &dyn Durably, file: &File) -> Verdict {
    for (at, len) in [(0, 1), (PAGE - 1, 2), (5 * PAGE, PAGE), (9 * PAGE + 17, 20 * PAGE), (PAGES * PAGE - 8, 8)] {
        log.write(at, &vec![2; len]).map_err(|error| format!("write: {error}"))?;
        let after = cachestat(file, at..at + len).expect("it was asked before");
        if !after.are_clean() {
            return Err(format!("{len} bytes at {at} were written, but {after:?}"));
        }
    }
    Ok(())
}

/// The file to try it on, if the kernel can be asked, and is one that writes back.
fn prepare() -> Option<File> {
    let file = match file_on_disk(PAGES * PAGE) {
        Ok(file) => file,
        Err(reason) => {
            skip("disk", reason);
            return None;
        }
    };
    if let Err(error) = cachestat(&file, 0..PAGE) {
        skip("cachestat", error);
        return None;
    }
    Some(file)
}

pub(crate) fn acquit() {
    let Some(file) = prepare() else { return };
    for kind in RIGHT {
        assert_eq!(check(*kind, &file), Ok(()), "{}", kind.name);
    }
}

#[test]
fn no_page_is_dirty_after_an_acknowledgement() {
    acquit();
}

#[test]
fn a_log_that_does_not_sync_leaves_dirty_pages() {
    let Some(file) = prepare() else { return };
    let found = check(FLUSHES_NOTHING, &file).expect_err(FLUSHES_NOTHING.name);
    assert!(found.contains("dirty"), "{found}");
}
