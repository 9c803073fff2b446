//! A file that marks a replica busy while it exists.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The interval between two checks.
const PERIOD: Duration = Duration::from_secs(1);

/// The state of a busy file: busy while the file exists.
#[derive(Debug)]
pub struct BusyFile {
    path: PathBuf,
    due: Option<Instant>,
    busy: bool,
}

impl BusyFile {
    /// Creates the state for a path, not busy until the first check.
    pub fn new(path: PathBuf) -> Self {
        Self { path, due: None, busy: false }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the file existed at the last check.
    pub fn busy(&self) -> bool {
        self.busy
    }

    /// Checks the file if that is due: at once the first time, then once a second. Returns the new
    /// state if it has changed.
    pub fn step(&mut self, now: Instant) -> Option<bool> {
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        self.due = Some(now + PERIOD);
        let busy = match self.path.metadata() {
            Ok(_) => true,
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => false,
                // Whether the file exists is unknown, so nothing changes.
                _ => self.busy,
            },
        };
        let changed = busy != self.busy;
        self.busy = busy;
        changed.then_some(busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_busy_while_the_file_exists_and_looks_once_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("busy");
        let mut file = BusyFile::new(path.clone());
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((file.step(at(0)), file.busy()), (None, false));
        std::fs::write(&path, "").unwrap();
        assert_eq!((file.step(at(999)), file.busy()), (None, false));
        assert_eq!((file.step(at(1000)), file.busy()), (Some(true), true));
        assert_eq!((file.step(at(2000)), file.busy()), (None, true));
        std::fs::remove_file(&path).unwrap();
        assert_eq!((file.step(at(2999)), file.busy()), (None, true));
        assert_eq!((file.step(at(3000)), file.busy()), (Some(false), false));
        std::fs::write(&path, "").unwrap();
        let mut file = BusyFile::new(path.join("below"));
        assert_eq!((file.step(at(0)), file.busy()), (None, false));
        let mut file = BusyFile::new(path);
        assert_eq!((file.step(at(0)), file.busy()), (Some(true), true));
    }

    #[test]
    fn what_cannot_be_looked_at_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("busy");
        std::fs::write(&path, "").unwrap();
        let mut file = BusyFile::new(path);
        let start = Instant::now();
        assert_eq!(file.step(start), Some(true));
        // A name that is too long is an error even for root.
        file.path = directory.path().join("x".repeat(300));
        assert_eq!(file.step(start + PERIOD), None);
        assert!(file.busy());
    }
}
