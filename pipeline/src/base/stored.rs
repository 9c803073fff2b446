//! Values in memory that outlives the process: they have the same layout in every build, and are read
//! from bytes that nobody vouches for.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

/// A value that another process can read from memory.
///
/// Its layout does not depend on the compiler: a primitive, an array, or a `repr(C)` or
/// `repr(transparent)` type of such fields ([`stored`](crate::base::stored) implements it for these).
pub trait Stored: Sized {
    /// Reads the value that begins with the first of these bytes; `None` if no value has them, or
    /// there are too few.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// The fields of the type: name, offset and size, for tests that compare layouts.
    #[doc(hidden)]
    const FIELDS: &'static [(&'static str, usize, usize)] = &[];
}

macro_rules! numbers {
    ($($type:ty),*) => { $(
        impl Stored for $type {
            #[inline(always)]
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_ne_bytes(*bytes.first_chunk()?))
            }
        }
    )* };
}
numbers!(u8, u16, u32, u64);

impl Stored for () {
    fn read(_bytes: &[u8]) -> Option<Self> {
        Some(())
    }
}

impl Stored for bool {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Stored for Option<NonZeroU16> {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(NonZeroU16::new(u16::read(bytes)?))
    }
}

impl Stored for Ipv4Addr {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from(*bytes.first_chunk::<4>()?))
    }
}

impl Stored for Ipv6Addr {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from(*bytes.first_chunk::<16>()?))
    }
}

impl<T: Stored> Stored for [T; 2] {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        Some([T::read(bytes)?, T::read(bytes.get(size_of::<T>()..)?)?])
    }
}

/// Implements [`Stored`] for a `repr(C)` type, given all of its fields and their types.
macro_rules! stored {
    ($type:ty, [$($parameter:ident: $bound:path)?] { $($field:tt: $of:ty),* $(,)? }) => {
        impl$(<$parameter: $bound>)? $crate::base::stored::Stored for $type {
            #[inline(always)]
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self { $($field: <$of as $crate::base::stored::Stored>::read(
                    bytes.get(std::mem::offset_of!(Self, $field)..)?,
                )?,)* })
            }

            const FIELDS: &'static [(&'static str, usize, usize)] = &[
                $((stringify!($field), std::mem::offset_of!(Self, $field), size_of::<$of>()),)*
            ];
        }
    };
}
pub(crate) use stored;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_their_octets_in_memory() {
        assert_eq!((size_of::<Ipv4Addr>(), size_of::<Ipv6Addr>()), (4, 16));
        assert_eq!(Ipv4Addr::read(&[192, 0, 2, 1, 9]), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(Ipv6Addr::read(&[0; 16]), Some(Ipv6Addr::UNSPECIFIED));
    }

    #[test]
    fn bytes_that_are_no_value_are_none() {
        assert_eq!(
            (bool::read(&[0]), bool::read(&[1]), bool::read(&[2])),
            (Some(false), Some(true), None)
        );
        assert_eq!(<Option<NonZeroU16>>::read(&[0, 0]), Some(None));
        assert_eq!((u32::read(&[1, 2, 3]), <[u16; 2]>::read(&[1, 2, 3])), (None, None));
    }
}
