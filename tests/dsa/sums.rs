//! Sums, against `sums.txt`, and against the definition bit by bit.

use memring::dsa::{Flags, operations::Crc};

use crate::random::{Random, seed};
use crate::{facts, hex};

/// The flags of the columns, in their order.
const COLUMNS: [Flags; 4] = [
    Flags::NONE,
    Flags::BYPASS_CRC_REFLECTION,
    Flags::BYPASS_DATA_REFLECTION,
    Flags::BYPASS_CRC_REFLECTION.with(Flags::BYPASS_DATA_REFLECTION),
];

fn ascending(len: usize) -> Vec<u8> {
    (0..len).map(|at| at.to_le_bytes()[0]).collect()
}

/// The input that a line of the table names.
fn input(name: &str) -> Vec<u8> {
    match name {
        "empty-not-allowed(1 zero byte)" => vec![0],
        "ascii 123456789" => b"123456789".to_vec(),
        "32 x 00" => vec![0; 32],
        "32 x ff" => vec![0xff; 32],
        "00..1f ascending" => ascending(32),
        "1f..00 descending" => ascending(32).into_iter().rev().collect(),
        "4096 x 00" => vec![0; 4096],
        "4096 bytes, i & 0xff" => ascending(4096),
        "idxd-config pattern 0x0123456789abcdef LE x512" => 0x0123_4567_89ab_cdef_u64.to_le_bytes().repeat(512),
        _ => panic!("no input: {name:?}"),
    }
}

#[test]
fn sums_are_those_of_the_table() {
    let mut width = Flags::NONE;
    let mut checked = 0;
    for line in facts(include_str!("sums.txt")) {
        match line {
            "[crc32c]" => width = Flags::NONE,
            "[crc64]" => width = Flags::CRC_64,
            _ => {
                let columns: Vec<&str> = line.split(" | ").collect();
                let [name, seed, sums @ ..] = &columns[..] else { panic!("{line}") };
                let seed = if *seed == "0" { 0 } else { hex(seed) };
                let data = input(name);
                for (flags, sum) in COLUMNS.into_iter().zip(sums) {
                    let crc = Crc::from_flags(width | flags);
                    assert_eq!(crc.sum(&data, seed), hex(sum), "{line}, {flags:?}");
                    let mut copy = vec![0; data.len()];
                    assert_eq!(crc.copy(&mut copy, &data, seed), hex(sum), "{line}, {flags:?}");
                    assert_eq!(copy, data);
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 21 * 4);
    // The first 1000 bytes of a row, whose sum is the seed of the rest. Source: as of `sums.txt`.
    let (data, crc) = (ascending(4096), Crc::from_flags(Flags::NONE));
    assert_eq!(crc.sum(&data[..1000], 0), 0x1a31_8e30);
    assert_eq!(crc.sum(&data[1000..], 0x1a31_8e30), 0x9c71_fe32);
}

/// The definition: a register of `width` bits that takes one bit after the other at its top.
fn by_bits(data: &[u8], seed: u64, flags: Flags) -> u64 {
    let (width, polynomial) =
        if flags.contains(Flags::CRC_64) { (64, 0xad93_d235_94c9_3659) } else { (32, 0x1edc_6f41) };
    let mask = u64::MAX >> (64 - width);
    let reflect = |word: u64| (0..width).fold(0, |all, bit| all | ((word >> bit) & 1) << (width - 1 - bit));
    let is_raw = flags.contains(Flags::BYPASS_CRC_REFLECTION);
    let mut register = if is_raw { seed & mask } else { reflect(!seed & mask) };
    for byte in data {
        for step in 0..8 {
            let bit = if flags.contains(Flags::BYPASS_DATA_REFLECTION) { 7 - step } else { step };
            let falls_out = (register >> (width - 1)) ^ u64::from((byte >> bit) & 1);
            register = (register << 1) & mask ^ if falls_out == 1 { polynomial } else { 0 };
        }
    }
    if is_raw { register } else { reflect(register) ^ mask }
}

#[test]
fn sums_are_those_of_the_definition_and_go_on() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..100 {
        let data: Vec<u8> = (0..random.below(300)).map(|_| random.next().to_le_bytes()[0]).collect();
        let (start, cut) = (random.next(), random.below(data.len() + 1));
        for flags in COLUMNS.into_iter().flat_map(|flags| [flags, flags | Flags::CRC_64]) {
            let crc = Crc::from_flags(flags);
            let expected = by_bits(&data, start, flags);
            assert_eq!(crc.sum(&data, start), expected, "{flags:?}, seed {seed}");
            let (first, rest) = data.split_at(cut);
            assert_eq!(crc.sum(rest, crc.sum(first, start)), expected, "{flags:?}, seed {seed}");
        }
    }
}

#[test]
fn a_copy_that_is_longer_than_a_block_has_the_sum_of_all() {
    for len in [0, 1, 4095, 4096, 4097, 3 * 4096 + 5] {
        let data = ascending(len);
        for flags in COLUMNS {
            let crc = Crc::from_flags(flags);
            let mut copy = vec![0xee; len];
            assert_eq!(crc.copy(&mut copy, &data, 77), crc.sum(&data, 77));
            assert_eq!(copy, data);
        }
    }
}
