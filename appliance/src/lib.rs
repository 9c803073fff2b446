//! The firstack appliance.

pub mod config;
