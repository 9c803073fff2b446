//! The firstack appliance: what is around the pipeline.
//!
//! [`config`] is checked, [`roles`] turns it into what the workers run; `run`, `worker`,
//! [`steering`] and [`handoff`] run it on DPDK's lcores, [`control`] answers operators; [`replay`] runs the same
//! pipeline over capture files instead. [`health`] asks servers whether they are there, [`keys`]
//! reads what tags are signed with, [`supervisor`] acts upon both.

pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod cpu;
pub mod describe;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod handoff;
pub mod health;
#[cfg(feature = "dpdk")]
pub mod idle;
pub mod keys;
pub mod memory;
pub mod replay;
pub mod roles;
#[cfg(feature = "dpdk")]
pub mod run;
pub mod stats;
pub mod steering;
pub mod supervisor;
pub mod sync;
pub mod toeplitz;
#[cfg(feature = "dpdk")]
pub mod worker;
