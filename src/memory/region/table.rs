//! The regions of one queue: found by address or by id, and held while something of them is in flight.
//!
//! An entry names its region by an id that is never used again, so one that comes late finds nothing rather than
//! somebody else. A region that nobody has a handle of, with something in flight, stays until the last of it has ended.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use super::Handle;
use super::backing::{Backing, look};
use super::file::SyncedFile;
use super::mapped::{MappedFile, Mapping, RegisterError, RegisterRefusal};
use crate::os::lock;
use crate::sqe::{INLINE, Sqe, URING, WORKERS};

/// What an entry calls its region: word 5. Not 0, and no small number, which would be a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RegionId(u64);

impl RegionId {
    /// Says that a word is an id.
    const MARK: u64 = 1 << 63;

    fn next() -> Self {
        static LAST: Mutex<u64> = Mutex::new(0);
        let mut last = lock(&LAST);
        *last += 1;
        Self(*last | Self::MARK)
    }

    /// The id that this word is, if it is one.
    pub(crate) const fn of(word: u64) -> Option<Self> {
        if word > Self::MARK { Some(Self(word)) } else { None }
    }

    pub(crate) const fn to_word(self) -> u64 {
        self.0
    }
}

/// A region in the table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(super) id: RegionId,
    backing: Backing,
    mapping: Mapping,
    offset: u64,
    pub(super) synced: Arc<SyncedFile>,
    /// So many of the file's failures its user knows of.
    forgiven: Mutex<u64>,
    tenants: Mutex<Tenants>,
}

/// Who uses a region.
#[derive(Debug, Default)]
struct Tenants {
    in_flight: u64,
    /// Spans that are out: start and end.
    spans: BTreeMap<usize, usize>,
    /// It takes no new entries.
    is_leaving: bool,
}

/// How a region is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) in_flight: u64,
    pub(super) spans: usize,
}

/// What a look for a region finds.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It is wholly inside this one.
    Inside(RegionId, Backing),
    /// None of it is in a region.
    Plain,
    /// Some of it is in a region, and some is not; or the region it names is none.
    Outside,
}

/// An entry was not let into its region: that is not there any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused;

/// The regions of a queue.
#[derive(Debug, Default)]
pub(crate) struct Regions(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<RegionId, Arc<Entry>>,
    /// Where each begins.
    by_start: BTreeMap<usize, RegionId>,
    /// By device and inode: regions of one file share it.
    files: HashMap<(u64, u64), Weak<SyncedFile>>,
}

impl Regions {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, mapped: MappedFile) -> Result<Arc<Entry>, RegisterError> {
        let refuse = |mapped, reason| Err(RegisterError { mapped, reason });
        let (backing, file) = match examine(&mapped) {
            Ok(found) => found,
            Err(reason) => return refuse(mapped, reason),
        };
        let mut table = self.write();
        let (start, end) = (mapped.as_mut_ptr().addr(), mapped.as_mut_ptr().addr() + mapped.len());
        if table.overlapping(start, end).is_some() {
            return refuse(mapped, RegisterRefusal::Overlaps);
        }
        let synced = match table.file(&file) {
            Ok(synced) => synced,
            Err(reason) => return refuse(mapped, reason),
        };
        // What failed before it was there is none of its affair.
        let forgiven = Mutex::new(synced.failures());
        let MappedFile { mapping, offset, .. } = mapped;
        let (id, tenants) = (RegionId::next(), Mutex::default());
        let entry = Arc::new(Entry { id, backing, mapping, offset, synced, forgiven, tenants });
        table.by_id.insert(entry.id, Arc::clone(&entry));
        table.by_start.insert(start, entry.id);
        Ok(entry)
    }

    /// The region of this id, if it holds these bytes; without an id, the one that holds them.
    pub(crate) fn find(&self, id: Option<RegionId>, start: usize, len: usize) -> Found {
        let table = self.read();
        let end = start.saturating_add(len);
        let id = match id {
            Some(id) => Some(id),
            None => table.overlapping(start, end),
        };
        let Some(id) = id else { return Found::Plain };
        match table.by_id.get(&id) {
            Some(entry) if entry.holds(start, end) && !lock(&entry.tenants).is_leaving => {
                Found::Inside(id, entry.backing)
            }
            _ => Found::Outside,
        }
    }

    /// Lets an entry into its region, whose mover was chosen: the region stays until the entry leaves. What comes of
    /// it names the region; one to which its region does not matter names none.
    pub(crate) fn enter(&self, sqe: &Sqe) -> Result<Sqe, Refused> {
        let len = usize::try_from(sqe.len()).unwrap_or(usize::MAX);
        let id = match self.find(RegionId::of(sqe.region()), sqe.dst().addr(), len) {
            Found::Inside(id, Backing::PageCache | Backing::Dax) if [INLINE, WORKERS, URING].contains(&sqe.mover()) => {
                id
            }
            Found::Outside => return Err(Refused),
            Found::Inside(..) | Found::Plain if sqe.mover() != URING => return Ok(sqe.with_region(0)),
            Found::Inside(..) | Found::Plain => return Err(Refused),
        };
        let table = self.read();
        let entry = table.by_id.get(&id).ok_or(Refused)?;
        let mut tenants = lock(&entry.tenants);
        if tenants.is_leaving {
            return Err(Refused);
        }
        tenants.in_flight += 1;
        Ok(sqe.with_region(id.to_word()))
    }

    /// An entry that was let in has ended.
    pub(crate) fn leave(&self, id: RegionId) {
        let Some(entry) = self.get(id) else { return };
        let is_last = {
            let mut tenants = lock(&entry.tenants);
            tenants.in_flight -= 1;
            tenants.is_leaving && tenants.in_flight == 0
        };
        if is_last {
            self.write().forget(&entry);
        }
    }

    /// The region of this id: for who has an entry in it.
    pub(crate) fn get(&self, id: RegionId) -> Option<Arc<Entry>> {
        self.read().by_id.get(&id).cloned()
    }

    /// Takes a region out, if nobody uses it.
    pub(super) fn remove(&self, entry: &Arc<Entry>) -> Result<(), Use> {
        let mut table = self.write();
        {
            let mut tenants = lock(&entry.tenants);
            let is_used = Use { in_flight: tenants.in_flight, spans: tenants.spans.len() };
            if is_used.in_flight > 0 || is_used.spans > 0 {
                return Err(is_used);
            }
            tenants.is_leaving = true;
        }
        table.forget(entry);
        Ok(())
    }

    /// Takes a region out that nobody has a handle of, now or when the last of it has ended.
    pub(super) fn retire(&self, entry: &Arc<Entry>) {
        lock(&entry.tenants).is_leaving = true;
        let _later = self.remove(entry);
    }
}

impl Table {
    /// A region that has some of these bytes.
    fn overlapping(&self, start: usize, end: usize) -> Option<RegionId> {
        let (_, id) = self.by_start.range(..end.max(start.saturating_add(1))).next_back()?;
        self.by_id.get(id).filter(|entry| start < entry.end()).map(|entry| entry.id)
    }

    fn file(&mut self, file: &File) -> Result<Arc<SyncedFile>, RegisterRefusal> {
        let metadata = file.metadata()?;
        let key = (metadata.dev(), metadata.ino());
        if let Some(synced) = self.files.get(&key).and_then(Weak::upgrade) {
            return Ok(synced);
        }
        let synced = Arc::new(SyncedFile::open(file)?);
        self.files.retain(|_, synced| synced.strong_count() > 0);
        self.files.insert(key, Arc::downgrade(&synced));
        Ok(synced)
    }

    fn forget(&mut self, entry: &Arc<Entry>) {
        if self.by_id.remove(&entry.id).is_some() {
            self.by_start.remove(&entry.address().addr());
        }
    }
}

/// What a mapped file is, if it can be a region.
fn examine(mapped: &MappedFile) -> Result<(Backing, File), RegisterRefusal> {
    let file = File::from(mapped.fd()?.as_fd().try_clone_to_owned()?);
    if mapped.len() == 0 {
        return Err(RegisterRefusal::NotMapped);
    }
    let backing = look(&file, mapped.as_mut_ptr().addr(), mapped.len(), mapped.offset)?;
    Ok((if mapped.is_assumed_dax { Backing::Dax } else { backing }, file))
}

impl Entry {
    pub(super) fn address(&self) -> *mut u8 {
        self.mapping.as_mut_ptr()
    }

    pub(super) fn len(&self) -> usize {
        self.mapping.len()
    }

    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn end(&self) -> usize {
        self.address().addr() + self.len()
    }

    fn holds(&self, start: usize, end: usize) -> bool {
        self.address().addr() <= start && end <= self.end()
    }

    pub(super) fn file(&self) -> &File {
        self.synced.file()
    }

    /// What is synced, for these bytes: the file, and where they lie in it.
    pub(crate) fn in_file(&self, start: usize, len: u64) -> (&Arc<SyncedFile>, Range<u64>) {
        let begin = self.offset() + (start - self.address().addr()) as u64;
        (&self.synced, begin..begin.saturating_add(len))
    }

    /// What its flushes fail with, since an fsync has failed.
    pub(crate) fn error(&self) -> Option<i32> {
        self.synced.error(*lock(&self.forgiven))
    }

    pub(super) fn clear_error(&self) -> Option<i32> {
        let mut forgiven = lock(&self.forgiven);
        let error = self.synced.error(*forgiven);
        *forgiven = self.synced.failures();
        error
    }

    /// Lends these bytes out; or says who has some of them.
    pub(super) fn lend(&self, range: &Range<usize>) -> Option<Range<usize>> {
        if range.is_empty() {
            return None;
        }
        let mut tenants = lock(&self.tenants);
        let before = tenants.spans.range(..range.end).next_back().map(|(&start, &end)| start..end);
        match before.filter(|other| range.start < other.end) {
            Some(other) => Some(other),
            None => {
                tenants.spans.insert(range.start, range.end);
                None
            }
        }
    }
}

impl Handle {
    /// Takes bytes back that were lent out.
    pub(super) fn give_back(&self, range: &Range<usize>) {
        if !range.is_empty() && !self.birth.is_foreign() {
            lock(&self.entry.tenants).spans.remove(&range.start);
        }
    }
}
