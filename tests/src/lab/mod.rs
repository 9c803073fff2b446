//! The laboratory: a wide-area network on one machine, out of network namespaces, veths and a
//! user-space WAN emulator.
//!
//! - [`Lab`] owns network namespaces and a directory, and removes both when it is dropped;
//!   [`Lab::sweep`] removes what killed runs left.
//! - [`Namespace`] runs programs: to their end ([`Namespace::run`]) or for as long as a
//!   [`Process`] is kept ([`Lab::spawn`]).
//! - [`Topology`] is firstack's: a client site, an origin, replicas, and [`wan`] between them;
//!   [`ServerGroup`] puts several servers in the origin's place, and a [`Geometry`] says how far
//!   the sites are from one another.
//! - [`WebServer`], [`Content`] and [`Curl`] make and time traffic.
//!
//! It needs root, iproute2, ethtool, procps, and for traffic nginx and curl.

mod behind_switch;
mod command;
mod error;
mod geometry;
mod management;
mod namespace;
mod process;
mod race_capture;
mod server_group;
mod site;
mod topology;
mod veth;
pub mod wan;
mod web;

pub use command::{Output, run, run_within};
pub use error::{LabError, Result};
pub use geometry::{Geometry, SWITCH_BESIDE_ORIGIN, SWITCH_NEAR_CLIENTS};
pub use namespace::{Lab, Namespace};
pub use process::Process;
pub use race_capture::{Race, RaceCapture, served_by_others};
pub use server_group::ServerGroup;
pub use site::{Family, MOST_REPLICAS, Place, Site};
pub use topology::{Topology, TopologyBuilder};
pub use web::{Content, ContentFile, Curl, Fetched, WebServer};
