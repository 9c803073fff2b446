//! The process that has a file open.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    process: u32,
    /// The name of its program; empty if the kernel does not tell.
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, name } = self;
        match name.as_str() {
            "" => write!(f, "process {process}"),
            name => write!(f, "{name}, process {process}"),
        }
    }
}

impl Holder {
    /// Finds a process besides this one that has `file` open, as far as this user may see. `proc` is
    /// the kernel's directory of processes.
    pub(super) fn of(proc: &Path, file: &Path) -> Option<Self> {
        let processes = fs::read_dir(proc).ok()?.flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let has_it = |process: &u32| {
            let open = fs::read_dir(proc.join(process.to_string()).join("fd"));
            let mut open = open.into_iter().flatten().flatten();
            open.any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == file))
        };
        let own = std::process::id();
        let process = numbers.filter(|number| *number != own).find(has_it)?;
        let name = fs::read_to_string(proc.join(process.to_string()).join("comm"));
        Some(Self { process, name: name.unwrap_or_default().trim().to_owned() })
    }
}
