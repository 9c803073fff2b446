//! The shape of `firstack stats --json`, documented where it is declared: a field of a
//! [`documented!`] struct is written once, with its unit and meaning, from which its rustdoc and
//! docs/counters.md follow.

/// One field of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its unit; empty for texts and nested objects.
    pub unit: &'static str,
    /// Its meaning.
    pub meaning: &'static str,
}

/// Declares a struct of the JSON. Every field may be missing when it is read.
macro_rules! documented {
    (
        $(#[$meta:meta])*
        pub struct $type:ident {
            $($field:ident: $kind:ty = $unit:literal $meaning:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $type {
            $(#[doc = $meaning] pub $field: $kind,)*
        }

        impl $type {
            /// Its fields, in the order of the JSON.
            pub const FIELDS: &'static [$crate::control::stats::Field] = &[
                $($crate::control::stats::Field {
                    name: stringify!($field),
                    unit: $unit,
                    meaning: $meaning,
                },)*
            ];
        }
    };
}
pub(crate) use documented;
