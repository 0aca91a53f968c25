//! Running things under the command, and what it says of them.

use std::env;
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::skip::skip;

/// `memring emulate`, with these options; the program is to follow.
pub(crate) fn emulate(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memring"));
    command.arg("emulate").args(options).arg("--");
    command
}

/// The same, and a program that does not end in time is ended, with everything that it has started.
pub(crate) fn emulate_in_time(options: &[&str]) -> Command {
    let mut command = emulate(options);
    command.args(["timeout", "-k", "1", "100"]);
    command
}

pub(crate) fn run(mut command: Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// Whether the command can do its work here; says so aloud if not.
pub(crate) fn is_possible() -> bool {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let refusal = REFUSAL.get_or_init(|| {
        let mut command = emulate(&[]);
        command.arg("true");
        let (output, _, stderr) = run(command);
        if output.status.success() {
            return None;
        }
        assert!(stderr.contains("needs root, or user namespaces"), "{stderr}");
        Some(stderr.trim_end().to_owned())
    });
    if let Some(refusal) = refusal {
        skip("namespaces", refusal);
    }
    refusal.is_none()
}

/// Runs one of the ignored tests of this program, which must pass, and gives what was said on stderr; nothing, if that
/// is not possible here.
#[track_caller]
pub(crate) fn passes(options: &[&str], test: &str) -> Option<String> {
    passes_with(options, test, &[])
}

/// The same, with more in the environment.
#[track_caller]
pub(crate) fn passes_with(options: &[&str], test: &str, variables: &[(&str, &str)]) -> Option<String> {
    if !is_possible() {
        return None;
    }
    let mut command = emulate_in_time(options);
    command.arg(env::current_exe().unwrap()).envs(variables.iter().copied());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads", "1"]);
    let (output, stdout, stderr) = run(command);
    let is_passed = output.status.success() && stdout.contains("1 passed");
    assert!(is_passed, "{test} {options:?}: {:?}\n{stdout}\n{stderr}", output.status);
    Some(stderr)
}

/// A count that `--stats` has told.
#[track_caller]
pub(crate) fn counted(stderr: &str, what: &str) -> u64 {
    let line = stderr.lines().find(|line| line.trim_start().split_once(' ').is_some_and(|(_, name)| name == what));
    line.map_or(0, |line| line.split_whitespace().next().unwrap().parse().unwrap())
}
