//! The patent's verbs, one file each. A stage changes one packet, or generates one. Which stages a
//! packet goes through is decided by its [role](crate::role).

pub mod clamp;
pub mod classify;
pub mod decap;
pub mod encap;
pub mod fragment;
pub mod icmp_relay;
pub mod probe;
pub mod quote;
pub mod quoted_tag;
pub mod reset;
pub mod rewrite;
pub mod sign;
pub mod signatures;
pub mod tag;
pub mod too_big;
