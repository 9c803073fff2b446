//! Tables that outlive their process: how their memory is read.
//!
//! Nothing in it is trusted: the process may have been killed between any two stores, and the memory
//! may be somebody else's. A reader looks at bytes, and makes an entry of them only if they are one.

use std::fmt;

use super::FREE;
use super::header::{
    self, FREED, HAS_CONTENT, Header, IN_ORDER, Kind, LAYOUT, PENDING, PLACES, UNDO, u64_at,
};
use crate::wire::family::Version;

/// The memory of a table that another process, or another number of workers, has left.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    header: Header,
    entries: &'a [u8],
    undo: Option<Undo<'a>>,
}

/// A change that the process did not finish.
#[derive(Clone, Copy, Debug)]
struct Undo<'a> {
    /// The place of the entry that was being changed.
    changed: usize,
    /// Its content before.
    content: &'a [u8],
    /// The place that was free before, for the entry that was to replace that one; 0 is no place.
    freed: usize,
}

/// Value of an entry's `previous` in a free place of layout 1.
const FREE_IN_ORDER: u32 = u32::MAX - 1;
/// A free place.
const FREE_PLACE: &[u8] = &[0; header::BYTES];

/// Why a table cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The memory does not begin with the header of a table.
    NoTable,
    /// A build of firstack with this other layout has left it.
    OtherLayout(u32),
    /// The header is that of no table that a process has written.
    Damaged(&'static str),
    /// The table of another role or configuration.
    OtherRole(Kind),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("not a table of firstack"),
            Self::OtherLayout(layout) => {
                write!(f, "a table of layout {layout}, and this version of firstack has {LAYOUT}")
            }
            Self::Damaged(why) => write!(f, "a damaged table: {why}"),
            Self::OtherRole(kind) => write!(f, "the table of {kind}"),
        }
    }
}

impl std::error::Error for Refused {}

/// What became of the entries of tables that were taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Taken over.
    pub adopted: u64,
    /// Put back as they were before a change that the process did not finish. They count below, too,
    /// unless they had been free.
    pub torn: u64,
    /// Expired since.
    pub expired: u64,
    /// Dropped, because they hold what no process writes, or what means nothing any more.
    pub invalid: u64,
    /// Dropped, because the new table is full.
    pub unplaced: u64,
    /// Left for other workers.
    pub others: u64,
}

impl std::ops::AddAssign for Imported {
    fn add_assign(&mut self, other: Self) {
        self.adopted += other.adopted;
        self.torn += other.torn;
        self.expired += other.expired;
        self.invalid += other.invalid;
        self.unplaced += other.unplaced;
        self.others += other.others;
    }
}

impl<'a> Kept<'a> {
    /// Examines the header of a table's memory. Memory that ends early is a table with fewer
    /// entries.
    ///
    /// # Errors
    /// If it is no table, one of another layout, or damaged.
    pub fn new(memory: &'a [u8]) -> Result<Self, Refused> {
        let header = Header::read(memory)?;
        if header.entry_size == 0 || header.entry_size > header::BYTES - UNDO {
            return Err(Refused::Damaged("no entry has this size"));
        }
        let places = u64_at(memory, PLACES);
        if header.layout == IN_ORDER && places > header.capacity as u64 {
            return Err(Refused::Damaged("it has more entries than room for them"));
        }
        let room = (memory.len() - header::BYTES) / header.entry_size;
        let places = room.min(usize::try_from(places).unwrap_or(usize::MAX));
        let undo = match u64_at(memory, PENDING) {
            0 => None,
            // The first layout has no second place.
            pending if header.layout == IN_ORDER && pending >> FREED != 0 => {
                return Err(Refused::Damaged("its undo slot has what no process writes"));
            }
            pending if pending & HAS_CONTENT != 0 => Some(Undo {
                changed: pending as u32 as usize,
                content: &memory[UNDO..UNDO + header.entry_size],
                freed: (pending >> FREED) as usize,
            }),
            _ => return Err(Refused::Damaged("its undo slot has what no process writes")),
        };
        let entries = &memory[header::BYTES..header::BYTES + places * header.entry_size];
        Ok(Self { header, entries, undo })
    }

    /// Returns the role that the table belongs to.
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    /// Returns the family of the table's connections.
    pub fn version(&self) -> Version {
        self.header.version
    }

    /// Returns the largest number of entries that the table could have.
    pub fn capacity(&self) -> usize {
        self.header.capacity
    }

    /// Returns the bytes of the place with this number, and whether they are those from before a
    /// change that was not finished. The number is below [`Kept::places`].
    #[inline(always)]
    pub(super) fn entry(&self, number: usize) -> (&'a [u8], bool) {
        let size = self.header.entry_size;
        match self.undo {
            Some(Undo { changed, content, .. }) if changed == number => (content, true),
            Some(Undo { freed, .. }) if freed == number && freed != 0 => {
                (&FREE_PLACE[..size], false)
            }
            _ => (&self.entries[number * size..][..size], false),
        }
    }

    /// Returns what the `previous` of an entry is in a free place.
    pub(super) fn free(&self) -> u32 {
        if self.header.layout == IN_ORDER { FREE_IN_ORDER } else { FREE }
    }

    /// Returns the bytes of an entry.
    pub(super) fn entry_size(&self) -> usize {
        self.header.entry_size
    }

    /// Returns the number of places for entries: at most so many are live.
    pub fn places(&self) -> usize {
        self.entries.len() / self.header.entry_size
    }
}
