//! Decisions that follow from the configuration: services, server selection, limits, allow lists,
//! back-off from paths that drop tags, tunnel formats, and what an operator has drained.

pub mod allow_list;
pub mod backoff;
pub mod clients;
pub mod drain;
pub mod limiter;
pub mod maglev;
pub mod prefixes;
mod ranges;
pub mod recent;
pub mod services;
pub mod suspects;
pub mod tunnel_path;
