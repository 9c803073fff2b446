//! The packet logic of firstack.
pub mod buffer;
