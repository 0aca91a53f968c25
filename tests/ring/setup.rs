//! The rings that everything is tried on: one of each drive.

use memring::{Ring, RingBuilder};

/// A drive, and its name for a failure's message.
pub(crate) type Setup = (&'static str, fn() -> RingBuilder);

/// Every drive.
pub(crate) const SETUPS: [Setup; 9] = [
    ("inline", || Ring::builder().workers(0).inline_max(usize::MAX)),
    ("driven by the caller", || Ring::builder().workers(0)),
    ("driven by the caller, in parts", || Ring::builder().workers(0).poll_budget(4096)),
    ("one worker", || Ring::builder().workers(1)),
    ("two workers", || Ring::builder().workers(2)),
    ("two workers, nothing inline", || Ring::builder().workers(2).inline_max(0)),
    ("one worker that polls help", || Ring::builder().workers(1).polls_help()),
    ("one worker and a reaper", || Ring::builder().workers(1).reaper_thread()),
    ("a reaper alone", || Ring::builder().workers(0).reaper_thread()),
];

/// The drives in which an operation of some size is under way for a while: all but the inline one.
pub(crate) fn queued() -> impl Iterator<Item = Setup> {
    SETUPS.into_iter().skip(1)
}

/// Runs a test on a ring of each drive.
pub(crate) fn on_each(test: impl Fn(&Ring, &str)) {
    for (name, builder) in SETUPS {
        test(&builder().entries(64).build().expect("the options are in range"), name);
    }
}
