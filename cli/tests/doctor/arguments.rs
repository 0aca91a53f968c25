//! What it is asked for, and what cannot be said.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use serde_json::Value;

use super::said::{Said, bare, doctor};
use super::support::{Folder, assert_done, assert_failed, run};
use super::tree::Tree;

#[test]
fn wrong_arguments() {
    let folder = Folder::with_source(b"text");
    let wrong = |arguments: &[&str], end: &str| {
        assert_failed(&run(folder.memring("doctor", arguments)), 2, end);
    };
    wrong(&["src"], "unexpected argument 'src' found (see --help)");
    wrong(&["--jsn"], "unexpected argument '--jsn' found (see --help)");
    wrong(&["--sysfs"], "a value is required for '--sysfs <FOLDER>' but none was supplied (see --help)");
    for option in ["--sysfs", "--dev", "--proc"] {
        wrong(&[option, "missing\n"], "doctor: cannot look at \"missing\\n\": No such file or directory");
        let end = format!("a value is required for '{option} <FOLDER>' but none was supplied (see --help)");
        wrong(&[option, ""], &end);
        wrong(&[option, "src"], "doctor: \"src\" is not a folder");
    }
}

#[test]
fn help_says_what_the_exit_status_means() {
    let help = assert_done(&run(bare(&["--help"])));
    for line in ["  0  nothing is broken: all is ok, or not here", "  1  there is a problem: ", "  2  wrong arguments"]
    {
        assert!(help.contains(line), "{line:?} in {help}");
    }
    for option in ["--json", "--sysfs <FOLDER>", "--dev <FOLDER>", "--proc <FOLDER>"] {
        assert!(help.contains(option), "{option:?} in {help}");
    }
}

#[test]
fn nobody_takes_the_page() {
    let tree = Tree::right();
    for arguments in [&[][..], &["--json"]] {
        let mut full = doctor(&tree, arguments);
        full.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert_failed(&run(full), 1, "doctor: cannot say what it found: No space left on device");
        let mut broken = doctor(&tree, arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        broken.stdout(Stdio::from(writer));
        assert_failed(&run(broken), 1, "doctor: cannot say what it found: Broken pipe");
    }
}

/// Names that are no text are as good as others, and JSON stays JSON.
#[test]
fn folders_whose_names_are_no_text() {
    let tree = Tree::right();
    let name = OsStr::from_bytes(b"d\xffv \"\n\x01");
    let dev = tree.path("dev").join(name);
    fs::rename(tree.path("dev/dsa"), &dev).unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = bare(arguments);
        command.arg("--sysfs").arg(tree.path("bus")).arg("--dev").arg(&dev);
        run(command)
    };
    let said = Said::read(&tree, &ask(&["--json"]), &ask(&[]));
    assert_eq!(said.json["dsa"]["dev"].as_str(), Some("dev/d\u{fffd}v \"\n\u{1}"));
    assert_eq!(said.queue("wq0.0")["node"].as_str(), Some("dev/d\u{fffd}v \"\n\u{1}/wq0.0"));
    // The remedy is for a shell, and names the file itself.
    fs::remove_file(dev.join("wq0.0")).unwrap();
    let said = Said::read(&tree, &ask(&["--json"]), &ask(&[]));
    let (_, _, remedy) = said.problem();
    assert!(remedy.unwrap().ends_with("dev/d\\377v \"\\012\\001/wq0.0'"), "{remedy:?}");
}

/// A real machine, whatever it is: the page is whole, and says of the bus or of devices.
#[test]
fn this_machine() {
    let ask = |arguments: &[&str]| run(bare(arguments));
    let said = Said::read(&Tree::new(), &ask(&["--json"]), &ask(&[]));
    let dsa = &said.json["dsa"];
    assert_eq!(dsa["sysfs"].as_str(), Some("/sys/bus/dsa/devices"));
    let lists = ["devices", "queues", "unusable"].map(|name| dsa[name].as_array().map(Vec::len));
    assert!(lists.iter().all(Option::is_some), "{dsa}");
    let facts: &Value = &said.json["kernel"]["architecture"];
    assert_eq!(facts.as_str(), Some(std::env::consts::ARCH));
}
