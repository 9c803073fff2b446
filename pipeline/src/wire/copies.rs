//! The number of copies of a SYN that a gateway asks the switch for.

use std::fmt;

/// The number of copies that the switch makes of a SYN: bits 3 to 6 of the tag's flags
/// (docs/protocol.md, 3.1).
///
/// # Examples
/// ```
/// use pipeline::wire::copies::CopiesWanted;
///
/// assert_eq!(CopiesWanted::ALL.limit(64), 64);
/// assert_eq!(CopiesWanted::at_most(2).limit(64), 2);
/// assert_eq!(CopiesWanted::at_most(2).limit(1), 1);
/// assert_eq!(CopiesWanted::at_most(0), CopiesWanted::NONE);
/// assert_eq!(CopiesWanted::NONE.limit(64), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiesWanted(u8);

impl CopiesWanted {
    /// A copy for every live replica: the only value of gateways that make no direct copies.
    pub const ALL: Self = Self(0);
    /// No copies.
    pub const NONE: Self = Self(15);
    /// The largest number that can be asked for; the alternative to it is [`CopiesWanted::ALL`].
    pub const MOST: u8 = 14;

    /// Returns a limit of `count` copies, at most [`CopiesWanted::MOST`].
    pub const fn at_most(count: u8) -> Self {
        match count {
            0 => Self::NONE,
            1..=Self::MOST => Self(count),
            _ => Self(Self::MOST),
        }
    }

    /// Returns the value of these four bits.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0xf)
    }

    /// Returns the four bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns how many of `live` replicas get a copy.
    pub fn limit(self, live: usize) -> usize {
        match self {
            Self::ALL => live,
            Self::NONE => 0,
            Self(count) => live.min(count.into()),
        }
    }
}

/// Formats the number as `all`, a number, or `none`.
impl fmt::Display for CopiesWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.pad("all"),
            Self::NONE => f.pad("none"),
            Self(count) => count.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_limits_agree() {
        for bits in 0..=15 {
            let wanted = CopiesWanted::from_bits(bits | 0xf0);
            assert_eq!(wanted.bits(), bits);
            let expected = match bits {
                0 => 100,
                15 => 0,
                count => usize::from(count),
            };
            assert_eq!(wanted.limit(100), expected);
        }
        assert_eq!(CopiesWanted::at_most(200), CopiesWanted::from_bits(14));
        let shown = [0, 1, 14, 15].map(|bits| CopiesWanted::from_bits(bits).to_string());
        assert_eq!(shown, ["all", "1", "14", "none"]);
    }
}
