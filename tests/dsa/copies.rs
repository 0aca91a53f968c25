//! Copies, fills and comparisons: against loops over bytes.

use memring::dsa::operations::{
    Direction, compare, compare_value, dualcast, fill, fill_16, memmove, memmove_within, rotated, rotated_16,
};

use crate::random::{Random, seed};

fn random_bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next().to_le_bytes()[0]).collect()
}

#[test]
fn a_copy_that_overlaps_is_as_if_through_a_buffer() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..5_000 {
        let size = 1 + random.below(200);
        let before = random_bytes(&mut random, size);
        let len = random.below(size + 1);
        let (src, dst) = (random.below(size - len + 1), random.below(size - len + 1));
        let mut expected = before.clone();
        expected[dst..dst + len].copy_from_slice(&before[src..src + len]);
        let mut memory = before.clone();
        let direction = memmove_within(&mut memory, src..src + len, dst).expect("it is inside");
        assert_eq!(memory, expected, "seed {seed}");
        // Byte by byte in the direction told is right, and stopped anywhere the rest can be done.
        let stop = random.below(len + 1);
        let mut memory = before;
        let mut by_bytes = |part: core::ops::Range<usize>| {
            let mut one = |at: usize| memory[dst + at] = memory[src + at];
            match direction {
                Direction::Forward => part.for_each(&mut one),
                Direction::Backward => part.rev().for_each(&mut one),
            }
        };
        let part = direction.part(len, stop);
        by_bytes(part.clone());
        by_bytes(if direction == Direction::Forward { part.end..len } else { 0..part.start });
        assert_eq!(memory, expected, "seed {seed}");
        assert_eq!(Direction::from_result(direction.to_result()), direction);
    }
}

#[test]
fn what_is_not_inside_is_not_moved() {
    let mut memory = [1, 2, 3, 4];
    let far = usize::MAX;
    #[expect(clippy::reversed_empty_ranges, reason = "that is one of the wrong ones")]
    for (src, dst) in [(0..5, 0), (0..4, 1), (5..6, 0), (3..2, 0), (0..1, far), (far..far, 0), (0..2, far)] {
        assert_eq!(memmove_within(&mut memory, src, dst), None);
    }
    assert_eq!(memory, [1, 2, 3, 4]);
}

#[test]
fn lengths_that_differ_are_the_shorter_one() {
    let mut dst = [0; 4];
    assert_eq!(memmove(&mut dst, &[1, 2]), 2);
    assert_eq!(memmove(&mut dst[..1], &[9, 9]), 1);
    assert_eq!(dst, [9, 2, 0, 0]);
    let (mut one, mut two) = ([0; 3], [0; 2]);
    assert_eq!(dualcast(&mut one, &mut two, &[1, 2, 3, 4]), 2);
    assert_eq!((one, two), ([1, 2, 0], [1, 2]));
    assert_eq!(compare(&[1, 2], &[1, 2, 3]), None);
}

#[test]
fn patterns_begin_where_the_destination_begins_and_go_on_rotated() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..2_000 {
        let (low, high) = (random.next(), random.next());
        let pattern = u128::from(low) | u128::from(high) << 64;
        let len = random.below(100);
        let expected_8: Vec<u8> = low.to_le_bytes().into_iter().cycle().take(len).collect();
        let expected_16: Vec<u8> = pattern.to_le_bytes().into_iter().cycle().take(len).collect();
        let (mut dst_8, mut dst_16) = (vec![0; len], vec![0; len]);
        fill(&mut dst_8, low);
        fill_16(&mut dst_16, pattern);
        assert_eq!((&dst_8, &dst_16), (&expected_8, &expected_16), "seed {seed}");
        // Stopped, and the rest with the rotated pattern.
        let stop = random.below(len + 1);
        let done = u32::try_from(stop).expect("it is small");
        dst_8[stop..].fill(0);
        dst_16[stop..].fill(0);
        fill(&mut dst_8[stop..], rotated(low, done));
        fill_16(&mut dst_16[stop..], rotated_16(pattern, done));
        assert_eq!((dst_8, dst_16), (expected_8, expected_16), "seed {seed}");
    }
}

#[test]
fn the_first_difference_is_found() {
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..2_000 {
        let len = random.below(700);
        let first = random_bytes(&mut random, len);
        assert_eq!(compare(&first, &first), None, "seed {seed}");
        let mut wrong: Vec<usize> = (0..random.below(3).min(len)).map(|_| random.below(len)).collect();
        wrong.sort_unstable();
        wrong.dedup();
        let invert = |region: &mut [u8]| wrong.iter().for_each(|at| region[*at] = !region[*at]);
        let mut second = first.clone();
        invert(&mut second);
        assert_eq!(compare(&first, &second), wrong.first().copied(), "seed {seed}");

        let pattern = random.next();
        let mut region = vec![0; len];
        fill(&mut region, pattern);
        assert_eq!(compare_value(&region, pattern), None, "seed {seed}");
        invert(&mut region);
        assert_eq!(compare_value(&region, pattern), wrong.first().copied(), "seed {seed}");
    }
}
