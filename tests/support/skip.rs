//! Tests that need something which is not everywhere: they say aloud that they did nothing.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Says that a test could not do its work here, or fails if `MEMRING_REQUIRE` names what is missing.
pub(crate) fn skip(what: &str, reason: impl Display) {
    let required = std::env::var("MEMRING_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == what), "{what} is required: {reason}");
    say(&format!("SKIP 1 test, no {what}: {reason}"));
}

/// Not by `eprintln!`, which the harness hides when a test passes.
pub(crate) fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
