//! What was found, as a page for a person and as a document for a program.

use serde_json::{Map, Value, json};

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is here and can be used.
    Ok,
    /// It is here, and this process cannot use it.
    Problem,
    /// It is not here, or is nobody's to use yet. Nothing is broken by that.
    NotHere,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Problem => "problem",
            Self::NotHere => "not here",
        }
    }

    /// What JSON calls it.
    fn name(self) -> &'static str {
        if self == Self::NotHere { "not_here" } else { self.words() }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    /// Its name.
    about: String,
    state: State,
    /// What there is to say of it, in words that follow its name.
    says: String,
    /// The command that would mend a problem.
    remedy: Option<String>,
}

impl Check {
    pub(super) fn new(state: State, about: impl Into<String>, says: impl Into<String>, remedy: Option<String>) -> Self {
        Self { about: about.into(), state, says: says.into(), remedy }
    }

    pub(super) fn ok(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(State::Ok, about, says, None)
    }

    pub(super) fn not_here(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(State::NotHere, about, says, None)
    }

    pub(super) fn problem(about: impl Into<String>, says: impl Into<String>, remedy: Option<String>) -> Self {
        Self::new(State::Problem, about, says, remedy)
    }

    fn lines(&self) -> String {
        let Self { about, state, says, remedy } = self;
        let mut lines = format!("  {:8}  {}\n", state.words(), on_one_line(&format!("{about}: {says}")));
        if let Some(remedy) = remedy {
            lines += &format!("  {:8}  to mend it: {}\n", "", on_one_line(remedy));
        }
        lines
    }

    fn json(&self, section: &str) -> Value {
        json!({
            "section": section,
            "about": self.about,
            "state": self.state.name(),
            "says": self.says,
            "remedy": self.remedy,
        })
    }
}

/// Things of one kind.
#[derive(Debug)]
pub(super) struct Section {
    /// What JSON calls them.
    pub(super) name: &'static str,
    /// What a person calls them.
    pub(super) title: String,
    pub(super) checks: Vec<Check>,
    /// Numbers and names beneath the checks, for a program.
    pub(super) facts: Value,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Page(pub(super) Vec<Section>);

impl Page {
    pub(super) fn problems(&self) -> usize {
        let checks = self.0.iter().flat_map(|section| &section.checks);
        checks.filter(|check| check.state == State::Problem).count()
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("memring {}\n", env!("CARGO_PKG_VERSION"));
        for section in &self.0 {
            text += &format!("\n{}\n", on_one_line(&section.title));
            text.extend(section.checks.iter().map(Check::lines));
        }
        text += &match self.problems() {
            0 => "\nNothing is broken.\n".to_owned(),
            1 => "\n1 problem.\n".to_owned(),
            count => format!("\n{count} problems.\n"),
        };
        text
    }

    pub(super) fn json(&self) -> Value {
        let mut all = Map::new();
        all.insert("command".to_owned(), "doctor".into());
        all.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        all.insert("problems".to_owned(), self.problems().into());
        let checks = |section: &Section| {
            let checks = section.checks.iter();
            checks.map(|check| check.json(section.name)).collect::<Vec<_>>()
        };
        all.insert("checks".to_owned(), self.0.iter().flat_map(checks).collect());
        all.extend(self.0.iter().map(|section| (section.name.to_owned(), section.facts.clone())));
        Value::Object(all)
    }
}

/// A file's name may hold a line break, or what moves a terminal's cursor.
fn on_one_line(text: &str) -> String {
    let mut line = String::new();
    for letter in text.chars() {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    line
}

pub(super) fn yes_or_no(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}
