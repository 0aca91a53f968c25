//! Every protocol of memring's rings under loom, as it is and with each of its orderings broken.
//!
//! One file for each structure, `queue` for what is built of them. `ring/README.md` says which obligation each model
//! tests. Run by `cargo loom`, all or those whose name contains an argument; `LOOM_MAX_PREEMPTIONS=4` searches deeper.

#[cfg(memring_loom)]
mod completion;
#[cfg(memring_loom)]
mod credits;
#[cfg(memring_loom)]
mod doorbell;
#[cfg(memring_loom)]
mod gate;
#[cfg(memring_loom)]
mod group;
#[cfg(memring_loom)]
mod lane;
#[cfg(memring_loom)]
mod order;
#[cfg(memring_loom)]
mod queue;
#[cfg(memring_loom)]
mod reaper;
#[cfg(memring_loom)]
mod role;
#[cfg(memring_loom)]
mod roster;
#[cfg(memring_loom)]
mod slot;
#[cfg(memring_loom)]
mod table;
#[cfg(memring_loom)]
mod waiting;

#[cfg(memring_loom)]
fn main() -> std::process::ExitCode {
    loom_tests::run(&[
        lane::MODELS,
        completion::MODELS,
        credits::MODELS,
        gate::MODELS,
        doorbell::MODELS,
        roster::MODELS,
        table::MODELS,
        role::MODELS,
        slot::MODELS,
        queue::MODELS,
        order::MODELS,
        reaper::MODELS,
        waiting::MODELS,
        group::MODELS,
    ])
}

#[cfg(not(memring_loom))]
fn main() -> std::process::ExitCode {
    loom_tests::run()
}
