//! Where io_uring is forbidden, the same holds: the checks of this file's neighbours, in processes under a filter.

use super::seccomp::{forbid_io_uring, setup_errno};
use super::skip::{say, skip};
use super::subprocess::{again, role, words};

/// Runs the test `name` again where io_uring fails with this error; it must pass. `body` is what it does there.
fn under_filters(name: &str, body: impl FnOnce()) {
    if let Some(errno) = role() {
        let errno = errno.parse().expect("the role is the number of an error");
        forbid_io_uring(errno).expect("a process may forbid itself something");
        assert_eq!(setup_errno(), Some(errno), "the filter works");
        return body();
    }
    if !matches!(setup_errno(), Some(libc::EFAULT)) {
        return skip("uring", format!("io_uring_setup: error {:?}", setup_errno()));
    }
    for errno in [libc::EPERM, libc::ENOSYS] {
        let output = again(name, &errno.to_string(), &[]);
        let words = words(&output);
        assert!(output.status.success(), "{words}");
        words.lines().filter(|line| line.starts_with("SKIP")).for_each(say);
    }
}

#[test]
fn no_page_is_dirty_after_an_acknowledgement() {
    under_filters("forbidden::no_page_is_dirty_after_an_acknowledgement", super::page_cache::acquit);
}

#[test]
fn what_was_acknowledged_outlives_a_power_cut() {
    under_filters("forbidden::what_was_acknowledged_outlives_a_power_cut", super::crashes::acquit_in_a_storm);
}
