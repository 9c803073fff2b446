//! One file per header: named fields over bytes, and setters that keep checksums correct.
//!
//! Each header has a function that checks its lengths. After that check no accessor can panic.

pub mod arp;
pub mod checksum;
pub mod configuration;
pub mod copies;
pub mod ethernet;
pub mod family;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod nd;
pub mod tcp;
pub mod tunnel;

/// Declares an enum of values that have a name in configuration files and a number on the wire or
/// in a table entry. A variant is declared once: `ALL`, `name`, `from_name` and `TryFrom<u8>`
/// follow.
macro_rules! named_values {
    (
        $(#[$meta:meta])*
        pub enum $type:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $type { $($(#[$doc])* $name,)* }

        impl $type {
            /// All values, in the order of their numbers.
            pub const ALL: [Self; [$($text),*].len()] = [$($type::$name),*];
            /// All names, in the same order.
            pub const NAMES: [&'static str; Self::ALL.len()] = [$($text),*];

            /// Returns the name that configuration files use.
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }

            /// Returns the value with this name, or `None` if no value has it.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.name() == name)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl TryFrom<u8> for $type {
            type Error = u8;

            #[inline(always)]
            fn try_from(number: u8) -> Result<Self, u8> {
                Self::ALL.get(usize::from(number)).copied().ok_or(number)
            }
        }

        impl $crate::base::stored::Stored for $type {
            #[inline(always)]
            fn read(bytes: &[u8]) -> Option<Self> {
                Self::try_from(*bytes.first()?).ok()
            }
        }
    };
}
pub(crate) use named_values;

/// Reads a big-endian 16-bit field.
#[inline(always)]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

/// Reads a big-endian 32-bit field.
#[inline(always)]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

/// Writes a big-endian 16-bit field.
#[inline(always)]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian 32-bit field.
#[inline(always)]
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Returns the bytes of a field. One bounds check covers all of them.
#[inline(always)]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
