//! Ending the process rather than let go of memory that is in use.

use core::fmt;
use std::io::{self, Write};

/// A mover broke down while it may still touch the memory of so many operations: to return would let it go.
#[cold]
pub(crate) fn abort_over_memory_in_use(operations: u64) -> ! {
    abort(format_args!("a mover panicked with {operations} operations under way that may still touch memory"))
}

/// Says why, if standard error takes it, and ends the process. Nothing unwinds from here.
#[cold]
pub(crate) fn abort(why: fmt::Arguments<'_>) -> ! {
    // Not by `eprintln!`, which panics if nobody reads: whoever caught that would believe the memory to be his.
    let _ = writeln!(io::stderr(), "memring: {why}; aborting");
    std::process::abort()
}
