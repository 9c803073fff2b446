//! The test library.
