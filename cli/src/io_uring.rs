//! By whose doing this process may not use io_uring.
//!
//! Source: the kernel's Documentation/admin-guide/sysctl/kernel.rst, `io_uring_disabled` and `io_uring_group`.

use std::fs;
use std::io;

use crate::durability;
use crate::failure::reason;

/// The kernel's switch for io_uring, since Linux 6.6.
const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";

/// Why this process may not use it, if so: in the system's words, and by whose doing, if that can be told.
pub(crate) fn refusal() -> Option<String> {
    let switch = || fs::read_to_string(SWITCH).ok()?.trim().parse().ok();
    durability::io_uring_refusal().map(|error| why_refused(&error, switch()))
}

/// The same of this error, with what the switch says: 0 for nobody, 1 for all but a group and administrators, 2 for
/// everybody.
pub(crate) fn why_refused(error: &io::Error, switch: Option<u32>) -> String {
    let words = reason(error);
    match (error.raw_os_error(), switch) {
        (Some(libc::ENOSYS), _) => format!("{words}: this kernel has no io_uring, or a filter hides it"),
        (Some(libc::EPERM), Some(2)) => format!("{words}: kernel.io_uring_disabled is 2, for everybody"),
        (Some(libc::EPERM), Some(1)) => {
            format!("{words}: kernel.io_uring_disabled is 1, for all but kernel.io_uring_group and CAP_SYS_ADMIN")
        }
        (Some(libc::EPERM | libc::EACCES), _) => format!("{words}: a filter of system calls (seccomp) or a policy"),
        _ => words,
    }
}
