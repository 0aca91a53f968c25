//! Whole descriptors, and random ones.

use memring::dsa::{Descriptor, DsaOpcode, Flags, Operation, UnknownOpcode};

use crate::random::{Random, seed};
use crate::{bytes, facts};

const RECORD: u64 = 0x1122_3344_5566_7780;
const A: u64 = 0x7f00_0000_1000;
const B: u64 = 0x7f00_0020_5000;
const C: u64 = 0x7f00_0030_9000;

/// The operations of `descriptors.txt`, in its order.
fn operations() -> Vec<(Operation, Flags)> {
    let record = Flags::RECORD;
    let copy = Operation::Memmove { src: A, dst: B, len: 4096 };
    vec![
        (copy, record),
        (copy, record | Flags::BLOCK_ON_FAULT | Flags::CACHE_CONTROL),
        (Operation::Fill { pattern: 0x0123_4567_89ab_cdef, pattern_high: 0, dst: B, len: 100 }, record),
        (Operation::Compare { src_1: A, src_2: B, len: 256, expected: 0 }, record | Flags::CHECK_RESULT),
        (Operation::CompareValue { src: A, pattern: 0, len: 4096, expected: 0 }, record),
        (
            Operation::CreateDelta { src_1: A, src_2: B, len: 4096, record: C, max_record_len: 800, expected_mask: 0 },
            record,
        ),
        (Operation::ApplyDelta { record: C, dst: B, len: 4096, record_len: 20 }, record),
        (Operation::Dualcast { src: A, dst_1: B, dst_2: C, len: 4096 }, record),
        (Operation::Crc { src: A, len: 9, seed: 0, seed_address: 0 }, record),
        (
            Operation::CopyCrc { src: A, dst: B, len: 4096, seed: 0, seed_address: RECORD - 0x20 + 16 },
            record | Flags::READ_SEED,
        ),
        (Operation::CacheFlush { address: B, len: 4096 }, record),
        (Operation::Nop, record),
        (Operation::Nop, record | Flags::FENCE),
        (Operation::Drain { readback_1: 0, readback_2: 0 }, record),
        (Operation::Batch { list: 0x7f00_0040_0040, count: 4 }, record),
    ]
}

fn image(digits: &str) -> [u8; 64] {
    core::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("two digits"))
}

#[test]
fn golden_images_match() {
    let images: Vec<&str> = facts(include_str!("descriptors.txt")).collect();
    let operations = operations();
    assert_eq!(images.len(), operations.len());
    for (line, (operation, flags)) in images.into_iter().zip(operations) {
        let (name, digits) = line.split_once(" | ").expect("a name and an image");
        let image = image(digits);
        let descriptor = Descriptor::new(&operation, flags, RECORD);
        assert_eq!(descriptor.to_bytes(), image, "{name}");
        let decoded = Descriptor::from_bytes(&image);
        assert_eq!(decoded.operation(), Ok(operation), "{name}");
        assert_eq!((decoded.flags(), decoded.record_address()), (flags, RECORD), "{name}");
        assert_eq!((decoded.reserved_flags(), decoded.reserved_byte()), (Flags::NONE, None), "{name}");
    }
}

/// Any 64 bytes decode, and what is decoded encodes to what decodes to the same.
#[test]
fn random_bytes_do_no_harm() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..100_000 {
        let descriptor = Descriptor::from_bytes(&bytes(&mut random));
        assert_eq!(Descriptor::from_bytes(&descriptor.to_bytes()), descriptor, "seed {seed}");
        let _ = (descriptor.reserved_byte(), descriptor.reserved_flags(), format!("{descriptor:?}"));
        if let Ok(operation) = descriptor.operation() {
            let again = Descriptor::new(&operation, descriptor.flags(), descriptor.record_address());
            assert_eq!(again.operation(), Ok(operation), "seed {seed}");
        }
    }
}

/// What has no stray bit is what encoding makes: no field is forgotten, and none but the fields is not reserved.
#[test]
fn encoding_is_decoding_backwards() {
    let seed = seed();
    let mut random = Random::new(seed);
    for opcode in DsaOpcode::ALL {
        for _ in 0..2_000 {
            let mut image: [u8; 64] = bytes(&mut random);
            image[..4].fill(0);
            image[7] = opcode.to_u8();
            // Without this flag the handle is reserved; encoding has none.
            image[4] &= !0x10;
            while let Some(stray) = Descriptor::from_bytes(&image).reserved_byte() {
                image[stray] = 0;
            }
            let descriptor = Descriptor::from_bytes(&image);
            let operation = descriptor.operation().expect("an opcode with a name has a layout");
            assert_eq!(operation.opcode(), *opcode);
            let again = Descriptor::new(&operation, descriptor.flags(), descriptor.record_address());
            assert_eq!(again.to_bytes(), image, "{opcode}, seed {seed}");
        }
    }
}

#[test]
fn an_unknown_opcode_is_told() {
    let known: Vec<u8> = DsaOpcode::ALL.iter().map(|opcode| opcode.to_u8()).collect();
    for byte in (0..=u8::MAX).filter(|byte| !known.contains(byte)) {
        let mut image = [0; 64];
        image[7] = byte;
        let opcode = DsaOpcode::from_u8(byte);
        assert_eq!(Descriptor::from_bytes(&image).operation(), Err(UnknownOpcode(opcode)));
        let told = UnknownOpcode(opcode).to_string();
        assert_eq!(told, format!("the fields of opcode {byte:#04x} are not known"));
    }
}
