//! Records of the log: whole ones are found, and every torn one is known for what it is.
//!
//! From the command's own source file, since no process can be stopped in the middle of a sector.

#[path = "../src/log/record.rs"]
mod record;

use record::{Broken, check, len, write};

const PAYLOADS: [u32; 9] = [1, 7, 8, 9, 100, 256, 4072, 4096, 10_001];

fn made(payload: u32, sequence: u64) -> Vec<u8> {
    let mut bytes = b"what was there before".to_vec();
    write(&mut bytes, payload, 3, sequence);
    assert_eq!(bytes.len(), len(payload as usize));
    bytes
}

#[test]
fn a_whole_record_is_found_with_its_thread() {
    for payload in PAYLOADS {
        for sequence in [0, 1, 77, u64::MAX] {
            assert_eq!(check(&made(payload, sequence), payload, sequence), Ok(3));
        }
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    for payload in [1, 9, 100] {
        let whole = made(payload, 5);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&bytes, payload, 5), Err(Broken::Torn), "bit {bit} of a payload of {payload}");
        }
    }
}

#[test]
fn every_torn_write_is_noticed() {
    for payload in PAYLOADS {
        let (new, old) = (made(payload, 9), made(payload, 8));
        let step = if payload < 1000 { 1 } else { 37 };
        for torn in (1..new.len()).step_by(step) {
            // Its beginning arrived, or its end; over zeros, or over an older record.
            for before in [&vec![0; new.len()], &old] {
                let begin = [&new[..torn], &before[torn..]].concat();
                let end = [&before[..torn], &new[torn..]].concat();
                for bytes in [begin, end] {
                    let expected = match bytes {
                        _ if bytes == new => continue,
                        _ if bytes == old => Broken::Other(8),
                        _ if bytes.iter().all(|&byte| byte == 0) => Broken::Missing,
                        _ => Broken::Torn,
                    };
                    assert_eq!(check(&bytes, payload, 9), Err(expected), "{payload} at {torn}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_there_or_not_it() {
    for payload in PAYLOADS {
        assert_eq!(check(&vec![0; len(payload as usize)], payload, 0), Err(Broken::Missing));
        assert_eq!(check(&made(payload, 4), payload, 5), Err(Broken::Other(4)));
    }
    // Of another length, in as many bytes.
    assert_eq!(check(&made(255, 5), 256, 5), Err(Broken::Torn));
}

#[test]
fn the_words_for_it() {
    assert_eq!(Broken::Missing.to_string(), "is not there");
    assert_eq!(Broken::Torn.to_string(), "is torn");
    assert_eq!(Broken::Other(4).to_string(), "is not there, but record 4 is");
    assert_eq!(Broken::Payload.to_string(), "has other bytes than were appended");
}
