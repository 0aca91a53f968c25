//! Goal: every kernel of non-temporal stores that this CPU can run does what the plain routine does, not only the one
//! that would be chosen here; and the cache is read as the kernel describes it.
//!
//! Method: the choice cannot be forced from outside, on purpose, so this test alone compiles the files of
//! `src/memory/` that make it into itself, and asks them by name. Each case copies or sets a piece of an arena of noise
//! at some misalignment; its twin gets the same by `copy_from_slice` and `fill`; then the arenas must be equal, so a
//! stray write anywhere is found. A stray read is found by regions that end where an inaccessible page begins.
#![expect(unsafe_code, reason = "calls kernels on memory that the test owns")]

#[path = "../src/memory/cache.rs"]
mod cache;
#[path = "../src/memory/copy.rs"]
#[expect(dead_code, reason = "no kernel moves between regions that overlap")]
mod copy;
#[path = "support/random.rs"]
#[expect(dead_code, reason = "this test draws noise and no numbers")]
mod random;
#[path = "../src/memory/stream/mod.rs"]
#[expect(dead_code, reason = "this test lets nobody choose")]
mod stream;

use std::fs;
use std::path::PathBuf;
use std::ptr::{self, NonNull};

use random::Random;
use stream::{Ahead, Kernel, STREAM_MIN_BYTES, Stores, copy_by, set_by};

const LINE: usize = 64;
const PAGE: usize = 4096;
const MIB: usize = 1 << 20;
/// Noise around each region, which must stay as it is.
const GUARD: usize = 128;

/// Where a destination begins, from a line.
const DESTINATIONS: [usize; 8] = [0, 1, 8, 16, 31, 32, 33, 63];
/// Where a source begins, from a page: the prefetches look at its pages.
const SOURCES: [usize; 7] = [0, 1, 63, 2080, PAGE - LINE, PAGE - 33, PAGE - 1];
/// What may stand as a hint of where the next source is: nothing of it is ever read.
const HINTS: [Option<usize>; 5] = [None, Some(0), Some(1), Some(0xdead_beef_0000), Some(usize::MAX)];

/// Lengths around vectors, lines, pairs of lines and pages, and where streaming begins.
fn lengths() -> Vec<usize> {
    let around = |len: usize| len.saturating_sub(2)..=len + 2;
    let edges = [0, 16, 32, 64, 128, 1024, 1056, 1088, 1151, 1152, 1216, 2048, 4032, 4096, 4160, 4224, 8192];
    let mut lengths: Vec<usize> = edges.into_iter().flat_map(around).collect();
    lengths.dedup();
    lengths
}

/// Every kernel of this CPU, with what zeroes for it and without; and none, the plain routines.
fn kernels() -> Vec<(String, Option<Kernel>)> {
    let mut kernels = vec![("no kernel".to_owned(), None)];
    for (place, kernel) in Kernel::available().enumerate() {
        kernels.push((format!("kernel {place}, without a kernel for zeros"), Some(Kernel { zero: None, ..kernel })));
        if kernel.zero.is_some() {
            kernels.push((format!("kernel {place}, with a kernel for zeros"), Some(kernel)));
        }
    }
    if cfg!(target_arch = "x86_64") {
        assert!(kernels.len() > 1, "SSE2 is part of x86-64");
    }
    kernels
}

/// What a streamed operation of this length must say.
fn expected(kernel: Option<Kernel>, len: usize) -> Stores {
    if kernel.is_some() && len >= STREAM_MIN_BYTES { Stores::Streamed } else { Stores::Plain }
}

/// Noise, beginning on a page.
struct Arena {
    live: Vec<u8>,
    origin: usize,
    twin: Vec<u8>,
}

impl Arena {
    /// An arena of two areas, each with room for `len` bytes at any misalignment.
    fn new(len: usize) -> Self {
        let size = 2 * Self::area(len);
        let mut random = Random::new(len as u64 + 1);
        let live: Vec<u8> = (0..(size + PAGE) / 8).flat_map(|_| random.next().to_ne_bytes()).collect();
        let origin = live.as_ptr().align_offset(PAGE);
        let twin = live[origin..].to_vec();
        Self { live, origin, twin }
    }

    fn area(len: usize) -> usize {
        (PAGE + len + PAGE + GUARD).next_multiple_of(PAGE)
    }

    fn copy(&mut self, kernel: Option<Kernel>, dst: usize, src: usize, len: usize, hint: Option<usize>) {
        let base = self.live[self.origin..].as_mut_ptr();
        let hint = hint.map(|at| Ahead { dst: ptr::without_provenance_mut(at), src: ptr::without_provenance(at) });
        // SAFETY: both regions lie in the arena, in areas of their own; the kernel is one that this CPU can run.
        let stores = unsafe { copy_by(kernel, base.wrapping_add(dst), base.wrapping_add(src), len, hint) };
        stores.fence();
        assert_eq!(stores, expected(kernel, len));
        self.twin.copy_within(src..src + len, dst);
    }

    fn set(&mut self, kernel: Option<Kernel>, dst: usize, value: u8, len: usize) {
        let base = self.live[self.origin..].as_mut_ptr();
        // SAFETY: the region lies in the arena; the kernel is one that this CPU can run.
        let stores = unsafe { set_by(kernel, base.wrapping_add(dst), value, len) };
        stores.fence();
        assert_eq!(stores, expected(kernel, len));
        self.twin[dst..dst + len].fill(value);
    }

    fn compare(&self, about: impl FnOnce() -> String) {
        let live = &self.live[self.origin..];
        if live != self.twin {
            let at = live.iter().zip(&self.twin).position(|(live, twin)| live != twin).expect("they differ");
            panic!("byte {at} is {:#04x}, not {:#04x}: {}", live[at], self.twin[at], about());
        }
    }
}

#[test]
fn every_kernel_copies_as_the_plain_routine() {
    for (name, kernel) in kernels() {
        let mut hints = HINTS.into_iter().cycle();
        for len in lengths() {
            let mut arena = Arena::new(len);
            for dst in DESTINATIONS {
                for src in SOURCES {
                    arena.copy(kernel, GUARD + dst, Arena::area(len) + src, len, hints.next().flatten());
                    arena.compare(|| format!("{len} bytes to {dst} from {src}, {name}"));
                }
            }
        }
    }
}

#[test]
fn every_kernel_sets_as_the_plain_routine() {
    for (name, kernel) in kernels() {
        for len in lengths() {
            let mut arena = Arena::new(len);
            for dst in 0..=LINE {
                for value in [0xff, 0, 0x5a] {
                    arena.set(kernel, GUARD + dst, value, len);
                    arena.compare(|| format!("{len} bytes of {value:#04x} to {dst}, {name}"));
                }
            }
        }
    }
}

#[test]
fn every_kernel_does_large_operations() {
    for (name, kernel) in kernels() {
        for (len, dst, src) in [(MIB, 0, 0), (MIB + 1, 1, 17), (3 * MIB - 65, 63, PAGE - 1)] {
            let mut arena = Arena::new(len);
            arena.copy(kernel, GUARD + dst, Arena::area(len) + src, len, None);
            arena.compare(|| format!("{len} bytes to {dst} from {src}, {name}"));
            for value in [0, 0xa5] {
                arena.set(kernel, GUARD + dst, value, len);
                arena.compare(|| format!("{len} bytes of {value:#04x} to {dst}, {name}"));
            }
        }
    }
}

/// Memory that ends where an inaccessible page begins.
struct Brink(NonNull<u8>);

impl Brink {
    const SIZE: usize = 4 * PAGE;

    fn new() -> Self {
        let (readable, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, anywhere.
        let begin = unsafe { libc::mmap(ptr::null_mut(), Self::SIZE + PAGE, readable, private, -1, 0) };
        assert_ne!(begin, libc::MAP_FAILED);
        let brink = begin.wrapping_byte_add(Self::SIZE);
        // SAFETY: the last page of that mapping, which nobody has a reference to.
        assert_eq!(unsafe { libc::mprotect(brink, PAGE, libc::PROT_NONE) }, 0);
        Self(NonNull::new(brink.cast()).expect("a mapping does not begin at zero"))
    }

    /// The address `len` bytes before the end.
    fn back(&self, len: usize) -> *mut u8 {
        assert!(len <= Self::SIZE);
        self.0.as_ptr().wrapping_sub(len)
    }
}

impl Drop for Brink {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, and nobody uses it any more.
        let done = unsafe { libc::munmap(self.back(Self::SIZE).cast(), Self::SIZE + PAGE) };
        assert_eq!(done, 0);
    }
}

#[test]
fn no_kernel_reaches_beyond_its_regions() {
    let (here, there) = (Brink::new(), Brink::new());
    for (name, kernel) in kernels() {
        for len in lengths() {
            for value in [0, 0x77] {
                // SAFETY: the last bytes of a mapping; the kernel is one that this CPU can run.
                unsafe { set_by(kernel, there.back(len), value, len) }.fence();
                let src = there.back(len).cast_const();
                let next = Some(Ahead { dst: here.back(0), src: there.back(0) });
                // SAFETY: the last bytes of two mappings; likewise.
                unsafe { copy_by(kernel, here.back(len), src, len, next) }.fence();
                // SAFETY: that memory is mapped, initialised, and touched by nobody now.
                let copied = unsafe { std::slice::from_raw_parts(here.back(len), len) };
                assert!(copied.iter().all(|&byte| byte == value), "{len} bytes of {value:#04x}, {name}");
            }
        }
    }
}

/// A folder that describes caches as the kernel does, by (folder, level, type, size).
fn described(name: &str, caches: &[(&str, &str, &str, &str)]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("caches-{name}"));
    fs::create_dir_all(&folder).expect("a folder for the test");
    for (cache, level, holds, size) in caches {
        let cache = folder.join(cache);
        fs::create_dir_all(&cache).expect("a folder for the test");
        for (file, text) in [("level", level), ("type", holds), ("size", size)] {
            fs::write(cache.join(file), format!("{text}\n")).expect("a file for the test");
        }
    }
    folder
}

#[test]
fn the_cache_of_the_highest_level_counts() {
    let l1 = [("index0", "1", "Data", "32K"), ("index1", "1", "Instruction", "32K")];
    let l2 = ("index2", "2", "Unified", "1024K");
    let l3 = ("index3", "3", "Unified", "32768K");
    let of = |name, caches: &[_]| cache::described_in(&described(name, caches));
    assert_eq!(of("three-levels", &[l1[0], l3, l1[1], l2]), Some(32 << 20));
    assert_eq!(of("two-levels", &[l1[0], l1[1], l2]), Some(1 << 20));
    assert_eq!(of("one-level", &l1), None, "no CPU has that, so nobody has described the rest");
    assert_eq!(of("nonsense", &[("index0", "3", "Unified", "0K"), ("index1", "3", "Unified", "large")]), None);
    assert_eq!(of("nothing", &[]), None);
    assert_eq!(cache::described_in(&PathBuf::from("/nonexistent")), None);
}

#[test]
fn a_batch_is_streamed_from_twice_the_cache_on() {
    let cache = cache::last_level_cache();
    assert!((64 << 10..1 << 40).contains(&cache), "{cache} bytes are no last-level cache");
    assert!(!cache::is_worth_streaming(0) && !cache::is_worth_streaming(2 * cache - 1));
    assert!(cache::is_worth_streaming(2 * cache) && cache::is_worth_streaming(u64::MAX));
}
