//! The option area of a SYN: whether it may be tagged, and the position of the tag.

use std::ops::Range;
use std::time::Duration;

use firstack_packets::tag::{self, EPOCH_SECONDS, SIGNED, Signed};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::Packet;

/// Maximum length of the option area.
const MOST: usize = 40;

/// A key for signatures, and its id.
pub type Key = (u8, tag::Key);

/// A parsed option area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Options other than NOP: kind, and range of kind, length and value.
    pub options: Vec<(u8, Range<usize>)>,
    /// End of the last option, NOPs included: the position of End-of-List, if there is one.
    pub end: usize,
    /// Whether all lengths are valid.
    pub sound: bool,
}

impl Area {
    /// Parses an option area up to the first invalid length.
    pub fn of(bytes: &[u8]) -> Self {
        let mut area = Self { options: Vec::new(), end: 0, sound: true };
        while area.end < bytes.len() && bytes[area.end] != 0 {
            let start = area.end;
            if bytes[start] == 1 {
                area.end += 1;
                continue;
            }
            let length = bytes.get(start + 1).map_or(0, |&length| usize::from(length));
            if length < 2 || start + length > bytes.len() {
                area.sound = false;
                break;
            }
            area.end += length;
            area.options.push((bytes[start], start..area.end));
        }
        area
    }
}

/// Returns the verdict that prevents tagging of a SYN, independent of the table.
pub fn obstacle(packet: &Packet, key: Option<Key>) -> Option<Verdict> {
    if !packet.payload.is_empty() {
        return Some(Verdict::UntaggedData);
    }
    if !packet.ip_checksum {
        return Some(Verdict::UntaggedIpChecksum);
    }
    if !packet.tcp_checksum {
        return Some(Verdict::UntaggedTcpChecksum);
    }
    let area = Area::of(&packet.options);
    for (kind, place) in area.options {
        let identifier = packet.options[place].get(2..4).unwrap_or_default();
        match (kind, identifier) {
            (253, [0x4e, 0x52]) => return Some(Verdict::UntaggedAlreadyTagged),
            (34, _) | (253 | 254, [0xf9, 0x89]) => return Some(Verdict::UntaggedFastOpen),
            (19 | 29, _) => return Some(Verdict::UntaggedTcpAuth),
            _ => {}
        }
    }
    if !area.sound {
        return Some(Verdict::UntaggedOptions);
    }
    let room = if key.is_some() { 16 } else { 8 };
    (packet.options.len() + room > MOST).then_some(Verdict::UntaggedNoOptionSpace)
}

/// Returns the padded tag of a gateway of this configuration that permits redirection, signed for
/// the packet in the first epoch if there is a key.
pub fn tag(packet: &Packet, configuration: Configuration, key: Option<Key>) -> Vec<u8> {
    tag_wanting(packet, configuration, 0, key.map(|key| (key, 0)))
}

/// Returns the epoch at this time since 1970.
pub fn epoch(now: Duration) -> u32 {
    (now.as_secs() / EPOCH_SECONDS) as u32
}

/// Returns the tag that asks for so many copies: a number of four bits, 0 for all, 15 for none. The
/// key, if there is one, signs it in an epoch.
pub fn tag_wanting(
    packet: &Packet,
    configuration: Configuration,
    copies: u8,
    key: Option<(Key, u32)>,
) -> Vec<u8> {
    let flags = tag::flags(configuration as u8) | copies << 3;
    match key {
        None => tag::unsigned(flags).to_vec(),
        Some(((id, key), epoch)) => {
            let flags = flags | SIGNED;
            tag::with_mac(flags, id, signature(packet, flags, (id, key), epoch))
        }
    }
}

/// Returns the MAC of a tag with these flags under this key for the packet, made in this epoch.
pub fn signature(packet: &Packet, flags: u8, (id, key): Key, epoch: u32) -> [u8; 8] {
    let ends = (packet.from.ip(), packet.to.ip());
    let ports = (packet.from.port(), packet.to.port());
    tag::mac(key, Signed { ends, ports, seq: packet.sequence }, (flags, id), epoch)
}

/// Returns the SYN with a tag behind its last option, before any End-of-List.
pub fn tagged(packet: &Packet, tag: &[u8]) -> Packet {
    let mut tagged = packet.clone();
    let end = Area::of(&packet.options).end;
    tagged.options.splice(end..end, tag.iter().copied());
    tagged
}

/// Returns the packet with its MSS clamped so that full segments fit `mtu` bytes.
pub fn clamped(packet: &Packet, mtu: usize) -> Packet {
    let mut clamped = packet.clone();
    let limit = mtu - if packet.is_v6() { 60 } else { 40 };
    let options = Area::of(&packet.options).options;
    let mss = options.into_iter().find(|(kind, place)| *kind == 2 && place.len() == 4);
    if let Some((_, place)) = mss {
        let value = &mut clamped.options[place.start + 2..place.end];
        if usize::from(u16::from_be_bytes([value[0], value[1]])) > limit {
            value.copy_from_slice(&(limit as u16).to_be_bytes());
        }
    }
    clamped
}
