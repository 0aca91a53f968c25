//! The command itself: what it refuses, what it says, what it leaves.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use super::outside::{emulate, is_possible, run};

/// What it says to this, in one line, and its exit code.
#[track_caller]
fn refusal(mut command: Command, program: &str) -> (Option<i32>, String) {
    command.arg(program);
    let (output, stdout, stderr) = run(command);
    assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
    (output.status.code(), stderr)
}

#[test]
fn it_refuses_in_one_line_what_cannot_be_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    // A header with one entry that names no interpreter.
    let mut elf = [&b"\x7fELF\x02\x01\x01"[..], &[0; 113]].concat();
    (elf[18], elf[32], elf[54], elf[56]) = (62, 64, 56, 1);
    elf[64] = 1;
    let mut other = [&elf[..], b"/lib/ld-musl-x86_64.so.1\0"].concat();
    (other[64], other[72], other[96]) = (3, 120, 25);
    let mut foreign = elf.clone();
    foreign[18] = 183;
    let mut narrow = elf.clone();
    narrow[4] = 1;
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    let cases = [
        (file("static", &elf), "is linked statically, so nothing can be preloaded into it\n"),
        (file("script", format!("#! {} -x\n", file("static", &elf)).as_bytes()), "nothing can be preloaded into it\n"),
        (
            file("other", &other),
            "is loaded by \"/lib/ld-musl-x86_64.so.1\", and the library is for ld-linux-x86-64.so.2\n",
        ),
        (file("foreign", &foreign), "is no program for x86-64\n"),
        (file("narrow", &narrow), "is no program for x86-64\n"),
        (file("text", b"text"), "is neither a program nor a script\n"),
        (file("empty", b""), "is neither a program nor a script\n"),
        (file("nameless", b"#! \n"), "is neither a program nor a script\n"),
        (file("dos", b"#!/bin/sh\r\n"), "cannot open \"/bin/sh\\r\": No such file or directory\n"),
        (file("short", &elf[..100]), "is cut off\n"),
        // It would have to be waited for.
        (folder.path().join("pipe").to_string_lossy().into_owned(), "is neither a program nor a script\n"),
        ("/dev".to_owned(), "is neither a program nor a script\n"),
        (folder.path().join("none").to_string_lossy().into_owned(), "No such file or directory\n"),
        ("no-such-program".to_owned(), "is not in PATH\n"),
    ];
    for (program, end) in cases {
        let (code, said) = refusal(emulate(&[]), &program);
        assert!(code == Some(1) && said.starts_with("memring: emulate: ") && said.ends_with(end), "{said}");
    }
    for options in [&["--entries", "0"][..], &["--preset", "v3"], &["--fault-at", "page"], &["--disable-after", "0"]] {
        assert_eq!(refusal(emulate(options), "true").0, Some(2), "{options:?}");
    }
}

/// An option that it has not is none of the program's; what follows the program is.
#[test]
fn it_tells_its_options_from_the_programs() {
    for options in [&["--bogus"][..], &["--stats", "-x"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memring"));
        command.arg("emulate").args(options).arg("--");
        assert_eq!(refusal(command, "true").0, Some(2), "{options:?}");
    }
    if is_possible() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memring"));
        command.args(["emulate", "echo", "--stats", "--bogus", "-n", "--", "x"]);
        assert_eq!(run(command).1, "--stats --bogus -n -- x\n");
    }
}

#[test]
fn it_finds_programs_as_others_do() {
    if !is_possible() {
        return;
    }
    let mut without_path = emulate(&[]);
    without_path.env_remove("PATH").args(["echo", "found"]);
    assert_eq!(run(without_path).1, "found\n");
    // From a folder that is covered.
    let mut relative = emulate(&[]);
    relative.args(["ls", "dsa"]).current_dir("/dev");
    assert_eq!(run(relative).1, "wq0.0\n");
    // By the dynamic linker, as a program of its own.
    let mut linker = emulate(&[]);
    linker.args(["/lib64/ld-linux-x86-64.so.2", "/bin/sh", "-c", "echo $LD_PRELOAD; ls /dev/dsa"]);
    let (output, stdout, stderr) = run(linker);
    assert!(output.status.success() && stdout.ends_with("libmemring_emulator.so\nwq0.0\n"), "{stdout}{stderr}");
}

#[test]
fn it_runs_programs_with_address_sanitizer() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [source, program] = ["main.c", "main"].map(|name| folder.path().join(name));
    fs::write(&source, "int main(int argc, char **argv) { char a[1] = {0}; return a[argc - 1]; }").unwrap();
    let compiled = Command::new("gcc").args(["-O0", "-fsanitize=address", "-o"]).args([&program, &source]).output();
    if !compiled.is_ok_and(|output| output.status.success()) {
        return super::skip::skip("gcc", "it is not installed, or has no AddressSanitizer");
    }
    let mut right = emulate(&[]);
    right.arg(&program);
    let (output, _, stderr) = run(right);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    // It still finds what it is there for, and its other options hold.
    let mut wrong = emulate(&[]);
    wrong.arg(&program).arg("x").env("ASAN_OPTIONS", "exitcode=99");
    let (output, _, stderr) = run(wrong);
    assert!(output.status.code() == Some(99) && stderr.contains("stack-buffer-overflow"), "{stderr}");
}

/// It carries the library that was built with it, and not one of a former build.
#[test]
fn it_preloads_what_was_built_with_it() {
    if !is_possible() {
        return;
    }
    let built = env::current_exe().unwrap().with_file_name("libmemring_emulator.so");
    let mut command = emulate(&[]);
    command.args(["cmp", "/dev/memring/libmemring_emulator.so"]).arg(built);
    let (output, stdout, stderr) = run(command);
    assert!(output.status.success(), "{stdout}{stderr}");
}

/// As a user who may make no namespaces.
#[test]
fn it_says_what_it_needs() {
    let allowed = "/proc/sys/user/max_user_namespaces";
    let mut inner = emulate(&[]);
    inner.arg("true");
    // One user namespace, in which there may be none.
    let mut command = Command::new("unshare");
    command.args(["--user", "sh", "-c", &format!("echo 0 > {allowed}; exec \"$@\"; "), "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    let Ok(output) = command.output() else { return super::skip::skip("unshare", "it is not installed") };
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or_default();
    if !said.starts_with("memring") {
        return super::skip::skip("user namespaces", said);
    }
    assert!(said.starts_with("memring: emulate: needs root, or user namespaces: "), "{said}");
}

#[test]
fn it_ends_as_the_program_does_and_leaves_nothing() {
    if !is_possible() {
        return;
    }
    let before = names();
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 128 + 9), ("test -e /dev/dsa/wq0.0 -a -e /dev/null", 0)] {
        let mut command = emulate(&["--stats"]);
        command.args(["sh", "-c", script]);
        let (output, _, stderr) = run(command);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.starts_with("memring: emulate: 0 descriptors: "), "{stderr}");
    }
    // What else is in the folders that were covered is still there; others may make devices at any time.
    let mut command = emulate(&[]);
    command.args(["sh", "-c", "ls /dev /sys/bus /sys/module; echo > /dev/null"]);
    let (output, inside, stderr) = run(command);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    let after = names();
    for name in before.iter().filter(|name| after.contains(name)) {
        assert!(inside.lines().any(|line| line == name), "{name} is not in\n{inside}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.lines().any(|line| line.contains(" - tmpfs memring ")), "{mounts}");
    assert!(!Path::new("/dev/memring").exists());
}

/// However few files a process may have open: all is there, or the command says why not.
#[test]
fn it_leaves_nothing_out_for_want_of_descriptors() {
    if !is_possible() {
        return;
    }
    let listed = |limit: &str| {
        let mut inner = emulate(&[]);
        inner.args(["ls", "/dev", "/sys/bus", "/sys/module"]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh"]);
        command.arg(inner.get_program()).args(inner.get_args());
        run(command)
    };
    let ((_, all, _), (output, few, stderr)) = (listed("1000"), listed("12"));
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    let before = names();
    let lost = all.lines().find(|line| before.iter().any(|name| name == line) && !few.lines().any(|few| few == *line));
    assert_eq!(lost, None, "{few}");
    let (output, stdout, stderr) = listed("5");
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.ends_with("Too many open files\n"), "{stderr}");
}

/// The device's numbers are taken in there, by the device around it.
#[test]
fn it_runs_inside_itself() {
    if !is_possible() {
        return;
    }
    let script = "ls /dev/char; cat /sys/bus/dsa/devices/dsa0/cdev_major /sys/bus/dsa/devices/wq0.0/mode";
    let majors = |stdout: &str| -> Vec<String> {
        let links = stdout.lines().filter(|line| line.ends_with(":0"));
        links.map(|line| line.trim_end_matches(":0").to_owned()).collect()
    };
    let mut outer = emulate(&[]);
    outer.args(["sh", "-c", script]);
    let (_, outside, _) = run(outer);
    let mut inner = emulate(&["--mode", "dedicated"]);
    inner.args(["sh", "-c", script]);
    let mut command = emulate(&[]);
    command.arg(inner.get_program()).args(inner.get_args());
    let (output, stdout, stderr) = run(command);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    assert_eq!(majors(&stdout).len(), majors(&outside).len() + 1, "{stdout}");
    let [.., major, mode] = stdout.lines().collect::<Vec<_>>()[..] else { panic!("{stdout}") };
    assert_eq!(mode, "dedicated");
    let is_new =
        |major: &str| majors(&stdout).iter().any(|one| one == major) && !majors(&outside).contains(&major.to_owned());
    assert!(is_new(major), "{major}: {stdout}");
}

/// Nobody is left who could be told what the program used, so it ends, too.
#[test]
fn the_program_is_killed_with_the_command_that_counts() {
    if !is_possible() {
        return;
    }
    let mut command = emulate(&["--stats"]);
    command.args(["sh", "-c", "echo up; read line; echo down"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut said = String::new();
    stdout.read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // If it still read, it would go on now.
    drop(stdin);
    stdout.read_to_string(&mut said).unwrap();
    assert_eq!(said, "up\n");
}

fn names() -> Vec<String> {
    let folders = ["/dev", "/sys/bus", "/sys/module"].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut names: Vec<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
