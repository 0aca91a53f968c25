//! The gate: that every passage is counted by the close or refused, so that the closer can wait for exactly that many
//! ends.

use loom_tests::Fault::{Ring, Step};
use loom_tests::{Model, Notes, Payload, is_faulty, play};
use memring_ring::sync::Mutant;
use memring_ring::{Gate, Passage, Producer, completion};

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "gate::counted_or_refused",
        bound: 4,
        body: counted_or_refused,
        catches: &[
            (Ring(Mutant::GatePass), "Causality violation"),
            (Ring(Mutant::CompletionReserve), "Causality violation"),
            (Ring(Mutant::CompletionEnd), "Causality violation"),
        ],
    },
    Model {
        name: "gate::in_flight",
        bound: 4,
        body: in_flight,
        catches: &[
            (Step(PASSED_FIRST), "more ends than passages"),
            (Ring(Mutant::CompletionReserve), "more ends than passages"),
            (Ring(Mutant::CompletionEnd), "more ends than passages"),
        ],
    },
];

const PASSED_FIRST: &str = "the passages are read before the ends";

struct World {
    gate: Gate,
    completions: Producer,
    payloads: [Payload; 2],
    passed: Notes<usize>,
}

impl World {
    fn new() -> Self {
        Self {
            gate: Gate::default(),
            completions: completion::ring(2).0,
            payloads: [Payload::new(), Payload::new()],
            passed: Notes::new(),
        }
    }

    /// Submits an operation and executes it at once.
    fn submit(&self, operation: usize) {
        if self.gate.pass(1) == Passage::Passed {
            self.passed.add(operation);
            self.payloads[operation].write(7);
            self.completions.push_batch(&[[operation as u64, 0]]);
        }
    }
}

/// Hunts an operation that slips in behind the close: it would use memory that the closer has let go of (P8, P7).
fn counted_or_refused() {
    let close = |world: &World| {
        let passed = world.gate.close();
        if world.completions.pushed() == passed {
            world.payloads.iter().for_each(|payload| payload.write(0));
        }
    };
    play(World::new(), &[|world| world.submit(0), |world| world.submit(1), close], |world| {
        assert_eq!(world.gate.passed(), world.passed.all().len() as u64, "each passage is counted");
        assert_eq!(world.gate.pass(1), Passage::Closed, "a closed gate stays closed");
    });
}

/// Hunts a count of operations in flight that goes below zero: ends that overtake the passages they belong to (P7, P8).
fn in_flight() {
    let count = |world: &World| {
        let early = if is_faulty(PASSED_FIRST) { Some(world.gate.passed()) } else { None };
        let ended = world.completions.pushed();
        let passed = early.unwrap_or_else(|| world.gate.passed());
        assert!(ended <= passed, "more ends than passages");
    };
    play(World::new(), &[|world| world.submit(0), |world| world.submit(1), count], |_| ());
}
