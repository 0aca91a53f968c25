//! The kernel, its IOMMU, the CPU and limits of locked memory: of machines that this is not, and of this one.

use std::fs;

use serde_json::{Value, json};

use super::said::{BOOT, Said};
use super::support::refuse::limit_locked_memory;
use super::tree::Tree;

/// With these files in `proc`.
fn with(files: &[(&str, &str)]) -> Tree {
    let tree = Tree::new();
    tree.set("proc/version", "");
    for (name, text) in files {
        tree.set(&format!("proc/{name}"), text);
    }
    tree
}

const NEW: &str = "new enough for dedicated and shared queues of a DSA";
const MIDDLE: &str = "new enough for dedicated queues of a DSA, not for shared ones, which came with 5.18";
const OLD: &str = "too old for queues of a DSA, which programs can use since 5.6";
const UNKNOWN: &str = "whether it is new enough for queues of a DSA is unknown";

#[test]
#[cfg(target_arch = "x86_64")]
fn releases() {
    for (release, state, age) in [
        ("6.18.44-1-amd64", "ok", NEW),
        ("5.18-rc3", "ok", NEW),
        ("10.0", "ok", NEW),
        ("5.17.255", "not_here", MIDDLE),
        ("5.6", "not_here", MIDDLE),
        ("5.4.0+", "not_here", OLD),
        ("4.19.0-27-amd64", "not_here", OLD),
        ("6", "ok", UNKNOWN),
        ("6.", "ok", UNKNOWN),
        ("six.one", "ok", UNKNOWN),
        ("99999999999.1", "ok", UNKNOWN),
    ] {
        let said = Said::with_proc(&with(&[("sys/kernel/osrelease", &format!("{release}\n"))]));
        assert_eq!(said.check("release"), (state, format!("Linux {release} on x86_64: {age}").as_str()));
        let is_new = said.json["kernel"]["dsa_shared"].as_bool();
        assert_eq!(is_new, (age != UNKNOWN).then_some(age == NEW));
    }
}

/// Nothing can be read, and nothing is broken by that.
#[test]
fn an_empty_proc() {
    let said = Said::with_proc(&with(&[]));
    assert_eq!(said.problems(), []);
    for about in ["release", "RLIMIT_MEMLOCK", "CAP_IPC_LOCK", "kernel.io_uring_disabled"] {
        assert_eq!(said.check(about).0, "not_here", "{about}");
    }
    assert_eq!(said.json["locked_memory"]["limit_bytes"], Value::Null);
}

#[test]
fn what_a_command_line_asks_of_the_iommu() {
    let (yes, no, unsaid) = (Some(true), Some(false), None);
    for (line, said, on, scalable) in [
        ("", None, unsaid, unsaid),
        ("quiet not_intel_iommu=on iommu=pt\n", None, unsaid, unsaid),
        ("quiet intel_iommu=on,sm_on\n", Some("on,sm_on"), yes, yes),
        ("intel_iommu=on", Some("on"), yes, unsaid),
        ("intel_iommu=sm_on quiet intel_iommu=on,sm_off", Some("sm_on,on,sm_off"), yes, no),
        ("intel_iommu=on,off", Some("on,off"), no, unsaid),
        ("intel_iommu=", Some(""), unsaid, unsaid),
        ("quiet -- intel_iommu=on,sm_on", None, unsaid, unsaid),
    ] {
        let found = Said::with_proc(&with(&[("cmdline", line)]));
        let kernel = &found.json["kernel"];
        let read = ["intel_iommu_on", "intel_iommu_scalable"].map(|name| kernel[name].as_bool());
        assert_eq!((kernel["intel_iommu"].as_str(), read), (said, [on, scalable]), "{line:?}");
        let says = match said {
            Some(said) => format!("the kernel's command line says intel_iommu={said}; "),
            None => "the kernel's command line says nothing of intel_iommu; ".to_owned(),
        };
        assert!(found.check("IOMMU").1.contains(&says), "{line:?}: {}", found.text);
    }
}

#[test]
fn iommus_in_use() {
    let tree = Tree::new();
    fs::create_dir_all(tree.path("sys/bus/dsa/devices")).unwrap();
    let roots = ["--sysfs".into(), tree.path("sys/bus/dsa/devices"), "--dev".into(), tree.path("dev/dsa")];
    let said = || {
        let ask = |arguments: &[&str]| {
            let mut command = super::said::bare(arguments);
            command.args(&roots);
            super::support::run(command)
        };
        Said::read(&tree, &ask(&["--json"]), &ask(&[]))
    };
    assert!(said().check("IOMMU").1.starts_with("none is in use; "));
    fs::create_dir_all(tree.path("sys/class/iommu")).unwrap();
    assert_eq!(said().check("IOMMU").0, "not_here");
    fs::create_dir_all(tree.path("sys/class/iommu/dmar1")).unwrap();
    fs::create_dir_all(tree.path("sys/class/iommu/dmar0")).unwrap();
    let found = said();
    let (state, says) = found.check("IOMMU");
    assert_eq!((state, says.starts_with("dmar0 dmar1; ")), ("ok", true), "{says}");
    assert_eq!(found.json["kernel"]["iommu_units"], json!(["dmar0", "dmar1"]));
}

/// The command is that of this machine's boot loader; and no command line helps where it is right already.
#[test]
fn another_command_line_is_given_by_the_tool_that_is_here() {
    let tree = Tree::right();
    tree.set("devices/dsa0/pasid_enabled", "0\n");
    tree.set("proc/cmdline", "quiet intel_iommu=on\n");
    assert_eq!(Said::with_proc(&tree).problem().2, Some(BOOT));
    tree.set("debian/update-grub", "");
    let debian = Said::by(&tree, |command| {
        command.arg("--proc").arg(tree.path("proc")).env("PATH", format!("bin:{}", tree.path("debian").display()));
    });
    assert_eq!(
        debian.problem().2,
        Some(
            "sudo mkdir -p /etc/default/grub.d && echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX \
             intel_iommu=on,sm_on\"' | sudo tee /etc/default/grub.d/intel-iommu.cfg && sudo update-grub && sudo reboot"
        )
    );
    tree.set("proc/cmdline", "quiet intel_iommu=on,sm_on\n");
    let right = Said::with_proc(&tree);
    let remedy = right.problem().2.unwrap();
    assert!(remedy.starts_with("sudo dmesg | grep -e DMAR -e IOMMU: "), "{remedy}");
}

#[test]
fn limits_of_locked_memory() {
    let tree = Tree::new();
    let with = |bytes, most| Said::by(&tree, move |command| limit_locked_memory(command, bytes, most));
    let low = with(64 << 10, 128 << 10);
    let found = &low.json["locked_memory"];
    assert_eq!((found["limit_bytes"].as_u64(), found["limit_max_bytes"].as_u64()), (Some(64 << 10), Some(128 << 10)));
    assert_eq!((found["raise"].as_str(), found["locked_kib"].as_u64()), (Some("ulimit -l 128"), Some(0)));
    let says = "65536 bytes, at most 131072 bytes; memring locks no memory";
    assert_eq!(low.check("RLIMIT_MEMLOCK"), ("ok", says));
    let raise = with(0, 0).json["locked_memory"]["raise"].as_str().map(str::to_owned);
    assert_eq!(raise.as_deref(), Some("sudo prlimit --pid $$ --memlock=unlimited"));
}

#[test]
fn limits_and_capabilities_of_others() {
    const HEAD: &str = "Limit                     Soft Limit           Hard Limit           Units     \n";
    for (limit, capabilities, expected) in [
        (
            "unlimited            unlimited",
            "0000000000004000",
            (json!("unlimited"), json!("unlimited"), None, Some(true)),
        ),
        (
            "65536                unlimited",
            "ffffffffffffbfff",
            (json!(65536), json!("unlimited"), Some("ulimit -l unlimited"), Some(false)),
        ),
        ("many                 unlimited", "none", (Value::Null, Value::Null, None, None)),
        ("65536", "", (Value::Null, Value::Null, None, None)),
    ] {
        let said = Said::with_proc(&with(&[
            ("self/limits", &format!("{HEAD}Max locked memory         {limit}            bytes     \n")),
            (
                "self/status",
                &format!("Name:\tmemring\nVmLck:\t      64 kB\nVmPin:\tmany kB\nCapEff:\t{capabilities}\n"),
            ),
        ]));
        let found = &said.json["locked_memory"];
        let (now, most, raise, has_it) = expected;
        assert_eq!((&found["limit_bytes"], &found["limit_max_bytes"]), (&now, &most), "{limit}");
        assert_eq!((found["raise"].as_str(), found["cap_ipc_lock"].as_bool()), (raise, has_it), "{limit}");
        assert_eq!((found["locked_kib"].as_u64(), found["pinned_kib"].as_u64()), (Some(64), None));
        let state = if has_it == Some(true) { "ok" } else { "not_here" };
        assert_eq!(said.check("CAP_IPC_LOCK").0, state);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_cpu_is_this_one() {
    let said = Said::of(&Tree::new());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(said.json["kernel"]["release"].as_str(), Some(release.trim()));
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = cpus.lines().find(|line| line.starts_with("flags")).unwrap();
    for name in ["movdir64b", "enqcmd", "waitpkg", "movdiri", "cldemote", "clwb", "clflushopt", "clflush", "clzero"] {
        let has = said.json["cpu"][name].as_bool().unwrap();
        assert_eq!(said.check(&name.to_uppercase()).0, if has { "ok" } else { "not_here" });
        // The kernel hides ENQCMD where it has no address spaces of processes for devices, but never makes it up.
        let is_told = flags.split_whitespace().any(|flag| flag == name);
        assert!(has == is_told || (name == "enqcmd" && has), "{name}: {has}; {flags}");
    }
    // Every x86-64 CPU has it, and the bit is nobody's to hide.
    assert_eq!(said.json["cpu"]["clflush"].as_bool(), Some(true));
}
