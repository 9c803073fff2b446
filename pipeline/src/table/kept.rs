//! Tables that outlive their process: their header, and how the next process takes their entries over.

use std::fmt;

/// A table that another process, or another number of workers, has left behind.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    bytes: &'a [u8],
}

/// Why a table cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The memory does not begin with the header of a table.
    NoTable,
    /// Another build of firstack with another layout has left it.
    OtherLayout,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTable => "not a table of firstack",
            Self::OtherLayout => "a table of another version of firstack",
        })
    }
}

impl std::error::Error for Refused {}

/// What became of the entries of a table that was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Taken over.
    pub adopted: u64,
    /// Put back as they were before a write that the process did not finish.
    pub torn: u64,
    /// Expired since.
    pub expired: u64,
    /// Dropped, because they hold what no process writes.
    pub invalid: u64,
    /// Dropped, because the new table is smaller and full.
    pub unplaced: u64,
    /// Left for other workers.
    pub others: u64,
}

impl<'a> Kept<'a> {
    /// Examines the header of the memory of a table.
    ///
    /// # Errors
    /// If it is no table, or one of another layout.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Refused> {
        if bytes.is_empty() { Err(Refused::NoTable) } else { Ok(Self { bytes }) }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
