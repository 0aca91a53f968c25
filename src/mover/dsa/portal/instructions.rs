//! The two instructions that submit 64 bytes at once, and whether this CPU has them.
//!
//! | instruction | bytes | to | answer |
//! |---|---|---|---|
//! | MOVDIR64B rax, \[rdx\] | 66 0F 38 F8 02 | dedicated queues | none: what a full queue is sent vanishes |
//! | ENQCMD rax, \[rdx\] | F2 0F 38 F8 02 | shared queues | ZF = 1: not accepted, try again |
//!
//! The registers are fixed, so that there is one encoding of each to be found in a trace and to be trapped by a test.
//!
//! Neither is ordered behind older stores: whoever calls has fenced (`super::store_fence`). The blocks do not claim to
//! leave memory alone, so the compiler moves no store past them.
//!
//! Sources: Intel SDM volume 2, MOVDIR64B, ENQCMD, CPUID (leaf 7, subleaf 0, ECX).
#![expect(unsafe_code, reason = "instructions without a wrapper")]

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use crate::mover::dsa::{Descriptor, Mode};

/// Whether the CPU has the instruction that queues of this mode want.
pub(super) fn has(mode: Mode) -> bool {
    let bit = match mode {
        Mode::Dedicated => 28,
        Mode::Shared => 29,
    };
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx & (1 << bit) != 0
}

/// Stores the descriptor to a dedicated queue's portal, in one transaction.
///
/// # Safety
///
/// The portal is mapped, writable and aligned to 64 bytes, and 64 bytes of it are nobody else's memory. The CPU has
/// MOVDIR64B, or a trap does its work.
#[inline]
pub(super) unsafe fn movdir64b(portal: *mut u8, descriptor: &Descriptor) {
    let descriptor: *const Descriptor = descriptor;
    // SAFETY: reads the descriptor, writes the portal, which is the caller's contract.
    unsafe {
        asm!(
            "movdir64b rax, [rdx]",
            in("rax") portal,
            in("rdx") descriptor,
            options(nostack, preserves_flags),
        );
    }
}

/// Offers the descriptor to a shared queue's portal. False: it was not accepted.
///
/// # Safety
///
/// As [`movdir64b`], for ENQCMD.
#[inline]
pub(super) unsafe fn enqcmd(portal: *mut u8, descriptor: &Descriptor) -> bool {
    let descriptor: *const Descriptor = descriptor;
    let retry: u8;
    // SAFETY: as above. It changes the flags, and is not said to preserve them.
    unsafe {
        asm!(
            "enqcmd rax, [rdx]",
            "setz {retry}",
            in("rax") portal,
            in("rdx") descriptor,
            retry = out(reg_byte) retry,
            options(nostack),
        );
    }
    retry == 0
}
