//! Goal: the five instructions are recognised in every form that an assembler writes, with what they name; nothing else
//! is.
//!
//! Method: the decoder is compiled into this program (the library has functions of the C library's names, which no test
//! should be linked with). The bytes were made by GNU as 2.40 from the text beside them.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "whatever is not as expected ends the test")]

#[path = "../src/instruction.rs"]
mod instruction;

use instruction::{Instruction, Kind, Registers, Segment};

/// Register n holds n + 1 times this.
const STEP: u64 = 0x1000_0000_0100;
const FS: u64 = 0x7f00_0000_0000;
const GS: u64 = 0x6f00_0000_0000;
const AT: u64 = 0x40_0000;

struct Machine;

impl Registers for Machine {
    fn general(&self, number: u8) -> u64 {
        assert!(number < 16);
        STEP * (u64::from(number) + 1)
    }

    fn base(&self, segment: Segment) -> u64 {
        match segment {
            Segment::Fs => FS,
            Segment::Gs => GS,
        }
    }
}

const RAX: u64 = STEP;
const RCX: u64 = 2 * STEP;
const RDX: u64 = 3 * STEP;
const RBX: u64 = 4 * STEP;
const RSP: u64 = 5 * STEP;
const RBP: u64 = 6 * STEP;
const RSI: u64 = 7 * STEP;
const RDI: u64 = 8 * STEP;
const R8: u64 = 9 * STEP;
const R9: u64 = 10 * STEP;
const R10: u64 = 11 * STEP;
const R11: u64 = 12 * STEP;
const R12: u64 = 13 * STEP;
const R13: u64 = 14 * STEP;
const R15: u64 = 16 * STEP;
const LOW: u64 = 0xffff_ffff;

#[rustfmt::skip]
const STORES: &[(&str, &[u8], Kind, u64, u64)] = &[
    ("movdir64b rax,[rdx]", &[0x66, 0x0f, 0x38, 0xf8, 0x02], Kind::Movdir64b, RAX, RDX),
    ("enqcmd rax,[rdx]", &[0xf2, 0x0f, 0x38, 0xf8, 0x02], Kind::Enqcmd, RAX, RDX),
    ("movdir64b rdi,[rsi+8]", &[0x66, 0x0f, 0x38, 0xf8, 0x7e, 0x08], Kind::Movdir64b, RDI, RSI + 8),
    ("enqcmd r9,[r12]", &[0xf2, 0x45, 0x0f, 0x38, 0xf8, 0x0c, 0x24], Kind::Enqcmd, R9, R12),
    ("enqcmd r13,[r13]", &[0xf2, 0x45, 0x0f, 0x38, 0xf8, 0x6d, 0x00], Kind::Enqcmd, R13, R13),
    ("movdir64b rbx,[rsp+0x40]", &[0x66, 0x0f, 0x38, 0xf8, 0x5c, 0x24, 0x40], Kind::Movdir64b, RBX, RSP + 0x40),
    ("movdir64b rcx,[rbp+r15*8-0x12345]", &[0x66, 0x42, 0x0f, 0x38, 0xf8, 0x8c, 0xfd, 0xbb, 0xdc, 0xfe, 0xff],
        Kind::Movdir64b, RCX, RBP + 8 * R15 - 0x12345),
    ("enqcmd r8,[rip+0x100]", &[0xf2, 0x44, 0x0f, 0x38, 0xf8, 0x05, 0x00, 0x01, 0x00, 0x00], Kind::Enqcmd, R8,
        AT + 10 + 0x100),
    ("enqcmd rax,[r10*4+0x7000]", &[0xf2, 0x42, 0x0f, 0x38, 0xf8, 0x04, 0x95, 0x00, 0x70, 0x00, 0x00], Kind::Enqcmd,
        RAX, 4 * R10 + 0x7000),
    ("movdir64b rax,ds:0x1000", &[0x66, 0x0f, 0x38, 0xf8, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00], Kind::Movdir64b, RAX,
        0x1000),
    ("enqcmd eax,[edx+ecx*2]", &[0x67, 0xf2, 0x0f, 0x38, 0xf8, 0x04, 0x4a], Kind::Enqcmd, RAX & LOW,
        (RDX + 2 * RCX) & LOW),
    ("movdir64b rax,fs:[rdx]", &[0x64, 0x66, 0x0f, 0x38, 0xf8, 0x02], Kind::Movdir64b, RAX, FS + RDX),
    ("enqcmd r15,gs:[rax+0x10]", &[0x65, 0xf2, 0x44, 0x0f, 0x38, 0xf8, 0x78, 0x10], Kind::Enqcmd, R15, GS + RAX + 0x10),
    ("enqcmd with a needless 66", &[0x66, 0xf2, 0x0f, 0x38, 0xf8, 0x02], Kind::Enqcmd, RAX, RDX),
];

#[test]
fn stores_are_decoded_with_both_addresses() {
    for (text, bytes, kind, destination, source) in STORES {
        // What stands behind it is not looked at.
        for tail in [0x00, 0xff] {
            let mut code = bytes.to_vec();
            code.resize(instruction::LONGEST, tail);
            let decoded = Instruction::decode(&code).expect(text);
            assert_eq!((decoded.kind, usize::from(decoded.len)), (*kind, bytes.len()), "{text}");
            assert_eq!(decoded.destination(&Machine), *destination, "{text}: destination");
            assert_eq!(decoded.source(&Machine, AT), Some(*source), "{text}: source");
        }
    }
}

#[test]
fn an_instruction_that_is_cut_off_is_none() {
    for (text, bytes, ..) in STORES {
        for len in 0..bytes.len() {
            assert_eq!(Instruction::decode(&bytes[..len]), None, "{text}, {len} bytes of it");
        }
    }
}

#[test]
fn waits_are_decoded() {
    let waits: [(&[u8], Kind, u64); 5] = [
        (&[0xf3, 0x0f, 0xae, 0xf0], Kind::Umonitor, RAX),
        (&[0xf3, 0x41, 0x0f, 0xae, 0xf3], Kind::Umonitor, R11),
        (&[0xf3, 0x48, 0x0f, 0xae, 0xf0], Kind::Umonitor, RAX),
        (&[0xf2, 0x48, 0x0f, 0xae, 0xf1], Kind::Umwait, RCX),
        (&[0x66, 0x0f, 0xae, 0xf1], Kind::Tpause, RCX),
    ];
    for (bytes, kind, register) in waits {
        let decoded = Instruction::decode(bytes).unwrap();
        assert_eq!((decoded.kind, usize::from(decoded.len)), (kind, bytes.len()));
        assert_eq!(decoded.destination(&Machine), register);
        assert_eq!(decoded.state(&Machine), register & LOW);
        assert_eq!(decoded.source(&Machine, AT), None);
    }
}

#[test]
fn nothing_else_is_decoded() {
    let others: [(&str, &[u8]); 14] = [
        ("enqcmds rax,[rdx]", &[0xf3, 0x0f, 0x38, 0xf8, 0x02]),
        ("no prefix", &[0x0f, 0x38, 0xf8, 0x02]),
        ("movdir64b of two registers", &[0x66, 0x0f, 0x38, 0xf8, 0xc2]),
        ("clflushopt [rax]", &[0x66, 0x0f, 0xae, 0x38]),
        ("clwb [rax]", &[0x66, 0x0f, 0xae, 0x30]),
        ("lfence", &[0x0f, 0xae, 0xe8]),
        ("mfence", &[0x0f, 0xae, 0xf0]),
        ("sfence", &[0x0f, 0xae, 0xf8]),
        ("ud2", &[0x0f, 0x0b]),
        ("crc32 eax,[rdx]", &[0xf2, 0x0f, 0x38, 0xf0, 0x02]),
        ("movbe rax,[rdx]", &[0x48, 0x0f, 0x38, 0xf0, 0x02]),
        ("lock", &[0xf0, 0x66, 0x0f, 0x38, 0xf8, 0x02]),
        ("a prefix after rex", &[0x48, 0x66, 0x0f, 0x38, 0xf8, 0x02]),
        ("prefixes without end", &[0x66; 20]),
    ];
    for (text, bytes) in others {
        let mut code = bytes.to_vec();
        code.resize(20, 0);
        assert_eq!(Instruction::decode(&code), None, "{text}");
    }
}
