//! Rust source, parted into code and comments: enough of a lexer not to take one for the other.

/// One line of source. What is inside string and character literals is in neither part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) code: String,
    pub(crate) comment: String,
}

impl Line {
    /// Whether the code has this word, not merely as a part of a longer one.
    pub(crate) fn has_word(&self, word: &str) -> bool {
        self.code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|other| other == word)
    }
}

/// Where the lexer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Code,
    LineComment,
    /// With the depth of nesting.
    BlockComment(usize),
    /// A string, with what closes it: the number of `#`, and whether a backslash escapes.
    Str(usize, bool),
}

/// The lines of a source text.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let mut at = At::Code;
    let mut out = vec![Line::default()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let line = out.last_mut().expect("it begins with one");
        if c == '\n' {
            out.push(Line::default());
            if at == At::LineComment {
                at = At::Code;
            }
            rest = &rest[1..];
            continue;
        }
        let (taken, next) = match at {
            At::Code => code(rest, line),
            At::LineComment => comment(c, line, At::LineComment),
            At::BlockComment(depth) if rest.starts_with("*/") => {
                (2, if depth == 1 { At::Code } else { At::BlockComment(depth - 1) })
            }
            At::BlockComment(depth) if rest.starts_with("/*") => (2, At::BlockComment(depth + 1)),
            At::BlockComment(_) => comment(c, line, at),
            At::Str(..) => string(rest, at),
        };
        at = next;
        rest = &rest[taken..];
    }
    out
}

fn comment(c: char, line: &mut Line, at: At) -> (usize, At) {
    line.comment.push(c);
    (c.len_utf8(), at)
}

/// Takes one token of code, or what opens something else.
fn code(rest: &str, line: &mut Line) -> (usize, At) {
    if rest.starts_with("//") {
        return (2, At::LineComment);
    }
    if rest.starts_with("/*") {
        return (2, At::BlockComment(1));
    }
    let in_word = line.code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if !in_word && let Some((taken, hashes)) = raw_string(rest) {
        return (taken, At::Str(hashes, false));
    }
    if rest.starts_with('"') {
        return (1, At::Str(0, true));
    }
    if let Some(taken) = character(rest) {
        return (taken, At::Code);
    }
    let c = rest.chars().next().expect("there is more");
    line.code.push(c);
    (c.len_utf8(), At::Code)
}

/// The length of what opens a raw string, and its number of `#`.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let prefix = ["br", "cr", "r"].iter().find(|prefix| rest.starts_with(**prefix))?;
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some((prefix.len() + hashes + 1, hashes))
}

/// The length of a character literal, if this is one and not a lifetime.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let skipped = escape.chars().next()?.len_utf8();
        return Some(2 + skipped + escape[skipped..].find('\'')? + 1);
    }
    let c = inside.chars().next()?;
    inside[c.len_utf8()..].starts_with('\'').then_some(1 + c.len_utf8() + 1)
}

fn string(rest: &str, at: At) -> (usize, At) {
    let At::Str(hashes, escapes) = at else { return (0, at) };
    if escapes && rest.starts_with('\\') {
        // A line break after the backslash is left for the caller to count.
        let skipped = rest[1..].chars().next().filter(|&c| c != '\n').map_or(0, char::len_utf8);
        return (1 + skipped, at);
    }
    if let Some(after) = rest.strip_prefix('"')
        && after.len() - after.trim_start_matches('#').len() >= hashes
    {
        return (1 + hashes, At::Code);
    }
    (rest.chars().next().map_or(0, char::len_utf8), at)
}
