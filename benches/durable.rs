//! What durability costs: 1000 dirty pages of one file, each flushed by itself; and who finds their regions.
//!
//! | contestant | what a round does, after it has stored to each page |
//! |---|---|
//! | memring | `push_batch` of 1000 flushes, `submit`, `wait` for all: what all are compared to |
//! | memring, by the caller | the same without a thread: the caller's `wait` hands the fsync to io_uring |
//! | memring, by fdatasync | the same where io_uring is not allowed |
//! | one fdatasync | of the whole file: the least that it can cost, with one acknowledgement |
//! | 1000 msync | a page each, one after the other, as a program does that knows nothing of its neighbours |
//!
//! The file lies in the build's folder, which must be on a disk. A second group asks a queue with 1000 regions whose an
//! address is (`Route::choose`), while nobody and while somebody registers others. With `--paired` the end is what one
//! flush costs who hands it over: the calls that reach the kernel, by their share.
#![expect(unsafe_code, reason = "maps files, and pushes raw entries")]
#![expect(clippy::print_stdout, reason = "benchmarks report on the standard output")]

mod contest;

use std::fs::File;
use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use contest::{Contestant, Entry, Group};
use memmap2::MmapMut;
use memring::queue::{Builder, CompletionQueue, Drive, QueuePair, Route, SubmissionQueue};
use memring::{MappedFile, Region, Sqe, URING};

const PAGE: usize = 4096;
const PAGES: usize = 1000;

fn file(pages: usize) -> File {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    file.set_len((pages * PAGE) as u64).expect("its length");
    file
}

fn map(file: &File) -> MmapMut {
    // SAFETY: the file is this program's own.
    unsafe { MmapMut::map_mut(file).expect("a mapping") }
}

fn dirty(map: &mut MmapMut) {
    for page in map.chunks_mut(PAGE) {
        page[0] = page[0].wrapping_add(1);
    }
}

/// Its fields in the order in which they must go.
struct Memring {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    region: Region,
    map: MmapMut,
}

impl Memring {
    fn new(builder: Builder) -> Self {
        let file = file(PAGES);
        let mut map = map(&file);
        let (sq, cq) = builder.entries(PAGES).build().expect("a queue").split();
        // SAFETY: it stays mapped longer than the queue is there.
        let mapped = unsafe { MappedFile::from_raw(&file, map.as_mut_ptr(), map.len(), 0) };
        let region = sq.register(mapped).expect("a region");
        region.preallocate().expect("blocks");
        Self { sq, cq, region, map }
    }

    fn flush(&self, page: usize) -> Sqe {
        Sqe::flush_in(&self.region, page * PAGE..(page + 1) * PAGE)
    }
}

impl Contestant for Memring {
    fn round(&mut self) {
        dirty(&mut self.map);
        let batch: Vec<Sqe> = (0..PAGES).map(|page| self.flush(page)).collect();
        // SAFETY: flushes of what is mapped.
        unsafe { self.sq.push_batch(&batch) }.expect("room");
        self.sq.submit();
        self.cq.wait(PAGES, None).expect("no fork");
        assert_eq!(self.cq.drain().filter(|cqe| cqe.status().is_success()).count(), PAGES);
    }

    fn check(&mut self) {
        let stats = self.cq.stats();
        let rounds = stats.mover(URING).operations / PAGES as u64;
        assert!((rounds..=3 * rounds).contains(&stats.fsyncs), "{} fsyncs in {rounds} rounds", stats.fsyncs);
    }
}

struct Plain {
    file: File,
    map: MmapMut,
    sync: fn(&File, &MmapMut),
}

impl Plain {
    fn new(sync: fn(&File, &MmapMut)) -> Self {
        let file = file(PAGES);
        let map = map(&file);
        Self { file, map, sync }
    }
}

impl Contestant for Plain {
    fn round(&mut self) {
        dirty(&mut self.map);
        (self.sync)(&self.file, &self.map);
    }
}

fn fdatasync(file: &File, _map: &MmapMut) {
    file.sync_data().expect("a sound disk");
}

fn msyncs(_file: &File, map: &MmapMut) {
    for page in 0..PAGES {
        map.flush_range(page * PAGE, PAGE).expect("a sound disk");
    }
}

/// A queue with a thousand regions, and flushes of each.
struct Lookups {
    route: Route,
    _cq: CompletionQueue,
    _regions: Vec<Region>,
    flushes: Vec<Sqe>,
    /// Ends the thread that registers others meanwhile, by being dropped.
    _busy: Option<mpsc::Sender<()>>,
}

impl Lookups {
    fn new(flush: fn(&Region) -> Sqe, is_busy: bool) -> Self {
        let pair = QueuePair::builder().build().expect("a queue");
        let route = pair.route().clone();
        let (sq, cq) = pair.split();
        let file = file(PAGES);
        let start = Box::leak(Box::new(map(&file))).as_mut_ptr();
        let page = move |file: &File, page: usize| {
            // SAFETY: it stays mapped.
            unsafe { MappedFile::from_raw(file, start.wrapping_add(page * PAGE), PAGE, (page * PAGE) as u64) }
        };
        let regions: Vec<Region> = (1..PAGES).map(|at| sq.register(page(&file, at)).expect("a region")).collect();
        let flushes = regions.iter().map(flush).collect();
        let first = start.expose_provenance();
        let busy = is_busy.then(|| {
            let (sender, receiver) = mpsc::channel::<()>();
            let sq = sq.clone();
            thread::spawn(move || {
                while receiver.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                    let address = std::ptr::with_exposed_provenance_mut(first);
                    // SAFETY: it stays mapped.
                    let mapped = unsafe { MappedFile::from_raw(&file, address, PAGE, 0) };
                    // It may be over by now.
                    drop(sq.register(mapped));
                }
            });
            sender
        });
        Self { route, _cq: cq, _regions: regions, flushes, _busy: busy }
    }
}

impl Contestant for Lookups {
    fn round(&mut self) {
        for flush in &self.flushes {
            assert!(black_box(self.route.choose(black_box(flush))).is_ok());
        }
    }
}

fn by_address(region: &Region) -> Sqe {
    Sqe::flush(region.as_mut_ptr(), PAGE)
}

fn by_name(region: &Region) -> Sqe {
    Sqe::flush_in(region, 0..PAGE)
}

fn of_plain_memory(_region: &Region) -> Sqe {
    static PLAIN: [u8; PAGE] = [0; PAGE];
    Sqe::flush(PLAIN.as_ptr(), PAGE)
}

/// What handing one fsync to the kernel costs its thread, if that is the reaper: the calls of `drain` that did.
fn handing_over() {
    const FLUSHES: usize = 2000;
    let mut queue = Memring::new(QueuePair::builder().workers(0).flush_drive(Drive::Caller));
    let mut took = Vec::with_capacity(FLUSHES);
    for flush in 0..FLUSHES {
        queue.map[flush % PAGES * PAGE] += 1;
        // SAFETY: a flush of what is mapped.
        unsafe { queue.sq.push(queue.flush(flush % PAGES)) }.expect("room");
        queue.sq.submit();
        let before = queue.cq.stats().fsyncs;
        while queue.cq.stats().fsyncs == before {
            let begin = Instant::now();
            queue.cq.drain().for_each(drop);
            if queue.cq.stats().fsyncs > before {
                took.push(begin.elapsed());
            }
        }
        while queue.cq.in_flight() > 0 {
            queue.cq.wait(1, None).expect("no fork");
            queue.cq.drain().for_each(drop);
        }
    }
    took.sort();
    let share = |of: usize| took[(took.len() - 1) * of / 1000].as_nanos() as f64 / 1000.0;
    println!("\n### a drain that hands one fsync to io_uring\n");
    println!("| calls | p50 | p90 | p99 | p99.9 | longest |\n|---|---|---|---|---|---|");
    let [p50, p90, p99, p999, most] = [500, 900, 990, 999, 1000].map(share);
    println!("| {FLUSHES} | {p50:.1} us | {p90:.1} us | {p99:.1} us | {p999:.1} us | {most:.1} us |");
}

/// What one page costs. A thousand msync calls are worth no more than that, each.
fn one_page() {
    let mut plain = Plain::new(fdatasync);
    let mut took: Vec<_> = (0..201)
        .map(|_| {
            plain.map[0] = plain.map[0].wrapping_add(1);
            let begin = Instant::now();
            fdatasync(&plain.file, &plain.map);
            begin.elapsed()
        })
        .collect();
    took.sort();
    let us = took[100].as_nanos() as f64 / 1000.0;
    println!("\nOne fdatasync of one dirty page costs {us:.1} us here, at the median of 201.");
    if us < 200.0 {
        println!("That is less than 200 us: on this disk even a thousand of them cost little.");
    }
}

fn main() {
    let flushes = vec![
        Entry::new("memring", || Memring::new(QueuePair::builder().workers(1))),
        Entry::new("memring, by the caller", || {
            Memring::new(QueuePair::builder().workers(0).flush_drive(Drive::Caller))
        }),
        Entry::new("memring, by fdatasync", || Memring::new(QueuePair::builder().workers(1).io_uring(false))),
        Entry::new("one fdatasync", || Plain::new(fdatasync)),
        Entry::new("1000 msync", || Plain::new(msyncs)),
    ];
    let lookups = vec![
        Entry::new("by address", || Lookups::new(by_address, false)),
        Entry::new("by address, others registering", || Lookups::new(by_address, true)),
        Entry::new("by the entry's region", || Lookups::new(by_name, false)),
        Entry::new("plain memory", || Lookups::new(of_plain_memory, false)),
    ];
    let name = format!("{PAGES} flushes of 4 KiB");
    let whose = "whose is this address, of 999 regions".to_owned();
    contest::main(
        "durable",
        &[
            Group { name, operations: PAGES as u64, entries: flushes },
            Group { name: whose, operations: PAGES as u64 - 1, entries: lookups },
        ],
    );
    if std::env::args().any(|argument| argument == "--paired") {
        one_page();
        handing_over();
    }
}
