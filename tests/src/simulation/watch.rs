//! Invariants of every frame that reaches a host, or leaves the gateway toward the clients.

use std::net::{IpAddr, SocketAddr};

use super::address::{REPLICAS, Site, prefix};
use super::plan::Plan;

const ETHERNET: usize = 14;
const GUE_PORT: [u8; 2] = 6080_u16.to_be_bytes();

/// Parses an IP packet: source, destination, protocol, payload.
fn ip(bytes: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    match bytes.first()? >> 4 {
        4 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
                Some(octets.into())
            };
            Some((address(12)?, address(16)?, *bytes.get(9)?, bytes.get(20..)?))
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
                Some(octets.into())
            };
            Some((address(8)?, address(24)?, *bytes.get(6)?, bytes.get(40..)?))
        }
        _ => None,
    }
}

fn packet(frame: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    match frame.get(12..ETHERNET)? {
        [0x08, 0x00] | [0x86, 0xdd] => ip(&frame[ETHERNET..]),
        _ => None,
    }
}

/// Returns whether a frame is of IPv4 or IPv6.
#[must_use]
pub fn is_ip(frame: &[u8]) -> bool {
    packet(frame).is_some()
}

/// Returns whether a frame is a tunnel's.
#[must_use]
pub fn is_tunnel(frame: &[u8]) -> bool {
    match packet(frame) {
        Some((_, _, 4 | 41 | 47, _)) => true,
        Some((_, _, 17, udp)) => udp.get(2..4) == Some(&GUE_PORT[..]),
        _ => false,
    }
}

/// Returns whether a frame is ICMP of either family, neighbour discovery included, tunnelled or
/// plain.
#[must_use]
pub fn is_icmp(frame: &[u8]) -> bool {
    let Some((_, _, protocol, bears)) = packet(frame) else { return false };
    let inside = inner(protocol, bears).and_then(ip).map(|(_, _, protocol, _)| protocol);
    matches!(inside.unwrap_or(protocol), 1 | 58)
}

/// Returns whether a frame is a tunnel with an ICMP error in it.
#[must_use]
pub fn is_tunnelled_error(frame: &[u8]) -> bool {
    let Some((_, _, protocol, bears)) = packet(frame) else { return false };
    match inner(protocol, bears).and_then(ip) {
        Some((_, _, 1, icmp)) => matches!(icmp.first(), Some(3 | 11 | 12)),
        Some((_, _, 58, icmp)) => matches!(icmp.first(), Some(1..=4)),
        _ => false,
    }
}

/// Returns the packet in a tunnel of any format.
fn inner(protocol: u8, bears: &[u8]) -> Option<&[u8]> {
    match protocol {
        4 | 41 => Some(bears),
        47 => bears.get(4..),
        17 if bears.get(2..4) == Some(&GUE_PORT[..]) => bears.get(12..),
        _ => None,
    }
}

/// Returns the packet in a tunnel of any format as a frame of its own.
#[must_use]
pub fn decapsulated(frame: &[u8]) -> Option<Vec<u8>> {
    let (_, _, protocol, bears) = packet(frame)?;
    let inner = inner(protocol, bears)?;
    let ethertype: [u8; 2] = if inner.first()? >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    Some([&frame[..12], &ethertype, inner].concat())
}

/// Returns client and replica's site when a TCP packet toward the client reveals a replica's
/// address: plain, in a tunnel, or quoted by an ICMP error.
#[must_use]
pub fn names_replica(plan: &Plan, frame: &[u8]) -> Option<(SocketAddr, Site)> {
    let site = |address: &IpAddr| {
        (REPLICAS..plan.sites()).find(|site| prefix(plan.family, *site).contains(address))
    };
    let port =
        |tcp: &[u8], at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let (from, to, protocol, bears) = packet(frame)?;
    let quote = match protocol {
        1 if matches!(bears.first(), Some(3 | 11 | 12)) => bears.get(8..).and_then(ip),
        58 if matches!(bears.first(), Some(1..=4)) => bears.get(8..).and_then(ip),
        _ => None,
    };
    if let Some((client, replica, 6, tcp)) = quote {
        return Some((SocketAddr::new(client, port(tcp, 0)?), site(&replica)?));
    }
    if protocol == 6 {
        return Some((SocketAddr::new(to, port(bears, 2)?), site(&from)?));
    }
    let (inside, client, 6, tcp) = inner(protocol, bears).and_then(ip)? else { return None };
    let site = site(&from).or_else(|| site(&inside))?;
    Some((SocketAddr::new(client, port(tcp, 2)?), site))
}

/// Returns service and replica's site of a copy of a SYN that leaves the switch.
#[must_use]
pub fn copy(plan: &Plan, frame: &[u8]) -> Option<(IpAddr, Site)> {
    let (_, to, protocol, bears) = packet(frame)?;
    let (_, service, 6, _) = inner(protocol, bears).and_then(ip)? else { return None };
    Some((service, replica_at(plan, &to)?))
}

/// Returns client and replica's site of a copy of a SYN that leaves the switch or the gateway.
#[must_use]
pub fn copy_of_syn(plan: &Plan, frame: &[u8]) -> Option<(SocketAddr, Site)> {
    let (_, to, protocol, bears) = packet(frame)?;
    let (client, _, 6, tcp) = inner(protocol, bears).and_then(ip)? else { return None };
    if tcp.get(13)? & 0x17 != 0x02 {
        return None;
    }
    let port = u16::from_be_bytes(tcp.get(..2)?.try_into().ok()?);
    Some((SocketAddr::new(client, port), replica_at(plan, &to)?))
}

/// Returns the replica's site that has an address of either family.
fn replica_at(plan: &Plan, address: &IpAddr) -> Option<Site> {
    let families = [plan.family, plan.family.other()];
    let has = |site: &Site| families.iter().any(|of| prefix(*of, *site).contains(address));
    (REPLICAS..plan.sites()).find(has)
}

/// Returns the client of a TCP packet that leaves a replica's site, plain or in a tunnel, and
/// whether it is a SYN/ACK.
#[must_use]
pub fn for_client(frame: &[u8]) -> Option<(SocketAddr, bool)> {
    const SYN_ACK: u8 = 0x12;
    let outside = packet(frame)?;
    let (_, to, 6, tcp) = inner(outside.2, outside.3).and_then(ip).unwrap_or(outside) else {
        return None;
    };
    let port = u16::from_be_bytes(tcp.get(2..4)?.try_into().ok()?);
    Some((SocketAddr::new(to, port), tcp.get(13)? & 0x17 == SYN_ACK))
}
