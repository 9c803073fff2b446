//! What can go wrong in the laboratory. Errors name the command and what it said.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::wan::ConfigError;

/// Any failure of the laboratory.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces and raw sockets are root's.
    #[error("the laboratory needs root (network namespaces, raw sockets): run this as root")]
    NotRoot,
    /// A program could not be started.
    #[error("cannot run `{command}`: {source}")]
    Spawn {
        /// The command line.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to its standard error, or else to its output.
        stderr: String,
    },
    /// A program did not end, or did not say what was awaited, in time.
    #[error("`{command}` took longer than {} s: {stderr}", .limit.as_secs_f64())]
    TimedOut {
        /// The command line.
        command: String,
        /// The time it had.
        limit: Duration,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// A program ended before it said what was awaited.
    #[error("`{command}` ended too early: {stderr}")]
    EndedEarly {
        /// The command line.
        command: String,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// What a program printed makes no sense.
    #[error("`{command}` printed what cannot be read: {output}")]
    Unreadable {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A file or directory.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The binary `firstack-wan` is not where it is looked for.
    #[error(
        "cannot find firstack-wan beside {beside}: build it (cargo build -p firstack-tests), \
         or name it in FIRSTACK_WAN"
    )]
    NoWan {
        /// Where it was looked for.
        beside: PathBuf,
    },
    /// The topology asks for something impossible.
    #[error("topology: {0}")]
    Topology(String),
    /// The WAN configuration.
    #[error("WAN: {0}")]
    Wan(#[from] ConfigError),
}

/// Result of a step in the laboratory.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Turns an error about a file into a [`LabError`].
pub(super) fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> LabError {
    let path = path.to_path_buf();
    move |source| LabError::File { path, source }
}
