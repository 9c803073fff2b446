//! The accepted counts, and the tools that they depend on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use firstack_benches::cases;
use serde::Deserialize;

use super::Error;

/// Instructions per unit of each case, and the tools that they depend on.
#[derive(Debug, Deserialize)]
pub(crate) struct Baseline {
    pub(crate) tools: Tools,
    pub(crate) instructions: BTreeMap<String, f64>,
}

/// Compiler and valgrind.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Tools {
    pub(crate) architecture: String,
    pub(crate) rustc: String,
    pub(crate) valgrind: String,
}

impl Tools {
    /// Returns the tools of this machine.
    pub(crate) fn here() -> Result<Self, Error> {
        let version = |tool| {
            let output = Command::new(tool).arg("--version").output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self {
            architecture: std::env::consts::ARCH.to_owned(),
            rustc: version("rustc").map_err(|error| Error::NoTool("rustc", error))?,
            valgrind: version("valgrind").map_err(Error::NoValgrind)?,
        })
    }
}

impl Baseline {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let error = |source| Error::File { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(error)?;
        toml::from_str(&text)
            .map_err(|source| Error::Baseline { path: path.to_owned(), source: Box::new(source) })
    }

    /// In the order of the cases, so that a change of one case changes one line.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let error = |source| Error::File { path: path.to_owned(), source };
        fs::write(path, self.text()).map_err(error)
    }

    fn text(&self) -> String {
        let Tools { architecture, rustc, valgrind } = &self.tools;
        let mut text = format!(
            "# Accepted instruction counts of the data path: renewed by scripts/accept-baseline,\n\
             # compared by scripts/test.\n\n[tools]\narchitecture = {architecture:?}\n\
             rustc = {rustc:?}\nvalgrind = {valgrind:?}\n\n[instructions]\n"
        );
        for case in cases::all() {
            if let Some(count) = self.instructions.get(case.name) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{} = {count:.2} # per {}", case.name, case.unit);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let tools = Tools {
            architecture: "x86_64".to_owned(),
            rustc: "rustc \"1\"".to_owned(),
            valgrind: "valgrind-3".to_owned(),
        };
        let instructions = cases::all().map(|case| (case.name.to_owned(), 12.25)).collect();
        let written = Baseline { tools, instructions };
        let read: Baseline = toml::from_str(&written.text()).unwrap();
        assert_eq!(read.tools, written.tools);
        assert_eq!(read.instructions, written.instructions);
    }
}
