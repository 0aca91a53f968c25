//! Goal: what the documents promise about the source tree stays true: layers, places of `unsafe`, orderings, links,
//! sizes.
//!
//! Method: an ordinary test reads the tree. `tidy/source.rs` parts each line of Rust into code and comment, so that a
//! word in a comment is not taken for code. Each rule is a pure function from files to complaints; `broken.rs` feeds
//! each rule a sample that breaks it, since a rule that cannot complain holds nothing.

#[path = "tidy/broken.rs"]
mod broken;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use source::{Line, lines};

const COLUMNS: usize = 120;
const LINES: usize = 600;

/// The files of the libraries and of the command that may hold `unsafe`. `docs/SAFETY.md` says why each does.
const MAY_HOLD_UNSAFE: &[&str] = &[
    "cli/src/copy.rs",
    "cli/src/durability.rs",
    "cli/src/emulate/library.rs",
    "cli/src/emulate/namespace.rs",
    "cli/src/signals.rs",
    "emulator/src/actions.rs",
    "emulator/src/device.rs",
    "emulator/src/emulation.rs",
    "emulator/src/futex.rs",
    "emulator/src/interposed.rs",
    "emulator/src/lib.rs",
    "emulator/src/memory.rs",
    "emulator/src/node.rs",
    "emulator/src/page.rs",
    "emulator/src/process.rs",
    "emulator/src/real.rs",
    "emulator/src/signals.rs",
    "emulator/src/trap.rs",
    "src/future/batch.rs",
    "src/future/buffer.rs",
    "src/future/entrance.rs",
    "src/future/operation.rs",
    "src/future/places.rs",
    "src/future/raw.rs",
    "src/future/scope.rs",
    "src/future/verb.rs",
    "src/memory/copy.rs",
    "src/memory/flush.rs",
    "src/memory/region/backing.rs",
    "src/memory/region/mapped.rs",
    "src/memory/region/span.rs",
    "src/memory/stream/clzero.rs",
    "src/memory/stream/ends.rs",
    "src/memory/stream/kernel.rs",
    "src/memory/stream/mod.rs",
    "src/memory/stream/vector.rs",
    "src/memory/guarded.rs",
    "src/mover/broken.rs",
    "src/mover/cpu.rs",
    "src/mover/dsa/model/memory.rs",
    "src/mover/dsa/model/portal.rs",
    "src/mover/dsa/model/run.rs",
    "src/mover/dsa/mover/arena.rs",
    "src/mover/dsa/mover/arrival.rs",
    "src/mover/dsa/mover/departure.rs",
    "src/mover/dsa/mover/intake.rs",
    "src/mover/dsa/mover/mod.rs",
    "src/mover/dsa/mover/on_cpu.rs",
    "src/mover/dsa/portal/instructions.rs",
    "src/mover/dsa/portal/mmap.rs",
    "src/mover/dsa/portal/mod.rs",
    "src/mover/dsa/portal/write.rs",
    "src/mover/guard.rs",
    "src/mover/mod.rs",
    "src/mover/uring/kernel.rs",
    "src/mover/uring/mod.rs",
    "src/os/eventfd.rs",
    "src/os/fault.rs",
    "src/os/fork.rs",
    "src/os/futex.rs",
    "src/os/populate.rs",
    "src/queue/chain.rs",
    "src/queue/completion.rs",
    "src/queue/submission.rs",
    "src/tokio.rs",
    "src/vdm/chain.rs",
    "src/vdm/future.rs",
    "src/vdm/mod.rs",
    "src/vdm/mover.rs",
    "src/vdm/operation.rs",
    "src/vdm/plugged.rs",
    "src/vdm/synchronous.rs",
    "src/vdm/queued.rs",
];

/// The modules of `src/`, lowest layer first. A module may import what is below it; in the first layer, each other too.
const LAYERS: &[&[&str]] =
    &[&["error", "sqe", "cqe"], &["os"], &["memory"], &["mover"], &["queue"], &["future"], &["tokio", "vdm"]];

/// The implementations of `DataMover` in `src/mover/`, which must not know each other.
const MOVERS: &[&str] = &["cpu", "broken", "dsa", "uring"];

/// What no file or folder is named after: words that say nothing of what is inside.
const EMPTY_WORDS: &[&str] = &["helper", "helpers", "util", "utils", "common", "manager"];

/// A text file of the tree, by its path from the root.
#[derive(Clone, Debug)]
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it belongs to a library or the command: the rest is tests, models and benches.
    fn is_shipped(&self) -> bool {
        ["src/", "ring/src/", "cli/src/", "emulator/src/"].iter().any(|folder| self.path.starts_with(folder))
    }

    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests")
    }

    fn complain(&self, line: usize, about: impl std::fmt::Display) -> String {
        format!("{}:{line}: {about}", self.path)
    }

    /// Complaints about lines, numbered from one.
    fn lines_that(&self, is_wrong: impl Fn(&Line) -> Option<String>) -> Vec<String> {
        let wrong = lines(&self.text).into_iter().zip(1..);
        wrong.filter_map(|(line, number)| is_wrong(&line).map(|about| self.complain(number, about))).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All text files of the tree, but for what builds leave behind.
fn tree() -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("the tree can be read") {
            let entry = entry.expect("the tree can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            if entry.file_type().expect("the tree can be read").is_dir() {
                if name != ".git" && name != "target" {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                files.push(File { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 50, "this is not the tree: {} files", files.len());
    files
}

/// Fails with every complaint, one a line.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn of_each(files: &[File], rule: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    files.iter().flat_map(rule).collect()
}

fn opens_with_module_docs(file: &File) -> Vec<String> {
    let fails = file.is_rust() && !file.text.starts_with("//! ");
    if fails { vec![file.complain(1, "does not open with `//!`")] } else { Vec::new() }
}

fn fits_a_page(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let long = file.text.lines().zip(1..).filter(|(line, _)| line.chars().count() > COLUMNS);
    let mut complaints: Vec<String> =
        long.map(|(_, number)| file.complain(number, format!("longer than {COLUMNS} columns"))).collect();
    let count = file.text.lines().count();
    if count > LINES {
        complaints.push(file.complain(count, format!("longer than {LINES} lines")));
    }
    complaints
}

fn is_named_for_what_it_holds(file: &File) -> Vec<String> {
    let words = file.path.split(|c: char| !c.is_alphanumeric());
    let empty = words.filter(|word| EMPTY_WORDS.contains(&word.to_lowercase().as_str()));
    empty.map(|word| file.complain(1, format!("{word:?} in a file's name says nothing"))).collect()
}

fn never_sleeps(file: &File) -> Vec<String> {
    if !file.is_rust() || !(file.is_test() || file.is_shipped()) {
        return Vec::new();
    }
    file.lines_that(|line| {
        let imports = line.code.contains("thread::{") && line.has_word("sleep");
        let sleeps = imports || line.code.contains("thread::sleep");
        sleeps.then(|| "a sleep is no synchronisation".to_owned())
    })
}

/// `unsafe` stands only where it is listed, and is re-opened there; `listed` is for what is shipped.
fn holds_unsafe_where_listed(files: &[File], listed: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut left: BTreeSet<&str> = listed.iter().copied().collect();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = lines(&file.text);
        let first = lines.iter().position(|line| line.has_word("unsafe")).map(|at| at + 1);
        let dense: String = lines.iter().flat_map(|line| line.code.split_whitespace()).collect();
        let reopened = dense.contains("expect(unsafe_code");
        let is_listed = left.remove(file.path.as_str());
        match (first, is_listed || !file.is_shipped()) {
            (Some(line), false) => complaints.push(file.complain(line, "`unsafe` in a file that is not listed for it")),
            (Some(line), true) if !reopened => complaints.push(file.complain(line, "no `expect(unsafe_code, reason)`")),
            (None, _) if is_listed => complaints.push(file.complain(1, "listed for `unsafe`, and holds none")),
            _ => {}
        }
    }
    complaints.extend(left.iter().map(|path| format!("{path}: listed for `unsafe`, and does not exist")));
    complaints
}

/// The files that the first column of the table in `docs/SAFETY.md` names.
fn named_in_the_safety_chapter(text: &str) -> BTreeSet<&str> {
    let first_columns = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    first_columns.flat_map(|column| column.split('`').skip(1).step_by(2)).collect()
}

fn comments_its_orderings(file: &File) -> Vec<String> {
    /// A comment stands on the line of the access or this close above it: statements are no longer than that.
    const ABOVE: usize = 4;
    const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
    // sync.rs hands the orderings out; it orders nothing by itself.
    let is_concerned = ["ring/src/", "emulator/src/"].iter().any(|folder| file.path.starts_with(folder));
    if !is_concerned || file.path == "ring/src/sync.rs" {
        return Vec::new();
    }
    let lines = lines(&file.text);
    let is_use = |line: &Line| ORDERINGS.iter().any(|ordering| line.code.contains(&format!("Ordering::{ordering}")));
    let explained =
        |at: usize| lines[at.saturating_sub(ABOVE)..=at].iter().any(|line| line.comment.contains("Ordering: "));
    let bare = (0..lines.len()).filter(|&at| is_use(&lines[at]) && !explained(at));
    bare.map(|at| file.complain(at + 1, "an ordering without an `Ordering:` comment that names its partner")).collect()
}

fn names_the_loom_cfg_in_one_place(file: &File) -> Vec<String> {
    if !file.is_rust() || !file.is_shipped() || file.path == "ring/src/sync.rs" {
        return Vec::new();
    }
    file.lines_that(|line| line.has_word("memring_loom").then(|| "only ring/src/sync.rs names the cfg".to_owned()))
}

/// The layer of a module, counted from below.
fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn imports_from_below(file: &File) -> Vec<String> {
    let Some(path) = file.path.strip_prefix("src/").filter(|_| file.is_rust()) else { return Vec::new() };
    let module = path.split(['/', '.']).next().unwrap_or_default();
    if module == "lib" {
        return Vec::new();
    }
    let Some(layer) = layer_of(module) else { return vec![file.complain(1, "a module without a layer")] };
    file.lines_that(|line| {
        let imports = line.code.split("crate::").skip(1);
        let names =
            imports.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default());
        let allowed = |name: &str| match layer_of(name) {
            Some(of) => name == module || of < layer || (of, layer) == (0, 0),
            None => false,
        };
        let wrong: Vec<&str> = names.filter(|name| !allowed(name)).collect();
        (!wrong.is_empty()).then(|| format!("{module} is not above {wrong:?}"))
    })
}

fn movers_do_not_know_each_other(file: &File) -> Vec<String> {
    let name = file.path.strip_prefix("src/mover/").and_then(|rest| rest.split(['/', '.']).next());
    let Some(name) = name.filter(|name| MOVERS.contains(name)) else { return Vec::new() };
    let others = || MOVERS.iter().filter(move |other| **other != name);
    file.lines_that(|line| {
        let mut known =
            others().filter(|other| ["super", "mover"].iter().any(|at| line.code.contains(&format!("{at}::{other}"))));
        known.next().map(|other| format!("{name} knows {other}"))
    })
}

/// The targets of a document's links, with their lines. Code spans and code blocks have none.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            let prose = line.split('`').step_by(2);
            let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split_once(')'));
            found.extend(targets.map(|(target, _)| (number, target)));
        }
    }
    found
}

fn links_lead_somewhere(file: &File, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let folder = Path::new(&file.path).parent().expect("a file is in a folder");
    let dead = links(&file.text).into_iter().filter(|(_, target)| {
        let path = target.split('#').next().unwrap_or_default();
        !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:") && !exists(&flat(&folder.join(path)))
    });
    dead.map(|(line, target)| file.complain(line, format!("the link to {target:?} leads nowhere"))).collect()
}

/// The path without `..`, so that it may lead through a folder's parent but not out of the tree.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if flat.pop() => {}
            other => flat.push(other),
        }
    }
    flat
}

#[test]
fn files_open_with_module_docs() {
    none(&of_each(&tree(), opens_with_module_docs));
}

#[test]
fn files_fit_a_page() {
    none(&of_each(&tree(), fits_a_page));
}

#[test]
fn files_are_named_for_what_they_hold() {
    none(&of_each(&tree(), is_named_for_what_it_holds));
}

#[test]
fn nothing_sleeps_to_synchronise() {
    none(&of_each(&tree(), never_sleeps));
}

#[test]
fn unsafe_stands_where_it_is_listed() {
    none(&holds_unsafe_where_listed(&tree(), MAY_HOLD_UNSAFE));
}

#[test]
fn the_safety_chapter_lists_the_same_files() {
    let text = fs::read_to_string(root().join("docs/SAFETY.md")).expect("the chapter is there");
    let listed: BTreeSet<&str> = MAY_HOLD_UNSAFE.iter().copied().collect();
    assert_eq!(named_in_the_safety_chapter(&text), listed, "docs/SAFETY.md on the left, this test on the right");
}

#[test]
fn orderings_are_explained() {
    none(&of_each(&tree(), comments_its_orderings));
}

#[test]
fn one_file_names_the_loom_cfg() {
    none(&of_each(&tree(), names_the_loom_cfg_in_one_place));
}

#[test]
fn layers_import_from_below() {
    none(&of_each(&tree(), imports_from_below));
    none(&of_each(&tree(), movers_do_not_know_each_other));
}

#[test]
fn links_in_documents_lead_somewhere() {
    none(&of_each(&tree(), |file| links_lead_somewhere(file, |path| root().join(path).exists())));
}
