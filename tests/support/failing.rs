//! A file whose blocks cannot be written, until it is healed: on an ext4 that lies on a full tmpfs, or on that itself.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::mounts::{Mounted, make_ext4, mount_ext4};

const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
const FILLER: &str = "filler";

/// A file in an ext4 without a journal, so that nothing but the file's own blocks needs writing; its pages have room in
/// the ext4, and none in the tmpfs that holds that.
pub(crate) struct FailingFile {
    file: File,
    _ext4: Mounted,
    tmpfs: Mounted,
}

impl FailingFile {
    /// A file of so many bytes that works, up to the first [`fail`](Self::fail). For a thread in a namespace of its
    /// own: all of it lies over the build's folder.
    pub(crate) fn new(len: usize) -> Result<Self, String> {
        let tmpfs = Mounted::new(Path::new("tmpfs"), Path::new(FOLDER), "tmpfs", "size=64m")?;
        let (image, at) = (tmpfs.folder().join("image"), tmpfs.folder().join("ext4"));
        fs::create_dir(&at).map_err(|error| error.to_string())?;
        make_ext4(&image, 32, &["-O", "^has_journal"])?;
        let ext4 = mount_ext4(&image, &at, false)?;
        let file = new_file(&ext4);
        fallocate(&file, FallocateFlags::empty(), 0, len as u64).expect("there is room");
        file.sync_all().expect("the disk is sound");
        Ok(Self { file, _ext4: ext4, tmpfs })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// From now on, blocks that were never written cannot be: an fsync of such pages fails.
    pub(crate) fn fail(&self) {
        fill(&self.tmpfs);
    }

    /// Lets everything be written again, once it is made dirty again.
    pub(crate) fn heal(&self) {
        fs::remove_file(self.tmpfs.folder().join(FILLER)).expect("it is full");
    }
}

/// A sparse file on a full tmpfs: it can be mapped, and a store to a page of it raises SIGBUS. It, too, is for a thread
/// in a namespace of its own.
pub(crate) struct FileWithoutRoom {
    file: File,
    _tmpfs: Mounted,
}

impl FileWithoutRoom {
    pub(crate) fn new(len: usize) -> Result<Self, String> {
        let tmpfs = Mounted::new(Path::new("tmpfs"), Path::new(FOLDER), "tmpfs", "size=1m")?;
        let file = new_file(&tmpfs);
        file.set_len(len as u64).expect("a hole needs no room");
        fill(&tmpfs);
        Ok(Self { file, _tmpfs: tmpfs })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

fn new_file(on: &Mounted) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(on.folder().join("file"));
    file.expect("the file system is new")
}

/// Takes all the room that is left.
fn fill(tmpfs: &Mounted) {
    let filler = File::create(tmpfs.folder().join(FILLER)).expect("it has room for a name");
    let room = statvfs(tmpfs.folder()).expect("it is mounted");
    let (mut at, page) = (0, vec![1; usize::try_from(room.f_bsize).expect("a block is small")]);
    while filler.write_all_at(&page, at).is_ok() {
        at += room.f_bsize;
    }
}
