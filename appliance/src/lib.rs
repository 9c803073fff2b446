//! The firstack program: everything around the packet pipeline.
//!
//! [`config`] parses and checks a configuration, [`check`] several against each other; [`roles`] turns it into what the workers run.
//! `run` starts DPDK and the workers, [`datapath`] is what each worker runs on its core, over the
//! safe layer `dpdk`. The control thread is [`control`]: it answers operators, probes servers and
//! reloads keys. [`replay`] runs the same pipeline over capture files, without DPDK. [`sys`] has
//! what concerns the machine: huge pages and CPU features. [`keep`] has what outlives the process, and how
//! the next one takes it over.
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod datapath;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod keep;
pub mod replay;
pub mod roles;
#[cfg(feature = "dpdk")]
pub mod run;
pub mod sys;
