//! The laboratory.

pub mod wan;
