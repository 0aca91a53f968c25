//! The smallest test harness, for binaries in which the usual one would be in the way: its threads allocate, and are
//! threads that a sanitizer watches too.
#![expect(clippy::print_stdout, reason = "reports as the test harness would")]

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test and its name.
pub(crate) type Scenario = (&'static str, fn());

/// Runs the scenarios whose names contain one of the arguments, one after the other, each as `run` does, and reports as
/// a harness does. With `--list` it names them.
pub(crate) fn main(scenarios: &[Scenario], run: impl Fn(fn())) -> ExitCode {
    let begin = Instant::now();
    if env::args().any(|argument| argument == "--list") {
        let is_ignored = env::args().any(|argument| argument == "--ignored");
        scenarios.iter().filter(|_| !is_ignored).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let is_exact = env::args().any(|argument| argument == "--exact");
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let fits = |name: &str, part: &String| if is_exact { name == part } else { name.contains(part.as_str()) };
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| fits(name, part));
    let chosen: Vec<_> = scenarios.iter().filter(|(name, _)| is_wanted(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for &&(name, scenario) in &chosen {
        let passed = catch_unwind(AssertUnwindSafe(|| run(scenario))).is_ok();
        failed += usize::from(!passed);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    }
    let (verdict, passed) = (if failed == 0 { "ok" } else { "FAILED" }, chosen.len() - failed);
    let (filtered, seconds) = (scenarios.len() - chosen.len(), begin.elapsed().as_secs_f64());
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out; \
         finished in {seconds:.2}s\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
