//! What must hold of every frame that reaches a host, or leaves the gateway toward the clients.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::{REPLICAS, prefix};
use super::plan::Plan;

const ETHERNET: usize = 14;
const GUE_PORT: [u8; 2] = 6080_u16.to_be_bytes();

/// The IP packet in these bytes: source, destination, protocol, and what it bears.
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

/// Whether a frame is a tunnel's.
#[must_use]
pub fn is_tunnel(frame: &[u8]) -> bool {
    match packet(frame) {
        Some((_, _, 4 | 41 | 47, _)) => true,
        Some((_, _, 17, udp)) => udp.get(2..4) == Some(&GUE_PORT[..]),
        _ => false,
    }
}

/// Whether a frame bears an address of a replica's site: its own, or in what an ICMP error quotes.
#[must_use]
pub fn names_replica(plan: &Plan, frame: &[u8]) -> bool {
    let sites: Vec<IpNet> =
        (REPLICAS..plan.sites()).map(|site| prefix(plan.family, site)).collect();
    let is = |address: &IpAddr| sites.iter().any(|site| site.contains(address));
    let Some((from, to, protocol, bears)) = packet(frame) else { return false };
    let quote = match protocol {
        1 if matches!(bears.first(), Some(3 | 11 | 12)) => bears.get(8..).and_then(ip),
        58 if matches!(bears.first(), Some(1..=4)) => bears.get(8..).and_then(ip),
        _ => None,
    };
    is(&from) || is(&to) || quote.is_some_and(|(from, to, ..)| is(&from) || is(&to))
}
