//! Placeholder replaced by the real build script.
fn main() {}
