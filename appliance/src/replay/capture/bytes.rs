//! Numbers of either byte order, and parts of a file.

use std::io::Read;

/// The byte order of a file's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    /// Returns the number at an offset, or `None` if the bytes end before.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let number = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(number),
            Self::Little => u16::from_le_bytes(number),
        })
    }

    /// Returns the number at an offset, or `None` if the bytes end before.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let number = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(number),
            Self::Little => u32::from_le_bytes(number),
        })
    }

    /// Returns the number at an offset, or `None` if the bytes end before.
    pub(super) fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let number = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u64::from_be_bytes(number),
            Self::Little => u64::from_le_bytes(number),
        })
    }
}

/// Reads the next `length` bytes. Returns `None` at the end of the file. Allocates what the file
/// has, not what it claims.
///
/// # Errors
/// If the file ends in the middle of them, or cannot be read.
pub(super) fn part(
    input: &mut impl Read,
    length: usize,
    what: &str,
) -> Result<Option<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    match input.take(length as u64).read_to_end(&mut bytes) {
        Err(error) => Err(error.to_string()),
        Ok(0) if length > 0 => Ok(None),
        Ok(read) if read < length => Err(format!("the file ends in the middle of {what}")),
        Ok(_) => Ok(Some(bytes)),
    }
}

/// Reads the next `length` bytes.
///
/// # Errors
/// If the file ends before them or in their middle, or cannot be read.
pub(super) fn rest(input: &mut impl Read, length: usize, what: &str) -> Result<Vec<u8>, String> {
    part(input, length, what)?.ok_or_else(|| format!("the file ends in the middle of {what}"))
}
