//! Forked children: a closure runs in a copy of this process, and its verdict comes back by a pipe.
#![expect(unsafe_code, reason = "fork, alarm, _exit and waitpid have no safe wrapper in std")]

use std::io::{Read, Write, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A child that has not ended after this many seconds is ended by the kernel.
const LIMIT_S: libc::c_uint = 60;

/// Forks, runs `body` in the child, and panics here if it panicked there, or did not end.
///
/// The child ends without unwinding, so it drops nothing but what `body` drops.
pub(crate) fn in_child(body: impl FnOnce()) {
    let (mut verdict, mut writer) = pipe().expect("a pipe");
    // SAFETY: fork copies the process; the child runs `body`, whose allocations glibc's own fork handlers make
    // possible, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        drop(verdict);
        // SAFETY: alarm takes a number.
        unsafe { libc::alarm(LIMIT_S) };
        let text = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => "ok".to_owned(),
            Err(panic) => match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"it panicked").to_string(),
            },
        };
        let _ = writer.write_all(text.as_bytes());
        // SAFETY: ends the child here and now.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut text = String::new();
    verdict.read_to_string(&mut text).expect("the child writes text");
    let mut status = 0;
    // SAFETY: the child is ours and not yet waited for; `status` is a live c_int.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "waitpid: {}", std::io::Error::last_os_error());
    assert!(text == "ok" && status == 0, "in the child: {text:?}, wait status {status:#x}");
}
