//! The test library.

pub mod lab;
