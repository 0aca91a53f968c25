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
use super::span::SpanError;
use crate::os::lock;
use crate::sqe::{INLINE, Sqe, URING, WORKERS};

/// What an entry calls its region: word 5. Not 0, and no small number, which would be a mistake.
///
/// ```text
///   a mark (1 bit) | the era in which the entry was let in (15 bits) | the region's number (48 bits)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RegionId(u64);

impl RegionId {
    /// Says that a word is an id.
    const MARK: u64 = 1 << 63;
    const ERA: u32 = 48;
    const NUMBER: u64 = (1 << Self::ERA) - 1;

    fn next() -> Self {
        static LAST: Mutex<u64> = Mutex::new(0);
        let mut last = lock(&LAST);
        *last += 1;
        Self(*last | Self::MARK)
    }

    /// The id that this word names, if it names one.
    pub(crate) const fn of(word: u64) -> Option<Self> {
        if word & Self::MARK != 0 && word & Self::NUMBER != 0 {
            Some(Self(Self::MARK | word & Self::NUMBER))
        } else {
            None
        }
    }

    pub(crate) const fn to_word(self) -> u64 {
        self.0
    }

    /// The word of an entry that was let in in this era.
    const fn in_era(self, era: u16) -> u64 {
        self.0 | ((era & 0x7fff) as u64) << Self::ERA
    }

    /// The era of an entry's word.
    const fn era_of(word: u64) -> u16 {
        (word >> Self::ERA) as u16 & 0x7fff
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
    pardon: Mutex<Pardon>,
    tenants: Mutex<Tenants>,
}

/// What its user has forgiven.
#[derive(Clone, Copy, Debug, Default)]
struct Pardon {
    /// So many of the file's failures.
    failures: u64,
    /// How often, a number that wraps. Who was let in before the last time is not forgiven: when it failed he waited.
    era: u16,
    /// The last errno that was forgiven.
    errno: i32,
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
    /// It is wholly inside one, that is backed so.
    Inside(Backing),
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
        let failures = table.forgiven(&synced);
        let MappedFile { mapping, offset, .. } = mapped;
        let (id, pardon) = (RegionId::next(), Mutex::new(Pardon { failures, ..Pardon::default() }));
        let entry = Arc::new(Entry { id, backing, mapping, offset, synced, pardon, tenants: Mutex::default() });
        table.by_id.insert(entry.id, Arc::clone(&entry));
        table.by_start.insert(start, entry.id);
        Ok(entry)
    }

    /// The region of this id, if it holds these bytes; without an id, the one that holds them.
    pub(crate) fn find(&self, id: Option<RegionId>, start: usize, len: usize) -> Found {
        match self.read().find(id, start, len) {
            Ok(Some(entry)) if !lock(&entry.tenants).is_leaving => Found::Inside(entry.backing),
            Ok(None) => Found::Plain,
            Ok(Some(_)) | Err(Refused) => Found::Outside,
        }
    }

    /// Lets an entry, whose mover was chosen, into the region that it is in, if it is in one: that stays until the
    /// entry leaves. What comes of it names the region. Refused: the regions have changed since the mover was chosen.
    pub(crate) fn enter(&self, sqe: &Sqe) -> Result<Sqe, Refused> {
        let len = usize::try_from(sqe.len()).unwrap_or(usize::MAX);
        let table = self.read();
        let Some(entry) = table.find(RegionId::of(sqe.region()), sqe.dst().addr(), len)? else {
            let is_ours = [INLINE, WORKERS].contains(&sqe.mover());
            let is_plain = sqe.mover() != URING && !(sqe.is_durable() && is_ours);
            return if is_plain { Ok(*sqe) } else { Err(Refused) };
        };
        let mut tenants = lock(&entry.tenants);
        if tenants.is_leaving || !entry.backing.is_served_by(sqe) {
            return Err(Refused);
        }
        tenants.in_flight += 1;
        Ok(sqe.with_region(entry.id.in_era(lock(&entry.pardon).era)))
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
    pub(crate) fn is_empty(&self) -> bool {
        self.read().by_id.is_empty()
    }

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
    /// The region of this id, which must hold these bytes; without an id, the one that holds them, if there is one.
    fn find(&self, id: Option<RegionId>, start: usize, len: usize) -> Result<Option<&Arc<Entry>>, Refused> {
        let end = start.saturating_add(len);
        let Some(id) = id.or_else(|| self.overlapping(start, end)) else { return Ok(None) };
        let entry = self.by_id.get(&id).filter(|entry| entry.holds(start, end));
        entry.map(Some).ok_or(Refused)
    }

    /// How many failures of a file are forgiven by all of its regions: those of which a new one is innocent.
    fn forgiven(&self, synced: &Arc<SyncedFile>) -> u64 {
        let others = self.by_id.values().filter(|entry| Arc::ptr_eq(&entry.synced, synced));
        others.map(|entry| lock(&entry.pardon).failures).min().unwrap_or_else(|| synced.failures())
    }

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
    pub(super) fn error(&self) -> Option<i32> {
        self.synced.error(lock(&self.pardon).failures).0
    }

    /// What this flush fails with: the errno of an fsync that has failed since it was let in, forgiven or not, or
    /// before and not forgiven.
    pub(crate) fn error_of(&self, sqe: &Sqe) -> Option<i32> {
        let pardon = lock(&self.pardon);
        if RegionId::era_of(sqe.region()) == pardon.era {
            self.synced.error(pardon.failures).0
        } else {
            Some(pardon.errno)
        }
    }

    pub(super) fn clear_error(&self) -> Option<i32> {
        let mut pardon = lock(&self.pardon);
        let (error, failures) = self.synced.error(pardon.failures);
        if let Some(errno) = error {
            *pardon = Pardon { failures, era: (pardon.era + 1) & 0x7fff, errno };
        }
        error
    }

    /// Lends these bytes out; or says why not.
    pub(super) fn lend(&self, range: &Range<usize>) -> Result<(), SpanError> {
        let mut tenants = lock(&self.tenants);
        if tenants.is_leaving {
            return Err(SpanError::Deregistered);
        }
        if range.is_empty() {
            return Ok(());
        }
        let before = tenants.spans.range(..range.end).next_back().map(|(&start, &end)| start..end);
        if let Some(other) = before.filter(|other| range.start < other.end) {
            return Err(SpanError::InUse { start: other.start, end: other.end });
        }
        tenants.spans.insert(range.start, range.end);
        Ok(())
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
