//! The macro `section!`, which declares a section of the file and each of its keys once.
//!
//! ```text
//! section! {
//!     /// The settings of a replica.
//!     pub struct Replica from ReplicaKeys in "replica" {
//!         /// The number of live connections at which the replica becomes busy.
//!         busy_connections: u32 = Integer(1, 64 << 20), Value("10000");
//!     }
//! }
//! ```
//!
//! A line has the name, the type, the accepted values ([`Expect`](super::schema::Expect)) and the
//! default ([`Fallback`](super::schema::Fallback)). Names of `schema` need no import in it. Further
//! parts are optional:
//!
//! - `name: Raw => Final = ...` reads a `Raw`; code beside the section makes the `Final` of it.
//!   This is for defaults that depend on other keys.
//! - `..., by function;` reads the key with a function of the section and the key's name, if the
//!   type does not determine how ([`FromKey`]), as for lists.
//! - `[[..]] = Sections(...), ...;` is the first line of a section in double brackets. It limits
//!   how often the section occurs.
//! - `with { ... }` after the lines has fields that are not keys, such as lists of sections.
//! - `keys DeliveryKeys in "..." { ... }` instead of `struct` is for keys that become no fields.
//!
//! The macro generates:
//!
//! - the struct, `Replica`;
//! - `ReplicaKeys`, the keys as read, each with its position, or `None` after a mistake;
//! - `ReplicaKeys::read`, which reads all keys and notes mistakes;
//! - `ReplicaKeys::build`, which makes the struct. It takes the `Final` values and then the fields
//!   of `with`, in the order of their lines;
//! - `ReplicaKeys::ROWS`, for the list of sections in `schema`.
//!
//! Checks across keys go between `read` and `build`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pipeline::wire::configuration::Configuration;
use pipeline::wire::tunnel::Format;

use super::health::{self, Check};
use super::reader::{Found, Section};
use super::value::{self, HashKey, MacAddress};

/// A type that determines how its keys are read.
pub(super) trait FromKey: Sized {
    /// Reads the key `name`. `None` means that a mistake was noted.
    fn from_key(section: &Section<'_>, name: &str) -> Option<Found<Self>>;
}

/// An optional key: `None` if the file leaves it out.
impl<T: FromKey> FromKey for Option<T> {
    fn from_key(section: &Section<'_>, name: &str) -> Option<Found<Self>> {
        section.if_given(name, || T::from_key(section, name))
    }
}

macro_rules! from_key {
    ($($Type:ty: $read:expr;)*) => {
        $(impl FromKey for $Type {
            fn from_key(section: &Section<'_>, name: &str) -> Option<Found<Self>> {
                read_by(section, name, $read)
            }
        })*
    };
}

from_key! {
    u8: Section::integer;
    u16: Section::integer;
    u32: Section::integer;
    bool: |section, name| section.found(name, value::boolean);
    Duration: |section, name| section.found(name, value::duration);
    String: |section, name| section.found(name, value::label);
    PathBuf: |section, name| section.found(name, value::file);
    IpAddr: |section, name| section.found(name, value::address);
    IpNet: |section, name| section.found(name, value::prefix);
    HashKey: |section, name| section.found(name, value::hash_key);
    MacAddress: |section, name| section.found(name, value::mac);
    Check: |section, name| section.found(name, health::check);
    Format: |section, name| section.choice(name, Format::from_name);
    Configuration: |section, name| section.choice(name, Configuration::from_name);
}

/// Reads the key `name` with `read`. The signature gives closures their parameter types.
pub(super) fn read_by<'s, T>(
    section: &Section<'s>,
    name: &str,
    read: impl FnOnce(&Section<'s>, &str) -> Option<Found<T>>,
) -> Option<Found<T>> {
    read(section, name)
}

/// Declares a section. The documentation of this module has the syntax.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident from $Keys:ident in $path:literal $(and $other:literal)?
        { $($lines:tt)* }
        $(with $fields:tt)?
    ) => {
        section! { keys $Keys in $path $(and $other)? { $($lines)* } }
        section! {
            @settings { $(#[$meta])* $vis struct $Name from $Keys } { $($lines)* } $($fields)?
        }
    };
    (keys $Keys:ident in $path:literal $(and $other:literal)? { $($lines:tt)* }) => {
        section! { @keys $Keys { $($lines)* } }
        section! { @schema $Keys [$path $($other)?] { $($lines)* } }
    };
    (@schema $Keys:ident [$path:literal $($other:literal)?] $lines:tt) => {
        impl $Keys {
            /// The section's rows of the schema.
            pub(super) const ROWS: &'static [$crate::config::schema::Key] =
                section!(@rows $path $lines);
            $(
                /// The rows of the section's other path.
                pub(super) const OTHER_ROWS: &'static [$crate::config::schema::Key] =
                    section!(@rows $other $lines);
            )?
        }
    };
    (
        @keys $Keys:ident {
            $([[..]] = $sections:expr, $none:expr;)?
            $(
                $(#[$doc:meta])*
                $key:ident: $Raw:ty $(=> $Final:ty)? = $expect:expr, $fallback:expr $(, by $by:expr)?;
            )*
        }
    ) => {
        /// The keys of the section as read; `None` where a mistake was noted.
        pub(super) struct $Keys {
            $($key: Option<$crate::config::reader::Found<$Raw>>,)*
        }

        impl $Keys {
            /// Reads all keys, in the order of their lines.
            fn read(section: &$crate::config::reader::Section<'_>) -> Self {
                Self { $($key: section!(@read section, stringify!($key), $Raw $(, $by)?),)* }
            }
        }
    };
    (
        @settings { $(#[$meta:meta])* $vis:vis struct $Name:ident from $Keys:ident }
        {
            $([[..]] = $sections:expr, $none:expr;)?
            $(
                $(#[$doc:meta])*
                $key:ident: $Raw:ty $(=> $Final:ty)? = $expect:expr, $fallback:expr $(, by $by:expr)?;
            )*
        }
        $({ $($(#[$field_doc:meta])* $field:ident: $Field:ty,)* })?
    ) => {
        $(#[$meta])*
        $vis struct $Name {
            $($(#[$doc])* pub $key: section!(@last $Raw $(=> $Final)?),)*
            $($($(#[$field_doc])* pub $field: $Field,)*)?
        }

        impl $Keys {
            /// Returns the settings, if no key has a mistake.
            fn build(
                self,
                $($($key: $Final,)?)*
                $($($field: $Field,)*)?
            ) -> Option<$Name> {
                Some($Name {
                    $($key: section!(@value (self.$key) $key $(=> $Final)?),)*
                    $($($field,)*)?
                })
            }
        }
    };
    (
        @rows $path:literal {
            $([[..]] = $sections:expr, $none:expr;)?
            $(
                $(#[$doc:meta])*
                $key:ident: $Raw:ty $(=> $Final:ty)? = $expect:expr, $fallback:expr $(, by $by:expr)?;
            )*
        }
    ) => {{
        #[allow(unused_imports)]
        use $crate::config::schema::{*, Expect::*, Fallback::*};
        &[
            $(key($path, $sections, $none),)?
            $(key(concat!($path, ".", stringify!($key)), $expect, $fallback),)*
        ]
    }};
    (@last $Raw:ty) => { $Raw };
    (@last $Raw:ty => $Final:ty) => { $Final };
    (@read $section:ident, $name:expr, $Raw:ty) => {
        <$Raw as $crate::config::section::FromKey>::from_key($section, $name)
    };
    (@read $section:ident, $name:expr, $Raw:ty, $by:expr) => {
        $crate::config::section::read_by($section, $name, $by)
    };
    (@value ($found:expr) $key:ident) => { $found?.value };
    (@value ($found:expr) $key:ident => $Final:ty) => { $key };
}

pub(super) use section;
