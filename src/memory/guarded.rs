//! Copying, setting and writing back where a page may be missing: each says how far it came, and lives.
//!
//! An access to a page that is not there raises a signal, and nothing written in Rust can go on after it. So there is
//! one routine of instructions that we know: wherever it faults, its registers say exactly what was done, and R9 where
//! to go on. The signal handler (`os/fault.rs`) jumps there, if the fault was inside [`code`], and does nothing else.
//!
//! ```text
//!  32 bytes a step ──end, or a fault──▶ byte by byte ──end, or a fault──▶ return how many were done
//! ```
//!
//! A step is one load and one store, and a store that faults stores nothing, not even on the page that is there. After
//! a fault what is left can therefore be read again, also by a move within one region; byte by byte it comes exactly
//! as far as the pages go. Nothing is done out of order: what lies before the fault is done, and nothing behind.
//!
//! | operation | 32 bytes a step | byte by byte |
//! |---|---|---|
//! | copy | VMOVDQU | REP MOVSB |
//! | copy from the last byte to the first | VMOVDQU | MOV |
//! | set | VMOVDQU | REP STOSB |
//! | copy or set past the cache | VMOVNTDQ | as above |
//! | write back | CLWB, CLFLUSHOPT or CLFLUSH, a line a step | |
//!
//! A CPU without AVX (CPUID leaf 1, ECX bit 28) goes byte by byte. More kernels would not be worth their lines: on a
//! Zen 4 a copy of 64 bytes takes some nanoseconds more than libc's, and from 4 KiB on the two cannot be told apart.
//!
//! Sources: Intel SDM volume 1, 7.3.9.3 (a repeated string operation stops at a fault with its registers exact) and
//! volume 3, 6.5 (a fault leaves everything as it was before the instruction); System V ABI for AMD64 (registers).
#![expect(unsafe_code, reason = "moves bytes between addresses that may not be there")]

use core::arch::naked_asm;
use core::ops::Range;
use core::ptr;

use super::flush::{self, Instruction};
use super::stream::{STREAM_MIN_BYTES, Stores};

/// A streamed store begins at a cache line, bytes.
const LINE: usize = 64;

/// How a guarded operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it may have stopped at a fault"]
pub(crate) struct Ended {
    /// The offset of the byte that could not be accessed, if there was one.
    pub(crate) fault: Option<usize>,
    pub(crate) stores: Stores,
}

impl Ended {
    /// After so many bytes, from the first on.
    #[inline]
    fn after(done: usize, len: usize) -> Self {
        Self { fault: (done < len).then_some(done), stores: Stores::Plain }
    }
}

/// Where the instructions are whose faults can be resumed from: at the address in R9, which lies there too.
pub(crate) fn code() -> Range<usize> {
    // SAFETY: the operation touches no memory.
    let end = unsafe { routine(ptr::null_mut(), ptr::null(), 0, Operation::End) };
    routine as *const () as usize..end
}

/// Copies between regions that do not overlap, past the cache if that is asked for and worth it.
///
/// # Safety
///
/// Each page that the two regions touch may be missing or protected; what is there is the caller's to read and to
/// write. The handler is installed, and the regions do not overlap.
pub(crate) unsafe fn memcpy(dst: *mut u8, src: *const u8, len: usize, past_cache: bool) -> Ended {
    if !past_cache || len < STREAM_MIN_BYTES || !has_avx() {
        // SAFETY: the caller's contract.
        return Ended::after(unsafe { routine(dst, src, len, steps_or(Operation::Copy, Operation::CopyBytes)) }, len);
    }
    let head = dst.addr().wrapping_neg() % LINE;
    // SAFETY: the caller's contract, for the first bytes.
    let done = unsafe { routine(dst, src, head, Operation::CopyBytes) };
    if done < head {
        return Ended::after(done, len);
    }
    let (to, from) = (dst.wrapping_add(head), src.wrapping_add(head));
    // SAFETY: the caller's contract, for the rest; `to` is aligned to a line.
    let done = head + unsafe { routine(to, from, len - head, Operation::CopyPastCache) };
    Ended { stores: Stores::Streamed, ..Ended::after(done, len) }
}

/// Copies between regions that may overlap. If the destination begins behind the source and inside it, from the last
/// byte to the first, and a fault is where that ended.
///
/// # Safety
///
/// That of [`memcpy`], but for the overlap.
pub(crate) unsafe fn memmove(dst: *mut u8, src: *const u8, len: usize, past_cache: bool) -> Ended {
    let ahead = dst.addr().wrapping_sub(src.addr());
    if ahead == 0 || ahead >= len {
        let apart = src.addr().abs_diff(dst.addr()) >= len;
        // SAFETY: the caller's contract; a copy from the first byte on reads each byte before writing it.
        return unsafe { memcpy(dst, src, len, past_cache && apart) };
    }
    // SAFETY: the caller's contract; from the last byte on, this too reads each byte before writing it.
    let done = unsafe { routine(dst, src, len, steps_or(Operation::CopyBack, Operation::CopyBackBytes)) };
    Ended { fault: (len - done).checked_sub(1), stores: Stores::Plain }
}

/// Sets every byte to `value`, past the cache if that is asked for and worth it.
///
/// # Safety
///
/// That of [`memcpy`], for one region.
pub(crate) unsafe fn memset(dst: *mut u8, value: u8, len: usize, past_cache: bool) -> Ended {
    let pattern = ptr::without_provenance(usize::from_ne_bytes([value; size_of::<usize>()]));
    if !past_cache || len < STREAM_MIN_BYTES || !has_avx() {
        // SAFETY: the caller's contract.
        return Ended::after(unsafe { routine(dst, pattern, len, steps_or(Operation::Set, Operation::SetBytes)) }, len);
    }
    let head = dst.addr().wrapping_neg() % LINE;
    // SAFETY: the caller's contract, for the first bytes.
    let done = unsafe { routine(dst, pattern, head, Operation::SetBytes) };
    if done < head {
        return Ended::after(done, len);
    }
    // SAFETY: the caller's contract, for the rest, whose beginning is aligned to a line.
    let done = head + unsafe { routine(dst.wrapping_add(head), pattern, len - head, Operation::SetPastCache) };
    Ended { stores: Stores::Streamed, ..Ended::after(done, len) }
}

/// Writes the cache lines of `len` bytes at `dst` back, and waits until that is ordered before later stores.
///
/// # Safety
///
/// That of [`memcpy`], for one region that is read.
pub(crate) unsafe fn flush(dst: *const u8, len: usize) -> Ended {
    let Some(method) = flush::method() else { return Ended::after(len, len) };
    if len == 0 {
        return Ended::after(0, 0);
    }
    let before = dst.addr() % method.line_bytes;
    let lines = (before + len).next_multiple_of(method.line_bytes);
    let operation = match method.instruction {
        Instruction::Clwb => Operation::Clwb,
        Instruction::Clflushopt => Operation::Clflushopt,
        Instruction::Clflush => Operation::Clflush,
    };
    let first = dst.wrapping_sub(before).cast_mut();
    // SAFETY: the caller's contract; each line holds a byte of the region, and the CPU has the instruction.
    let done = unsafe { routine(first, ptr::without_provenance(method.line_bytes), lines, operation) };
    flush::fence();
    Ended::after(done.saturating_sub(before).min(len), len)
}

fn has_avx() -> bool {
    // Detected once; a load and a test after that.
    is_x86_feature_detected!("avx")
}

/// The first if this CPU has its instructions.
#[inline]
fn steps_or(steps: Operation, bytes: Operation) -> Operation {
    if has_avx() { steps } else { bytes }
}

/// What the routine is to do. In steps of 32 bytes unless the name says otherwise; the steps need AVX.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
enum Operation {
    Copy,
    CopyBytes,
    /// The destination is aligned to 32 bytes.
    CopyPastCache,
    /// From the last byte to the first, and so for its bytes.
    CopyBack,
    CopyBackBytes,
    /// The source is the value, eight times.
    Set,
    SetBytes,
    /// The destination is aligned to 32 bytes.
    SetPastCache,
    /// The destination is aligned to a line, the source is the size of one, and the length is of whole lines, at least
    /// one.
    Clwb,
    Clflushopt,
    Clflush,
    /// Returns where the routine ends.
    End,
}

/// Does the operation, and returns how many bytes were done before it ended or met a fault.
///
/// RDI, RSI, RDX: destination, source, length. RCX: the bytes left. R10: minus the bytes left of whole steps, counted
/// from their end, to which RDI and RSI point meanwhile. R9: where a fault goes on.
///
/// # Safety
///
/// That of [`memcpy`], and what the operation asks for.
#[unsafe(naked)]
unsafe extern "sysv64" fn routine(dst: *mut u8, src: *const u8, len: usize, operation: Operation) -> usize {
    naked_asm!(
        "mov r8d, ecx; mov rcx, rdx; mov r10, rdx; and r10, -32; neg r10",
        "cmp r8d, {COPY}; je 22f; cmp r8d, {SET}; je 42f",
        "cmp r8d, {COPY_PAST_CACHE}; je 23f; cmp r8d, {SET_PAST_CACHE}; je 43f",
        "cmp r8d, {COPY_BACK}; je 52f; cmp r8d, {COPY_BACK_BYTES}; je 55f",
        "cmp r8d, {COPY_BYTES}; je 29f; cmp r8d, {SET_BYTES}; je 49f",
        "cmp r8d, {CLWB}; je 62f; cmp r8d, {CLFLUSHOPT}; je 63f; cmp r8d, {CLFLUSH}; je 64f",
        "lea rax, [rip + 99f]; ret",
        // Copy.
        "22: lea r9, [rip + 28f]; sub rdi, r10; sub rsi, r10; add rcx, r10; test r10, r10; jz 28f",
        ".p2align 4",
        "24: vmovdqu ymm0, [rsi + r10]; vmovdqu [rdi + r10], ymm0; add r10, 32; jnz 24b",
        "jmp 28f",
        // Copy past the cache.
        "23: lea r9, [rip + 28f]; sub rdi, r10; sub rsi, r10; add rcx, r10; test r10, r10; jz 28f",
        ".p2align 4",
        "25: vmovdqu ymm0, [rsi + r10]; vmovntdq [rdi + r10], ymm0; add r10, 32; jnz 25b",
        // What is left of either.
        "28: vzeroupper; add rdi, r10; add rsi, r10; sub rcx, r10",
        "29: lea r9, [rip + 33f]; test rcx, rcx; jz 33f; rep movsb",
        // The end of all.
        "33: mov rax, rdx; sub rax, rcx; ret",
        // Set, and set past the cache.
        "42: lea r9, [rip + 48f]; sub rdi, r10; add rcx, r10; test r10, r10; jz 48f",
        "vmovq xmm0, rsi; vmovddup xmm0, xmm0; vinsertf128 ymm0, ymm0, xmm0, 1",
        ".p2align 4",
        "44: vmovdqu [rdi + r10], ymm0; add r10, 32; jnz 44b",
        "jmp 48f",
        "43: lea r9, [rip + 48f]; sub rdi, r10; add rcx, r10; test r10, r10; jz 48f",
        "vmovq xmm0, rsi; vmovddup xmm0, xmm0; vinsertf128 ymm0, ymm0, xmm0, 1",
        ".p2align 4",
        "45: vmovntdq [rdi + r10], ymm0; add r10, 32; jnz 45b",
        "48: vzeroupper; add rdi, r10; sub rcx, r10",
        "49: lea r9, [rip + 33b]; mov eax, esi; test rcx, rcx; jz 33b; rep stosb",
        "jmp 33b",
        // Copy from the last byte to the first.
        "52: lea r9, [rip + 54f]; cmp rcx, 32; jb 54f",
        ".p2align 4",
        "53: vmovdqu ymm0, [rsi + rcx - 32]; vmovdqu [rdi + rcx - 32], ymm0; sub rcx, 32; cmp rcx, 32; jae 53b",
        "54: vzeroupper",
        "55: lea r9, [rip + 33b]; test rcx, rcx; jz 33b",
        "56: mov al, [rsi + rcx - 1]; mov [rdi + rcx - 1], al; dec rcx; jnz 56b",
        "jmp 33b",
        // Write lines back.
        "62: lea r9, [rip + 33b]",
        "65: clwb [rdi]; add rdi, rsi; sub rcx, rsi; jnz 65b; jmp 33b",
        "63: lea r9, [rip + 33b]",
        "66: clflushopt [rdi]; add rdi, rsi; sub rcx, rsi; jnz 66b; jmp 33b",
        "64: lea r9, [rip + 33b]",
        "67: clflush [rdi]; add rdi, rsi; sub rcx, rsi; jnz 67b; jmp 33b",
        "99:",
        COPY = const Operation::Copy as u32,
        COPY_BYTES = const Operation::CopyBytes as u32,
        COPY_PAST_CACHE = const Operation::CopyPastCache as u32,
        COPY_BACK = const Operation::CopyBack as u32,
        COPY_BACK_BYTES = const Operation::CopyBackBytes as u32,
        SET = const Operation::Set as u32,
        SET_BYTES = const Operation::SetBytes as u32,
        SET_PAST_CACHE = const Operation::SetPastCache as u32,
        CLWB = const Operation::Clwb as u32,
        CLFLUSHOPT = const Operation::Clflushopt as u32,
        CLFLUSH = const Operation::Clflush as u32,
    )
}
