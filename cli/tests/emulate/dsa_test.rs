//! Debian's `dsa_test`, which knows nothing of memring, against the model.
//!
//! It finds its queue with libaccel-config, maps the portal, submits by MOVDIR64B or ENQCMD, polls, resumes after page
//! faults, and compares what it finds with what it computed itself.
//!
//! With page faults, opcode 8 is run with those before the first byte only: `dsa_test` resumes AP_DELTA by moving the
//! destination and shortening the transfer, where the specification advances and shortens the delta record alone, so
//! after a fault in the middle its second descriptor is wrong on hardware, too.

use std::path::Path;
use std::process::Command;

use super::outside::{emulate_in_time, is_possible, run};
use super::skip::skip;

const PATH: &str = "/usr/libexec/accel-config/test/dsa_test";
const SINGLE: [&str; 12] = ["0", "2", "3", "4", "5", "6", "7", "8", "9", "0x10", "0x11", "0x20"];
const BATCHED: [&str; 6] = ["0", "3", "4", "5", "6", "9"];
const MODES: [(&str, &str); 2] = [("dedicated", "0"), ("shared", "1")];

fn is_here() -> bool {
    if !is_possible() {
        return false;
    }
    let is_here = Path::new(PATH).exists();
    if !is_here {
        skip("dsa_test", "the package accel-config-test is not installed");
    }
    is_here
}

fn single(opcode: &str) -> Vec<String> {
    ["-o", opcode].map(str::to_owned).to_vec()
}

fn batched(opcode: &str) -> Vec<String> {
    ["-o", "1", "-b", opcode, "-c", "8"].map(str::to_owned).to_vec()
}

/// Four descriptors of 4096 bytes, waited for by polling.
fn dsa_test(options: &[&str], (mode, number): (&str, &str), what: &[String]) -> Command {
    let mut command = emulate_in_time(&[options, &["--mode", mode]].concat());
    command.arg(PATH).args(["-w", number, "-l", "4096", "-f", "0x2", "-n", "4", "-t", "2000"]).args(what);
    command
}

fn all() -> impl Iterator<Item = Vec<String>> {
    SINGLE.into_iter().map(single).chain(BATCHED.into_iter().map(batched))
}

#[track_caller]
fn passes(options: &[&str], mode: (&str, &str), what: &[String]) {
    let (output, stdout, stderr) = run(dsa_test(options, mode, what));
    assert!(output.status.success(), "{what:?} {mode:?} {options:?}: {:?}\n{stdout}\n{stderr}", output.status);
}

#[test]
fn passes_in_all_combinations() {
    if is_here() {
        for mode in MODES {
            all().for_each(|what| passes(&[], mode, &what));
        }
    }
}

#[test]
fn passes_with_page_faults() {
    if !is_here() {
        return;
    }
    let mut faults = 0;
    for seed in ["1", "2", "3", "4", "5"] {
        for mode in MODES {
            for what in all() {
                let place = if what == single("8") { "first" } else { "page" };
                let options = ["--faults", seed, "--fault-at", place, "--trace"];
                let (output, stdout, stderr) = run(dsa_test(&options, mode, &what));
                assert!(output.status.success(), "{what:?} {mode:?} {seed}: {:?}\n{stdout}\n{stderr}", output.status);
                faults += stderr.matches("PAGE_FAULT").count();
            }
        }
    }
    assert!(faults > 100, "{faults} page faults");
}

/// That it passes means something: it notices a device that is wrong.
#[test]
fn fails_where_the_model_is_wrong() {
    if !is_here() {
        return;
    }
    let broken: [(&str, &[&str]); 5] = [
        ("fill", &["4"]),
        ("memmove", &["3"]),
        ("crc", &["0x10", "0x11"]),
        ("compare", &["5", "6"]),
        ("dualcast", &["9"]),
    ];
    for (name, opcodes) in broken {
        for mode in MODES {
            for opcode in opcodes {
                let what = [Some(single(opcode)), BATCHED.contains(opcode).then(|| batched(opcode))];
                for what in what.into_iter().flatten() {
                    let mut command = dsa_test(&[], mode, &what);
                    command.env("MEMRING_EMULATE_BREAK", name);
                    let (output, stdout, _) = run(command);
                    assert!(!output.status.success(), "{name} is wrong, and {what:?} {mode:?} passes:\n{stdout}");
                    assert!(output.status.code().is_some(), "it fails, and does not crash: {:?}", output.status);
                }
            }
            // The others are right.
            passes(&[], mode, &single("0"));
        }
    }
}

/// What a preset has not is refused as on hardware.
#[test]
fn is_told_by_the_record_what_the_device_cannot() {
    if !is_here() {
        return;
    }
    for what in [batched("3"), single("7")] {
        let (output, _, stderr) = run(dsa_test(&["--preset", "v1", "--trace"], MODES[1], &what));
        assert!(!output.status.success(), "{what:?}");
        assert!(stderr.contains("BAD_OPCODE (0x10)"), "{stderr}");
    }
    passes(&["--preset", "v1"], MODES[1], &single("3"));
}

#[test]
fn is_traced() {
    if !is_here() {
        return;
    }
    let (_, _, stderr) = run(dsa_test(&["--trace", "--stats"], MODES[1], &batched("4")));
    let count = |text: &str| stderr.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("wq0.0: BATCH of 8 at 0x"), 4, "{stderr}");
    assert_eq!(count(": FILL, 4096 bytes at 0x"), 32, "{stderr}");
    assert_eq!(count(": SUCCESS (0x01), "), 36, "{stderr}");
    for line in ["4 descriptors: 4 by ENQCMD", "32 FILL", "4 BATCH", "36 SUCCESS (0x01)"] {
        assert_eq!(count(line), 1, "{line}: {stderr}");
    }
}
