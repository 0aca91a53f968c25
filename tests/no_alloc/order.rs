//! Entries that wait for each other, are told together or not at all, are cancelled, or are done in parts.
#![expect(unsafe_code, reason = "pushes entries")]

use memring::{INLINE, MoverId, Sqe, Status, WORKERS};

use super::{ENTRIES, Load, Reaping};

/// The user data of an entry that ends behind all others.
const LAST: u64 = u64::MAX;

/// Batches to be submitted in turn: places of `len` bytes are set by this mover and by those that are always there.
pub(super) fn batches(bytes: &mut [u8], len: usize, mover: MoverId) -> Vec<Vec<Sqe>> {
    let all = bytes.len();
    let at = bytes.as_mut_ptr();
    let set = |number: usize| {
        let place = Sqe::memset(at.wrapping_add(number * len), 7, len).user_data(number as u64);
        place.on([mover, WORKERS, mover, INLINE][number % 4])
    };
    // One place is left for the last entry.
    let of_each = |flags: fn(usize, Sqe) -> Sqe| (0..ENTRIES - 1).map(|number| flags(number, set(number))).collect();
    let chains: fn(usize, Sqe) -> Sqe = |number, sqe| match number % 6 {
        5 => sqe,
        4 => sqe.hard_link(),
        _ => sqe.link(),
    };
    let mixed: fn(usize, Sqe) -> Sqe = |number, sqe| match number % 11 {
        0 | 3 => sqe.link().drain(),
        1 => sqe.skip_success().hard_link(),
        4 => sqe.link().coalesce(),
        6 => sqe.drain(),
        7 => sqe.coalesce(),
        8 => sqe.skip_success(),
        _ => sqe,
    };
    let (half, few) = (all / 2, all / 16);
    let long = |number: usize| {
        let to = at.wrapping_add(number * few);
        let sqe = if number.is_multiple_of(2) {
            Sqe::memset(to, 7, few)
        } else {
            Sqe::memcpy(to, to.wrapping_add(half), few)
        };
        let sqe = sqe.on(WORKERS).user_data(number as u64);
        if number.is_multiple_of(4) { sqe.link() } else { sqe }
    };
    vec![
        of_each(chains),
        of_each(|number, sqe| if number % 9 == 4 { sqe.drain() } else { sqe }),
        of_each(|_, sqe| sqe.skip_success()),
        of_each(|_, sqe| sqe.coalesce().user_data(3)),
        of_each(mixed),
        (0..8).map(long).collect(),
    ]
}

impl Load {
    /// Submits the next batch, cancels some of it, and reaps all.
    pub(super) fn ordered_round(&mut self, reaping: Reaping) {
        self.rounds += 1;
        let batch = &self.ordered[self.rounds % self.ordered.len()];
        // SAFETY: the entries of a batch have bytes of their own, which live, untouched, as long as the queue.
        unsafe { self.sq.push_batch(batch) }.expect("there is room");
        let mut count = batch.len();
        // Batches with an end behind all others, and such whose end nothing is told of.
        let has_last = self.rounds % 4 < 2;
        if has_last {
            // SAFETY: a nop touches no memory.
            unsafe { self.sq.push(Sqe::nop().drain().on(WORKERS).user_data(LAST)) }.expect("there is room");
            count += 1;
        }
        assert_eq!(self.sq.submit(), count);
        if !self.rounds.is_multiple_of(3) {
            let some = (self.rounds % 5..count).step_by(5);
            self.cancelled += some.map(|number| self.cq.cancel(number as u64)).sum::<usize>();
        }
        if has_last {
            self.reap_to_last(reaping);
        } else {
            self.reap_what_comes();
        }
        assert_eq!(self.cq.in_flight(), 0);
    }

    fn reap_to_last(&mut self, reaping: Reaping) {
        let mut is_over = false;
        while !is_over {
            self.pause(reaping, 1);
            for cqe in self.cq.drain() {
                assert!(!is_over, "something ended behind the last");
                is_over = cqe.user_data() == LAST;
                assert!(cqe.status().is_success() || (cqe.status() == Status::CANCELLED && !is_over));
            }
        }
    }

    fn reap_what_comes(&mut self) {
        while self.cq.wait(1, None) != Ok(0) {
            self.cq.drain().for_each(|cqe| assert!(matches!(cqe.status(), Status::SUCCESS | Status::CANCELLED)));
        }
    }
}
