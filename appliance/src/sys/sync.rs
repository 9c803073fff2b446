//! What threads share, in one place: the loom models in `tests/loom` compile the files that
//! use it with loom's kind instead.

pub use std::sync::Barrier;
