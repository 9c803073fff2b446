//! The thread primitives used by code that the loom models compile: there they are replaced by
//! loom's.

pub use std::sync::Barrier;
