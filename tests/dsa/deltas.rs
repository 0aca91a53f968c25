//! Delta records: known ones, random ones there and back, and wrong ones.

use memring::dsa::operations::{ApplyError, CreateError, Created, DeltaResult, apply_delta, create_delta};

use crate::random::{Random, seed};

/// Source: memring's fact sheet on DSA, vectors.py.
#[test]
fn known_records_are_made() {
    let mut second = [0; 64];
    second[8..16].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    second[63] = 0xaa;
    let mut record = [0xa5; 80];
    let created = create_delta(&[0; 64], &second, &mut record).expect("the lengths are right");
    assert_eq!(created, Created { result: DeltaResult::Complete, record_len: 20, compared: 64 });
    assert_eq!(record[..20], [1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0xaa]);
    assert_eq!(record[20..], [0xa5; 60], "what the record does not need is left alone");

    // Eleven differences, room for eight.
    let created = create_delta(&[0; 88], &[1; 88], &mut record).expect("the lengths are right");
    assert_eq!(created, Created { result: DeltaResult::Overflow, record_len: 80, compared: 64 });
    assert_eq!(record[..10], [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);

    let created = create_delta(&[7; 88], &[7; 88], &mut record).expect("the lengths are right");
    assert_eq!(created, Created { result: DeltaResult::Equal, record_len: 0, compared: 88 });
}

/// Two sources that differ in some words.
fn sources(random: &mut Random, words: usize) -> (Vec<u8>, Vec<u8>) {
    let first: Vec<u8> = (0..words * 8).map(|_| random.next().to_le_bytes()[0]).collect();
    let mut second = first.clone();
    for _ in 0..random.below(words + 2).min(second.len()) {
        let at = random.below(second.len());
        second[at] ^= random.next().to_le_bytes()[0];
    }
    (first, second)
}

#[test]
fn there_and_back() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..2_000 {
        let words = random.below(100);
        let (first, second) = sources(&mut random, words);
        let differ = first.chunks(8).zip(second.chunks(8)).filter(|(one, two)| one != two).count();
        let mut record = vec![0; 10 * random.below(words + 2) + random.below(10)];
        let created = create_delta(&first, &second, &mut record).expect("the lengths are right");
        let mut made = first.clone();
        apply_delta(&record[..created.record_len], &mut made).expect("what was made can be applied");
        // As far as was compared, all differences are in the record.
        assert_eq!(made[..created.compared], second[..created.compared], "seed {seed}");
        assert_eq!(made[created.compared..], first[created.compared..], "seed {seed}");
        let expected = match differ {
            0 => DeltaResult::Equal,
            _ if differ * 10 <= record.len() => DeltaResult::Complete,
            _ => DeltaResult::Overflow,
        };
        assert_eq!(created.result, expected, "seed {seed}");
        assert_eq!(created.compared == first.len(), expected != DeltaResult::Overflow, "seed {seed}");
    }
}

#[test]
fn the_last_word_of_the_longest_sources_has_an_offset() {
    let first = vec![0; 0x8_0000];
    let mut second = first.clone();
    second[0x7_fff8..].fill(9);
    let mut record = [0; 80];
    let created = create_delta(&first, &second, &mut record).expect("the lengths are right");
    assert_eq!((created.record_len, &record[..10]), (10, &[0xff, 0xff, 9, 9, 9, 9, 9, 9, 9, 9][..]));
    let mut made = first;
    assert_eq!(apply_delta(&record[..10], &mut made), Ok(()));
    assert_eq!(made, second);
}

#[test]
fn sources_of_wrong_lengths_are_refused() {
    let mut record = [0; 80];
    let mut refused = |one: &[u8], two: &[u8]| create_delta(one, two, &mut record).expect_err("it is wrong");
    assert_eq!(refused(&[0; 8], &[0; 16]), CreateError::Lengths);
    assert_eq!(refused(&[0; 9], &[0; 9]), CreateError::Misaligned);
    assert_eq!(refused(&vec![0; 0x8_0008], &vec![0; 0x8_0008]), CreateError::TooLong);
}

#[test]
fn wrong_records_are_applied_up_to_what_is_wrong() {
    let entry = |offset: u16, byte: u8| {
        let mut entry = vec![byte; 10];
        entry[..2].copy_from_slice(&offset.to_le_bytes());
        entry
    };
    let apply = |entries: &[Vec<u8>]| {
        let mut dst = [0; 24];
        let outcome = apply_delta(&entries.concat(), &mut dst);
        (outcome, [dst[0], dst[8], dst[16]])
    };
    assert_eq!(apply(&[entry(0, 1), entry(2, 3)]), (Ok(()), [1, 0, 3]));
    let (twice, back) = (ApplyError::NotAscending { applied: 10 }, [entry(1, 1), entry(0, 2)]);
    assert_eq!(apply(&[entry(1, 1), entry(1, 2)]), (Err(twice), [0, 1, 0]));
    assert_eq!(apply(&back), (Err(twice), [0, 1, 0]));
    assert_eq!(apply(&[entry(1, 1), entry(3, 2)]), (Err(ApplyError::OutOfRange { applied: 10 }), [0, 1, 0]));
    assert_eq!(apply(&[entry(1, 1), vec![2, 0]]), (Err(ApplyError::Cut { applied: 10 }), [0, 1, 0]));
}

#[test]
fn random_records_do_no_harm() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..20_000 {
        let mut record: Vec<u8> = (0..random.below(60)).map(|_| random.next().to_le_bytes()[0]).collect();
        // Small offsets, else nearly all are out of range.
        record.iter_mut().skip(1).step_by(10).for_each(|high| *high = 0);
        let mut dst = vec![0; random.below(2048)];
        let len = record.len();
        match apply_delta(&record, &mut dst) {
            Ok(()) => assert_eq!(len % 10, 0, "seed {seed}"),
            Err(
                ApplyError::NotAscending { applied } | ApplyError::OutOfRange { applied } | ApplyError::Cut { applied },
            ) => assert!(applied % 10 == 0 && applied < len, "seed {seed}"),
        }
    }
}
