//! The option area of a start packet: may it bear the tag, and where does the tag go?

use std::ops::Range;

use pipeline::verdict::Verdict;

use super::Packet;

/// The tag of a gateway of configuration A that permits redirection, padded.
const TAG: [u8; 8] = [253, 5, 0x4e, 0x52, 0x01, 1, 1, 1];
/// The most bytes of options.
const MOST: usize = 40;

/// An option area taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Options other than NOP: kind, and place of kind, length and value.
    pub options: Vec<(u8, Range<usize>)>,
    /// One past the last option, NOPs included: where End-of-List stands when there is one.
    pub end: usize,
    /// Whether every length was sound.
    pub sound: bool,
}

impl Area {
    /// Takes an option area apart, as far as it is sound.
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

/// What keeps a start packet from being tagged, whatever the table says.
pub fn obstacle(packet: &Packet) -> Option<Verdict> {
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
            (253, [0x4e, 0x52]) => return Some(Verdict::UntaggedAlready),
            (34, _) | (253 | 254, [0xf9, 0x89]) => return Some(Verdict::UntaggedFastOpen),
            (19 | 29, _) => return Some(Verdict::UntaggedSigned),
            _ => {}
        }
    }
    if !area.sound {
        return Some(Verdict::UntaggedOptions);
    }
    (packet.options.len() + TAG.len() > MOST).then_some(Verdict::UntaggedNoRoom)
}

/// The start packet with the tag behind its last option, before any End-of-List.
pub fn tagged(packet: &Packet) -> Packet {
    let mut tagged = packet.clone();
    let end = Area::of(&packet.options).end;
    tagged.options.splice(end..end, TAG);
    tagged
}
