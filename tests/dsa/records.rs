//! Completion records: statuses, fields, and that the status comes last.

use std::thread;
use std::time::{Duration, Instant};

use memring::dsa::{CompletionRecord, Fault, FaultInfo, Flags, RecordStatus, RecordView, StatusClass};

use crate::random::{Random, seed};
use crate::{bytes, facts, hex};

/// Ours, by the names in Linux's header.
pub(crate) fn named(name: &str) -> RecordStatus {
    match name {
        "DSA_COMP_NONE" => RecordStatus::PENDING,
        "DSA_COMP_SUCCESS" => RecordStatus::SUCCESS,
        "DSA_COMP_SUCCESS_PRED" => RecordStatus::SUCCESS_PREDICATE,
        "DSA_COMP_PAGE_FAULT_NOBOF" => RecordStatus::PAGE_FAULT,
        "DSA_COMP_PAGE_FAULT_IR" => RecordStatus::PAGE_FAULT_REFUSED,
        "DSA_COMP_BATCH_FAIL" => RecordStatus::BATCH_FAILED,
        "DSA_COMP_BATCH_PAGE_FAULT" => RecordStatus::BATCH_PAGE_FAULT,
        "DSA_COMP_DR_OFFSET_NOINC" => RecordStatus::DELTA_NOT_ASCENDING,
        "DSA_COMP_DR_OFFSET_ERANGE" => RecordStatus::DELTA_OUT_OF_RANGE,
        "DSA_COMP_DIF_ERR" => RecordStatus::DIF_ERROR,
        "DSA_COMP_BAD_OPCODE" => RecordStatus::BAD_OPCODE,
        "DSA_COMP_INVALID_FLAGS" => RecordStatus::INVALID_FLAGS,
        "DSA_COMP_NOZERO_RESERVE" => RecordStatus::RESERVED_NOT_ZERO,
        "DSA_COMP_XFER_ERANGE" => RecordStatus::BAD_LENGTH,
        "DSA_COMP_DESC_CNT_ERANGE" => RecordStatus::BAD_COUNT,
        "DSA_COMP_DR_ERANGE" => RecordStatus::BAD_DELTA_LENGTH,
        "DSA_COMP_OVERLAP_BUFFERS" => RecordStatus::OVERLAP,
        "DSA_COMP_DCAST_ERR" => RecordStatus::DUALCAST_MISMATCH,
        "DSA_COMP_DESCLIST_ALIGN" => RecordStatus::MISALIGNED_LIST,
        "DSA_COMP_INT_HANDLE_INVAL" => RecordStatus::BAD_INTERRUPT_HANDLE,
        "DSA_COMP_CRA_XLAT" => RecordStatus::RECORD_PAGE_FAULT,
        "DSA_COMP_CRA_ALIGN" => RecordStatus::MISALIGNED_RECORD,
        "DSA_COMP_ADDR_ALIGN" => RecordStatus::MISALIGNED,
        "DSA_COMP_PRIV_BAD" => RecordStatus::BAD_PRIVILEGE,
        "DSA_COMP_TRAFFIC_CLASS_CONF" => RecordStatus::BAD_TRAFFIC_CLASS,
        "DSA_COMP_PFAULT_RDBA" => RecordStatus::READBACK_PAGE_FAULT,
        "DSA_COMP_HW_ERR1" => RecordStatus::HARDWARE_ERROR,
        "DSA_COMP_HW_ERR_DRB" => RecordStatus::WRITE_ERROR,
        "DSA_COMP_TRANSLATION_FAIL" => RecordStatus::TRANSLATION_ERROR,
        "DSA_COMP_DRAIN_EVL" => RecordStatus::DRAIN_EVENT,
        "DSA_COMP_BATCH_EVL_ERR" => RecordStatus::BATCH_EVENT,
        _ => panic!("a status that memring does not know: {name}"),
    }
}

fn class(word: &str) -> StatusClass {
    match word {
        "pending" => StatusClass::Pending,
        "success" => StatusClass::Success,
        "partial" => StatusClass::Partial,
        "batch" => StatusClass::Batch,
        "data error" => StatusClass::Data,
        "programming" => StatusClass::Programming,
        "hardware" => StatusClass::Hardware,
        "event log" => StatusClass::EventLog,
        "SWERROR" => StatusClass::Submission,
        _ => panic!("no class: {word:?}"),
    }
}

#[test]
fn statuses_are_those_of_the_table() {
    let mut known = Vec::new();
    for line in facts(include_str!("status.csv")) {
        let columns: Vec<&str> = line.splitn(5, ',').collect();
        let [codes, name, word, with_write, _] = columns[..] else { panic!("{line}") };
        let (first, last) = codes.split_once('-').unwrap_or((codes, codes));
        for code in hex(first)..=hex(last) {
            let status = RecordStatus::from_u8(u8::try_from(code).expect("a byte"));
            assert_eq!(status.class(), class(word), "{line}");
            let write = status.at_write();
            // Code 0 with that bit is neither pending nor anything else.
            let of_write = if code == 0 { StatusClass::Unknown } else { class(word) };
            assert_eq!((write.code(), write.class(), write.fault_was_write()), (status, of_write, true));
            known.push(status);
        }
        let status = RecordStatus::from_u8(u8::try_from(hex(first)).expect("a byte"));
        if name != "-" {
            assert_eq!(named(name), status, "{line}");
        }
        let has_fault = RecordView::new(status).fault().is_some();
        // An address that cannot be translated is told too, though its access may be any.
        assert_eq!(has_fault, with_write == "yes" || status == RecordStatus::TRANSLATION_ERROR, "{line}");
    }
    assert!(RecordStatus::ALL.iter().all(|status| known.contains(status)));
    for status in (0..=u8::MAX).map(RecordStatus::from_u8) {
        let is_known = known.contains(&status.code()) && status.to_u8() != 0x80;
        assert_eq!(is_known, status.class() != StatusClass::Unknown, "{status:?}");
        assert_eq!(status.is_pending(), status.class() == StatusClass::Pending, "{status:?}");
        assert!(!status.to_string().is_empty() && !format!("{status:?}").is_empty());
        assert_eq!(status.is_pending(), status.to_u8() == 0, "{status:?}");
        let kinds = [status.is_success(), status.is_resumable(), status.is_programming_error()];
        assert!(kinds.iter().filter(|is| **is).count() <= 1, "{status:?}");
    }
}

#[test]
fn bytes_and_fields_are_the_same() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..10_000 {
        let image: [u8; 32] = bytes(&mut random);
        let view = RecordView::from_bytes(&image);
        assert_eq!(view.to_bytes(), image, "seed {seed}");
        let _ = (view.fault(), view.fault_info(), view.invalid_flags(), format!("{view:?}"));
        let record = CompletionRecord::new();
        record.write(&view);
        assert_eq!(record.view(), (image[0] != 0).then_some(view), "seed {seed}");
    }
}

/// What a setter does not set stays, as a device leaves what is unused.
#[test]
fn setters_set_their_bytes_only() {
    let poison = RecordView::filled(RecordStatus::PAGE_FAULT, 0xa5);
    let touched = |view: RecordView| -> Vec<usize> {
        let both = view.to_bytes().into_iter().zip(poison.to_bytes());
        both.enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect()
    };
    assert!(touched(poison).is_empty());
    assert_eq!(touched(poison.with_result(0)), [1]);
    assert_eq!(touched(poison.with_fault_info(FaultInfo::default())), [2]);
    assert_eq!(touched(poison.with_bytes_completed(0)), [4, 5, 6, 7]);
    assert!(touched(poison.with_fault_address(0)).into_iter().eq(8..16));
    assert_eq!(touched(poison.with_invalid_flags(Flags::NONE)), [16, 17, 18]);
    assert_eq!(touched(poison.with_delta_record_len(0)), [16, 17, 18, 19]);
    assert_eq!(touched(poison.with_crc32(0)), [16, 17, 18, 19]);
    assert!(touched(poison.with_crc64(0)).into_iter().eq(16..24));
    let expected = Fault { address: u64::from_le_bytes([0xa5; 8]), is_write: false };
    assert_eq!(poison.fault(), Some(expected));
    assert_eq!(poison.fault_info(), Some(FaultInfo { is_masked: true, operand: 0b010 }));
}

/// Two threads, one record: the user clears it, the device writes it, and every view is whole.
#[test]
fn who_sees_the_status_sees_the_rest() {
    const TURNS: u32 = 20_000;
    let record = CompletionRecord::new();
    let of_turn = |turn: u32| {
        let byte = turn.to_le_bytes()[0];
        RecordView::filled(RecordStatus::SUCCESS, byte).with_bytes_completed(turn)
    };
    let begin = Instant::now();
    let wait = |is_over: &dyn Fn() -> bool| {
        while !is_over() {
            assert!(begin.elapsed() < Duration::from_secs(60), "the other thread is gone");
            thread::yield_now();
        }
    };
    thread::scope(|s| {
        s.spawn(|| {
            for turn in 0..TURNS {
                wait(&|| record.status().is_pending());
                record.write(&of_turn(turn));
            }
        });
        let mut torn = 0;
        for turn in 0..TURNS {
            wait(&|| !record.status().is_pending());
            // Counted, since a panic here would leave the other thread waiting.
            torn += u32::from(record.view() != Some(of_turn(turn)));
            record.clear();
        }
        assert_eq!(torn, 0);
    });
}
