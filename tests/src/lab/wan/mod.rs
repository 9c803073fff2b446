//! A wide-area network in user space: one IP router between the sites of a laboratory, with
//! delay, jitter, loss, rate and MTU for each direction between two of its ports.
//!
//! The pure part, under test with a virtual clock, is [`Emulator`]: routing (`route`),
//! neighbours (`neighbour`), ICMP (`icmp`), links (`link`). Around it stand the sockets
//! (`port`), captures (`capture`) and the loop (`run`). The binary is `firstack-wan`.

mod capture;
mod config;
mod counters;
mod emulator;
#[cfg(test)]
mod emulator_tests;
mod frame;
mod icmp;
mod link;
mod neighbour;
mod port;
mod route;
mod run;

pub use config::{ConfigError, LinkConfig, PortConfig, RouteConfig, WanConfig};
pub use counters::{PairCounters, PortCounters, Report, ReportLine};
pub use emulator::Emulator;
pub use frame::{Frame, Mac};
pub use link::Generator;
pub use port::{Pool, Port, raw_socket};
pub use run::{WanError, run};
