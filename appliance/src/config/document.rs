//! A file being read: where its lines begin, and the mistakes noted so far.

use std::cell::RefCell;
use std::ops::Range;

use super::error::ConfigError;

/// Characters of a value that a message repeats.
const SHOWN: usize = 60;

/// A file being read, and its mistakes so far.
pub(super) struct Document<'d> {
    file: &'d str,
    text: &'d str,
    /// Stands for `<role>` in defaults.
    role: &'static str,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'d> Document<'d> {
    pub fn new(file: &'d str, text: &'d str, role: &'static str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { file, text, role, lines, errors: RefCell::default() }
    }

    /// What stands for `<role>` in defaults.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// The line at a byte offset, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at).max(1)
    }

    /// Notes a mistake.
    pub fn error(&self, at: usize, key: &str, message: String) {
        let line = Some(self.line(at));
        let error = ConfigError { file: self.file.to_owned(), line, key: key.to_owned(), message };
        self.errors.borrow_mut().push(error);
    }

    pub fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }

    /// What the file has there, on one line and not too long.
    pub fn excerpt(&self, span: Range<usize>) -> String {
        let source = self.text.get(span).unwrap_or_default();
        let mut shown: String =
            source.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if shown.len() < source.len() {
            shown.push_str("...");
        }
        shown
    }
}
