//! A model on the memory of this process: its writes are seen by another thread in the right order, it touches nothing
//! beside what descriptors name, and memory that is given back too early is found by the signal that ends the process.
#![expect(unsafe_code, reason = "maps pages and takes them away, and has a model run on them")]

use std::os::unix::process::ExitStatusExt;
use std::ptr;
use std::thread;

use memring::dsa::model::{Access, Memory, Model, ProcessMemory, Reply, Settings};
use memring::dsa::{
    CompletionRecord, Descriptor, Flags, Mode, Operation, Preset, RecordStatus, RecordView, WorkQueueCapabilities,
};

use super::subprocess::{again, role, words};
use super::watchdog::must_end;

const PAGE: usize = 4096;

fn device(settings: Settings) -> Model {
    Model::new(Preset::V2Full.capabilities(), WorkQueueCapabilities::new(Mode::Shared, 64), settings)
}

/// Submits it and executes it.
///
/// # Safety
///
/// As for `Model::step`.
unsafe fn run(device: &mut Model, descriptor: &Descriptor) {
    assert_eq!(device.submit(&descriptor.to_bytes()), Reply::Accepted);
    // SAFETY: the caller's contract.
    assert!(unsafe { device.step() });
}

/// One page between two that may not be touched.
struct Fenced(*mut u8);

impl Fenced {
    fn new() -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), 3 * PAGE, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the page in the middle of our mapping.
        let page = unsafe { start.cast::<u8>().add(PAGE) };
        let fenced = Self(page);
        fenced.protect(libc::PROT_READ | libc::PROT_WRITE);
        fenced
    }

    fn protect(&self, protection: libc::c_int) {
        // SAFETY: our page; nobody has a reference to it.
        assert_eq!(unsafe { libc::mprotect(self.0.cast(), PAGE, protection) }, 0);
    }

    /// So many bytes at its end, or at its start.
    fn place(&self, len: usize, at_end: bool) -> u64 {
        let start = self.0.expose_provenance();
        (if at_end { start + PAGE - len } else { start }) as u64
    }

    fn fill(&self, byte: u8) {
        // SAFETY: our page, writable.
        unsafe { self.0.write_bytes(byte, PAGE) };
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: our page, readable, and nobody writes it meanwhile.
        unsafe { std::slice::from_raw_parts(self.0, PAGE) }.to_vec()
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: our mapping.
        unsafe { libc::munmap(self.0.wrapping_sub(PAGE).cast(), 3 * PAGE) };
    }
}

#[test]
fn nothing_is_touched_beside_what_is_named() {
    let (one, two, three, records) = (Fenced::new(), Fenced::new(), Fenced::new(), Fenced::new());
    for len in [1_u32, 7, 8, 64, 100, 800, 4096] {
        for at_end in [false, true] {
            let place = |page: &Fenced| page.place(len as usize, at_end);
            let (a, b, c) = (place(&one), place(&two), place(&three));
            let delta_len = if at_end { 80 } else { 4096 };
            let mut all = vec![
                Operation::Memmove { src: a, dst: b, len },
                Operation::Fill { pattern: 1, pattern_high: 0, dst: b, len },
                Operation::Compare { src_1: a, src_2: b, len, expected: 0 },
                Operation::CompareValue { src: a, pattern: 1, len, expected: 0 },
                Operation::Dualcast { src: a, dst_1: b, dst_2: c, len },
                Operation::Crc { src: a, len, seed: 0, seed_address: 0 },
                Operation::CopyCrc { src: a, dst: b, len, seed: 0, seed_address: 0 },
                Operation::CacheFlush { address: a, len },
                Operation::TranslationFetch { address: a, len, stride: 0 },
            ];
            if len.is_multiple_of(8) {
                let record = three.place(delta_len, at_end);
                let max_record_len = u32::try_from(delta_len).expect("it is short");
                all.push(Operation::CreateDelta { src_1: a, src_2: b, len, record, max_record_len, expected_mask: 0 });
            }
            for operation in all {
                for page in [&one, &two, &three, &records] {
                    page.fill(0);
                }
                one.fill(3);
                let mut device = device(Settings::default());
                let record = records.place(32, at_end);
                let flags =
                    Flags::RECORD | if operation.opcode().to_u8() == 3 { Flags::CACHE_CONTROL } else { Flags::NONE };
                // SAFETY: the pages outlive the descriptor, and nobody else uses them.
                unsafe { run(&mut device, &Descriptor::new(&operation, flags, record)) };
                assert_eq!(one.bytes(), [3; PAGE], "{operation:?} writes its source");
                let bytes = records.bytes();
                let (at, other) = if at_end { (PAGE - 32, 0..PAGE - 32) } else { (0, 32..PAGE) };
                assert!(RecordStatus::from_u8(bytes[at]).is_success(), "{operation:?}: {:#x}", bytes[at]);
                assert!(bytes[other].iter().all(|byte| *byte == 0), "{operation:?} writes beside its record");
                let copied = matches!(operation.opcode().to_u8(), 3 | 9 | 0x11);
                let (at, other) =
                    if at_end { (PAGE - len as usize, 0..PAGE - len as usize) } else { (0, len as usize..PAGE) };
                assert!(!copied || two.bytes()[at..][..len as usize] == vec![3; len as usize], "{operation:?}");
                assert!(
                    two.bytes()[other].iter().all(|byte| *byte == 0),
                    "{operation:?} writes beside its destination"
                );
            }
        }
    }
}

#[test]
fn addresses_that_lead_nowhere_are_page_faults() {
    let buffer = [0_u64; 8];
    let here = (&raw const buffer).expose_provenance() as u64;
    let record = CompletionRecord::new();
    let at = (&raw const record).expose_provenance() as u64;
    for nowhere in [0, 8, 4095, 1 << 63, u64::MAX - 64, u64::MAX] {
        let mut device = device(Settings::default());
        for (operation, is_write) in [
            (Operation::Memmove { src: nowhere, dst: here, len: 64 }, false),
            (Operation::Fill { pattern: 0, pattern_high: 0, dst: nowhere, len: 64 }, true),
        ] {
            record.clear();
            // SAFETY: what does not lead nowhere outlives the descriptor.
            unsafe { run(&mut device, &Descriptor::new(&operation, Flags::RECORD, at)) };
            let view = record.view().expect("it has ended");
            let fault = view.fault().expect("it is a page fault");
            assert_eq!((view.status().code(), fault.is_write), (RecordStatus::PAGE_FAULT, is_write), "{nowhere:#x}");
            assert_eq!((fault.address, view.bytes_completed()), (nowhere & !4095, 0), "{nowhere:#x}");
        }
    }
    assert!(!ProcessMemory.is_mapped(0, 1, Access::Read));
    // A batch whose list is not there, and a record that is not.
    let mut device = device(Settings::default());
    record.clear();
    let batch = Operation::Batch { list: 64, count: 2 };
    // SAFETY: as above.
    unsafe { run(&mut device, &Descriptor::new(&batch, Flags::RECORD, at)) };
    assert_eq!(record.status(), RecordStatus::BATCH_PAGE_FAULT);
    // SAFETY: it names nothing that is there.
    unsafe { run(&mut device, &Descriptor::new(&Operation::Nop, Flags::RECORD, 64)) };
    assert_eq!(device.errors().last, Some(RecordStatus::RECORD_PAGE_FAULT.at_write()));
}

/// Who sees the status sees the rest of the record, and what the operation wrote. Each round has other values, so a
/// field or a byte of an earlier round is told from a right one.
#[test]
fn the_status_is_written_last() {
    must_end(play_device_and_reader);
}

/// What a record says, read as soon as can be.
fn written(record: &CompletionRecord) -> RecordView {
    let mut looks = (0_u32..).inspect(|look| {
        if look % 10_000 == 9_999 {
            thread::yield_now();
        }
    });
    looks.find_map(|_| record.view()).expect("it is looked at until it is there")
}

/// There is no other turn, whether all went well or not.
struct Last<'a>(&'a CompletionRecord);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        self.0.write(&RecordView::new(RecordStatus::HARDWARE_ERROR));
    }
}

fn play_device_and_reader() {
    const ROUNDS: u32 = 5_000;
    let (mut src, mut dst) = (vec![0_u32; 64], vec![0_u32; 64]);
    let (from, to) = (src.as_mut_ptr().expose_provenance(), dst.as_mut_ptr().expose_provenance());
    let (record, turn) = (CompletionRecord::new(), CompletionRecord::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut device = device(Settings::default());
            let at = (&raw const record).expose_provenance() as u64;
            for round in 1..=ROUNDS {
                if written(&turn).status() != RecordStatus::SUCCESS {
                    return;
                }
                turn.clear();
                // The source differs from the destination at this word alone.
                let word = round as usize % 64;
                // SAFETY: the vectors outlive the threads, and the other thread looks at them only when the record is
                // written.
                unsafe { ptr::with_exposed_provenance_mut::<u32>(from).wrapping_add(word).write_volatile(round) };
                let compare = Operation::Compare { src_1: from as u64, src_2: to as u64, len: 256, expected: 0 };
                let copy = Operation::CopyCrc { src: from as u64, dst: to as u64, len: 256, seed: 0, seed_address: 0 };
                let operation = if round % 2 == 0 { compare } else { copy };
                // SAFETY: as above.
                unsafe { run(&mut device, &Descriptor::new(&operation, Flags::RECORD, at)) };
            }
        });
        let _end = Last(&turn);
        for round in 1..=ROUNDS {
            turn.write(&RecordView::new(RecordStatus::SUCCESS));
            let view = written(&record);
            record.clear();
            assert_eq!(view.status(), RecordStatus::SUCCESS);
            let word = round as usize % 64;
            // SAFETY: the device has ended, and waits for the next turn.
            let value = unsafe { ptr::with_exposed_provenance::<u32>(to).wrapping_add(word).read_volatile() };
            if round % 2 == 0 {
                assert_eq!((view.result(), view.bytes_completed() / 4), (1, round % 64), "round {round}");
                assert_ne!(value, round);
            } else {
                assert_eq!((view.bytes_completed(), value), (0, round), "round {round}");
            }
        }
    });
    drop((src, dst));
}

/// What a descriptor names must be there until it has ended. A page that is given back before is found: the process
/// dies where the model touches it.
#[test]
fn memory_that_is_given_back_too_early_is_found() {
    let Some(which) = role() else {
        let name = "process::memory_that_is_given_back_too_early_is_found";
        let survives = again(name, "nothing", &[]);
        assert!(survives.status.success(), "{}", words(&survives));
        for which in ["src", "dst", "record", "list"] {
            let output = again(name, which, &[]);
            assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{which}: {}", words(&output));
        }
        return;
    };
    let pages = [Fenced::new(), Fenced::new(), Fenced::new(), Fenced::new()];
    let [src, dst, record, list] = &pages;
    let copy = Operation::Memmove { src: src.place(64, true), dst: dst.place(64, true), len: 64 };
    let member = Descriptor::new(&copy, Flags::RECORD, record.place(32, true));
    let place = list.place(128, true);
    for number in 0..2 {
        let to = list.0.wrapping_add(PAGE - 128).cast::<Descriptor>().wrapping_add(number);
        // SAFETY: the page has room for two at its end, which is aligned.
        unsafe { to.write(member) };
    }
    let mut device = device(Settings::default());
    let batch = Descriptor::new(&Operation::Batch { list: place, count: 2 }, Flags::NONE, 0);
    assert_eq!(device.submit(&batch.to_bytes()), Reply::Accepted);
    for (name, page) in ["src", "dst", "record", "list"].into_iter().zip(&pages) {
        if name == which {
            page.protect(libc::PROT_NONE);
        }
    }
    // SAFETY: what is named is mapped, or is found not to be by a signal, which is what this process is for.
    assert!(unsafe { device.step() });
    assert_eq!(RecordStatus::from_u8(record.bytes()[PAGE - 32]), RecordStatus::SUCCESS);
}
