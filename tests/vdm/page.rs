//! `docs/VDM.md` names tests, and they are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The last columns of the rows of all tables, without their heads.
fn last_columns(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let columns = rows.filter_map(|row| row.rsplit(" | ").next());
    columns.filter(|column| *column != "held by").collect()
}

/// The names in backticks.
fn names(column: &str) -> BTreeSet<&str> {
    column.split('`').skip(1).step_by(2).collect()
}

/// Whether a file of tests has a test of this name: `module::name`.
fn is_there(name: &str) -> bool {
    let Some((module, test)) = name.split_once("::") else { return false };
    let path = match module {
        "vdm" | "examples" => format!("tests/{module}.rs"),
        _ => format!("tests/vdm/{module}.rs"),
    };
    read(&path).contains(&format!("#[test]\nfn {test}() {{"))
}

#[test]
fn every_row_names_tests_that_are_there() {
    let text = read("docs/VDM.md");
    let columns = last_columns(&text);
    assert!(columns.len() > 50, "these are not the tables: {} rows", columns.len());
    for column in columns {
        let names = names(column);
        assert!(!names.is_empty(), "{column:?} names no test");
        for name in names {
            assert!(is_there(name), "{name} is not there");
        }
    }
    assert!(!is_there("vdm::nothing_of_this_name"), "a rule that cannot complain holds nothing");
}
