//! Runs models: each in a process of its own, as it is and once with every fault that it must catch.
//!
//! The processes make three things simple. A panic ends one at once, so nothing unwinds through loom's coroutines; what
//! loom prints to standard error is thrown away; and as many run side by side as there are processors.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Instant;
use std::{env, fmt, panic, process, thread};

use memring_ring::sync::{Mutant, with_mutant};

/// How a missing order between two accesses reads.
pub const RACE: &str = "Causality violation";
/// How a thread that nobody wakes reads.
pub const ASLEEP: &str = "deadlock";

/// Panics that say something about loom or about the size of a model, not about a protocol: no fault is caught by them.
const NO_VERDICT: [&str; 3] = ["maximum number of branches", "loom internal bug", "unexpected exploration state"];
/// The page that says which obligation each model tests.
const DESIGN: &str = include_str!("../../ring/README.md");
/// The first argument of a process that checks one model.
const CHECK: &str = "--check";

/// Something that is wrong on purpose.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// An ordering of the rings.
    Ring(Mutant),
    /// A step of the model, which asks [`is_faulty`] whether to go wrong.
    Step(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(mutant) => write!(f, "{mutant:?}"),
            Self::Step(step) => f.write_str(step),
        }
    }
}

/// A model, and what it must catch.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// `structure::what it shows`.
    pub name: &'static str,
    /// The most preemptions in one execution; `LOOM_MAX_PREEMPTIONS` can raise it.
    pub bound: usize,
    /// One execution: a call of [`play`](crate::play).
    pub body: fn(),
    /// What it must catch, and part of the message that says so.
    pub catches: &'static [(Fault, &'static str)],
}

thread_local! {
    static EXECUTIONS: Cell<u64> = const { Cell::new(0) };
    static STEP: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Who comes first: loom begins its search with the order in which the threads were made.
pub(crate) mod stage {
    use std::cell::Cell;

    thread_local! {
        static FIRST: Cell<usize> = const { Cell::new(0) };
        static ACTORS: Cell<usize> = const { Cell::new(1) };
    }

    /// Puts the actor whose turn it is to come first, and notes how many there are.
    pub(crate) fn enter<T>(actors: &mut [T]) {
        ACTORS.set(actors.len());
        actors.rotate_left(FIRST.get());
    }

    /// Runs `explore` once for each actor that can come first.
    pub(crate) fn each_first(explore: impl Fn()) {
        FIRST.set(0);
        while FIRST.get() < ACTORS.get() {
            explore();
            FIRST.set(FIRST.get() + 1);
        }
    }
}

/// Whether the model is to go wrong at this step.
#[must_use]
pub fn is_faulty(step: &'static str) -> bool {
    STEP.get() == Some(step)
}

/// One run of one model.
#[derive(Clone, Copy)]
struct Check {
    model: &'static Model,
    catches: Option<(Fault, &'static str)>,
}

/// Checks the models whose names contain an argument, or all: the main function of the test binary.
///
/// It fails if a model fails, if a fault is not caught, if a mutant of the rings is in no model's list, and if there is
/// nothing to run.
#[must_use]
pub fn run(models: &[&'static [Model]]) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let models: Vec<&'static Model> = models.iter().copied().flatten().collect();
    if let [first, name, fault @ ..] = &arguments[..]
        && first == CHECK
    {
        return check_one(&models, name, fault.first().map(String::as_str));
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut chosen = models.clone();
    chosen.retain(|model| wanted.is_empty() || wanted.iter().any(|part| model.name.contains(part.as_str())));
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.iter().for_each(|model| say(&format!("{}: test", model.name)));
        return ExitCode::SUCCESS;
    }

    let begin = Instant::now();
    let (executions, mut failures) = check_all(&chosen);
    let untested = untested_mutants(&models);
    if !untested.is_empty() {
        say(&format!("FAILED no model catches {}", untested.join(", ")));
        failures += 1;
    }
    for name in models.iter().map(|model| model.name).filter(|name| !DESIGN.contains(&format!("`{name}`"))) {
        say(&format!("FAILED ring/README.md does not name {name}"));
        failures += 1;
    }
    if executions == 0 {
        say("FAILED no model ran");
        failures += 1;
    }
    let faults: usize = chosen.iter().map(|model| model.catches.len()).sum();
    let seconds = begin.elapsed().as_secs_f64();
    say(&format!(
        "{} models, {executions} executions, {faults} faults, {failures} failures; {seconds:.1} s",
        chosen.len()
    ));
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Mutants that no model must catch: there should be none.
fn untested_mutants(models: &[&Model]) -> Vec<String> {
    let tested: BTreeSet<String> =
        models.iter().flat_map(|model| model.catches).map(|(fault, _)| fault.to_string()).collect();
    Mutant::ALL.iter().map(|mutant| format!("{mutant:?}")).filter(|mutant| !tested.contains(mutant)).collect()
}

/// Runs each check in a process; returns the executions of the models as they are, and the failures.
fn check_all(models: &[&'static Model]) -> (u64, usize) {
    let checks = models.iter().flat_map(|&model| {
        let faults = model.catches.iter().map(move |&catches| Check { model, catches: Some(catches) });
        std::iter::once(Check { model, catches: None }).chain(faults)
    });
    let (checks, totals) = (Mutex::new(checks), Mutex::new((0, 0)));
    let next = || checks.lock().expect("nothing panics while it holds the lock").next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(check) = next() {
                    let verdict = check.in_a_process();
                    let mut totals = totals.lock().expect("nothing panics while it holds the lock");
                    match verdict {
                        Ok(executions) => totals.0 += executions,
                        Err(()) => totals.1 += 1,
                    }
                }
            });
        }
    });
    totals.into_inner().expect("nothing panics while it holds the lock")
}

impl Check {
    /// Runs the check, and says how it went; returns the executions of a model that passed as it is.
    fn in_a_process(self) -> Result<u64, ()> {
        let begin = Instant::now();
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        command.args([CHECK, self.model.name]).args(self.catches.map(|(fault, _)| fault.to_string()));
        let output = command.stderr(Stdio::null()).output().expect("this program can be run once more");
        let seconds = begin.elapsed().as_secs_f64();
        let report = String::from_utf8_lossy(&output.stdout);
        let (executions, message) = report.split_once('\n').unwrap_or((&report, ""));
        let executions: u64 = executions.parse().unwrap_or(0);
        let message = message.trim().lines().map(str::trim).collect::<Vec<_>>().join(" ");

        let name = match self.catches {
            None => self.model.name.to_owned(),
            Some((fault, _)) => format!("{} [{fault}]", self.model.name),
        };
        let no_verdict = NO_VERDICT.iter().any(|part| message.contains(part));
        let verdict = match self.catches {
            None if !output.status.success() || !message.is_empty() => Err(format!("fails: {message}")),
            None if executions < 2 => Err("has nothing to explore".to_owned()),
            None => Ok(format!("{executions} executions")),
            Some(_) if output.status.success() => Err(format!("is not caught in {executions} executions")),
            Some((_, how)) if no_verdict || !message.contains(how) => {
                Err(format!("is not caught by `{how}`: {message}"))
            }
            Some((_, how)) => Ok(format!("{executions} executions, then: {how}")),
        };
        match &verdict {
            Ok(what) => say(&format!("ok     {name}: {what}, {seconds:.2} s")),
            Err(what) => say(&format!("FAILED {name} {what}; {seconds:.2} s")),
        }
        let counted = if self.catches.is_none() { executions } else { 0 };
        verdict.map(|_| counted).map_err(|_| ())
    }
}

/// The life of a process that checks one model: prints its executions, and on the lines after that why it failed.
fn check_one(models: &[&'static Model], name: &str, fault: Option<&str>) -> ExitCode {
    let model = models.iter().find(|model| model.name == name).expect("the caller knows the names");
    let fault = fault.map(|fault| {
        let mut catches = model.catches.iter().map(|(fault, _)| *fault);
        catches.find(|known| known.to_string() == fault).expect("the caller knows the faults")
    });
    // Nothing unwinds: loom's other threads are in the middle of something.
    panic::set_hook(Box::new(|panicked| {
        say(&format!("{}\n{panicked}", EXECUTIONS.get()));
        process::exit(1);
    }));
    match fault {
        None => explore(model),
        Some(Fault::Ring(mutant)) => with_mutant(mutant, || explore(model)),
        Some(Fault::Step(step)) => {
            STEP.set(Some(step));
            explore(model);
        }
    }
    say(&EXECUTIONS.get().to_string());
    ExitCode::SUCCESS
}

/// Lets loom run the model's body in all ways, as seen by each actor. No variable of the environment can shorten that.
///
/// Loom remembers the last access of each atomic only. A thread that loads an atomic before it modifies it therefore
/// hides from loom's search that another had loaded it earlier; with that other thread second, the search finds both
/// orders.
fn explore(model: &'static Model) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(0).max(model.bound));
    builder.max_branches = builder.max_branches.max(10_000);
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    stage::each_first(|| {
        builder.check(|| {
            EXECUTIONS.set(EXECUTIONS.get() + 1);
            (model.body)();
        });
    });
}

fn say(line: &str) {
    // A closed standard output changes nothing about the verdict.
    let _ = writeln!(io::stdout(), "{line}");
}
