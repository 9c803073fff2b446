//! Established connections over IPv6 at every role, and packets of either family that differ in one
//! thing from what is usual: they take the same steps as plain IPv4, or a few more.

use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C};
use pipeline::stage::tag::Configuration;

use super::roles::{OPEN, arrivals, work};
use super::{Case, Named, Work};
use crate::established::{self, Established};
use crate::fixtures::{V4, V6};

pub(super) fn cases() -> impl Iterator<Item = Case> {
    let all: [Named; 18] = [
        ("gateway_b_to_replica_v6", || of(established::gateway::<B>(V6, OPEN), "to_replica")),
        ("gateway_b_from_replica_v6", || of(established::gateway::<B>(V6, OPEN), "from_replica")),
        ("switch_to_server_v6", || of(established::switch(V6, OPEN), "to_server")),
        ("switch_from_server_v6", || of(established::switch(V6, OPEN), "from_server")),
        ("replica_a_to_web_server_v6", || replica(Configuration::A, "to_web_server")),
        ("replica_a_from_web_server_v6", || replica(Configuration::A, "from_web_server")),
        ("replica_b_to_web_server_v6", || replica(Configuration::B, "to_web_server")),
        ("replica_b_from_web_server_v6", || replica(Configuration::B, "from_web_server")),
        ("gateway_a_vlan", || of(established::unusual_at_gateway::<A>(V4, OPEN), "vlan")),
        ("gateway_a_vlan_v6", || of(established::unusual_at_gateway::<A>(V6, OPEN), "vlan")),
        ("gateway_a_options", || of(established::unusual_at_gateway::<A>(V4, OPEN), "options")),
        ("gateway_a_options_v6", || of(established::unusual_at_gateway::<A>(V6, OPEN), "options")),
        ("gateway_a_icmp", || of(established::unusual_at_gateway::<A>(V4, OPEN), "icmp")),
        ("gateway_a_icmp_v6", || of(established::unusual_at_gateway::<A>(V6, OPEN), "icmp")),
        ("gateway_c_gre", || of(established::tunnels_at_gateway::<C>(V4, OPEN), "gre")),
        ("gateway_c_gre_v6", || of(established::tunnels_at_gateway::<C>(V6, OPEN), "gre")),
        ("gateway_c_gue", || of(established::tunnels_at_gateway::<C>(V4, OPEN), "gue")),
        ("gateway_c_gue_v6", || of(established::tunnels_at_gateway::<C>(V6, OPEN), "gue")),
    ];
    all.into_iter().map(|(name, build)| Case::burst(name, "packet", build))
}

fn replica(code: Configuration, direction: &str) -> Box<dyn Work> {
    of(established::replica(code, V6, OPEN), direction)
}

/// Returns the work of the packets with this name.
fn of<R: Role + 'static>(role: Established<R>, name: &str) -> Box<dyn Work> {
    let Established { harness, directions } = role;
    let found = directions.into_iter().find(|direction| direction.name == name);
    let found = found.expect("a direction");
    work(harness, arrivals(found.side, &found.frames, found.verdict))
}
