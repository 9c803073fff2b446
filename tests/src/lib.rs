//! The test library.

pub mod demo;
pub mod fleet;
pub mod lab;
pub mod model;
