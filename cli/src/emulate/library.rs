//! The library that is preloaded, which the command carries in itself: so it is there for `cargo run` on a fresh clone
//! and for a command that was copied somewhere, and always of the same version.
//!
//! The assembler reads the file when the command is generated, and not when it is only checked: then the file may not
//! be there yet.
#![cfg_attr(has_emulator, expect(unsafe_code, reason = "names the bytes that the assembler has put there"))]

#[cfg(has_emulator)]
use core::{arch::global_asm, ptr::slice_from_raw_parts};

#[cfg(has_emulator)]
global_asm!(
    ".pushsection .rodata.memring_emulator, \"a\", @progbits",
    ".balign 16",
    ".global memring_emulator_begin",
    ".hidden memring_emulator_begin",
    "memring_emulator_begin:",
    concat!(".incbin \"", env!("MEMRING_EMULATOR_LIBRARY"), "\""),
    ".global memring_emulator_end",
    ".hidden memring_emulator_end",
    "memring_emulator_end:",
    ".byte 0",
    ".popsection",
);

#[cfg(has_emulator)]
unsafe extern "C" {
    static memring_emulator_begin: u8;
    static memring_emulator_end: u8;
}

/// The library, if this build has it.
#[cfg(has_emulator)]
pub(super) fn bytes() -> Option<&'static [u8]> {
    let (begin, end) = (&raw const memring_emulator_begin, &raw const memring_emulator_end);
    let len = end.addr().checked_sub(begin.addr())?;
    // SAFETY: the assembler has put so many bytes there, which nobody writes.
    Some(unsafe { &*slice_from_raw_parts(begin, len) })
}

/// The library: this build has none.
#[cfg(not(has_emulator))]
pub(super) fn bytes() -> Option<&'static [u8]> {
    None
}
