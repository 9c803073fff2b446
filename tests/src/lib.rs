//! The test library.

pub mod lab;
pub mod model;
