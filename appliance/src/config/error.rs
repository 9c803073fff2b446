//! The mistakes of a configuration file, one line each.

use std::fmt;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, as given by the caller.
    pub file: String,
    /// The line number, counted from 1. `None` if the file could not be read.
    pub line: Option<usize>,
    /// The dotted path of the key, such as `gateway.service[0].ports[1]`; list entries are counted
    /// from 0. Empty if the mistake has no key, as in broken TOML.
    pub key: String,
    /// What is wrong and what is expected, on one line.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// All mistakes of one file, in the order of its lines; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Creates the list, sorted by line. Mistakes in the same line keep their order.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.line);
        Self(errors)
    }

    /// Creates a list of one mistake that prevents the rest of the file from being read.
    pub(super) fn one(file: &str, line: Option<usize>, message: String) -> Self {
        Self(vec![ConfigError { file: file.to_owned(), line, key: String::new(), message }])
    }

    /// Returns the mistakes in the order of their lines.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Formats one line per mistake, without a newline at the end.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
