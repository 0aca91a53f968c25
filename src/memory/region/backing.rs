//! What backs a mapping, as the kernel tells it.
//!
//! Sources: proc_pid_maps(5), proc_pid_smaps(5) (`sf` among the VmFlags: MAP_SYNC), statfs(2) (the magic numbers),
//! statx(2) (STATX_ATTR_DAX).
#![expect(unsafe_code, reason = "maps a page of the file, to see what the kernel calls it")]

use std::fs::{self, File};
use std::{io, ptr};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, fstatfs, statx};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::mapped::RegisterRefusal;
use crate::sqe::{INLINE, Sqe, URING, WORKERS};

/// The length of a mapping that only asks what the kernel calls it: any.
const PROBE: usize = 1;

/// What backs a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backing {
    /// A file by way of the page cache: durable after an fsync.
    PageCache,
    /// Persistent memory itself (a MAP_SYNC mapping): durable after a write-back of the CPU's caches.
    Dax,
    /// A file that is itself in memory (tmpfs, ramfs, hugetlbfs): never durable.
    Volatile,
}

impl Backing {
    /// Whether this entry's mover does with it what the entry asks for. Of movers of a user's own nothing is known.
    pub(super) fn is_served_by(self, sqe: &Sqe) -> bool {
        match sqe.mover() {
            URING => self == Self::PageCache,
            WORKERS | INLINE if sqe.is_flush() => self != Self::PageCache,
            WORKERS | INLINE => !sqe.is_durable() || self != Self::Volatile,
            _ => true,
        }
    }
}

/// The file systems that keep files in memory only, by their magic numbers.
const VOLATILE: [u64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// What backs `len` bytes at `address`, which must be a shared mapping of `file` from `offset` on.
pub(super) fn look(file: &File, address: usize, len: usize, offset: u64) -> Result<Backing, RegisterRefusal> {
    let own = Identity::of(file)?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let (mut at, end) = (address, address.saturating_add(len));
    for map in maps.lines().filter_map(Map::of) {
        if !(map.start <= at && at < map.end) {
            continue;
        }
        if !map.is_shared {
            return Err(RegisterRefusal::Private);
        }
        if !map.is_writable {
            return Err(RegisterRefusal::ReadOnly);
        }
        if !own.is_of(&map) || map.offset + (at - map.start) as u64 != offset + (at - address) as u64 {
            return Err(RegisterRefusal::OtherFile);
        }
        at = map.end;
        if at >= end {
            return Ok(backing(file, address, end)?);
        }
    }
    Err(RegisterRefusal::NotMapped)
}

fn backing(file: &File, start: usize, end: usize) -> io::Result<Backing> {
    #[expect(clippy::cast_sign_loss, reason = "a magic number, of whatever type the architecture has for it")]
    let magic = fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    if VOLATILE.contains(&magic) {
        return Ok(Backing::Volatile);
    }
    let attributes = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).map(|told| told.stx_attributes);
    let is_dax = attributes.is_ok_and(|attributes| attributes.contains(StatxAttributes::DAX));
    if is_dax && is_map_sync(start, end)? { Ok(Backing::Dax) } else { Ok(Backing::PageCache) }
}

/// Whether each mapping in this range was made with MAP_SYNC.
fn is_map_sync(start: usize, end: usize) -> io::Result<bool> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let (mut is_inside, mut is_sync) = (false, true);
    for line in smaps.lines() {
        if let Some(map) = Map::of(line) {
            is_inside = map.start < end && start < map.end;
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            is_sync &= !is_inside || flags.split_whitespace().any(|flag| flag == "sf");
        }
    }
    Ok(is_sync)
}

/// A line of `/proc/self/maps`.
struct Map<'a> {
    start: usize,
    end: usize,
    is_shared: bool,
    is_writable: bool,
    offset: u64,
    device: &'a str,
    inode: u64,
}

impl<'a> Map<'a> {
    /// `start-end perms offset major:minor inode    path`.
    fn of(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let permissions = words.next()?;
        let offset = words.next()?;
        let device = words.next()?;
        Some(Self {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            is_shared: permissions.ends_with('s'),
            is_writable: permissions.starts_with("rw"),
            offset: u64::from_str_radix(offset, 16).ok()?,
            device,
            inode: words.next()?.parse().ok()?,
        })
    }
}

/// What `/proc/self/maps` calls a file: some file systems tell other device numbers elsewhere.
struct Identity {
    device: String,
    inode: u64,
}

impl Identity {
    /// Maps the file, and looks.
    fn of(file: &File) -> io::Result<Self> {
        // SAFETY: a mapping at an address that the kernel chooses, of which nothing is read; it is unmapped below.
        let probe = unsafe { mmap(ptr::null_mut(), PROBE, ProtFlags::empty(), MapFlags::SHARED, file, 0)? };
        let maps = fs::read_to_string("/proc/self/maps");
        // SAFETY: the mapping from above, which nobody else knows of.
        unsafe { munmap(probe, PROBE)? };
        let maps = maps?;
        let map = maps.lines().filter_map(Map::of).find(|map| (map.start..map.end).contains(&probe.addr()));
        let map = map.ok_or_else(|| io::Error::other("the kernel does not show the mappings of this process"))?;
        Ok(Self { device: map.device.to_owned(), inode: map.inode })
    }

    fn is_of(&self, map: &Map<'_>) -> bool {
        (self.device.as_str(), self.inode) == (map.device, map.inode)
    }
}
