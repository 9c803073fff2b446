//! Odd, foreign and malformed frames.

use pipeline::verdict::Verdict;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::Packet;

/// A frame that no gateway handles, derived from a packet that it may handle.
#[derive(Clone, Copy, Debug)]
pub enum Foreign {
    /// Another EtherType.
    EtherType(u16),
    /// The EtherType of the other family.
    OtherFamily,
    /// Three VLAN tags.
    ManyVlans,
    /// Another IP protocol.
    Protocol(u8),
    /// Data on GUE's port that is not GUE.
    Gue,
    /// A UDP fragment: offset in units of 8 bytes, and MF.
    Fragment(u16, bool),
    /// A routing header with segments left; in IPv4, another protocol.
    Routing,
    /// The frame ends in the Ethernet header.
    CutEthernet(usize),
    /// The frame ends this many bytes into the IP header.
    CutIp(usize),
    /// Another first byte of the IP header, in IPv4.
    IpStart(u8, Verdict),
    /// Another IP total length, in IPv4.
    TotalLength(u16),
    /// Another TCP data offset.
    DataOffset(u8, Verdict),
}

impl Foreign {
    /// Generates any of them.
    pub fn any() -> BoxedStrategy<Self> {
        let starts = vec![
            (0x55, Verdict::IpVersion),
            (0x65, Verdict::IpVersion),
            (0x44, Verdict::IpHeaderLength),
            (0x40, Verdict::IpHeaderLength),
        ];
        let offsets = vec![
            (0x00, Verdict::TcpDataOffset),
            (0x40, Verdict::TcpDataOffset),
            (0x60, Verdict::TcpTruncated),
            (0xf0, Verdict::TcpTruncated),
        ];
        let places = vec![(0, true), (1, true), (1, false), (0x1fff, false)];
        prop_oneof![
            select(vec![0x0806, 0x88cc, 0x0500]).prop_map(Self::EtherType),
            Just(Self::OtherFamily),
            Just(Self::ManyVlans),
            select(vec![17, 47, 50, 1, 58, 4, 41]).prop_map(Self::Protocol),
            Just(Self::Gue),
            select(places).prop_map(|(place, more)| Self::Fragment(place, more)),
            Just(Self::Routing),
            (0usize..14).prop_map(Self::CutEthernet),
            (0usize..20).prop_map(Self::CutIp),
            select(starts).prop_map(|(value, verdict)| Self::IpStart(value, verdict)),
            select(vec![0, 19, 0xffff]).prop_map(Self::TotalLength),
            select(offsets).prop_map(|(value, verdict)| Self::DataOffset(value, verdict)),
        ]
        .boxed()
    }

    /// Generates those that a replica forwards, too: it drops tunnels that it cannot decapsulate.
    pub fn passing() -> BoxedStrategy<Self> {
        let tunnel = |what: &Self| matches!(what, Self::Protocol(4 | 41 | 47) | Self::Gue);
        Self::any().prop_filter("a tunnel", move |what| !tunnel(what)).boxed()
    }

    /// Returns the modified packet and its verdict. The packet has no TCP options or data.
    pub fn spoil(self, packet: &Packet) -> (Vec<u8>, Verdict) {
        let mut frame = packet.frame();
        let (l3, is_v6) = (packet.l3(), packet.is_v6());
        let l4 = packet.header_len() - 20;
        // Offset of the protocol.
        let protocol = match (is_v6, packet.ip_options) {
            (false, _) => l3 + 9,
            (true, 0) => l3 + 6,
            (true, _) => l3 + 40,
        };
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        let verdict = match self {
            Self::EtherType(value) => {
                put(l3 - 2, &value.to_be_bytes());
                Verdict::NonIp
            }
            Self::OtherFamily => {
                put(l3 - 2, if is_v6 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
                Verdict::IpVersion
            }
            Self::ManyVlans => {
                frame.splice(12..12, [0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3]);
                Verdict::NonIp
            }
            Self::Protocol(value) => {
                put(protocol, &[value]);
                match (value, is_v6) {
                    (1, false) | (58, true) => Verdict::Icmp,
                    (4 | 41 | 47, _) => Verdict::ForeignTunnel,
                    _ => Verdict::OtherProtocol,
                }
            }
            Self::Gue => {
                put(protocol, &[17]);
                put(l4 + 2, &6080u16.to_be_bytes());
                Verdict::ForeignTunnel
            }
            Self::Fragment(..) | Self::Routing => return self.extend(frame, packet, protocol),
            Self::IpStart(..) | Self::TotalLength(_) => return self.garble(frame, packet),
            Self::CutEthernet(length) => {
                frame.truncate(length);
                Verdict::EthernetTruncated
            }
            Self::CutIp(length) => {
                frame.truncate(l3 + length);
                Verdict::IpTruncated
            }
            Self::DataOffset(value, verdict) => {
                put(l4 + 12, &[value]);
                verdict
            }
        };
        (frame, verdict)
    }

    /// Adds an extension header in IPv6, or the nearest equivalent in IPv4.
    fn extend(self, mut frame: Vec<u8>, packet: &Packet, protocol: usize) -> (Vec<u8>, Verdict) {
        let (l3, is_v6) = (packet.l3(), packet.is_v6());
        let l4 = packet.header_len() - 20;
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        let verdict = match self {
            Self::Fragment(place, more) if is_v6 => {
                put(protocol, &[44]);
                let place = place << 3 | u16::from(more);
                let header = [&[17, 0][..], &place.to_be_bytes(), &[0, 0, 0, 0]].concat();
                lengthen(&mut frame, l3);
                frame.splice(l4..l4, header);
                Verdict::Fragment
            }
            Self::Fragment(place, more) => {
                put(l3 + 6, &(place | u16::from(more) << 13).to_be_bytes());
                put(l3 + 9, &[17]);
                Verdict::Fragment
            }
            Self::Routing if is_v6 => {
                put(protocol, &[43]);
                lengthen(&mut frame, l3);
                frame.splice(l4..l4, [6, 0, 0, 1, 0, 0, 0, 0]);
                Verdict::Ipv6Extensions
            }
            _ => {
                put(protocol, &[43]);
                Verdict::OtherProtocol
            }
        };
        (frame, verdict)
    }

    /// Makes a field of the IP header contradict the others.
    fn garble(self, mut frame: Vec<u8>, packet: &Packet) -> (Vec<u8>, Verdict) {
        let (l3, is_v6) = (packet.l3(), packet.is_v6());
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        let verdict = match self {
            Self::IpStart(..) if is_v6 => {
                put(l3, &[0x45]);
                Verdict::IpVersion
            }
            Self::IpStart(value, verdict) => {
                put(l3, &[value]);
                verdict
            }
            Self::TotalLength(_) if is_v6 => {
                put(l3 + 4, &[0xff, 0xff]);
                Verdict::FrameCut
            }
            Self::TotalLength(value) => {
                put(l3 + 2, &value.to_be_bytes());
                if value < 20 { Verdict::IpTotalLength } else { Verdict::FrameCut }
            }
            _ => unreachable!("garbled by others"),
        };
        (frame, verdict)
    }
}

/// Adds 8 to the payload length of an IPv6 packet.
fn lengthen(frame: &mut [u8], l3: usize) {
    let length = u16::from_be_bytes([frame[l3 + 4], frame[l3 + 5]]) + 8;
    frame[l3 + 4..l3 + 6].copy_from_slice(&length.to_be_bytes());
}

/// Generates TCP option areas: random ones, and every kind that prevents tagging.
pub fn options() -> impl Strategy<Value = Vec<u8>> {
    let kinds = vec![2u8, 3, 4, 5, 8, 14, 19, 28, 29, 30, 34, 253, 254];
    let option = (select(kinds), vec(any::<u8>(), 0..9))
        .prop_map(|(kind, value)| [&[kind, value.len() as u8 + 2][..], &value].concat());
    let item = prop_oneof![
        4 => option,
        2 => Just(vec![1]),
        1 => Just(vec![0, 0]),
        1 => (any::<u8>(), 0u8..50).prop_map(|(kind, length)| vec![kind, length]),
    ];
    let random = vec(item, 0..6).prop_map(|items| {
        let mut area = items.concat();
        area.truncate(40);
        area.resize(area.len().next_multiple_of(4), 0);
        area
    });
    let special: Vec<Vec<u8>> = vec![
        vec![],
        vec![1; 32],
        vec![1; 36],
        vec![0; 40],
        vec![34, 2, 1, 1],
        vec![254, 4, 0xf9, 0x89],
        vec![253, 6, 0xf9, 0x89, 1, 2, 1, 1],
        [&[19, 18][..], &[7; 16], &[1, 1]].concat(),
        vec![29, 4, 0, 0],
        vec![253, 5, 0x4e, 0x52, 1, 1, 1, 1],
        vec![253, 4, 0x4e, 0x52],
        vec![253, 4, 0x4e, 0x53],
        vec![2, 4, 5, 0xb4, 8, 10, 0, 0],
        vec![3, 3, 7, 0, 0, 0, 0, 0],
        vec![3, 3, 7, 1, 1, 0, 8, 99],
    ];
    prop_oneof![1 => random, 2 => select(special)]
}
