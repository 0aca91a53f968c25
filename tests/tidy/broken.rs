//! Each rule of tidy, shown to complain: a sample that breaks it, and one beside it that does not.

use std::path::Path;
use std::slice::from_ref;

use super::source::lines;
use super::{
    COLUMNS, File, LINES, comments_its_orderings, fits_a_page, flat, holds_unsafe_where_listed, imports_from_below,
    is_named_for_what_it_holds, links_lead_somewhere, movers_do_not_know_each_other, named_in_the_safety_chapter,
    names_the_loom_cfg_in_one_place, never_sleeps, opens_with_module_docs,
};

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// The rule complains once about each of the first texts, and about none of the others.
fn tells(rule: impl Fn(&File) -> Vec<String>, path: &str, broken: &[&str], sound: &[&str]) {
    for text in broken {
        assert_eq!(rule(&file(path, text)).len(), 1, "{path}: {text}");
    }
    for text in sound {
        assert_eq!(rule(&file(path, text)), [] as [String; 0], "{path}: {text}");
    }
}

#[test]
fn missing_module_docs_are_found() {
    tells(opens_with_module_docs, "src/x.rs", &["use a;\n//! late", "", "/// item"], &["//! What it is."]);
    tells(opens_with_module_docs, "README.md", &[], &["# memring"]);
}

#[test]
fn long_lines_and_files_are_found() {
    let (line, longer) = ("é".repeat(COLUMNS), "é".repeat(COLUMNS + 1));
    let (lines, more) = ("x\n".repeat(LINES), "x\n".repeat(LINES + 1));
    tells(fits_a_page, "tests/x.rs", &[&longer, &more], &[&line, &lines]);
    tells(fits_a_page, "x.md", &[], &[&longer]);
}

#[test]
fn empty_names_are_found() {
    for path in ["src/util.rs", "tests/common/x.rs", "src/buffer_manager.rs", "cli/src/helpers.rs"] {
        tells(is_named_for_what_it_holds, path, &[""], &[]);
    }
    for path in ["src/utility.rs", "tests/support/x.rs", "src/uncommon.rs"] {
        tells(is_named_for_what_it_holds, path, &[], &[""]);
    }
}

#[test]
fn sleeps_are_found() {
    let broken = ["std::thread::sleep(limit);", "use std::thread::{self, sleep};", "thread::sleep(x)"];
    let sound = ["bell.sleep(None)", "// thread::sleep", "\"thread::sleep\"", "use std::thread::{self, yield_now};"];
    for path in ["src/x.rs", "ring/src/x.rs", "tests/x.rs", "ring/tests/x.rs"] {
        tells(never_sleeps, path, &broken, &sound);
    }
}

#[test]
fn unlisted_and_idle_unsafe_is_found() {
    let opened = "#![expect(unsafe_code, reason = \"x\")]\nunsafe { f() }";
    let rule = |listed: &'static [&str]| move |file: &File| holds_unsafe_where_listed(from_ref(file), listed);
    tells(rule(&["src/x.rs"]), "src/x.rs", &["unsafe { f() }", "//! none"], &[opened]);
    tells(
        rule(&[]),
        "src/x.rs",
        &[opened, "unsafe fn f() {}"],
        &["// unsafe", "\"unsafe\"", "r#\"unsafe\"#", "deny(unsafe_code)"],
    );
    tells(rule(&[]), "tests/x.rs", &["unsafe { f() }"], &[opened, "//! none"]);
    let gone = holds_unsafe_where_listed(&[], &["src/gone.rs"]);
    assert!(gone.len() == 1 && gone[0].contains("does not exist"), "{gone:?}");
    let named = named_in_the_safety_chapter("| file | what |\n|---|---|\n| `a.rs`, `b.rs` | `not` this |\n");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["a.rs", "b.rs"]);
}

#[test]
fn bare_orderings_are_found() {
    let broken = [
        "x.load(Ordering::Relaxed);",
        "x.load(Ordering::Acquire) // acquires",
        "x.store(1, Ordering::Release); \"Ordering: \"",
        "// Ordering: too far\n\n\n\n\n\nx.swap(1, Ordering::AcqRel)",
    ];
    let sound = [
        "x.load(Ordering::Relaxed) // Ordering: a hint.",
        "// Ordering: why.\nx.load(Ordering::Acquire)",
        "use Ordering;",
    ];
    tells(comments_its_orderings, "ring/src/x.rs", &broken, &sound);
    tells(comments_its_orderings, "ring/src/sync.rs", &[], &broken);
}

#[test]
fn the_cfg_elsewhere_is_found() {
    tells(names_the_loom_cfg_in_one_place, "src/x.rs", &["#[cfg(memring_loom)]"], &["// memring_loom", "#[cfg(loom)]"]);
    tells(names_the_loom_cfg_in_one_place, "ring/src/mpmc.rs", &["#[cfg(not(memring_loom))]"], &[]);
    tells(names_the_loom_cfg_in_one_place, "ring/src/sync.rs", &[], &["#[cfg(memring_loom)]"]);
}

#[test]
fn imports_from_above_are_found() {
    let up = [
        "use crate::queue::QueuePair;",
        "let x = crate::queue::new();",
        "use crate::{queue, sqe};",
        "use crate::unknown;",
    ];
    tells(
        imports_from_below,
        "src/mover/x.rs",
        &up,
        &["use crate::sqe::Sqe;", "use crate::memory;", "use super::Lane;"],
    );
    tells(
        imports_from_below,
        "src/memory/x.rs",
        &["use crate::queue::Drain;", "use crate::mover;"],
        &["use crate::cqe::Cqe;", "use crate::os::Birth;"],
    );
    tells(imports_from_below, "src/sqe.rs", &["use crate::os;"], &["use crate::error::X;", "/// [x](crate::queue::Y)"]);
    tells(imports_from_below, "src/queue/x.rs", &[], &["use crate::mover::Lane;", "pub use crate::queue::Y;"]);
    tells(imports_from_below, "src/new.rs", &["//! a module"], &[]);
    tells(imports_from_below, "src/lib.rs", &[], &["pub use crate::queue;"]);
    tells(movers_do_not_know_each_other, "src/mover/cpu.rs", &["use super::broken::Broken;"], &["use super::Lane;"]);
    tells(movers_do_not_know_each_other, "src/mover/mod.rs", &[], &["pub use self::broken::Broken;"]);
}

#[test]
fn dead_links_are_found() {
    let exists = |path: &Path| path == Path::new("docs/here.md") || path == Path::new("README.md");
    let rule = |file: &File| links_lead_somewhere(file, exists);
    let dead = ["see [it](gone.md)", "a [b](here.md) and [c](../gone.md)", "[x](../../README.md)", "[x](/etc/passwd)"];
    let alive = [
        "[it](here.md#part) [up](../README.md)",
        "[web](https://example.org/gone.md) [part](#part)",
        "`v[0](gone.md)`",
        "```\n[x](gone.md)\n```",
    ];
    tells(rule, "docs/x.md", &dead, &alive);
    assert_eq!(flat(Path::new("a/b/../../../c")), Path::new("../c"));
}

#[test]
fn code_and_comments_are_told_apart() {
    let text = concat!(
        "let a = \"// \\\" unsafe\"; // one\n/* two /* three */\n",
        "four */ let b: &'a u8 = '\"'; // five\nr#\"\" // \"# + '\\'';",
    );
    let parted: Vec<(String, String)> = lines(text).into_iter().map(|line| (line.code, line.comment)).collect();
    let expected = [("let a = ; ", " one"), ("", " two  three "), (" let b: &'a u8 = ; ", "four  five"), (" + ;", "")];
    assert_eq!(parted, expected.map(|(code, comment)| (code.to_owned(), comment.to_owned())));
}
