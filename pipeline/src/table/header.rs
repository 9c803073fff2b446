//! The first page of a table's memory: what another process needs to know to read its entries.
//!
//! It is written when the memory becomes the table's. Afterwards only the undo slot changes, before an
//! entry is changed.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::kept::Refused;
use crate::wire::configuration::Configuration;
use crate::wire::family::Version;

/// The number of the layout of header and entries. It changes whenever they do, or the meaning of a
/// field. A test compares (`role/tests/layout.rs`). A table of layout 1 can be read, too: its entries
/// are the same, one after the other in the order in which they were first used. A table with
/// another number is refused.
pub const LAYOUT: u32 = 2;
/// The layout in which entries were not placed by their hash.
pub(super) const IN_ORDER: u32 = 1;

/// Bytes of the header: entries begin at the next page.
pub(super) const BYTES: usize = 4096;
/// Where the undo slot has the old content of an entry.
pub(super) const UNDO: usize = 128;

const MAGIC: [u8; 8] = *b"FIRSTACK";
/// Bytes that are written once, and that the check sum covers.
const FIXED: usize = 48;
const CHECK: usize = 48;
/// Where the number of places is; in layout 1, of those that have ever been used.
pub(super) const PLACES: usize = 56;
/// Where it says whether the undo slot has anything.
pub(super) const PENDING: usize = 64;
/// In that word: the undo slot has the content of the place whose number is the lower half.
pub(super) const HAS_CONTENT: u64 = 1 << 32;
/// The bits of that word from this one on: the number of a place that was free as well, or 0.
pub(super) const FREED: u32 = 33;

/// The role that a table belongs to: entries of one mean nothing to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A gateway of this configuration.
    Gateway(Configuration),
    /// A switch.
    Switch,
    /// A replica.
    Replica,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Gateway(configuration) => configuration as u8,
            Self::Switch => 0x10,
            Self::Replica => 0x20,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            0x10 => Some(Self::Switch),
            0x20 => Some(Self::Replica),
            _ => Some(Self::Gateway(Configuration::try_from(number).ok()?)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(configuration) => write!(f, "a gateway of configuration {configuration}"),
            Self::Switch => f.write_str("a switch"),
            Self::Replica => f.write_str("a replica"),
        }
    }
}

/// What a header says of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) layout: u32,
    pub(super) kind: Kind,
    pub(super) version: Version,
    /// Bytes of an entry, which is also the distance of two.
    pub(super) entry_size: usize,
    /// The largest number of entries.
    pub(super) capacity: usize,
    pub(super) hash_key: (u64, u64),
}

impl Header {
    /// Returns the first bytes of a header page, up to the check sum. What follows is zero in a new
    /// table.
    pub(super) fn bytes(&self) -> [u8; CHECK + 8] {
        let mut bytes = [0; CHECK + 8];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.layout.to_ne_bytes());
        bytes[12] = self.kind.number();
        bytes[13] = self.version as u8;
        bytes[16..24].copy_from_slice(&(self.entry_size as u64).to_ne_bytes());
        bytes[24..32].copy_from_slice(&(self.capacity as u64).to_ne_bytes());
        bytes[32..40].copy_from_slice(&self.hash_key.0.to_ne_bytes());
        bytes[40..48].copy_from_slice(&self.hash_key.1.to_ne_bytes());
        let check = check_sum(&bytes[..FIXED]);
        bytes[CHECK..].copy_from_slice(&check.to_ne_bytes());
        bytes
    }

    /// Reads the first page of a table's memory.
    ///
    /// # Errors
    /// If it is no header, or one that no process has written.
    pub(super) fn read(page: &[u8]) -> Result<Self, Refused> {
        if page.len() < BYTES || page[..8] != MAGIC {
            return Err(Refused::NoTable);
        }
        let layout = u32::from_ne_bytes(array(page, 8));
        if ![IN_ORDER, LAYOUT].contains(&layout) {
            return Err(Refused::OtherLayout(layout));
        }
        if u64_at(page, CHECK) != check_sum(&page[..FIXED]) {
            return Err(Refused::Damaged("its header was changed"));
        }
        let kind = Kind::from_number(page[12]).ok_or(Refused::Damaged("it is of no known role"))?;
        let version = match page[13] {
            0 => Version::V4,
            1 => Version::V6,
            _ => return Err(Refused::Damaged("it is of no known IP family")),
        };
        let size = |at| usize::try_from(u64_at(page, at)).unwrap_or(usize::MAX);
        let (entry_size, capacity) = (size(16), size(24));
        Ok(Self {
            layout,
            kind,
            version,
            entry_size,
            capacity,
            hash_key: (u64_at(page, 32), u64_at(page, 40)),
        })
    }
}

/// Returns a sum that tells a header from one with other bytes. It has no secret: whoever can write
/// the file can write anything.
fn check_sum(fixed: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(fixed);
    hasher.finish()
}

/// Reads 64 bits in the machine's byte order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Describes where a header has what, and what a free place is, for the test that compares layouts.
#[cfg(test)]
pub(crate) fn described() -> String {
    use super::FREE;
    format!(
        "header of {BYTES} bytes: {FIXED} fixed, check sum {CHECK}, places {PLACES}, pending \
         {PENDING} ({HAS_CONTENT:#x}, freed from bit {FREED}), undo {UNDO}; previous {FREE} is free\n"
    )
}
