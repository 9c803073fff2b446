//! The header fields that the WAN emulator reads and changes: Ethernet, IPv4, IPv6, ARP.
//!
//! Deliberately independent of `pipeline::wire`: the emulator checks what the appliance sends, so
//! it must not share the appliance's idea of a correct header. `firstack_packets` builds packets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use firstack_packets::checksum::{checksum, complement};

/// One Ethernet frame, without its check sequence.
pub type Frame = Vec<u8>;

/// Length of an Ethernet header without a VLAN tag.
pub const ETHERNET: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Length of an IPv6 header.
pub const IPV6_HEADER: usize = 40;

/// An Ethernet hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of everyone on the segment.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether frames to it may concern several stations (broadcast included).
    #[must_use]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            *octet = parts
                .next()
                .filter(|p| p.len() == 2)
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| format!("`{text}` is not a MAC address"))?;
        }
        if parts.next().is_some() {
            return Err(format!("`{text}` is not a MAC address"));
        }
        Ok(Self(octets))
    }
}

impl serde::Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a big-endian `u16`; the caller has checked the length.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a big-endian `u16`.
pub fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Reads the MAC address at an offset.
#[must_use]
pub fn mac_at(bytes: &[u8], at: usize) -> Mac {
    let mut octets = [0; 6];
    octets.copy_from_slice(&bytes[at..at + 6]);
    Mac(octets)
}

/// Reads the IPv4 address at an offset.
#[must_use]
pub fn ipv4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// Reads the IPv6 address at an offset.
#[must_use]
pub fn ipv6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// Writes both hardware addresses of a frame.
pub fn set_macs(frame: &mut [u8], destination: Mac, source: Mac) {
    frame[0..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
}

/// Checks the IPv4 header of a frame: version, lengths, header checksum.
#[must_use]
pub fn ipv4_is_sound(packet: &[u8]) -> bool {
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return false;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    let total = usize::from(u16_at(packet, 2));
    header >= 20 && header <= total && total <= packet.len() && checksum(&[&packet[..header]]) == 0
}

/// Checks the IPv6 header of a frame: version and payload length.
#[must_use]
pub fn ipv6_is_sound(packet: &[u8]) -> bool {
    packet.len() >= IPV6_HEADER
        && packet[0] >> 4 == 6
        && IPV6_HEADER + usize::from(u16_at(packet, 4)) <= packet.len()
}

/// Length that the IP header of a sound packet states, Ethernet padding left out.
#[must_use]
pub fn ip_length(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 {
        usize::from(u16_at(packet, 2))
    } else {
        IPV6_HEADER + usize::from(u16_at(packet, 4))
    }
}

/// Source and destination of a sound packet.
#[must_use]
pub fn ip_addresses(packet: &[u8]) -> (IpAddr, IpAddr) {
    if packet[0] >> 4 == 4 {
        (ipv4_at(packet, 12).into(), ipv4_at(packet, 16).into())
    } else {
        (ipv6_at(packet, 8).into(), ipv6_at(packet, 24).into())
    }
}

/// Lowers TTL or hop limit by one and keeps the IPv4 checksum right (RFC 1624).
/// Returns false, and changes nothing, when the packet may not be forwarded.
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    let v4 = packet[0] >> 4 == 4;
    let at = if v4 { 8 } else { 7 };
    if packet[at] <= 1 {
        return false;
    }
    if v4 {
        let old = u16_at(packet, 8);
        packet[8] -= 1;
        let new = u16_at(packet, 8);
        let total = u32::from(!u16_at(packet, 10)) + u32::from(!old) + u32::from(new);
        put_u16(packet, 10, complement(total));
    } else {
        packet[7] -= 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with its checksum, from RFC 1071's usual worked example.
    const HEADER: [u8; 20] =
        [0x45, 0, 0, 0x14, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 198, 18, 1, 10, 203, 0, 113, 10];

    fn sound() -> [u8; 20] {
        let mut header = HEADER;
        let value = checksum(&[&header]);
        put_u16(&mut header, 10, value);
        header
    }

    #[test]
    fn a_wrong_header_checksum_is_seen() {
        assert!(ipv4_is_sound(&sound()));
        assert!(!ipv4_is_sound(&HEADER));
        assert!(!ipv4_is_sound(&sound()[..19]));
    }

    #[test]
    fn ttl_falls_to_one_with_a_right_checksum_and_stops_there() {
        let mut header = sound();
        for ttl in (1..64).rev() {
            assert!(decrement_ttl(&mut header));
            assert_eq!(header[8], ttl);
            assert!(ipv4_is_sound(&header), "checksum wrong at ttl {ttl}");
        }
        assert!(!decrement_ttl(&mut header));
        assert_eq!(header[8], 1);
    }

    #[test]
    fn mac_addresses_are_read_and_shown() {
        let mac: Mac = "02:00:5e:10:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        assert!("02:00:5e:10:00".parse::<Mac>().is_err());
        assert!("02:00:5e:10:00:ff:01".parse::<Mac>().is_err());
        assert!(!mac.is_multicast() && Mac::BROADCAST.is_multicast());
    }
}
