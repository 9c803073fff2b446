//! `firstack check`: each file by itself, and then what only shows between them: a tag that others do
//! not know, a port that one side lacks, a switch that a replica does not list.
//!
//! ```text
//! file       a configuration file, and the lines of its keys
//! tags       the TCP option and its keys, in every pair of files
//! services   gateways against switches and replicas: addresses, ports, who may win
//! tunnels    switches against replicas: sources, destinations, formats, MTU
//! ```
//!
//! The files of a site are checked together: all gateways are taken to race what all switches copy. What
//! is a mistake whatever else there is, is one; what other files, which are not given, may explain, is a
//! warning.

mod file;
mod services;
mod tags;
#[cfg(test)]
mod tests;
mod tunnels;

use std::fmt;
use std::path::Path;

use file::Place;
pub use file::{File, Unusable};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The files do not work together.
    Mistake,
    /// They may not do what is meant.
    Warning,
}

/// What only shows between files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    place: Place,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, place, message } = self;
        let Place { file, line, key } = place;
        match severity {
            Severity::Mistake => write!(f, "{file}:{line}: {key}: {message}"),
            Severity::Warning => write!(f, "{file}:{line}: warning: {key}: {message}"),
        }
    }
}

/// The findings so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn mistake(&mut self, place: Place, message: String) {
        self.0.push(Finding { severity: Severity::Mistake, place, message });
    }

    fn warning(&mut self, place: Place, message: String) {
        self.0.push(Finding { severity: Severity::Warning, place, message });
    }
}

/// Checks files against each other. `with_keys` is whether their key files are on this machine, and are
/// compared. Returns the findings in the order of files and lines.
pub fn together(files: &[File], with_keys: bool) -> Vec<Finding> {
    let mut findings = Findings::default();
    tags::check(files, with_keys, &mut findings);
    services::check(files, &mut findings);
    tunnels::check(files, &mut findings);
    let number = |finding: &Finding| {
        files.iter().position(|file| file.name == finding.place.file).unwrap_or_default()
    };
    let mut findings = findings.0;
    findings.sort_by_key(|finding| (number(finding), finding.place.line));
    findings.dedup();
    findings
}

/// The outcome of a check: what to print, and whether the files are sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Lines for stdout: what is sound.
    pub sound: Vec<String>,
    /// Lines for stderr: mistakes and warnings.
    pub said: Vec<String>,
    /// Whether there was a mistake.
    pub has_mistakes: bool,
}

/// Checks files, each by itself and all together. With `devices`, also whether this machine has what
/// they name.
pub fn run<P: AsRef<Path>>(paths: &[P], devices: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut files = Vec::new();
    for path in paths {
        match File::load(path.as_ref(), devices) {
            Ok(file) => files.push(file),
            Err(Unusable(errors)) => {
                outcome.said.push(errors);
                outcome.has_mistakes = true;
            }
        }
    }
    for file in &files {
        let of_machine = if devices { file.config.machine_warnings() } else { Vec::new() };
        // It may be a running firstack whose next configuration this is.
        let in_use = if devices { file.config.devices_in_use() } else { Vec::new() };
        let in_use = in_use.into_iter().map(|(key, message)| format!("{key}: {message}"));
        let warnings = file.config.warnings().into_iter().chain(of_machine).chain(in_use);
        outcome.said.extend(warnings.map(|warning| format!("{}: warning: {warning}", file.name)));
        outcome.sound.push(format!("{}: OK (role: {})", file.name, file.config.role));
    }
    if files.len() > 1 {
        let findings = together(&files, devices);
        let is_mistake = |finding: &Finding| finding.severity == Severity::Mistake;
        let mistakes = findings.iter().any(is_mistake);
        outcome.has_mistakes |= mistakes;
        if !mistakes {
            outcome.sound.push(format!("{} files together: OK", files.len()));
        }
        outcome.said.extend(findings.iter().map(ToString::to_string));
    }
    outcome
}
