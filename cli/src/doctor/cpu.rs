//! The instructions that matter to memring, as the CPU itself tells.
//!
//! Sources: Intel SDM volume 2, CPUID (leaves 1 and 7); AMD APM volume 3, CPUID (leaf 8000_0008).

use serde_json::json;

use super::page::{Check, Section};
use crate::durability;

/// A register of a leaf of CPUID, and a bit of it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "other CPUs have no CPUID"))]
enum Bit {
    Leaf1Edx(u32),
    Leaf7Ebx(u32),
    Leaf7Ecx(u32),
    Leaf80000008Ebx(u32),
}

/// What JSON calls an instruction, what everybody does, where it is told, what memring does with it, and what without.
type Instruction = (&'static str, &'static str, Bit, &'static str, &'static str);

const INSTRUCTIONS: [Instruction; 9] = [
    (
        "movdir64b",
        "MOVDIR64B",
        Bit::Leaf7Ecx(28),
        "submits to a dedicated queue of a DSA",
        "descriptors go to dedicated queues of a DSA by write(2)",
    ),
    (
        "enqcmd",
        "ENQCMD",
        Bit::Leaf7Ecx(29),
        "submits to a shared queue of a DSA",
        "descriptors go to shared queues of a DSA by write(2)",
    ),
    (
        "waitpkg",
        "WAITPKG",
        Bit::Leaf7Ecx(5),
        "waits for a write to memory (UMONITOR, UMWAIT); memring polls",
        "memring polls with or without",
    ),
    (
        "movdiri",
        "MOVDIRI",
        Bit::Leaf7Ecx(27),
        "stores past the cache; memring does not use it",
        "memring does not use it",
    ),
    (
        "cldemote",
        "CLDEMOTE",
        Bit::Leaf7Ecx(25),
        "moves a cache line farther from the core; memring does not use it",
        "memring does not use it",
    ),
    (
        "clwb",
        "CLWB",
        Bit::Leaf7Ebx(24),
        "writes a cache line back and keeps it: what a flush uses",
        "flushes use CLFLUSHOPT or CLFLUSH, which drop the line",
    ),
    (
        "clflushopt",
        "CLFLUSHOPT",
        Bit::Leaf7Ebx(23),
        "writes a cache line back and drops it: for flushes without CLWB",
        "flushes without CLWB use CLFLUSH",
    ),
    (
        "clflush",
        "CLFLUSH",
        Bit::Leaf1Edx(19),
        "the same, one line after the other: for flushes with neither",
        "there may be nothing to flush with",
    ),
    (
        "clzero",
        "CLZERO",
        Bit::Leaf80000008Ebx(0),
        "zeroes a cache line past the cache: for large sets to zero",
        "large sets to zero use other stores past the cache",
    ),
];

/// Whether the CPU has MOVDIR64B and ENQCMD.
pub(super) fn submits() -> (bool, bool) {
    let [(_, _, dedicated, ..), (_, _, shared, ..), ..] = INSTRUCTIONS;
    (has(dedicated), has(shared))
}

pub(super) fn section() -> Section {
    let check = |(_, name, bit, with, without)| {
        if has(bit) { Check::ok(name, with) } else { Check::not_here(name, without) }
    };
    let mut facts = json!({ "architecture": std::env::consts::ARCH, "cache_flush": durability::cache_flush() });
    for (name, _, bit, ..) in INSTRUCTIONS {
        facts[name] = has(bit).into();
    }
    let checks = if cfg!(target_arch = "x86_64") {
        INSTRUCTIONS.map(check).into()
    } else {
        let flush = durability::cache_flush().unwrap_or("nothing");
        let says = format!("those of x86-64 are not here; cache lines are written back by {flush}");
        vec![Check::not_here("instructions", says)]
    };
    Section { name: "cpu", title: "CPU".to_owned(), checks, facts }
}

#[cfg(target_arch = "x86_64")]
fn has(bit: Bit) -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let leaf = |leaf| (__cpuid(leaf & 0x8000_0000).eax >= leaf).then(|| __cpuid_count(leaf, 0));
    let (register, bit) = match bit {
        Bit::Leaf1Edx(bit) => (leaf(1).map(|leaf| leaf.edx), bit),
        Bit::Leaf7Ebx(bit) => (leaf(7).map(|leaf| leaf.ebx), bit),
        Bit::Leaf7Ecx(bit) => (leaf(7).map(|leaf| leaf.ecx), bit),
        Bit::Leaf80000008Ebx(bit) => (leaf(0x8000_0008).map(|leaf| leaf.ebx), bit),
    };
    register.is_some_and(|register| register & (1 << bit) != 0)
}

#[cfg(not(target_arch = "x86_64"))]
fn has(_bit: Bit) -> bool {
    false
}
