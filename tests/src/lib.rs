//! The test library.

pub mod citation;
pub mod decoder;
pub mod demo;
pub mod flows;
pub mod lab;
pub mod model;
pub mod nic;
pub mod processes;
pub mod scenario;
pub mod simulation;
pub mod sources;
