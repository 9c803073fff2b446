//! The test library: scenarios, reference models, simulation, and the laboratory for real processes.

pub mod decoder;
pub mod demo;
pub mod lab;
pub mod model;
pub mod processes;
pub mod scenario;
pub mod simulation;
