//! Where logs are put on trial: ext4 file systems of the test's own, on disks whose content the test can look at.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memmap2::MmapMut;
use tempfile::TempDir;

use super::disk::Disk;
use super::log::Verdict;
use super::mounts::{Mounted, make_ext4, mount_ext4, read_from_ext4};
use super::random::Random;
use super::records::{Book, Record};

const MEBIBYTES: u64 = 16;

/// The bytes of a log: whole pages.
pub(crate) const LOG: usize = 4 << 20;

/// What the log's file is when the trial begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// A hole: making a page durable needs the journal.
    Sparse,
    /// Zeros that are written.
    Written,
}

/// A file system whose disk is a file on the build's own disk, written by direct I/O.
///
/// What the copy of that file shows is what the loop device has completed, which went past the page cache of the file.
/// That is a disk without a cache: a log that forgets only to flush the disk's own cache is not convicted here, but on
/// a [`DiskRig`].
pub(crate) struct LoopRig {
    log: File,
    _mounted: Mounted,
    image: PathBuf,
    folder: TempDir,
}

/// A file system whose disk this process is.
pub(crate) struct DiskRig {
    log: File,
    _mounted: Mounted,
    disk: Disk,
    folder: TempDir,
}

/// A folder with what both need: an empty ext4 in a file, and where to mount it.
fn prepare(options: &[&str]) -> Result<(TempDir, PathBuf, PathBuf), String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let (image, at) = (folder.path().join("image"), folder.path().join("mounted"));
    fs::create_dir(&at).map_err(|error| error.to_string())?;
    make_ext4(&image, MEBIBYTES, options)?;
    Ok((folder, image, at))
}

/// A log that is there after a crash from now on.
fn make_log(folder: &Path, layout: Layout) -> File {
    let path = folder.join("log");
    let log = File::options().read(true).write(true).create_new(true).open(path).expect("it is a new file system");
    match layout {
        Layout::Sparse => log.set_len(LOG as u64).expect("it can grow"),
        Layout::Written => std::io::Write::write_all(&mut &log, &vec![0; LOG]).expect("there is room"),
    }
    log.sync_all().expect("the disk is sound");
    File::open(folder).and_then(|folder| folder.sync_all()).expect("the disk is sound");
    log
}

/// The verdict on an image.
fn judge(folder: &Path, image: &[u8], book: &Book, acknowledged: &[Record]) -> Verdict {
    let scratch = folder.join("scratch");
    fs::write(&scratch, image).expect("there is room");
    book.judge(acknowledged, &read_from_ext4(&scratch, "log")?)
}

impl LoopRig {
    pub(crate) fn new(layout: Layout) -> Result<Self, String> {
        let (folder, image, at) = prepare(&[])?;
        let mounted = mount_ext4(&image, &at, true)?;
        Ok(Self { log: make_log(&at, layout), _mounted: mounted, image, folder })
    }

    pub(crate) fn log(&self) -> &File {
        &self.log
    }

    /// Judges what is on the disk while nobody writes.
    pub(crate) fn judge(&self, book: &Book, acknowledged: &[Record]) -> Verdict {
        judge(self.folder.path(), &self.copy(), book, acknowledged)
    }

    /// The content of the disk at one moment. Only the kernel writes, now and then: two copies that agree are what was
    /// there between them.
    fn copy(&self) -> MmapMut {
        let mut copy = self.copy_once();
        loop {
            let again = self.copy_once();
            if *again == *copy {
                return again;
            }
            copy = again;
        }
    }

    fn copy_once(&self) -> MmapMut {
        let mut file =
            OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&self.image).expect("it is there");
        let len = usize::try_from(MEBIBYTES << 20).expect("it fits into memory");
        // Direct I/O wants aligned memory.
        let mut copy = MmapMut::map_anon(len).expect("there is memory");
        file.read_exact(&mut copy).expect("the disk is sound");
        copy
    }
}

impl DiskRig {
    pub(crate) fn new(layout: Layout, options: &[&str]) -> Result<Self, String> {
        let (folder, image, at) = prepare(options)?;
        let content = fs::read(&image).expect("it was just made");
        let disk = Disk::new(content, &image)?;
        let mounted = mount_ext4(disk.file(), &at, false)?;
        Ok(Self { log: make_log(&at, layout), _mounted: mounted, disk, folder })
    }

    pub(crate) fn log(&self) -> &File {
        &self.log
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn judge(&self, image: &[u8], book: &Book, acknowledged: &[Record]) -> Verdict {
        judge(self.folder.path(), image, book, acknowledged)
    }

    /// Judges what a power cut could leave right now.
    pub(crate) fn judge_now(&self, random: &mut Random, book: &Book) -> Verdict {
        let acknowledged = book.acknowledged();
        self.judge(&self.disk.image(random), book, &acknowledged)
    }
}
