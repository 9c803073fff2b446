//! The repository's own Rust sources, for the tests that hold documents against the code. A file is
//! scanned by lines: this relies on rustfmt, which ends an item at the indentation of its beginning.

use std::path::{Path, PathBuf};

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns all files below a folder of the repository, as paths from its root, sorted.
///
/// # Panics
/// If a folder cannot be read.
pub fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(root().join(folder));
    for entry in entries.unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let entry = entry.expect("a folder's entry");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Returns a file of the repository.
///
/// # Panics
/// If the file is missing, or is not UTF-8.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One Rust file, without its tests.
#[derive(Debug)]
pub struct Source {
    /// The path from the repository's root.
    pub path: String,
    /// The text up to an inline module `tests`, which is always the last item.
    pub text: String,
    functions: Vec<Function>,
}

/// A function, and its first and last line: its doc comment belongs to it. Lines count from 0.
#[derive(Debug)]
struct Function {
    name: String,
    owner: Option<String>,
    is_visible: bool,
    first: usize,
    last: usize,
}

impl Source {
    /// Returns a file's source.
    pub fn parse(path: &str, text: &str) -> Self {
        let end = text.find("\n#[cfg(test)]\nmod tests {").map_or(text.len(), |at| at + 1);
        let text = text[..end].to_owned();
        let lines: Vec<_> = text.lines().collect();
        let functions = functions(&lines);
        Self { path: path.to_owned(), text, functions }
    }

    /// Returns the sources below a folder, without files and folders of tests, sorted by path.
    pub fn below(folder: &str) -> Vec<Self> {
        let is_test = |path: &str| {
            let mut parts = path.trim_end_matches(".rs").split('/');
            parts.any(|part| part == "tests" || part == "testing" || part == "equivalence")
        };
        let paths = files(folder).into_iter().filter(|path| path.ends_with(".rs"));
        paths.filter(|path| !is_test(path)).map(|path| Self::parse(&path, &read(&path))).collect()
    }

    /// Returns the text with everything but comments blanked, line by line.
    pub fn comments(&self) -> String {
        self.parts(|_, comment| comment)
    }

    /// Returns the text without comments, line by line.
    pub fn code(&self) -> String {
        self.parts(|code, _| code)
    }

    fn parts(&self, select: impl for<'a> Fn(&'a str, &'a str) -> &'a str) -> String {
        let part = |line| {
            let (code, comment) = split_comment(line);
            select(code, comment).to_owned() + "\n"
        };
        self.text.lines().map(part).collect()
    }

    /// Returns the names of functions that other files can call: public ones, and those of traits.
    pub fn visible_functions(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().filter(|f| f.is_visible).map(|f| f.name.as_str())
    }

    /// Returns the names of all functions.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().map(|f| f.name.as_str())
    }

    /// Returns the name of the innermost function in whose body, signature or doc comment a line
    /// stands; with the type or trait it belongs to, if the file has several of that name.
    pub fn function_at(&self, line: usize) -> Option<String> {
        let around = self.functions.iter().filter(|f| (f.first..=f.last).contains(&line));
        let function = around.max_by_key(|f| f.first)?;
        let namesakes = self.functions.iter().filter(|f| f.name == function.name).count();
        Some(match &function.owner {
            Some(owner) if namesakes > 1 => format!("{owner}::{}", function.name),
            _ => function.name.clone(),
        })
    }

    /// Whether a line is, or ends with, a comment on what a function does here: a `//` comment in its
    /// body or in front of it, and not its documentation.
    pub fn is_beside_a_statement(&self, line: usize) -> bool {
        let comment = self.text.lines().nth(line).map_or("", |line| split_comment(line).1);
        let is_doc = comment.starts_with("///") || comment.starts_with("//!");
        !comment.is_empty() && !is_doc && self.function_at(line).is_some()
    }
}

/// Splits a line where its comment begins. A `//` in a string is none.
fn split_comment(line: &str) -> (&str, &str) {
    let begins = |&(at, _): &(usize, &str)| line[..at].matches('"').count().is_multiple_of(2);
    let at = line.match_indices("//").find(begins).map_or(line.len(), |(at, _)| at);
    line.split_at(at)
}

fn functions(lines: &[&str]) -> Vec<Function> {
    let mut found = Vec::new();
    let (mut owner, mut in_trait) = (None, false);
    for (number, line) in lines.iter().enumerate() {
        if let Some(name) = owner_of(line) {
            (owner, in_trait) = (Some(name), line.contains("trait "));
        } else if *line == "}" {
            (owner, in_trait) = (None, false);
        }
        let Some(name) = function_of(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_last = |line: &&str| match line.strip_prefix(indent) {
            Some(rest) => rest.starts_with('}') || !rest.starts_with(' ') && rest.ends_with(';'),
            None => false,
        };
        let length = match line.ends_with(['}', ';']) {
            true => 0,
            false => lines[number..].iter().position(is_last).unwrap_or(0),
        };
        let is_doc = |line: &&&str| line.trim_start().starts_with(['/', '#']);
        let doc = lines[..number].iter().rev().take_while(is_doc).count();
        let (first, last) = (number - doc, number + length);
        let is_visible = in_trait || line.trim_start().starts_with("pub");
        found.push(Function { name, owner: owner.clone(), is_visible, first, last });
    }
    found
}

/// The name of the function whose signature begins on this line.
fn function_of(line: &str) -> Option<String> {
    let (before, rest) = split_comment(line).0.split_once("fn ")?;
    let is_qualifier = |word: &str| {
        word.starts_with("pub") || ["const", "unsafe", "super)", "extern", "\"C\""].contains(&word)
    };
    let name = identifier(rest);
    (!name.is_empty() && before.split_whitespace().all(is_qualifier)).then_some(name)
}

/// The type or trait of an `impl` block or a trait that begins on this line.
fn owner_of(line: &str) -> Option<String> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    if let Some(rest) = line.strip_prefix("trait ") {
        return Some(identifier(rest));
    }
    let rest = line.strip_prefix("unsafe ").unwrap_or(line).strip_prefix("impl")?;
    let rest = match rest.starts_with('<') {
        true => {
            let mut depth = 0;
            let end = rest.find(|c: char| {
                depth += i32::from(c == '<') - i32::from(c == '>');
                depth == 0
            });
            &rest[end? + 1..]
        }
        false => rest,
    };
    Some(identifier(rest.split_once(" for ").map_or(rest, |(_, of)| of).trim_start()))
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
//! Head.

impl<M: Mode, F: Family> Gate<'_, M, F> {
    /// Sends.
    #[inline]
    pub(super) fn send<P: Pool>(
        &self,
    ) -> Verdict {
        let url = \"http://x\"; // why
        match x {}
    }

    fn other() {}
}

impl Mode for A {
    // First.
    fn send() {
        0
    }
}

pub const fn free(x: u8) -> u8 {
    x
}

#[cfg(test)]
mod tests {
    fn test() {}
}
";

    #[test]
    fn lines_belong_to_functions() {
        let source = Source::parse("x.rs", TEXT);
        let at = |line: usize| source.function_at(line).unwrap_or_default();
        let all: Vec<_> = (0..source.text.lines().count()).map(at).collect();
        assert_eq!(all[..3], ["", "", ""]);
        assert!(all[3..11].iter().all(|name| name == "Gate::send"), "{all:?}");
        assert_eq!(all[11..14], ["", "other", ""]);
        assert_eq!(
            all[15..],
            ["", "A::send", "A::send", "A::send", "A::send", "", "", "free", "free", "free", ""]
        );
        assert!(source.is_beside_a_statement(8) && source.is_beside_a_statement(16));
        assert!(!source.is_beside_a_statement(3) && !source.is_beside_a_statement(5));
    }

    #[test]
    fn functions_are_visible_or_not() {
        let source = Source::parse("x.rs", TEXT);
        assert_eq!(source.functions().collect::<Vec<_>>(), ["send", "other", "send", "free"]);
        assert_eq!(source.visible_functions().collect::<Vec<_>>(), ["send", "free"]);
    }

    #[test]
    fn comments_are_told_from_code_and_strings() {
        let source = Source::parse("x.rs", TEXT);
        assert_eq!(source.comments().lines().nth(8), Some("// why"));
        assert_eq!(source.code().lines().nth(8), Some("        let url = \"http://x\"; "));
    }
}
