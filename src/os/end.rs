//! Ending the process rather than let go of memory that is in use.

use core::fmt;
use std::io::{self, Write};

/// Says why, if standard error takes it, and ends the process. Nothing unwinds from here.
#[cold]
pub(crate) fn abort(why: fmt::Arguments<'_>) -> ! {
    // Not by `eprintln!`, which panics if nobody reads: whoever caught that would believe the memory to be his.
    let _ = writeln!(io::stderr(), "memring: {why}; aborting");
    std::process::abort()
}
