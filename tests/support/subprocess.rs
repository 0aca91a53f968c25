//! Running a test again in a process of its own: for what would take the whole test binary down, or limit it.

use std::env;
use std::process::{Command, Output, Stdio};

const ROLE: &str = "MEMRING_TEST_ROLE";

/// What this process is to do, if [`again`] has started it.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Runs the test `name` of this binary again, alone in a process, where [`role`] is `role`, with these variables set.
pub(crate) fn again(name: &str, role: &str, variables: &[(&str, String)]) -> Output {
    command(name, role, variables).output().expect("the test binary starts again")
}

/// What [`again`] runs, for who wants to see it running.
pub(crate) fn command(name: &str, role: &str, variables: &[(&str, String)]) -> Command {
    let program = env::current_exe().expect("a test knows its own path");
    let mut command = Command::new(program);
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    command
}

/// What the process wrote, for a failure's message.
pub(crate) fn words(output: &Output) -> String {
    format!("{:?}\n{}{}", output.status, lossy(&output.stdout), lossy(&output.stderr))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
