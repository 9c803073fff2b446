//! Probes: ARP requests and neighbour solicitations for the MAC address of a host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::arp::{self, Arp};
use crate::wire::ethernet::{self, Mac};
use crate::wire::nd::{self, Message, What};
use crate::wire::put_u16;

/// A probe for the MAC address of a host: an ARP probe (RFC 5227), or a neighbour solicitation from
/// the link-local address of the appliance's MAC address.
///
/// A solicitation from the unspecified address would leave no entry in the host's neighbour cache.
/// But a host that has just started would take it for duplicate address detection by another node,
/// and would not use its address (RFC 4862, section 5.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    own: Mac,
    target: IpAddr,
}

#[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
impl Probe {
    /// Returns a probe for `target`, to be answered to the MAC address `own`.
    pub fn new(own: Mac, target: IpAddr) -> Self {
        Self { own, target }
    }

    /// Returns the address whose MAC address is wanted.
    pub fn target(&self) -> IpAddr {
        self.target
    }

    /// Returns the length of the frame, in bytes.
    pub fn len(&self) -> usize {
        match self.target {
            IpAddr::V4(_) => arp::FRAME,
            IpAddr::V6(target) => ethernet::HEADER + self.solicitation(target).length(),
        }
    }

    /// Writes the frame into the first [`Probe::len`] bytes of `frame`.
    pub fn emit(&self, frame: &mut [u8]) {
        match self.target {
            IpAddr::V4(target) => self.request(target).emit_broadcast(frame),
            IpAddr::V6(target) => {
                let message = self.solicitation(target);
                ethernet::set_destination(frame, nd::multicast_mac(message.destination));
                ethernet::set_source(frame, self.own);
                put_u16(frame, ethernet::HEADER - 2, ethernet::IPV6);
                message.emit(&mut frame[ethernet::HEADER..]);
            }
        }
    }

    fn request(&self, target: Ipv4Addr) -> Arp {
        Arp {
            operation: arp::REQUEST,
            sender_mac: self.own,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: [0; 6],
            target,
        }
    }

    fn solicitation(&self, target: Ipv6Addr) -> Message {
        Message {
            what: What::Solicitation,
            source: nd::link_local(self.own),
            destination: nd::solicited_node(target),
            target,
            mac: Some(self.own),
        }
    }
}
