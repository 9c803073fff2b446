//! The question for an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::arp::{self, Arp};
use crate::wire::ethernet::{self, Mac};
use crate::wire::nd::{self, Message, What};
use crate::wire::put_u16;

/// A question for the MAC address of one address: an ARP probe (RFC 5227), or a neighbour
/// solicitation from the link-local address that belongs to the appliance's own MAC address.
/// A solicitation from the unspecified address would leave no trace in the server's cache, but
/// a server that has just been started would take it for another node's claim to its address,
/// and give the address up (RFC 4862, section 5.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    own: Mac,
    target: IpAddr,
}

#[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
impl Probe {
    /// Asks for `target`; the answer is to go to `own`.
    pub fn new(own: Mac, target: IpAddr) -> Self {
        Self { own, target }
    }

    /// The address asked for.
    pub fn target(&self) -> IpAddr {
        self.target
    }

    /// Length of the frame in bytes.
    pub fn len(&self) -> usize {
        match self.target {
            IpAddr::V4(_) => arp::FRAME,
            IpAddr::V6(target) => ethernet::HEADER + self.solicitation(target).length(),
        }
    }

    /// Writes the frame into the first [`Probe::len`] bytes.
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
