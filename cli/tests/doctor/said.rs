//! What the command says of a tree, as text and as JSON, held against each other.

use std::process::{Command, Output};

use memring::dsa::{Roots, Way};
use serde_json::Value;

use super::support::run;
use super::tree::Tree;

/// What JSON calls the sections.
const SECTIONS: [&str; 5] = ["kernel", "cpu", "dsa", "io_uring", "locked_memory"];

/// How a kernel gets another command line where there is grubby, as there is in every tree here.
pub(super) const BOOT: &str = "sudo grubby --update-kernel=ALL --args=intel_iommu=on,sm_on && sudo reboot";

/// A problem: what it is about, what is said of it, the remedy.
pub(super) type Problem<'a> = (&'a str, &'a str, Option<&'a str>);

/// The command, with the roots of this tree, and not touched by the environment of the test.
pub(super) fn doctor(tree: &Tree, arguments: &[&str]) -> Command {
    let Roots { sysfs, dev } = tree.roots();
    let mut command = bare(arguments);
    tree.set("bin/grubby", "");
    command.arg("--sysfs").arg(sysfs).arg("--dev").arg(dev).env("PATH", tree.path("bin"));
    command
}

/// The command, with no roots but the machine's.
pub(super) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memring"));
    command.arg("doctor").args(arguments);
    for variable in [Way::VARIABLE, Roots::SYSFS_VARIABLE, Roots::DEV_VARIABLE] {
        command.env_remove(variable);
    }
    command
}

/// What it says; each path begins after the tree's own.
pub(super) struct Said {
    pub(super) json: Value,
    pub(super) text: String,
}

impl Said {
    pub(super) fn of(tree: &Tree) -> Self {
        Self::by(tree, |_| {})
    }

    /// Of a tree with texts of the kernel of its own, in `proc`.
    pub(super) fn with_proc(tree: &Tree) -> Self {
        Self::by(tree, |command| _ = command.arg("--proc").arg(tree.path("proc")))
    }

    /// Asks for both, each in a process that was prepared by this.
    pub(super) fn by(tree: &Tree, prepare: impl Fn(&mut Command)) -> Self {
        let ask = |arguments: &[&str]| {
            let mut command = doctor(tree, arguments);
            prepare(&mut command);
            run(command)
        };
        Self::read(tree, &ask(&["--json"]), &ask(&[]))
    }

    pub(super) fn read(tree: &Tree, json: &Output, text: &Output) -> Self {
        let folder = format!("{}/", tree.path("").display().to_string().trim_end_matches('/'));
        let read = |output: &Output| {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "nothing on stderr");
            String::from_utf8(output.stdout.clone()).unwrap().replace(&folder, "")
        };
        let (line, page) = (read(json), read(text));
        assert_eq!(line.lines().count(), 1, "{line}");
        let said = Self { json: serde_json::from_str(&line).unwrap(), text: page };
        said.both_say_the_same();
        let code = i32::from(!said.found("problem", |_| true).is_empty());
        assert_eq!((json.status.code(), text.status.code()), (Some(code), Some(code)), "{}", said.text);
        said
    }

    /// Every section is there; every check of JSON is a line of the text, with its remedy below it, and no other line
    /// is there.
    fn both_say_the_same(&self) {
        let Self { json, text } = self;
        assert_eq!((json["command"].as_str(), json["version"].as_str()), (Some("doctor"), Some(VERSION)));
        let keys = json.as_object().unwrap().len();
        assert_eq!(keys, SECTIONS.len() + 4, "{json}");
        let mut expected = format!("memring {VERSION}\n");
        let titles: Vec<_> = text.lines().skip(1).filter(|line| !line.starts_with("  ") && !line.is_empty()).collect();
        for (section, title) in SECTIONS.into_iter().zip(&titles) {
            assert!(json[section].is_object(), "{section}: {json}");
            expected += &format!("\n{title}\n");
            for check in self.checks().iter().filter(|check| check["section"] == section) {
                let word = |name: &str| check[name].as_str().map(on_one_line);
                let state = match check["state"].as_str().unwrap() {
                    "ok" => "ok      ",
                    "problem" => "problem ",
                    "not_here" => "not here",
                    other => panic!("{other}"),
                };
                expected += &format!("  {state}  {}: {}\n", word("about").unwrap(), word("says").unwrap());
                if let Some(remedy) = word("remedy") {
                    assert_eq!(state, "problem ", "commands are for what is broken: {check}");
                    expected += &format!("            to mend it: {remedy}\n");
                }
            }
        }
        let problems = self.found("problem", |_| true).len();
        expected += &match problems {
            0 => "\nNothing is broken.\n".to_owned(),
            1 => "\n1 problem.\n".to_owned(),
            count => format!("\n{count} problems.\n"),
        };
        assert_eq!(*text, expected);
        assert_eq!(json["problems"].as_u64(), Some(problems as u64));
    }

    fn checks(&self) -> &[Value] {
        self.json["checks"].as_array().unwrap()
    }

    /// The state of the one check about this, and what is said.
    #[track_caller]
    pub(super) fn check(&self, about: &str) -> (&str, &str) {
        let found: Vec<_> = self.checks().iter().filter(|check| check["about"] == about).collect();
        let [check] = found.as_slice() else { panic!("not one check about {about:?}: {}", self.text) };
        (check["state"].as_str().unwrap(), check["says"].as_str().unwrap())
    }

    /// The checks in this state, in the order of the page; of the sections that this holds for.
    fn found(&self, state: &str, is_asked: impl Fn(&str) -> bool) -> Vec<Problem<'_>> {
        let checks = self.checks().iter().filter(|check| check["state"] == state);
        let checks = checks.filter(|check| is_asked(check["section"].as_str().unwrap()));
        checks
            .map(|check| (check["about"].as_str().unwrap(), check["says"].as_str().unwrap(), check["remedy"].as_str()))
            .collect()
    }

    /// The checks in this state. Not of io_uring, which the machine of a test may refuse.
    pub(super) fn in_state(&self, state: &str) -> Vec<Problem<'_>> {
        self.found(state, |section| section != "io_uring")
    }

    pub(super) fn problems(&self) -> Vec<Problem<'_>> {
        self.in_state("problem")
    }

    /// The one problem.
    #[track_caller]
    pub(super) fn problem(&self) -> Problem<'_> {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{}", self.text);
        problems[0]
    }

    /// The problems of io_uring.
    pub(super) fn of_uring(&self) -> Vec<Problem<'_>> {
        self.found("problem", |section| section == "io_uring")
    }

    /// A queue by its name.
    #[track_caller]
    pub(super) fn queue(&self, name: &str) -> &Value {
        let queues = self.json["dsa"]["queues"].as_array().unwrap();
        queues.iter().find(|queue| queue["name"] == name).unwrap_or_else(|| panic!("no {name}: {}", self.json))
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn on_one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() })
        .collect()
}
