//! The patent's verbs, one file each. A stage changes one packet, or makes one; it decides
//! nothing about what the packet is for.

pub mod classify;
pub mod crack;
pub mod encap;
pub mod quote;
pub mod reset;
pub mod rewrite;
pub mod tag;
