//! The firstack binary.
fn main() {}
