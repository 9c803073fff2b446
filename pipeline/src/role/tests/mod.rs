//! What all roles have in common for the process that comes after them.

pub(super) mod killed;
mod layout;
