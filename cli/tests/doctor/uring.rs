//! Whether io_uring is allowed, who refuses it, and what would change that.

use super::said::{Problem, Said};
use super::support::refuse::{refusal, refuse};
use super::tree::Tree;

const ORDINARY: &str = "Seccomp:\t0\nCapEff:\t0000000000000000\n";
const FILTERED: &str = "Seccomp:\t2\nCapEff:\t0000000000000000\n";
/// With CAP_SYS_ADMIN.
const ADMINISTRATOR: &str = "Seccomp:\t2\nCapEff:\t0000000000200000\n";

const SYSCTL: &str = "sudo sysctl kernel.io_uring_disabled=0";
const GROUP: &str = "sudo usermod -aG 1001 \"$USER\" && su - \"$USER\"";
const FILTER: &str = "let the filter pass io_uring_setup, io_uring_enter and io_uring_register, as by docker run \
                      --security-opt seccomp=<profile>";

/// A machine whose kernel says this, and refuses an io_uring with this error.
fn refused(errno: i32, switch: &str, group: &str, status: &str) -> Said {
    let tree = Tree::new();
    for (name, text) in [("io_uring_disabled", switch), ("io_uring_group", group)] {
        tree.set(&format!("proc/sys/kernel/{name}"), &format!("{text}\n"));
    }
    tree.set("proc/self/status", status);
    Said::by(&tree, |command| {
        command.arg("--proc").arg(tree.path("proc"));
        refuse(command, &[refusal(libc::SYS_io_uring_setup, errno)]);
    })
}

fn only(said: &Said) -> Problem<'_> {
    let problems = said.of_uring();
    assert_eq!(problems.len(), 1, "{}", said.text);
    problems[0]
}

#[test]
fn who_refuses_it() {
    for (switch, group, status, words, remedy) in [
        ("2", "-1", ORDINARY, "kernel.io_uring_disabled is 2, for everybody", Some(SYSCTL)),
        ("2", "1001", ADMINISTRATOR, "kernel.io_uring_disabled is 2, for everybody", Some(SYSCTL)),
        ("1", "-1", ORDINARY, "kernel.io_uring_disabled is 1, for all but ", Some(SYSCTL)),
        ("1", "1001", ORDINARY, "kernel.io_uring_disabled is 1, for all but ", Some(GROUP)),
        ("1", "1001", FILTERED, "kernel.io_uring_disabled is 1, for all but ", Some(GROUP)),
        ("1", "1001", ADMINISTRATOR, "a filter of system calls (seccomp) or a policy", Some(FILTER)),
        ("0", "-1", FILTERED, "a filter of system calls (seccomp) or a policy", Some(FILTER)),
        ("0", "-1", ORDINARY, "a filter of system calls (seccomp) or a policy", None),
    ] {
        let said = refused(libc::EPERM, switch, group, status);
        let (about, says, told) = only(&said);
        assert_eq!((about, told), ("io_uring", remedy), "{switch} {group} {status}");
        assert!(says.starts_with(&format!("refused: Operation not permitted: {words}")), "{says}");
        assert!(says.ends_with("; durable flushes are made by fdatasync on a thread instead"), "{says}");
        let found = &said.json["io_uring"];
        assert_eq!((found["allowed"].as_bool(), found["flushes_by"].as_str()), (Some(false), Some("fdatasync")));
        assert_eq!(found["io_uring_disabled"].as_u64(), switch.parse().ok());
        assert_eq!(found["io_uring_group"].as_u64(), group.parse().ok());
        assert_eq!(said.check("kernel.io_uring_disabled").0, "ok");
    }
}

/// The real one, under a filter, as in a container.
#[test]
fn a_filter_is_seen_in_the_real_proc() {
    let said = Said::by(&Tree::new(), |command| refuse(command, &[refusal(libc::SYS_io_uring_setup, libc::EACCES)]));
    assert_eq!(only(&said).2, Some(FILTER));
    assert_eq!(said.json["io_uring"]["seccomp_filter"].as_bool(), Some(true));
}

#[test]
fn a_kernel_without_it_is_no_problem() {
    let said = refused(libc::ENOSYS, "0", "-1", ORDINARY);
    assert_eq!(said.of_uring(), []);
    let (state, says) = said.check("io_uring");
    assert_eq!(state, "not_here");
    assert!(
        says.starts_with("Function not implemented: this kernel has no io_uring, or a filter hides it; "),
        "{says}"
    );
}

/// Before Linux 5.12 the rings counted as locked memory.
#[test]
fn locked_memory_that_an_old_kernel_counts() {
    let limits = |limit: &str| format!("Max locked memory         {limit}            bytes     \n");
    for (release, limit, remedy) in [
        ("5.11.0", "65536                131072", Some("ulimit -l 128")),
        ("5.11.0", "65536                65536 ", Some("sudo prlimit --pid $$ --memlock=unlimited")),
        ("5.12.0", "65536                131072", None),
    ] {
        let tree = Tree::new();
        tree.set("proc/sys/kernel/osrelease", release);
        tree.set("proc/self/limits", &limits(limit));
        let said = Said::by(&tree, |command| {
            command.arg("--proc").arg(tree.path("proc"));
            refuse(command, &[refusal(libc::SYS_io_uring_setup, libc::ENOMEM)]);
        });
        let (about, says, told) = only(&said);
        assert_eq!((about, told), ("io_uring", remedy), "{release} {limit}");
        assert!(says.starts_with("refused: Cannot allocate memory; "), "{says}");
    }
}

#[test]
fn what_the_switch_says_on_this_machine() {
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let said = Said::of(&Tree::new());
    let found = &said.json["io_uring"];
    assert_eq!(found["io_uring_disabled"].as_u64(), switch.map(|text| text.trim().parse().unwrap()));
    let is_allowed = found["allowed"].as_bool().unwrap();
    assert_eq!(found["flushes_by"].as_str(), Some(if is_allowed { "io_uring" } else { "fdatasync" }));
    assert_eq!(said.check("io_uring").0 == "ok", is_allowed);
}
