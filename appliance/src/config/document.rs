//! A configuration file while it is read: its line numbers and the mistakes noted so far.

use std::cell::RefCell;
use std::ops::Range;

use super::error::ConfigError;

/// The most characters of a value that a message repeats.
const SHOWN: usize = 60;

/// A configuration file while it is read, and its mistakes so far.
pub(super) struct Document<'d> {
    file: &'d str,
    text: &'d str,
    /// The replacement of `<role>` in defaults.
    role: &'static str,
    /// The offsets at which lines begin.
    lines: Vec<usize>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'d> Document<'d> {
    pub fn new(file: &'d str, text: &'d str, role: &'static str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { file, text, role, lines, errors: RefCell::default() }
    }

    /// Returns the replacement of `<role>` in defaults.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// Returns the line at a byte offset, counted from 1.
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

    /// Returns the file's text at `span`, on one line and shortened.
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
