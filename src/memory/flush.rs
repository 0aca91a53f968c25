//! Writing cache lines back to memory, by the best instruction that the CPU has.
//!
//! | instruction | CPUID | the line stays cached | ordered by |
//! |---|---|---|---|
//! | CLWB | leaf 7, EBX bit 24 | yes | SFENCE |
//! | CLFLUSHOPT | leaf 7, EBX bit 23 | no | SFENCE |
//! | CLFLUSH | leaf 1, EDX bit 19 | no | itself; SFENCE costs nothing more |
//! | DC CVAC (aarch64) | always | yes | DSB ISH |
//!
//! Sources: Intel SDM volume 2 and AMD APM volume 3, the instructions' pages; Arm ARM, DC CVAC. The line size is that
//! of CPUID leaf 1, EBX bits 15:8, in units of 8 bytes. On other CPUs there is no flush, and [`can_flush`] says so.
#![expect(unsafe_code, reason = "cache instructions have no safe wrapper")]

#[cfg(target_arch = "x86_64")]
pub(super) use arch::{Instruction, fence, method};

/// Whether this CPU has an instruction for it.
pub(crate) fn can_flush() -> bool {
    arch::method().is_some()
}

/// Writes the cache lines of `len` bytes at `dst` back, and waits until that is ordered before later stores.
///
/// The instructions fault on unmapped memory, as a load does.
///
/// # Safety
///
/// `dst` is valid for reads of `len` bytes. With `len` 0, anything goes.
pub(crate) unsafe fn flush(dst: *const u8, len: usize) {
    let Some(method) = arch::method() else { return };
    if len == 0 {
        return;
    }
    let line = method.line_bytes;
    let first = dst.map_addr(|address| address & !(line - 1));
    let lines = (dst.addr() - first.addr() + len).div_ceil(line);
    for index in 0..lines {
        // SAFETY: each line holds at least one byte of the region, which is valid for reads.
        unsafe { arch::write_back(method, first.wrapping_add(index * line)) };
    }
    arch::fence();
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::asm;
    use core::arch::x86_64::{__cpuid, __cpuid_count, _mm_clflush, _mm_sfence};
    use std::sync::OnceLock;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::memory) enum Instruction {
        Clwb,
        Clflushopt,
        Clflush,
    }

    #[derive(Clone, Copy, Debug)]
    pub(in crate::memory) struct Method {
        pub(in crate::memory) instruction: Instruction,
        pub(in crate::memory) line_bytes: usize,
    }

    pub(in crate::memory) fn method() -> Option<Method> {
        static METHOD: OnceLock<Option<Method>> = OnceLock::new();
        *METHOD.get_or_init(detect)
    }

    fn detect() -> Option<Method> {
        let (max, leaf1) = (__cpuid(0).eax, __cpuid(1));
        let leaf7 = if max >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        let instruction = match (leaf7 & (1 << 24) != 0, leaf7 & (1 << 23) != 0, leaf1.edx & (1 << 19) != 0) {
            (true, ..) => Instruction::Clwb,
            (_, true, _) => Instruction::Clflushopt,
            (.., true) => Instruction::Clflush,
            _ => return None,
        };
        let line_bytes = ((leaf1.ebx >> 8) & 0xff) as usize * 8;
        line_bytes.is_power_of_two().then_some(Method { instruction, line_bytes })
    }

    /// # Safety
    ///
    /// The line at `line` holds a byte that is valid for reads; `method` came from [`method`].
    #[inline]
    pub(super) unsafe fn write_back(method: Method, line: *const u8) {
        match method.instruction {
            // SAFETY: CPUID has CLWB; the instruction changes no byte, and the caller vouches for the address.
            Instruction::Clwb => unsafe { asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)) },
            // SAFETY: CPUID has CLFLUSHOPT; the rest as above.
            Instruction::Clflushopt => unsafe {
                asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags));
            },
            // SAFETY: CPUID has CLFLUSH (x86-64 implies it); the rest as above.
            Instruction::Clflush => unsafe { _mm_clflush(line) },
        }
    }

    pub(in crate::memory) fn fence() {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use core::arch::asm;

    #[derive(Clone, Copy, Debug)]
    pub(super) struct Method {
        pub(super) line_bytes: usize,
    }

    pub(super) fn method() -> Option<Method> {
        let cache_type: u64;
        // SAFETY: Linux lets user space read CTR_EL0 (or emulates it).
        unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack, preserves_flags)) };
        // CTR_EL0.DminLine, bits 19:16: log2 of the words of the smallest data cache line.
        Some(Method { line_bytes: 4 << ((cache_type >> 16) & 0xf) })
    }

    /// # Safety
    ///
    /// The line at `line` holds a byte that is valid for reads.
    #[inline]
    pub(super) unsafe fn write_back(_method: Method, line: *const u8) {
        // SAFETY: Linux allows DC CVAC in user space; it changes no byte, and the caller vouches for the address.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) };
    }

    pub(super) fn fence() {
        // SAFETY: a barrier touches nothing.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Method {
        pub(super) line_bytes: usize,
    }

    pub(super) fn method() -> Option<Method> {
        None
    }

    /// # Safety
    ///
    /// None: it does nothing, and is unsafe for the sake of its twins.
    pub(super) unsafe fn write_back(_method: Method, _line: *const u8) {}

    pub(super) fn fence() {}
}
