//! The packet builder that all tests share, over the pipeline's own types.

pub use firstack_packets::{
    INSIDE_MAC, LINUX_OPTIONS, OUTSIDE_MAC, Segment, ethernet_frame, icmp_error, socket, tunnel,
};

use crate::wire::family::{Endpoint, Family};
use crate::wire::tunnel::Format;

/// Parses an endpoint, such as "198.18.1.10:40000". Panics when it is not of the family.
pub fn endpoint<F: Family>(text: &str) -> Endpoint<F> {
    let address = socket(text);
    Endpoint::new(F::from_ip(address.ip()).expect("an address of the family"), address.port())
}

/// Returns the packet `inner` in a tunnel of this format. `about` is traffic class and entropy.
pub fn tunnel_in(format: Format, ends: (&str, &str), about: (u8, u32), inner: &[u8]) -> Vec<u8> {
    let format = match format {
        Format::Ipip => firstack_packets::Format::IPIP,
        Format::Gre => firstack_packets::Format::GRE,
        Format::Gue => firstack_packets::Format::GUE,
    };
    firstack_packets::tunnel_in(format, ends, about, inner)
}
