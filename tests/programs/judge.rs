//! What was seen of a program, against what its interpreter says.

use std::collections::{BTreeMap, BTreeSet};

use memring::{Cqe, MoverId, SqeFlags};

use super::movers::Event;
use super::plan::{Entry, Program, Who, is_shared, number_of};

/// What was seen of one program.
pub(crate) struct Seen {
    pub(crate) cqes: Vec<Cqe>,
    pub(crate) log: Vec<Event>,
    pub(crate) bytes: Vec<u8>,
}

/// Compares; the first difference is the error.
pub(crate) fn judge(program: &Program, seen: &Seen, mover: impl Fn(Who) -> MoverId) -> Result<(), String> {
    let told = told(program, &seen.cqes, mover)?;
    in_order(program, &told).map_err(|error| format!("in the completion queue: {error}"))?;
    logged(program, &seen.log).map_err(|error| format!("in the log: {error}"))?;
    match (0..program.after.len()).find(|&at| program.after[at] != seen.bytes[at]) {
        Some(at) => Err(format!("byte {at} is {:#x}, not {:#x}", seen.bytes[at], program.after[at])),
        None => Ok(()),
    }
}

/// The entries that the completions tell of, in that order: each once, with the right content.
fn told(program: &Program, cqes: &[Cqe], mover: impl Fn(Who) -> MoverId) -> Result<Vec<usize>, String> {
    // Entries that look the same in a completion are told in the order of their epochs.
    let mut places: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, entry) in program.entries.iter().enumerate().filter(|(_, entry)| entry.is_told()).rev() {
        let look = (entry.user_data, entry.status.to_u16(), mover(entry.who).to_u8(), entry.is_told_together());
        places.entry(look).or_default().push(index);
    }
    let mut told = Vec::new();
    for cqe in cqes {
        let is_together = cqe.flags() != 0;
        let look = (cqe.user_data(), cqe.status().to_u16(), cqe.mover().to_u8(), is_together);
        for _ in 0..cqe.count() {
            let index =
                places.get_mut(&look).and_then(Vec::pop).ok_or_else(|| format!("nothing is told by {cqe:?}"))?;
            let entry = &program.entries[index];
            if !is_together && cqe.value() != entry.value() {
                return Err(format!("{cqe:?} has not the value {}", entry.value()));
            }
            told.push(index);
        }
    }
    match places.into_values().flatten().next() {
        Some(index) => Err(format!("entry {index} is not told: {:?}", program.entries[index])),
        None => Ok(told),
    }
}

/// Members of a chain in their order, epochs in theirs.
fn in_order(program: &Program, told: &[usize]) -> Result<(), String> {
    let mut last_of_unit = BTreeMap::new();
    let mut epoch = 0;
    for &index in told {
        let entry = &program.entries[index];
        if entry.epoch < epoch {
            return Err(format!("entry {index} comes on the wrong side of a barrier: {told:?}"));
        }
        epoch = entry.epoch;
        // Who shares its user data cannot be told from others of its epoch.
        if !is_shared(entry.user_data) && last_of_unit.insert(entry.unit, index) > Some(index) {
            return Err(format!("entry {index} overtakes one of its chain: {told:?}"));
        }
    }
    Ok(())
}

/// Each entry that a mover of the test's own must see began and ended once, and at its time.
fn logged(program: &Program, log: &[Event]) -> Result<(), String> {
    let seen = |shared| move |entry: &&Entry| entry.is_seen() && is_shared(entry.user_data) == shared;
    let expected = program.entries.iter().filter(seen(false)).count();
    let expected_shared = program.entries.iter().filter(seen(true)).count();
    let (mut began, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let (mut epoch, mut shared) = (0, 0);
    for event in log {
        let (Event::Began(user_data) | Event::Ended(user_data)) = *event;
        if is_shared(user_data) {
            shared += 1;
            continue;
        }
        let index = number_of(user_data);
        let entry = program.entries.get(index).filter(|entry| entry.user_data == user_data && entry.is_seen());
        let entry = entry.ok_or_else(|| format!("{event:?} should not be"))?;
        if entry.epoch < epoch {
            return Err(format!("{event:?} is on the wrong side of a barrier: {log:?}"));
        }
        epoch = entry.epoch;
        let before = (0..index).rev().take_while(|&before| program.entries[before].unit == entry.unit);
        let mut before = before.filter(|&before| {
            let entry = &program.entries[before];
            entry.is_seen() && !entry.flags.contains(SqeFlags::COALESCE)
        });
        let is_first = match event {
            Event::Began(_) => began.insert(index) && before.all(|before| ended.contains(&before)),
            Event::Ended(_) => began.contains(&index) && ended.insert(index),
        };
        if !is_first {
            return Err(format!("{event:?} again, or too early: {log:?}"));
        }
    }
    if (began.len(), ended.len(), shared) == (expected, expected, 2 * expected_shared) {
        Ok(())
    } else {
        Err(format!("{} began, {} ended, of {expected}", began.len(), ended.len()))
    }
}
