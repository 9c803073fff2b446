//! What threads share, in one place: the models in the package `models` compile the files that
//! use it with loom's kind instead.

pub use std::sync::Barrier;
