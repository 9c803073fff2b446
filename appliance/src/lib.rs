//! The firstack appliance.

pub mod config;
#[cfg(feature = "dpdk")]
pub mod dpdk;
