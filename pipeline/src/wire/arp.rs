//! ARP for IPv4 over Ethernet (RFC 826), with the probes of RFC 5227.

use std::net::Ipv4Addr;

use super::ethernet::{self, Mac};
use super::{put_u16, u16_at};

/// Length of an ARP packet for IPv4 over Ethernet, in bytes.
pub const LEN: usize = 28;
/// Operation number of a request.
pub const REQUEST: u16 = 1;
/// Operation number of a reply.
pub const REPLY: u16 = 2;
/// Length of a generated frame in bytes, without padding.
pub const FRAME: usize = ethernet::HEADER + LEN;

/// An ARP packet.
///
/// ```rust
/// use std::net::Ipv4Addr;
///
/// use pipeline::wire::arp::{Arp, LEN, REQUEST};
///
/// let request = Arp {
///     operation: REQUEST,
///     sender_mac: [2, 0, 0, 0, 0, 1],
///     sender: Ipv4Addr::new(198, 51, 100, 1),
///     target_mac: [0; 6],
///     target: Ipv4Addr::new(198, 51, 100, 10),
/// };
/// let mut bytes = [0; LEN];
/// request.emit(&mut bytes);
/// assert_eq!(Arp::parse(&bytes), Some(request));
/// assert_eq!(Arp::parse(&bytes[1..]), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// The operation: [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// MAC address of the sender.
    pub sender_mac: Mac,
    /// IP address of the sender; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// MAC address of the target; unspecified in a request.
    pub target_mac: Mac,
    /// IP address of the target: the one that a request asks about.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Parses the bytes behind the Ethernet header. Returns `None` if they are truncated or not ARP
    /// for IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..LEN)?;
        if bytes[..6] != [0, 1, 0x08, 0x00, 6, 4] {
            return None;
        }
        let mac = |at: usize| -> Mac { std::array::from_fn(|i| bytes[at + i]) };
        let address = |at: usize| -> Ipv4Addr {
            Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
        };
        Some(Self {
            operation: u16_at(bytes, 6),
            sender_mac: mac(8),
            sender: address(14),
            target_mac: mac(18),
            target: address(24),
        })
    }

    /// Writes the packet as a broadcast frame into the first [`FRAME`] bytes.
    ///
    /// # Panics
    /// If `frame` is shorter than [`FRAME`].
    pub fn emit_broadcast(&self, frame: &mut [u8]) {
        ethernet::set_destination(frame, ethernet::BROADCAST);
        ethernet::set_source(frame, self.sender_mac);
        put_u16(frame, 12, ethernet::ARP);
        self.emit(&mut frame[ethernet::HEADER..]);
    }

    /// Writes the packet, without an Ethernet header, into the first [`LEN`] bytes.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`LEN`].
    pub fn emit(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..LEN];
        bytes[..6].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4]);
        put_u16(bytes, 6, self.operation);
        bytes[8..14].copy_from_slice(&self.sender_mac);
        bytes[14..18].copy_from_slice(&self.sender.octets());
        bytes[18..24].copy_from_slice(&self.target_mac);
        bytes[24..28].copy_from_slice(&self.target.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_probe_is_broadcast() {
        let probe = Arp {
            operation: REQUEST,
            sender_mac: [2, 0, 0, 0, 0, 1],
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: [0; 6],
            target: Ipv4Addr::new(198, 51, 100, 10),
        };
        let mut frame = [0xee; FRAME];
        probe.emit_broadcast(&mut frame);
        assert_eq!(ethernet::parse(&frame), Some((ethernet::ARP, 14)));
        assert_eq!(ethernet::destination(&frame), ethernet::BROADCAST);
        assert_eq!(Arp::parse(&frame[14..]), Some(probe));
        assert_eq!(Arp::parse(&frame[14..FRAME - 1]), None);
        frame[14] = 9;
        assert_eq!(Arp::parse(&frame[14..]), None);
    }

    fn any_packet() -> impl Strategy<Value = Arp> {
        let end = || (any::<Mac>(), any::<[u8; 4]>().prop_map(Ipv4Addr::from));
        (any::<u16>(), end(), end()).prop_map(
            |(operation, (sender_mac, sender), (target_mac, target))| Arp {
                operation,
                sender_mac,
                sender,
                target_mac,
                target,
            },
        )
    }

    proptest! {
        #[test]
        fn every_emitted_packet_parses_back(packet in any_packet(), more in 0usize..20) {
            let mut bytes = vec![0xee; LEN + more];
            packet.emit(&mut bytes);
            prop_assert_eq!(Arp::parse(&bytes), Some(packet));
        }

        #[test]
        fn no_input_causes_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut whole = vec![0, 1, 8, 0, 6, 4];
            whole.extend_from_slice(&bytes);
            prop_assert_eq!(Arp::parse(&whole).is_some(), whole.len() >= LEN);
            Arp::parse(&bytes);
        }
    }
}
