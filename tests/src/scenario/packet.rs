//! Frames from their fields, built plainly: every length and checksum is computed afresh from
//! the bytes, unless the frame is to be wrong in just that.

use std::net::Ipv4Addr;

/// A MAC address.
pub type Mac = [u8; 6];

/// TCP control bits by the names that scenarios use, in the order in which they are written.
pub const FLAGS: [(&str, u8); 8] = [
    ("SYN", 0x02),
    ("FIN", 0x01),
    ("RST", 0x04),
    ("PSH", 0x08),
    ("ACK", 0x10),
    ("URG", 0x20),
    ("ECE", 0x40),
    ("CWR", 0x80),
];

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination.
    pub to: Mac,
    /// Source.
    pub from: Mac,
    /// VLAN tags, outer one first: TPID and TCI.
    pub vlans: Vec<(u16, u16)>,
    /// What it carries.
    pub body: Body,
    /// Bytes behind the packet.
    pub padding: usize,
    /// Cut off after so many bytes.
    pub cut: Option<usize>,
    /// Bytes overwritten at last, by offset in the frame.
    pub patches: Vec<(usize, Vec<u8>)>,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// IPv4.
    Ip(Ip),
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// Anything by its EtherType.
    Other(u16, Vec<u8>),
    /// The whole frame is these bytes: no Ethernet header is put in front.
    Raw(Vec<u8>),
}

/// An ARP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// Sender.
    pub sender: (Mac, Ipv4Addr),
    /// Target.
    pub target: (Mac, Ipv4Addr),
}

/// An IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Don't fragment.
    pub df: bool,
    /// More fragments.
    pub mf: bool,
    /// Fragment offset in bytes.
    pub offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Header options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// What it carries.
    pub payload: Payload,
    /// Whether the header checksum is wrong.
    pub bad_checksum: bool,
    /// Version, header length in words and total length, where they are not what they should be.
    pub wrong: (Option<u8>, Option<u8>, Option<u16>),
}

/// What an IPv4 packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// TCP.
    Tcp(Tcp),
    /// IPv4 in IPv4.
    Ip(Box<Ip>),
    /// UDP: ports and data.
    Udp(u16, u16, Vec<u8>),
    /// ICMP: type, code, the second word of the header, and what it quotes, cut off.
    Icmp(u8, u8, u32, Option<Box<Ip>>, Option<usize>),
    /// Anything by its protocol number.
    Other(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Option area.
    pub options: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
    /// Whether the checksum is wrong.
    pub bad_checksum: bool,
    /// Data offset in words, where it is not what it should be.
    pub wrong_offset: Option<u8>,
}

impl Frame {
    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !matches!(self.body, Body::Raw(_)) {
            bytes.extend(self.to);
            bytes.extend(self.from);
            for (tpid, tci) in &self.vlans {
                bytes.extend(tpid.to_be_bytes());
                bytes.extend(tci.to_be_bytes());
            }
        }
        match &self.body {
            Body::Ip(ip) => {
                bytes.extend([0x08, 0x00]);
                bytes.extend(ip.bytes());
            }
            Body::Arp(arp) => {
                bytes.extend([0x08, 0x06]);
                bytes.extend(arp.bytes());
            }
            Body::Other(kind, data) => {
                bytes.extend(kind.to_be_bytes());
                bytes.extend(data);
            }
            Body::Raw(data) => bytes.extend(data),
        }
        bytes.resize(bytes.len() + self.padding, PADDING);
        if let Some(cut) = self.cut {
            bytes.truncate(cut);
        }
        for (at, patch) in &self.patches {
            bytes[*at..at + patch.len()].copy_from_slice(patch);
        }
        bytes
    }

    /// Whether a decoder has nothing to complain of: every field is what it should be, and what
    /// is carried is more than a stand-in.
    pub fn is_sound(&self) -> bool {
        let body = match &self.body {
            Body::Ip(ip) => ip.is_sound(),
            Body::Arp(_) => true,
            Body::Other(..) | Body::Raw(_) => false,
        };
        body && self.cut.is_none() && self.patches.is_empty()
    }
}

/// What padding is filled with: not zero, so that it shows where it does not belong.
pub const PADDING: u8 = 0xee;

impl Arp {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0x08, 0x00, 6, 4];
        bytes.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            bytes.extend(mac);
            bytes.extend(address.octets());
        }
        bytes
    }
}

impl Ip {
    /// A plain packet: DF, TTL 64.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, payload: Payload) -> Self {
        Self {
            source,
            destination,
            tos: 0,
            id: 0,
            df: true,
            mf: false,
            offset: 0,
            ttl: 64,
            options: Vec::new(),
            payload,
            bad_checksum: false,
            wrong: (None, None, None),
        }
    }

    /// Header and payload.
    pub fn bytes(&self) -> Vec<u8> {
        let (protocol, payload) = self.payload.bytes(self.source, self.destination);
        let words = 5 + self.options.len() / 4;
        let (version, ihl, total) = self.wrong;
        let total = total.unwrap_or((words * 4 + payload.len()) as u16);
        let flags = u16::from(self.df) << 14 | u16::from(self.mf) << 13 | (self.offset / 8);
        let mut bytes = vec![(version.unwrap_or(4) << 4) | ihl.unwrap_or(words as u8), self.tos];
        for word in [total, self.id, flags] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend([self.ttl, protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        let sum = spoiled(checksum(&[&bytes]), self.bad_checksum);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn is_sound(&self) -> bool {
        let payload = match &self.payload {
            Payload::Tcp(tcp) => tcp.is_sound(),
            Payload::Ip(inner) => inner.is_sound(),
            Payload::Icmp(..) => true,
            Payload::Udp(..) | Payload::Other(..) => false,
        };
        payload && !self.bad_checksum && self.wrong == (None, None, None)
    }
}

impl Payload {
    fn bytes(&self, source: Ipv4Addr, destination: Ipv4Addr) -> (u8, Vec<u8>) {
        match self {
            Payload::Tcp(tcp) => (6, tcp.bytes(source, destination)),
            Payload::Ip(inner) => (4, inner.bytes()),
            Payload::Udp(from, to, data) => {
                let mut bytes = Vec::new();
                for word in [*from, *to, 8 + data.len() as u16, 0] {
                    bytes.extend(word.to_be_bytes());
                }
                bytes.extend(data);
                let sum = transport_checksum(source, destination, 17, &bytes);
                bytes[6..8].copy_from_slice(&sum.to_be_bytes());
                (17, bytes)
            }
            Payload::Icmp(kind, code, word, quoted, cut) => {
                let mut bytes = vec![*kind, *code, 0, 0];
                bytes.extend(word.to_be_bytes());
                let mut quoted = quoted.as_ref().map_or(Vec::new(), |ip| ip.bytes());
                quoted.truncate(cut.unwrap_or(usize::MAX));
                bytes.extend(quoted);
                let sum = checksum(&[&bytes]);
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
                (1, bytes)
            }
            Payload::Other(protocol, data) => (*protocol, data.clone()),
        }
    }
}

impl Tcp {
    /// Options that a strict decoder takes: lengths that fit, only zeros behind the end.
    fn has_sound_options(&self) -> bool {
        let mut rest = self.options.as_slice();
        while let Some(&kind) = rest.first() {
            let length = match (kind, rest.get(1)) {
                (0, _) => return rest.iter().all(|&byte| byte == 0),
                (1, _) => 1,
                (_, Some(&length)) if length >= 2 => usize::from(length),
                _ => return false,
            };
            match rest.get(length..) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }

    fn is_sound(&self) -> bool {
        !self.bad_checksum && self.wrong_offset.is_none() && self.has_sound_options()
    }

    fn bytes(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let words = 5 + self.options.len() / 4;
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([self.wrong_offset.unwrap_or(words as u8) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        let sum = transport_checksum(source, destination, 6, &bytes);
        let sum = spoiled(sum, self.bad_checksum);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

fn transport_checksum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, data: &[u8]) -> u16 {
    let length = (data.len() as u16).to_be_bytes();
    let ends = [source.octets(), destination.octets()].concat();
    checksum(&[&ends, &[0, protocol, length[0], length[1]], data])
}

/// A wrong checksum is too big by this, in the arithmetic of RFC 1071: so it is after an
/// incremental update too.
const SPOILED: u32 = 0x0101;

fn spoiled(sum: u16, spoil: bool) -> u16 {
    let wrong = u32::from(sum) + SPOILED;
    if spoil { ((wrong & 0xffff) + (wrong >> 16)) as u16 } else { sum }
}

/// RFC 1071 over parts of which all but the last are of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
            sum += u64::from(u16::from_be_bytes(word));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_those_that_textbooks_compute() {
        // The header that the encyclopaedias compute by hand.
        let payload = Payload::Other(17, vec![0; 0x73 - 20]);
        let ip = Ip::new([192, 168, 0, 1].into(), [192, 168, 0, 199].into(), payload);
        assert_eq!(ip.bytes()[10..12], [0xb8, 0x61]);
        // RFC 1071, section 3.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn lengths_follow_the_parts() {
        let tcp = Tcp { options: vec![1; 8], data: vec![7; 3], ..Tcp::default() };
        let mut ip = Ip::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Payload::Tcp(tcp));
        ip.options = vec![1; 4];
        let bytes = ip.bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[3], bytes[24 + 12] >> 4), (55, 0x46, 55, 7));
        let outer = Ip::new(ip.source, ip.destination, Payload::Ip(Box::new(ip)));
        assert_eq!(outer.bytes()[20..], bytes);
    }
}
