//! The registers: both texts of a set of operations, the bits, the presets, and what a queue leaves of a device.

use memring::dsa::{
    DeviceCapabilities, DsaOpcode, GenCap, Mode, NotAnOperationSet, OperationSet, Preset, UnknownPreset, VERSION_1,
    VERSION_2, WorkQueueCapabilities,
};

fn parse(text: &str) -> Result<OperationSet, NotAnOperationSet> {
    text.parse()
}

#[test]
fn both_texts_of_operations_are_read() {
    let words = |words| Ok(OperationSet::from_words(words));
    for (text, expected) in [
        ("00000000,00000000,00000000,00000000,00000000,00000000,00000001,003f027d\n", words([0x1_003f_027d, 0, 0, 0])),
        ("80000000,00000000,00000000,00000000,00000000,00000000,00000000,00000001", words([1, 0, 0, 1 << 63])),
        ("00000007,00000006,00000005,00000004", words([0x5_0000_0004, 0x7_0000_0006, 0, 0])),
        ("0x1003f03ff 0 0 0 \n", words([0x1_003f_03ff, 0, 0, 0])),
        ("0x1 0x2 0x3 0x8000000000000000", words([1, 2, 3, 1 << 63])),
        ("0x7b00bf07ff", words([0x7b_00bf_07ff, 0, 0, 0])),
        ("0", words([0; 4])),
        ("0,0", words([0; 4])),
        ("ffffffffffffffff", words([u64::MAX, 0, 0, 0])),
    ] {
        assert_eq!(parse(text), expected, "{text:?}");
    }
    let too_much = "0,0,0,0,0,0,0,0,0";
    for text in ["", " ", ",", "1,", ",1", "1,,1", "x", "0x", "-1", "+1", "1 -1", "1 2 3 4 5", "1, 2 3", too_much] {
        assert_eq!(parse(text), Err(NotAnOperationSet), "{text:?}");
    }
    for text in ["100000000,0", "1ffffffffffffffff", "0x1ffffffffffffffff 0 0 0", "0,0xg", "ä,ö"] {
        assert_eq!(parse(text), Err(NotAnOperationSet), "{text:?}");
    }
}

#[test]
fn a_set_of_operations_prints_as_new_kernels_do() {
    let set = OperationSet::from_words([0x1_003f_027d, 0, 0, 1 << 63]);
    assert_eq!(set.to_string(), "80000000,00000000,00000000,00000000,00000000,00000000,00000001,003f027d");
    assert_eq!(parse(&set.to_string()), Ok(set));
}

#[test]
fn each_opcode_has_its_own_bit() {
    for opcode in 0..=u8::MAX {
        let one = OperationSet::NONE.with(DsaOpcode::from_u8(opcode));
        let members = (0..=u8::MAX).filter(|other| one.contains(DsaOpcode::from_u8(*other)));
        assert_eq!(members.collect::<Vec<_>>(), [opcode]);
        assert_eq!(one.without(DsaOpcode::from_u8(opcode)), OperationSet::NONE);
        assert_eq!(parse(&one.to_string()), Ok(one));
    }
}

/// What the fact sheet decodes of both values that were seen.
#[test]
fn general_capabilities_of_the_first_version() {
    for (bits, extra) in [(0x40_915f_010f, GenCap::from_bits(1 << 3)), (0x40_915f_0107, GenCap::NONE)] {
        let seen = GenCap::from_bits(bits);
        assert!(seen.contains(extra));
        let names: Vec<_> = seen.names().collect();
        let expected = ["block on fault", "overlapping move", "cache control", "destination readback", "configurable"];
        assert_eq!(names, expected, "{seen:?}");
        assert_eq!((seen.max_transfer_bytes(), seen.max_batch()), (1 << 31, 1 << 10));
        assert_eq!(seen.event_log_entry_bytes(), None);
    }
}

#[test]
fn presets_are_what_was_seen() {
    for (preset, name, version, operations) in [
        (Preset::V1Early, "v1-early", VERSION_1, 0x1_003f_03ff),
        (Preset::V1Production, "v1", VERSION_1, 0x1_003f_027d),
        (Preset::V2SierraForest, "v2-sierra-forest", VERSION_2, 0x7b_00bf_067f),
        (Preset::V2Full, "v2", VERSION_2, 0x7b_00bf_07ff),
    ] {
        let device = preset.capabilities();
        assert_eq!((device.version, device.op_cap), (version, OperationSet::from_words([operations, 0, 0, 0])));
        assert_eq!((preset.to_string().as_str(), name.parse()), (name, Ok(preset)));
        assert_eq!((device.max_transfer_bytes, device.max_batch), (1 << 31, 1024));
    }
    assert_eq!("v3".parse::<Preset>(), Err(UnknownPreset));
    let production = Preset::V1Production.capabilities().op_cap;
    for missing in [DsaOpcode::BATCH, DsaOpcode::CR_DELTA, DsaOpcode::AP_DELTA] {
        assert!(!production.contains(missing));
    }
}

#[test]
fn a_queue_leaves_what_both_allow() {
    let device = DeviceCapabilities::new(VERSION_2, GenCap::from_bits(0x40_915f_0107), OperationSet::ALL);
    let mut queue = WorkQueueCapabilities::new(Mode::Dedicated, 8);
    let plain = device.through(&queue);
    assert_eq!((plain.max_transfer_bytes, plain.max_batch, plain.blocks_on_fault), (2 << 20, 32, false));
    assert!(plain.allows_batch() && plain.operations == OperationSet::ALL);

    queue.blocks_on_fault = true;
    queue.max_transfer_bytes = u64::MAX;
    queue.max_batch = u32::MAX;
    queue.op_config = OperationSet::ALL.without(DsaOpcode::BATCH);
    let all = device.through(&queue);
    assert_eq!((all.max_transfer_bytes, all.max_batch, all.blocks_on_fault), (1 << 31, 1024, true));
    assert!(!all.allows_batch() && all.operations.contains(DsaOpcode::MEMMOVE));

    // What the device does not know, no queue can give.
    let mut little = device;
    little.op_cap = OperationSet::NONE.with(DsaOpcode::MEMMOVE).with(DsaOpcode::BATCH);
    assert_eq!(little.through(&queue).operations, OperationSet::NONE.with(DsaOpcode::MEMMOVE));

    // A batch of one is no batch; and blocking takes both.
    queue.op_config = OperationSet::ALL;
    queue.max_batch = 1;
    let mut device = device;
    device.gen_cap = device.gen_cap.without(GenCap::BLOCK_ON_FAULT);
    let little = device.through(&queue);
    assert!(!little.allows_batch() && !little.blocks_on_fault);
}
