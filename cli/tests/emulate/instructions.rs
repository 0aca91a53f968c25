//! Instructions: each does what the CPU would do, also where that is an exception.
#![expect(unsafe_code, reason = "executes the instructions that are trapped")]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::ptr;

use memring::dsa::{Descriptor, Flags, Operation, RecordStatus};

use super::handlers::signal_of;
use super::outside::passes;
use super::portal::{done, enqcmd, map, movdir64b, record, succeeds, unmap, wait, with_record};

/// The bit of leaf 7 that says that the CPU has UMONITOR, UMWAIT and TPAUSE.
const WAITPKG: u32 = 1 << 5;

fn address_of<T>(place: &T) -> u64 {
    ptr::from_ref(place).expose_provenance() as u64
}

fn submitted(portal: u64, descriptor: *const Descriptor) {
    assert!(enqcmd(portal, descriptor));
}

#[repr(C, align(64))]
struct Line([u8; 64]);

#[test]
fn in_a_shared_queue() {
    passes(&[], "instructions::shared_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn shared_inside() {
    let portal = map();
    let nop = Descriptor::new(&Operation::Nop, Flags::NONE, 0);
    // Any place of the page is the portal.
    assert!(enqcmd(portal + 64 * 63, &raw const nop));
    // The other instruction's descriptors vanish.
    let lost = record();
    movdir64b(portal, &with_record(&Operation::Nop, lost));
    succeeds(portal);
    assert!(lost.status().is_pending());
    // Other registers, a displacement, and flags that only ZF is left of.
    let (record, mut refused, mut carry) = (record(), 1_u8, 1_u8);
    let descriptor = with_record(&Operation::Nop, record);
    let below = ptr::from_ref(&descriptor).wrapping_byte_sub(64);
    // SAFETY: as in `portal.rs`.
    unsafe {
        asm!("stc", "enqcmd r9, [r12 + 8*r13 - 16]", "setz {refused}", "setc {carry}",
             in("r9") portal, in("r12") below, in("r13") 10_u64,
             refused = inout(reg_byte) refused, carry = inout(reg_byte) carry, options(nostack));
    }
    assert_eq!((refused, carry), (0, 0));
    assert_eq!(wait(record).status(), RecordStatus::SUCCESS);
    unmap(portal);
    // No device, no portal.
    assert_eq!(signal_of(|| submitted(portal, &nop)), libc::SIGSEGV);
}

/// A CPU that knows the instruction raises SIGSEGV at the portal, which is mapped without access. Here none does; so
/// the signal is sent, as the kernel sends it, when the instruction is the next.
#[test]
fn by_sigsegv() {
    passes(&[], "instructions::by_sigsegv_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn by_sigsegv_inside() {
    const SEGV_ACCERR: i32 = 2;
    let (portal, record) = (map(), record());
    let descriptor = with_record(&Operation::Nop, record);
    // SAFETY: it is integers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    (info.si_signo, info.si_code) = (libc::SIGSEGV, SEGV_ACCERR);
    // SAFETY: it takes nothing.
    let thread = unsafe { libc::gettid() };
    let (result, refused): (i64, u8);
    // SAFETY: the thread sends itself a signal, which the trap answers by doing the instruction.
    unsafe {
        asm!("syscall", "enqcmd r8, [r9]", "setz {refused}", refused = out(reg_byte) refused,
             inlateout("rax") libc::SYS_rt_tgsigqueueinfo => result, in("rdi") std::process::id(), in("rsi") thread,
             in("rdx") libc::SIGSEGV, in("r10") &raw const info, in("r8") portal, in("r9") &raw const descriptor,
             out("rcx") _, out("r11") _, options(nostack));
    }
    assert_eq!((result, refused), (0, 0));
    assert_eq!(wait(record).status(), RecordStatus::SUCCESS);
}

#[test]
fn of_many_threads() {
    for options in [&["--stats", "--entries", "4"][..], &["--stats", "--faults", "9"]] {
        let said = passes(options, "instructions::threads_inside");
        assert!(said.is_none_or(|said| said.contains(&format!(" {} descriptors: ", THREADS * EACH))));
    }
}

const THREADS: usize = 8;
const EACH: usize = 500;

#[test]
#[ignore = "runs under memring emulate"]
fn threads_inside() {
    let portal = map();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || (0..EACH).for_each(|_| succeeds(portal)));
        }
    });
}

#[test]
fn in_a_dedicated_queue() {
    passes(&["--mode", "dedicated"], "instructions::dedicated_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn dedicated_inside() {
    let portal = map();
    let record = record();
    let descriptor = with_record(&Operation::Nop, record);
    assert!(!enqcmd(portal, &raw const descriptor));
    movdir64b(portal, &raw const descriptor);
    assert_eq!(wait(record).status(), RecordStatus::SUCCESS);
}

#[test]
fn where_there_is_no_portal() {
    passes(&[], "instructions::elsewhere_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn elsewhere_inside() {
    let portal = map();
    let descriptor = with_record(&Operation::Nop, record());
    // Ordinary memory takes 64 bytes, and answers no ENQCMD.
    let mut line = Line([0; 64]);
    movdir64b(ptr::from_mut(&mut line).expose_provenance() as u64, &raw const descriptor);
    // SAFETY: it is ours; the instruction wrote it behind the compiler's back.
    assert_eq!(unsafe { ptr::from_ref(&line.0).read_volatile() }, descriptor.to_bytes());
    assert!(!enqcmd(address_of(&line), &raw const descriptor));
    // Exceptions: a place that is no multiple of 64, memory that is not there, a place that is the CPU's.
    let mut with_pasid = descriptor.to_bytes();
    with_pasid[0] = 1;
    let with_pasid = Descriptor::from_bytes(&with_pasid);
    let nowhere = ptr::without_provenance::<Descriptor>(0x10_0000_0000);
    let wrong: [(&str, &dyn Fn(u64)); 6] = [
        ("misaligned", &|portal| submitted(portal + 32, &descriptor)),
        ("misaligned", &|portal| movdir64b(portal + 8, &raw const descriptor)),
        ("no source", &|portal| submitted(portal, nowhere)),
        ("no destination", &|_| movdir64b(0x10_0000_0000, &raw const descriptor)),
        ("no destination", &|_| submitted(0x10_0000_0000, &descriptor)),
        ("an address space", &|portal| submitted(portal, &with_pasid)),
    ];
    for (what, body) in wrong {
        assert_eq!(signal_of(|| body(map())), libc::SIGSEGV, "{what}");
    }
    assert_eq!(signal_of(|| succeeds(map())), 0);
    // A child has not got its parent's.
    assert_eq!(signal_of(|| succeeds(portal)), libc::SIGSEGV);
    // The page is a device's: nothing else can be done with it.
    let store = || {
        let byte = ptr::with_exposed_provenance_mut::<u8>(usize::try_from(map()).unwrap());
        // SAFETY: it is mapped without access, so this is a signal.
        unsafe { byte.write_volatile(1) };
    };
    assert_eq!(signal_of(store), libc::SIGSEGV);
    succeeds(portal);
}

#[test]
fn that_wait_return() {
    let said = passes(&["--stats"], "instructions::waits_inside");
    // A CPU that knows them is not trapped.
    let trapped = if __cpuid_count(7, 0).ecx & WAITPKG == 0 { 2 } else { 0 };
    assert!(said.is_none_or(|said| super::outside::counted(&said, "UMWAIT or TPAUSE") == trapped));
}

#[test]
#[ignore = "runs under memring emulate"]
fn waits_inside() {
    let portal = map();
    let (record, mut carry) = (record(), 1_u8);
    while !enqcmd(portal, &with_record(&Operation::Nop, record)) {}
    // SAFETY: they watch and wait, and touch nothing.
    unsafe {
        asm!("umonitor rsi", "stc", "umwait ecx", "tpause ecx", "setc {carry}", in("rsi") record, in("ecx") 0,
             in("eax") 0, in("edx") 0, carry = inout(reg_byte) carry, options(nostack));
    }
    assert_eq!(carry, 0);
    assert_eq!(wait(record).status(), RecordStatus::SUCCESS);
    // There are two states to wait in.
    let wrong = || {
        // SAFETY: it is an exception.
        unsafe { asm!("umwait ecx", in("ecx") 2, in("eax") 0, in("edx") 0, options(nostack)) };
    };
    assert_eq!(signal_of(wrong), libc::SIGSEGV);
}

/// As on hardware, the record says it, and the process lives.
#[test]
fn that_name_missing_memory() {
    passes(&[], "instructions::missing_inside");
}

#[test]
#[ignore = "runs under memring emulate"]
fn missing_inside() {
    let portal = map();
    let mut bytes = vec![1_u8; 8192];
    let start = bytes.as_mut_ptr().expose_provenance() as u64;
    let nowhere = 0x10_0000_0000;
    let read = done(portal, &Operation::Memmove { src: nowhere, dst: start, len: 64 });
    assert_eq!((read.status(), read.fault().unwrap().address), (RecordStatus::PAGE_FAULT, nowhere));
    // Neither is what may only be read.
    let text = b"constant";
    let constant = address_of(text);
    let written = done(portal, &Operation::Fill { pattern: 0, pattern_high: 0, dst: constant, len: 8 });
    assert_eq!(written.status(), RecordStatus::PAGE_FAULT.at_write());
    assert_eq!(text, b"constant");
    assert_eq!(done(portal, &Operation::Memmove { src: constant, dst: start, len: 8 }).status(), RecordStatus::SUCCESS);
    assert_eq!(bytes[..9], *b"constant\x01");
}
